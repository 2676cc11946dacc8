//! What docker's documents always have, and ours only where an image says something: scripts ask
//! for it by `inspect --format`, and an image without an entry point is no reason to fail them.

use std::collections::HashMap;

use serde_json::Value as Json;

use super::template::{self, Value};

/// The members of an image's `Config`, and what they are where they are not.
const CONFIG: &[(&str, Absent)] = &[
    ("User", Absent::Text),
    ("WorkingDir", Absent::Text),
    ("StopSignal", Absent::Text),
    ("Hostname", Absent::Text),
    ("Domainname", Absent::Text),
    ("Image", Absent::Text),
    ("Env", Absent::List),
    ("Cmd", Absent::List),
    ("Entrypoint", Absent::List),
    ("OnBuild", Absent::List),
    ("Shell", Absent::List),
    ("Labels", Absent::Dictionary),
    ("Volumes", Absent::Dictionary),
    ("ExposedPorts", Absent::Dictionary),
    ("Healthcheck", Absent::Nothing),
];

#[derive(Clone, Copy)]
enum Absent {
    Text,
    List,
    Dictionary,
    Nothing,
}

impl Absent {
    fn value(self) -> Value {
        match self {
            Absent::Text => Value::String(String::new()),
            Absent::List => Value::Array(Vec::new()),
            Absent::Dictionary => Value::Map(HashMap::new()),
            Absent::Nothing => Value::Nil,
        }
    }
}

/// A document of `inspect` as a template sees it.
pub fn document(json: Json) -> Value {
    let mut document = template::value(json);
    if let Value::Object(members) = &mut document
        && let Some(config) = members.get_mut("Config")
    {
        if matches!(config, Value::Nil) {
            *config = Value::Object(HashMap::new());
        }
        if let Value::Object(config) = config {
            complete(config);
        }
    }
    document
}

fn complete(config: &mut HashMap<String, Value>) {
    for (name, absent) in CONFIG {
        let entry = config.entry((*name).to_owned()).or_insert(Value::Nil);
        *entry = match (std::mem::replace(entry, Value::Nil), absent) {
            (Value::Nil, absent) => absent.value(),
            (Value::Object(members), Absent::Dictionary) => Value::Map(members),
            (other, _) => other,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use template::Template;

    #[test]
    fn a_script_that_asks_for_what_an_image_does_not_say_gets_nothing_and_no_error() {
        let rendered = |text: &str| {
            let json = json!({ "Config": { "Labels": { "team": "blue" }, "Cmd": ["sh"] } });
            Template::parse(text).unwrap().render(document(json))
        };
        for (text, expected) in [
            ("{{.Config.User}}|", "|"),
            ("{{.Config.Entrypoint}} {{.Config.Cmd}}", "[] [sh]"),
            ("{{range .Config.Env}}x{{end}}|", "|"),
            ("{{json .Config.Volumes}}", "{}"),
            (
                r#"{{index .Config.Labels "team"}} {{index .Config.Labels "no.such"}}|"#,
                "blue |",
            ),
            ("{{if .Config.Healthcheck}}yes{{else}}no{{end}}", "no"),
        ] {
            assert_eq!(rendered(text).as_deref(), Ok(expected), "{text}");
        }
        assert!(rendered("{{.Confik}}").is_err() && rendered("{{.Config.Usr}}").is_err());
    }
}
