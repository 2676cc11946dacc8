//! Heredocs: `<<EOF`, `<<-EOF`, `3<<"EOF"`.
//!
//! A word introduces a heredoc if it is digits, `<<`, perhaps `-`, and one more word. Quotes
//! anywhere in that word mean that the content isn't expanded. The bodies follow the line in the
//! order of their words.

use super::expand::Options;
use super::{Command, Heredoc, ParseErrorKind, Run, Script};

/// The heredocs that the words of `line` introduce, without their content.
pub(super) fn introduced_by(line: &str) -> Result<Vec<Heredoc>, ParseErrorKind> {
    if !line.contains("<<") {
        return Ok(Vec::new());
    }
    let options = Options {
        keep_quotes: true,
        keep_escapes: true,
        keep_unset: true,
        ..Options::new('\\')
    };
    // A line that is no sequence of words (an apostrophe in a shell comment) has no heredocs.
    let Ok(expanded) = options.expand(line, &|_| None) else {
        return Ok(Vec::new());
    };
    expanded
        .words
        .iter()
        .filter_map(|word| parse_word(word).transpose())
        .collect()
}

/// What the word `word` introduces, if it does.
pub(super) fn parse_word(word: &str) -> Result<Option<Heredoc>, ParseErrorKind> {
    let rest = word.trim_start_matches(|c: char| c.is_ascii_digit());
    let file_descriptor = word[..word.len() - rest.len()].parse().unwrap_or(0);
    let Some(rest) = rest.strip_prefix("<<") else {
        return Ok(None);
    };
    let (chomp, rest) = match rest.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, rest),
    };
    let delimiter = rest.trim_start_matches([' ', '\t', '\r', '\n', '\x0c']);
    if delimiter.is_empty() || delimiter.contains('<') {
        return Ok(None);
    }
    let bare = Options {
        keep_unset: true,
        ..Options::new('\\')
    };
    let quoted = Options {
        keep_quotes: true,
        ..bare
    };
    let bad = |_| ParseErrorKind::BadHeredocName {
        word: word.to_owned(),
    };
    let names = bare.expand(delimiter, &|_| None).map_err(bad)?.words;
    let raw_names = quoted.expand(delimiter, &|_| None).map_err(bad)?.words;
    let ([name], [raw_name]) = (names.as_slice(), raw_names.as_slice()) else {
        return Ok(None);
    };
    Ok(Some(Heredoc {
        name: name.clone(),
        content: String::new(),
        expand: quotes(name) == quotes(raw_name),
        chomp,
        file_descriptor,
    }))
}

fn quotes(text: &str) -> usize {
    text.matches(['\'', '"']).count()
}

/// `content` without the tabs at the beginning of its lines.
pub(super) fn without_leading_tabs(content: &str) -> String {
    content
        .split_inclusive('\n')
        .map(|line| line.trim_start_matches('\t'))
        .collect()
}

impl Heredoc {
    /// The content, without leading tabs if it was introduced by `<<-`.
    pub fn text(&self) -> String {
        if self.chomp {
            without_leading_tabs(&self.content)
        } else {
            self.content.clone()
        }
    }
}

impl Run {
    /// What is to be executed once the heredocs are put where they belong.
    ///
    /// A command that is nothing but one heredoc is a script: the shell gets its text, or, if it
    /// begins with `#!`, the path of a file with it. Any other command is put together again with
    /// its heredocs, for the shell to make sense of.
    pub fn script(&self) -> Script {
        let line = match &self.command {
            Command::Exec(arguments) => return Script::Exec(arguments.clone()),
            Command::Shell(line) => line,
        };
        let Some(first) = self.heredocs.first() else {
            return Script::Shell(line.clone());
        };
        if !matches!(parse_word(line), Ok(Some(_))) {
            let mut text = line.clone();
            for heredoc in &self.heredocs {
                text.push('\n');
                text.push_str(&heredoc.content);
                text.push_str(&heredoc.name);
            }
            return Script::Shell(text);
        }
        // As written: a `#!` behind tabs is a comment for the shell, though `<<-` takes them off.
        if first.content.starts_with("#!") {
            return Script::File {
                name: first.name.clone(),
                content: first.text(),
            };
        }
        Script::Shell(first.text())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn introduced(line: &str) -> Vec<String> {
        let show = |heredoc: &Heredoc| {
            let Heredoc {
                name,
                expand,
                chomp,
                file_descriptor,
                ..
            } = heredoc;
            format!("{file_descriptor} {name} expand={expand} chomp={chomp}")
        };
        introduced_by(line).unwrap().iter().map(show).collect()
    }

    #[test]
    fn words_with_arrows_introduce_heredocs() {
        assert_eq!(
            introduced("RUN cat <<EOF"),
            ["0 EOF expand=true chomp=false"]
        );
        assert_eq!(
            introduced("RUN cat <<-EOF"),
            ["0 EOF expand=true chomp=true"]
        );
        assert_eq!(
            introduced("RUN cat << EOF"),
            ["0 EOF expand=true chomp=false"]
        );
        assert_eq!(
            introduced("RUN cat 3<<'E F'"),
            ["3 E F expand=false chomp=false"]
        );
        assert_eq!(
            introduced("RUN cat <<\"EOF\" > x"),
            ["0 EOF expand=false chomp=false"]
        );
        assert_eq!(introduced("RUN a <<A && b <<B").len(), 2);
        assert_eq!(
            introduced("RUN cat <<${EOF}"),
            ["0 ${EOF} expand=true chomp=false"]
        );
    }

    #[test]
    fn other_arrows_do_not() {
        for line in [
            "RUN cat <<<x",
            "RUN echo '<<EOF'",
            "RUN echo a<<b",
            "RUN echo $((1 <<",
            "RUN echo don't <<EOF",
            "RUN echo \"<<EOF\"",
            "RUN <<",
        ] {
            assert_eq!(introduced(line), Vec::<String>::new(), "{line}");
        }
    }

    fn script(text: &str) -> Script {
        let instruction = crate::dockerfile::parse_instruction(text, 1).unwrap();
        match instruction.kind {
            crate::dockerfile::Kind::Run(run) => run.script(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_lone_heredoc_is_the_script() {
        let text = |text: &str| Script::Shell(text.to_owned());
        assert_eq!(script("RUN <<E\na\n\tb\nE\n"), text("a\n\tb\n"));
        assert_eq!(script("RUN <<-'E'\n\ta\n\t\tb\n\tE\n"), text("a\nb\n"));
        let content = "#!/bin/x\ny\n".to_owned();
        let file = Script::File {
            name: "E".into(),
            content,
        };
        assert_eq!(script("RUN <<E\n#!/bin/x\ny\nE\n"), file);
        // BuildKit looks for it before the tabs are off.
        let tabs = "RUN <<-E\n\t#!/bin/x\n\ty\n\tE\n";
        assert_eq!(script(tabs), text("#!/bin/x\ny\n"));
    }

    #[test]
    fn other_commands_are_put_together_again() {
        let text = |text: &str| Script::Shell(text.to_owned());
        assert_eq!(
            script("RUN cat <<A <<-B\na\nA\n\tb\n\tB\n"),
            text("cat <<A <<-B\na\nA\n\tb\nB")
        );
        assert_eq!(script("RUN echo x"), text("echo x"));
        assert_eq!(script("RUN [\"x\"]"), Script::Exec(vec!["x".into()]));
    }
}
