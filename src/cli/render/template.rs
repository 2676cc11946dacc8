//! `--format '{{.Repository}}:{{.Tag}}'`: Go's templates, with docker's functions besides Go's own.
//!
//! ```text
//! {{.Repository}} {{.labels.team}}         docker's fields; our JSON's members
//! {{json .}} {{json .Config}}              as JSON
//! {{range .Config.Env}}{{println .}}{{end}} and if, else, with, pipelines, variables
//! table {{.ID}}\t{{.Size}}                 as a table, with its titles; \t and \n as docker has them
//! ```
//! The language is the `gtmpl-ng` crate's. What is ours: docker's functions (`join`, `lower`, `pad`,
//! `split`, `title`, `truncate`, `upper`, `json`), which fields a template mentions (so that an
//! unknown one is refused before a store is opened, and a costly one made only for whom it is),
//! titles, and a bound on how deep a template nests, since its parser calls itself.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

pub use gtmpl_ng::Value;
use gtmpl_ng::{Context, ExecError, Func, FuncError, Limits, ParseError, Template as Engine};
use serde_json::Value as Json;

use super::text;

/// The longest template, in bytes.
const LONGEST: usize = 16 << 10;
/// How deep parentheses, and how many blocks, may nest.
const DEEPEST: usize = 32;

/// A template that was understood.
#[derive(Clone)]
pub struct Template {
    /// Whether titles are to be printed, and columns aligned.
    pub table: bool,
    /// The fields that it mentions, each with the fields of it: `["labels", "team"]`.
    pub mentions: Vec<Vec<String>>,
    /// Whether it takes the record as a whole, or in a way that cannot be told beforehand.
    pub whole: bool,
    engine: Arc<Engine>,
    titles: Arc<Engine>,
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Template")
            .field("table", &self.table)
            .field("mentions", &self.mentions)
            .finish_non_exhaustive()
    }
}

impl Template {
    /// Reads a template.
    pub fn parse(text: &str) -> Result<Template, String> {
        if text.len() > LONGEST {
            return Err(format!("a template has at most {LONGEST} bytes"));
        }
        let (table, body) = match text.strip_prefix("table ") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let parts = parts(body);
        let found = Found::in_parts(&parts)?;
        let body: String = parts.iter().map(Part::unescaped).collect();
        let engine = engine(&body, FUNCTIONS)?;
        let titles = engine_of_titles(&body)?;
        Ok(Template {
            table,
            mentions: found.mentions,
            whole: found.whole,
            engine: Arc::new(engine),
            titles: Arc::new(titles),
        })
    }

    /// Whether a field is mentioned.
    pub fn mentions(&self, field: &str) -> bool {
        self.mentions.iter().any(|path| path[0] == field)
    }

    /// The template's text for a record.
    pub fn render(&self, record: Value) -> Result<String, String> {
        self.engine
            .render(&Context::from(record))
            .map_err(|error| told(&error))
    }

    /// The titles of a table, where `title` knows those of the fields.
    pub fn render_titles(&self, title: impl Fn(&str) -> Option<&'static str>) -> String {
        let mut record = Value::Map(HashMap::new());
        for path in &self.mentions {
            let text = match (path.as_slice(), title(&path[0])) {
                ([_], Some(title)) => title.to_owned(),
                (path, _) => path
                    .last()
                    .map_or_else(String::new, |name| name.to_uppercase()),
            };
            put(&mut record, path, text);
        }
        // Where a title cannot be given there is none: the rows are what was asked for.
        self.titles
            .render(&Context::from(record))
            .unwrap_or_default()
    }
}

fn put(record: &mut Value, path: &[String], text: String) {
    let Value::Map(members) = record else { return };
    match path {
        [] => {}
        [name] => {
            members.entry(name.clone()).or_insert(Value::String(text));
        }
        [name, rest @ ..] => {
            let inner = members
                .entry(name.clone())
                .or_insert_with(|| Value::Map(HashMap::new()));
            put(inner, rest, text);
        }
    }
}

