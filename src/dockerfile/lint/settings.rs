//! Which rules count: `# check=skip=A,B;error=true;experimental=all`.
//!
//! The same text is the value of the directive at the top of a file, of the build argument
//! `BUILDKIT_DOCKERFILE_CHECK`, which goes before it, and of a comment above one instruction.
//! Names that are no rule are let be: they may be rules of a newer builder.

use std::borrow::Cow;
use std::collections::BTreeSet;

use super::Rule;
use crate::dockerfile::Directives;
use crate::dockerfile::quantity::truth;

/// Which rules count, and whether a finding is an error.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Settings {
    /// Whether a finding makes the build fail.
    pub error: bool,
    skip: Names,
    experimental: Names,
}

/// A text that is no settings.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{option:?} is not an option of check; there are skip=RULE,…, experimental=RULE,… and error=true"
)]
pub struct BadSettings {
    /// The option.
    pub option: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Names {
    All,
    These(BTreeSet<String>),
}

impl Default for Names {
    fn default() -> Names {
        Names::These(BTreeSet::new())
    }
}

impl Names {
    fn parse(text: &str) -> Names {
        match text {
            "all" => Names::All,
            text => Names::These(text.split(',').map(|name| name.trim().to_owned()).collect()),
        }
    }

    fn has(&self, rule: Rule) -> bool {
        match self {
            Names::All => true,
            Names::These(names) => names.contains(rule.name()),
        }
    }

    fn join(&mut self, other: Names) {
        match (&mut *self, other) {
            (Names::These(mine), Names::These(more)) => mine.extend(more),
            _ => *self = Names::All,
        }
    }
}

impl Settings {
    /// Reads a text of options.
    pub fn parse(text: &str) -> Result<Settings, BadSettings> {
        let mut settings = Settings::default();
        let text = without_remark(text);
        for option in text.split(';').map(str::trim).filter(|o| !o.is_empty()) {
            let bad = || BadSettings {
                option: option.to_owned(),
            };
            let (name, value) = option.split_once('=').ok_or_else(bad)?;
            match (name.trim(), value.trim()) {
                ("skip", names) => settings.skip = Names::parse(names),
                ("experimental", names) => settings.experimental = Names::parse(names),
                ("error", text) => settings.error = truth(text).ok_or_else(bad)?,
                _ => return Err(bad()),
            }
        }
        Ok(settings)
    }

    /// The settings of a file: those given to the build, else those of its directive.
    pub fn of(directives: &Directives, given: Option<&str>) -> Result<Settings, BadSettings> {
        let directive = directives.check.as_ref().map(|check| check.value.as_str());
        Settings::parse(given.or(directive).unwrap_or_default())
    }

    /// These settings with those of the comments above an instruction. The first comment that is
    /// a directive counts; one that doesn't parse is a comment.
    pub(super) fn with_comments(&self, comments: &[String]) -> Cow<'_, Settings> {
        let local = comments.iter().find_map(|comment| {
            let (name, value) = comment.split_once('=')?;
            name.trim().eq_ignore_ascii_case("check").then_some(value)
        });
        let Some(Ok(local)) = local.map(Settings::parse) else {
            return Cow::Borrowed(self);
        };
        let mut joined = self.clone();
        joined.skip.join(local.skip);
        joined.experimental.join(local.experimental);
        Cow::Owned(joined)
    }

    /// Whether a rule counts.
    pub(super) fn wants(&self, rule: Rule) -> bool {
        if rule.is_experimental() {
            self.experimental.has(rule)
        } else {
            !self.skip.has(rule)
        }
    }
}

/// The options without what is written after them: the first blank that doesn't stand beside a
/// separator ends them (`skip=A, B; error=true  # since we may`).
fn without_remark(text: &str) -> &str {
    let text = text.trim();
    let mut before = ';';
    for (place, character) in text.char_indices() {
        if !character.is_whitespace() {
            before = character;
            continue;
        }
        let after = text[place..].trim_start().chars().next();
        let separates = |c: char| matches!(c, ';' | ',' | '=');
        if !separates(before) && !after.is_some_and(separates) {
            return &text[..place];
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_split_at_semicolons_and_names_at_commas() {
        let settings =
            Settings::parse("skip=JSONArgsRecommended, StageNameCasing; error=true").unwrap();
        assert!(settings.error);
        assert!(!settings.wants(Rule::JsonArgsRecommended));
        assert!(!settings.wants(Rule::StageNameCasing));
        assert!(settings.wants(Rule::FromAsCasing));
        assert!(!settings.wants(Rule::InvalidDefinitionDescription));
    }

    #[test]
    fn a_remark_may_follow() {
        let settings = Settings::parse("skip=all // is for this one only = so").unwrap();
        assert!(!settings.wants(Rule::FromAsCasing));
    }

    #[test]
    fn experimental_rules_are_asked_for_and_not_skipped() {
        let settings = Settings::parse("skip=all;experimental=all").unwrap();
        assert!(settings.wants(Rule::InvalidDefinitionDescription));
        assert!(!settings.wants(Rule::UndefinedVar));
    }

    #[test]
    fn what_is_no_option_is_refused() {
        for text in ["skip", "skipp=all", "error=maybe", "skip=all;x"] {
            assert!(Settings::parse(text).is_err(), "{text}");
        }
        assert_eq!(Settings::parse("  "), Ok(Settings::default()));
    }

    #[test]
    fn a_comment_adds_to_what_the_file_says() {
        let file = Settings::parse("skip=UndefinedVar").unwrap();
        let comments = [
            "why".to_owned(),
            "check=skip=FromAsCasing // old".to_owned(),
        ];
        let joined = file.with_comments(&comments);
        assert!(!joined.wants(Rule::UndefinedVar) && !joined.wants(Rule::FromAsCasing));
        assert!(joined.wants(Rule::StageNameCasing));
    }
}
