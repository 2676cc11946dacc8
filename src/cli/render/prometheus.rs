//! Measurements in the text format that Prometheus reads (and `promtool check metrics` accepts).
//!
//! ```text
//! # HELP rstore_size_bytes Allocated bytes, by what they belong to.
//! # TYPE rstore_size_bytes gauge
//! rstore_size_bytes{store="/var/lib/rstore",type="layers"} 4096
//! ```
//! Names have the prefix of the program and end in the base unit; each family stands in one piece.

use std::fmt::{Display, Write};

/// Families of measurements, as text.
#[derive(Debug, Default)]
pub struct Exposition {
    text: String,
    name: &'static str,
    /// Labels that all samples have.
    common: Vec<(&'static str, String)>,
}

impl Exposition {
    /// Without any family yet; every sample will have these labels.
    pub fn new(common: Vec<(&'static str, String)>) -> Exposition {
        Exposition {
            common,
            ..Exposition::default()
        }
    }

    /// Begins a family of values that go up and down. `help` is one sentence.
    pub fn gauge(&mut self, name: &'static str, help: &str) -> &mut Exposition {
        self.name = name;
        let help = help.replace('\\', r"\\").replace('\n', r"\n");
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} gauge");
        self
    }

    /// Adds a sample to the family that was begun last.
    pub fn sample(&mut self, labels: &[(&str, &str)], value: impl Display) -> &mut Exposition {
        let common = self.common.iter().map(|(key, value)| (*key, &**value));
        let all = common.chain(labels.iter().copied());
        let all: Vec<String> = all
            .map(|(key, value)| format!("{key}=\"{}\"", escape(value)))
            .collect();
        let _ = match all.as_slice() {
            [] => writeln!(self.text, "{} {value}", self.name),
            all => writeln!(self.text, "{}{{{}}} {value}", self.name, all.join(",")),
        };
        self
    }

    /// The text.
    pub fn finish(self) -> String {
        self.text
    }
}

fn escape(value: &str) -> String {
    let value = value.replace('\\', r"\\").replace('"', "\\\"");
    value.replace('\n', r"\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_is_one_piece_and_labels_are_escaped() {
        let mut exposition = Exposition::new(vec![("store", "/a \"b\"\\\n".to_owned())]);
        exposition
            .gauge("rstore_x_bytes", "Bytes.")
            .sample(&[("type", "layers")], 7)
            .sample(&[], 0.5);
        assert_eq!(
            exposition.finish(),
            concat!(
                "# HELP rstore_x_bytes Bytes.\n# TYPE rstore_x_bytes gauge\n",
                r#"rstore_x_bytes{store="/a \"b\"\\\n",type="layers"} 7"#,
                "\n",
                r#"rstore_x_bytes{store="/a \"b\"\\\n"} 0.5"#,
                "\n"
            )
        );
    }
}