fn engine(body: &str, functions: &[(&str, Func)]) -> Result<Engine, String> {
    let mut engine = Engine::with_limits(Limits::default());
    for (name, function) in functions {
        engine.add_func(name, *function);
    }
    engine.parse(body).map_err(|error| misread(&error))?;
    Ok(engine)
}

fn engine_of_titles(body: &str) -> Result<Engine, String> {
    let names = FUNCTIONS.iter().map(|(name, _)| *name);
    let others = ["len", "slice", "html", "js", "urlquery"];
    let mut functions: Vec<(&str, Func)> = names
        .chain(others)
        .map(|name| (name, first as Func))
        .collect();
    functions.push(("index", last_as_title));
    engine(body, &functions)
}

fn misread(error: &ParseError) -> String {
    match error {
        ParseError::WithContext(at, message) => {
            format!("template:{}:{}: {message}", at.line, at.col)
        }
        other => format!("template: {other}"),
    }
}

/// What went wrong, and where: the innermost place, which is what somebody wrote.
fn told(error: &ExecError) -> String {
    let ExecError::Structured(outer) = error else {
        return format!("template: {error}");
    };
    let inner = outer.chain().last().unwrap_or(outer);
    let (line, column) = (inner.context.line, inner.context.col);
    // The engine quotes the whole record where it has no such field.
    let message = match inner.message.split_once(" for ") {
        Some((what, _)) if what.starts_with("no field ") => what.to_owned(),
        _ => text::shorten(&inner.message, 200),
    };
    format!("template:{line}:{column}: {message}")
}

/// JSON as a template sees it: objects are structures, of which a missing member is an error.
pub fn value(json: Json) -> Value {
    match json {
        Json::Null => Value::Nil,
        Json::Bool(is) => Value::Bool(is),
        Json::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
            (Some(number), ..) => Value::from(number),
            (_, Some(number), _) => Value::from(number),
            (.., Some(number)) => Value::from(number),
            _ => Value::Nil,
        },
        Json::String(text) => Value::String(text),
        Json::Array(list) => Value::Array(list.into_iter().map(value).collect()),
        Json::Object(members) => Value::Object(
            members
                .into_iter()
                .map(|(name, json)| (name, value(json)))
                .collect(),
        ),
    }
}

/// The same, but an object is a dictionary, in which a name may be missing.
pub fn dictionary(json: Json) -> Value {
    match value(json) {
        Value::Object(members) => Value::Map(members),
        other => other,
    }
}

/// A value as JSON, by the names of its members as Go has maps. Of one of our records that is what
/// `--format json` has of it: docker's fields, which begin with a capital, are not in there.
fn to_json(value: &Value) -> Json {
    match value {
        Value::NoValue | Value::Nil | Value::Function(_) => Json::Null,
        Value::Bool(is) => Json::Bool(*is),
        Value::String(text) => Json::String(text.clone()),
        Value::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
            (Some(number), ..) => number.into(),
            (_, Some(number), _) => number.into(),
            (.., Some(number)) => number.into(),
            _ => Json::Null,
        },
        Value::Array(list) => list.iter().map(to_json).collect(),
        Value::Object(members) | Value::Map(members) => {
            let ours = matches!(value, Value::Object(_)) && members.contains_key("schema");
            let mut names: Vec<&String> = members
                .keys()
                .filter(|name| !(ours && name.starts_with(|c: char| c.is_ascii_uppercase())))
                .collect();
            names.sort();
            names
                .into_iter()
                .map(|name| (name.clone(), to_json(&members[name])))
                .collect()
        }
    }
}

type Answer = Result<Value, FuncError>;

/// docker's functions, and `index` as it is in Go for dictionaries of texts.
const FUNCTIONS: &[(&str, Func)] = &[
    ("json", json),
    ("join", join),
    ("split", split),
    ("lower", lower),
    ("upper", upper),
    ("title", title),
    ("pad", pad),
    ("truncate", truncate),
    ("index", index),
];

