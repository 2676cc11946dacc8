//! `{{.Field}}`: the part of Go's templates that docker's users put into their scripts.
//!
//! ```text
//! {{.Repository}}:{{.Tag}}     fields, also nested: {{.Config.User}}
//! {{json .}} {{json .Field}}   as JSON
//! table {{.ID}}\t{{.Size}}     as a table, with its titles
//! \t \n                        a tab, a line end
//! ```
//! Pipelines, conditions and loops are refused, not half understood.

/// A part of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// As it stands.
    Text(String),
    /// A field's value.
    Field {
        /// Its name, and those of the fields in it; empty: the whole record.
        path: Vec<String>,
        /// Whether as JSON.
        json: bool,
    },
}

/// A template that was understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    /// Whether titles are to be printed, and columns aligned.
    pub table: bool,
    /// What it is made of.
    pub pieces: Vec<Piece>,
}

impl Template {
    /// Reads a template.
    pub fn parse(text: &str) -> Result<Template, String> {
        let (table, mut rest) = match text.strip_prefix("table ") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let mut pieces = Vec::new();
        while let Some(start) = rest.find("{{") {
            push_text(&mut pieces, &rest[..start]);
            let end = rest[start..]
                .find("}}")
                .ok_or_else(|| "a '{{' has no '}}'".to_owned())?;
            pieces.push(action(&rest[start + 2..start + end])?);
            rest = &rest[start + end + 2..];
        }
        push_text(&mut pieces, rest);
        Ok(Template { table, pieces })
    }

    /// The template's text, each field as `value` gives it.
    pub fn render<E>(
        &self,
        mut value: impl FnMut(&[String], bool) -> Result<String, E>,
    ) -> Result<String, E> {
        let mut out = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::Field { path, json } => out.push_str(&value(path, *json)?),
            }
        }
        Ok(out)
    }
}

fn push_text(pieces: &mut Vec<Piece>, text: &str) {
    if !text.is_empty() {
        let text = text.replace("\\t", "\t").replace("\\n", "\n");
        pieces.push(Piece::Text(text));
    }
}

fn action(inside: &str) -> Result<Piece, String> {
    let words: Vec<&str> = inside.split_whitespace().collect();
    let (json, field) = match words.as_slice() {
        ["json", field] => (true, *field),
        [field] => (false, *field),
        _ => return Err(not_understood(inside)),
    };
    let path = field
        .strip_prefix('.')
        .ok_or_else(|| not_understood(inside))?;
    let path: Vec<String> = if path.is_empty() {
        Vec::new()
    } else {
        path.split('.').map(str::to_owned).collect()
    };
    let is_name =
        |name: &String| !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || c == '_');
    if !path.iter().all(is_name) {
        return Err(not_understood(inside));
    }
    Ok(Piece::Field { path, json })
}

fn not_understood(inside: &str) -> String {
    format!(
        "{{{{{inside}}}}} is not understood: a template has {{{{.Field}}}} and {{{{json .}}}}, nothing more"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(text: &str) -> Result<String, String> {
        Template::parse(text)?.render(|path, json| {
            Ok(format!(
                "<{}{}>",
                path.join("/"),
                if json { "!" } else { "" }
            ))
        })
    }

    #[test]
    fn fields_stand_in_their_text() {
        assert_eq!(
            rendered("{{.Repository}}:{{ .Tag }}"),
            Ok("<Repository>:<Tag>".into())
        );
        assert_eq!(
            rendered(r"{{.Config.User}}\t{{json .}}\n"),
            Ok("<Config/User>\t<!>\n".into())
        );
        assert!(Template::parse("table {{.ID}}").unwrap().table);
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for bad in [
            "{{",
            "{{}}",
            "{{.A",
            "{{range .}}x{{end}}",
            "{{.A | upper}}",
            "{{A}}",
            "{{.A..B}}",
        ] {
            assert!(rendered(bad).is_err(), "{bad}");
        }
    }
}