fn wrong(text: impl Into<String>) -> FuncError {
    FuncError::Generic(text.into())
}

fn string<'a>(function: &str, value: &'a Value) -> Result<&'a str, FuncError> {
    match value {
        Value::String(text) => Ok(text),
        other => Err(wrong(format!(
            "{function} takes a text, not {}",
            text::shorten(&other.to_string(), 40)
        ))),
    }
}

fn number(function: &str, value: &Value) -> Result<usize, FuncError> {
    let number = match value {
        Value::Number(number) => number
            .as_u64()
            .and_then(|number| usize::try_from(number).ok()),
        _ => None,
    };
    number.filter(|number| *number <= 10_000).ok_or_else(|| {
        wrong(format!(
            "{function} takes a number from 0 to 10000, not {value}"
        ))
    })
}

fn count<const N: usize>(function: &str, arguments: &[Value]) -> Result<[Value; N], FuncError> {
    <[Value; N]>::try_from(arguments.to_vec())
        .map_err(|_| FuncError::ExactlyXArgs(function.to_owned(), N))
}

fn json(arguments: &[Value]) -> Answer {
    let [value] = count("json", arguments)?;
    Ok(Value::String(
        super::json::line(&to_json(&value)).map_err(|error| wrong(error.to_string()))?,
    ))
}

fn join(arguments: &[Value]) -> Answer {
    let [list, between] = count("join", arguments)?;
    let between = string("join", &between)?;
    let list = match &list {
        Value::Array(list) => list.as_slice(),
        Value::Nil | Value::NoValue => &[],
        other => {
            return Err(wrong(format!(
                "join takes a list, not {}",
                text::shorten(&other.to_string(), 40)
            )));
        }
    };
    let texts: Vec<String> = list.iter().map(Value::to_string).collect();
    Ok(Value::String(texts.join(between)))
}

fn split(arguments: &[Value]) -> Answer {
    let [whole, between] = count("split", arguments)?;
    let (whole, between) = (string("split", &whole)?, string("split", &between)?);
    // Go splits at nothing into characters, without the empty ends.
    let parts: Vec<String> = match between {
        "" => whole.chars().map(String::from).collect(),
        between => whole.split(between).map(str::to_owned).collect(),
    };
    Ok(Value::Array(parts.into_iter().map(Value::String).collect()))
}

fn lower(arguments: &[Value]) -> Answer {
    let [text] = count("lower", arguments)?;
    Ok(Value::String(string("lower", &text)?.to_lowercase()))
}

fn upper(arguments: &[Value]) -> Answer {
    let [text] = count("upper", arguments)?;
    Ok(Value::String(string("upper", &text)?.to_uppercase()))
}

fn title(arguments: &[Value]) -> Answer {
    let [text] = count("title", arguments)?;
    let mut titled = String::new();
    let mut within = false;
    for c in string("title", &text)?.chars() {
        match within {
            true => titled.push(c),
            false => titled.extend(c.to_uppercase()),
        }
        within = c.is_alphanumeric() || c == '_' || c == '\'';
    }
    Ok(Value::String(titled))
}

/// Blanks before and after a text that is there.
fn pad(arguments: &[Value]) -> Answer {
    let [text, before, after] = count("pad", arguments)?;
    let (before, after) = (number("pad", &before)?, number("pad", &after)?);
    Ok(Value::String(match string("pad", &text)? {
        "" => String::new(),
        text => format!("{}{text}{}", " ".repeat(before), " ".repeat(after)),
    }))
}

fn truncate(arguments: &[Value]) -> Answer {
    let [text, length] = count("truncate", arguments)?;
    let length = number("truncate", &length)?;
    Ok(Value::String(
        string("truncate", &text)?.chars().take(length).collect(),
    ))
}

/// Go's `index`, where a dictionary of texts has the empty text for a name that it has not.
fn index(arguments: &[Value]) -> Answer {
    if let [Value::Map(members), Value::String(name)] = arguments
        && members
            .values()
            .all(|value| matches!(value, Value::String(_)))
    {
        let found = members.get(name).cloned();
        return Ok(found.unwrap_or_else(|| Value::String(String::new())));
    }
    gtmpl_ng::funcs::index(arguments)
}

/// A title stays what it is, whatever is done to the values below it.
fn first(arguments: &[Value]) -> Answer {
    Ok(arguments
        .first()
        .cloned()
        .unwrap_or(Value::String(String::new())))
}

fn last_as_title(arguments: &[Value]) -> Answer {
    let name = arguments.last().map_or_else(String::new, Value::to_string);
    Ok(Value::String(name.to_uppercase()))
}

/// A piece of a template's text.
enum Part<'a> {
    /// Outside of braces.
    Text(&'a str),
    /// With its braces.
    Action(&'a str),
}

impl Part<'_> {
    /// As docker passes it on: `\t` and `\n` in texts are what they mean.
    fn unescaped(&self) -> String {
        match self {
            Part::Text(text) => text.replace("\\t", "\t").replace("\\n", "\n"),
            Part::Action(text) => (*text).to_owned(),
        }
    }
}

/// A template's texts and actions. Where an action does not end the engine will say so.
fn parts(text: &str) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some(begin) = rest.find("{{") {
        let (before, action) = rest.split_at(begin);
        let end = action_length(action);
        parts.push(Part::Text(before));
        parts.push(Part::Action(&action[..end]));
        rest = &action[end..];
    }
    parts.push(Part::Text(rest));
    parts
}

/// How many bytes an action has, its braces included: braces in quotes end nothing.
fn action_length(action: &str) -> usize {
    let mut quote = None;
    let mut characters = action.char_indices().skip(2);
    while let Some((place, c)) = characters.next() {
        match (quote, c) {
            (Some('"' | '\''), '\\') => {
                characters.next();
            }
            (Some(open), c) if c == open => quote = None,
            (None, '"' | '\'' | '`') => quote = Some(c),
            (None, '}') if action[place..].starts_with("}}") => return place + 2,
            _ => {}
        }
    }
    action.len()
}

/// What a template's actions mention.
#[derive(Default)]
struct Found {
    mentions: Vec<Vec<String>>,
    whole: bool,
}

impl Found {
    fn in_parts(parts: &[Part]) -> Result<Found, String> {
        let mut found = Found::default();
        let mut blocks: usize = 0;
        for part in parts {
            let Part::Action(action) = part else { continue };
            let inside = action.trim_start_matches(['{', '-', ' ', '\t', '\n']);
            if inside.starts_with("/*") {
                continue;
            }
            let word: String = inside.chars().take_while(|c| c.is_alphabetic()).collect();
            match word.as_str() {
                "if" | "range" | "with" | "define" | "block" => blocks += 1,
                "end" => blocks = blocks.saturating_sub(1),
                _ => {}
            }
            if blocks > DEEPEST {
                return Err(format!(
                    "template: more than {DEEPEST} blocks stand in one another"
                ));
            }
            found.look(inside)?;
        }
        Ok(found)
    }

    /// Goes through one action, its quoted texts left out.
    fn look(&mut self, action: &str) -> Result<(), String> {
        let mut depth: usize = 0;
        let mut quote = None;
        let mut before = ' ';
        let mut characters = action.char_indices().peekable();
        while let Some((place, c)) = characters.next() {
            match (quote, c) {
                (Some('"' | '\''), '\\') => {
                    characters.next();
                }
                (Some(open), c) if c == open => quote = None,
                (Some(_), _) => {}
                (None, '"' | '\'' | '`') => quote = Some(c),
                (None, '(') => depth += 1,
                (None, ')') => depth = depth.saturating_sub(1),
                (None, '.') if !(before.is_alphanumeric() || matches!(before, '_' | ')' | '.')) => {
                    self.mention(&action[place..]);
                }
                _ => {}
            }
            if depth > DEEPEST {
                return Err(format!(
                    "template: more than {DEEPEST} parentheses stand in one another"
                ));
            }
            before = c;
        }
        Ok(())
    }

    fn mention(&mut self, text: &str) {
        let end = text.find(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '.')));
        let chain = &text[1..end.unwrap_or(text.len())];
        if chain.starts_with(|c: char| c.is_ascii_digit()) {
            return;
        }
        if chain.is_empty() {
            self.whole = true;
            return;
        }
        let path = chain.split('.').map(str::to_owned).collect();
        if !self.mentions.contains(&path) {
            self.mentions.push(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn record() -> Value {
        let mut record = value(json!({
            "Name": "Some Thing", "Env": ["A=b", "C=d"], "Size": 1234, "Nothing": null,
            "Config": { "User": "app", "Labels": {} }, "Path": "a/b/c",
        }));
        if let Value::Object(members) = &mut record {
            let labels = HashMap::from([("team".to_owned(), Value::from("blue"))]);
            members.insert("Labels".to_owned(), Value::Map(labels));
        }
        record
    }

    fn rendered(text: &str) -> Result<String, String> {
        Template::parse(text)?.render(record())
    }

    #[test]
    fn what_dockers_documentation_shows_works() {
        for (text, expected) in [
            ("{{.Name}}:{{ .Size }}", "Some Thing:1234"),
            (r#"{{join .Env " , "}}"#, "A=b , C=d"),
            (
                r"{{.Name}}\t{{json .Env}}\n",
                "Some Thing\t[\"A=b\",\"C=d\"]\n",
            ),
            (
                "{{lower .Name}} {{upper .Name}} {{title \"ab c\"}}",
                "some thing SOME THING Ab C",
            ),
            (r#"{{split .Path "/"}}"#, "[a b c]"),
            ("{{range .Env}}{{println .}}{{end}}", "A=b\nC=d\n"),
            ("{{json .Config}}", r#"{"Labels":{},"User":"app"}"#),
            ("{{index .Env 0}} {{.Env | len}}", "A=b 2"),
            (
                r#"{{index .Labels "team"}}|{{index .Labels "no"}}|"#,
                "blue||",
            ),
            ("{{.Labels.team}} {{.Labels.no}}", "blue <no value>"),
            (r#"{{if eq .Config.User "app"}}yes{{else}}no{{end}}"#, "yes"),
            (r#"{{with .Config}}{{.User}}{{end}}{{- "x" -}} y"#, "appxy"),
            (
                r#"{{range $i, $e := .Env}}{{if $i}},{{end}}{{$e}}{{end}}"#,
                "A=b,C=d",
            ),
            (
                r#"{{printf "%-6s|%5d|%q" "ab" .Size .Path}}"#,
                r#"ab    | 1234|"a/b/c""#,
            ),
            (r#"{{.Name | truncate 4}}"#, "ERR"),
            (
                r#"{{truncate .Name 4}}{{pad "x" 1 2}}|{{pad "" 1 2}}|"#,
                "Some x  ||",
            ),
            (
                r#"{{slice .Name 0 4}} {{and .Nothing "a"}} {{or .Nothing "a"}} {{not .Nothing}}"#,
                "Some <no value> a true",
            ),
            (
                r#"{{ne .Size 1}} {{lt .Size 2000}} {{gt .Size 2000}}"#,
                "true true false",
            ),
            (r#"{{/* nothing */}}{{"}}"}}"#, "}}"),
        ] {
            match expected {
                "ERR" => assert!(rendered(text).is_err(), "{text}"),
                expected => assert_eq!(rendered(text).as_deref(), Ok(expected), "{text}"),
            }
        }
    }

    #[test]
    fn what_is_not_understood_is_refused_with_its_place() {
        for (bad, place) in [
            ("{{", ":1:"),
            ("{{}}", ":1:"),
            ("{{.A", ":1:"),
            ("x {{range .Env}}x", ":1:"),
            ("{{.Name | uper}}", ":1:"),
            ("{{Name}}", ":1:"),
            ("{{.A..B}}", ":1:"),
            ("a\n{{if}}", ":2:"),
            ("{{.Nope}}", ":1:3:"),
            ("ab {{.Config.Nope}}", ":1:6:"),
            ("{{index .Env 7}}", ":1:"),
            ("{{lower .Size}}", ":1:"),
            ("{{join .Name}}", ":1:"),
            ("{{template \"x\"}}", ":1:"),
        ] {
            let error = rendered(bad).unwrap_err();
            assert!(
                error.contains(&format!("template{place}")),
                "{bad}: {error}"
            );
            assert!(error.len() < 300, "{bad}: {error}");
        }
    }

    #[test]
    fn deep_and_long_ones_are_refused_and_never_exhaust_the_stack() {
        for count in [33, 20_000] {
            let parentheses = format!("{{{{{}1{}}}}}", "(".repeat(count), ")".repeat(count));
            let blocks = "{{if 1}}".repeat(count) + &"{{end}}".repeat(count);
            assert!(rendered(&parentheses).is_err() && rendered(&blocks).is_err());
        }
        let deep = format!("{{{{{}1{}}}}}", "(".repeat(32), ")".repeat(32));
        assert_eq!(rendered(&deep).as_deref(), Ok("1"));
        assert!(
            rendered("{{define \"r\"}}{{template \"r\" .}}{{end}}{{template \"r\" .}}").is_err()
        );
    }

    #[test]
    fn mentions_are_the_fields_and_nothing_that_is_quoted() {
        let text = r#"{{/* .F */}}{{.A}} .B {{printf "%s.C" .d.E 1.5}}{{$x := .G}}{{$x.H}}"#;
        let template = Template::parse(text).unwrap();
        assert!(template.mentions("G") && !template.mentions("H") && !template.mentions("F"));
        assert!(template.mentions("A") && template.mentions("d") && !template.mentions("B"));
        assert!(!template.mentions("C") && !template.mentions("E") && !template.whole);
        assert!(Template::parse("{{json .}}").unwrap().whole);
    }

    #[test]
    fn titles_stay_what_they_are_whatever_is_done_to_the_values() {
        let template = Template::parse(
            "table {{.ID}}\\t{{upper .Tag}}\\t{{slice .ID 0 4}}\\t{{.labels.team}}\\t{{index .labels \"tier\"}}",
        )
        .unwrap();
        let title = |field: &str| match field {
            "ID" => Some("IMAGE ID"),
            "Tag" => Some("TAG"),
            _ => None,
        };
        assert_eq!(
            template.render_titles(title),
            "IMAGE ID\tTAG\tIMAGE ID\tTEAM\tTIER"
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]
        #[test]
        fn no_template_makes_it_panic(words in proptest::collection::vec(proptest::sample::select(vec![
            "{{", "}}", "{{- ", " -}}", "range ", "if ", "else ", "with ", "end", "$x", " := ", "= ",
            ".Env", ".Name", ".Config", ".", "$", " | ", "(", ")", " ", "printf ", "\"%d\"", "\"%s%v%\"",
            "\"%9999999999s\"", "len ", "index ", "slice ", "json ", "join ", "split ", "pad ", "truncate ",
            "title ", "0", "-1", "99999999999999999999", "1e999", "eq ", "lt ", "and ", "or ", "not ", "/*",
            "*/", "\"", "'", "`", "é", "\\", "print ", "html ", "js ", "urlquery ", "call ", "break",
            "continue", "define \"x\"", "template \"x\" .", "block \"y\" .", ",", "true", "nil", "0x1F",
        ]), 0..20), open in any::<bool>()) {
            let mut text: String = words.concat();
            if open {
                text = format!("{{{{{text}}}}}");
            }
            let _ = rendered(&text);
        }

        #[test]
        fn nor_does_any_text(text in "\\PC{0,40}|[{}.$|()\"`'\\- a-z0-9]{0,40}") {
            let _ = rendered(&text);
            let _ = rendered(&format!("{{{{{text}}}}}"));
        }
    }
}
