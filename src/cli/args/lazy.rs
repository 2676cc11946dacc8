//! Arguments that are described to clap only when their verb is meant.
//!
//! There are more than thirty verbs, and describing the arguments of all takes longer than most
//! commands that only look. [`parse`] describes those of the one verb that the line has. Whatever
//! else wants a description, be it for help, for an error that suggests another word, a manual
//! page or a completion, describes everything.

use std::cell::Cell;
use std::ffi::OsString;
use std::ops::{Deref, DerefMut};

use clap::{ArgMatches, Args, Command, FromArgMatches, Parser};

thread_local! {
    static LAZY: Cell<bool> = const { Cell::new(false) };
}

/// Reads a command line. What it says of a wrong one is what [`Parser::try_parse_from`] says.
pub fn parse<P: Parser>(words: Vec<OsString>) -> Result<P, clap::Error> {
    LAZY.set(true);
    let parsed = P::try_parse_from(&words);
    LAZY.set(false);
    parsed.or_else(|_| P::try_parse_from(words))
}

/// The arguments of a verb.
#[derive(Debug)]
pub struct Lazy<T>(T);

impl<T> Deref for Lazy<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for Lazy<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

impl<T: FromArgMatches> FromArgMatches for Lazy<T> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        T::from_arg_matches(matches).map(Lazy)
    }

    fn from_arg_matches_mut(matches: &mut ArgMatches) -> Result<Self, clap::Error> {
        T::from_arg_matches_mut(matches).map(Lazy)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.0.update_from_arg_matches(matches)
    }

    fn update_from_arg_matches_mut(&mut self, matches: &mut ArgMatches) -> Result<(), clap::Error> {
        self.0.update_from_arg_matches_mut(matches)
    }
}

impl<T: Args> Args for Lazy<T> {
    fn augment_args(command: Command) -> Command {
        match LAZY.get() {
            true => command.defer(T::augment_args),
            false => T::augment_args(command),
        }
    }

    fn augment_args_for_update(command: Command) -> Command {
        T::augment_args_for_update(command)
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::cli::Cli;

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn a_line_means_the_same_however_much_is_described() {
        for line in [
            "rstore images",
            "rstore --root images images -a --no-progress",
            "rstore build -t app --root r .",
            "rstore prune --dangling -n",
            "rstore unpin app",
            "rstore",
            "rstore --help",
            "rstore help images",
            "rstore images --help",
            "rstore images --al",
            "rstore image",
            "rstore --root build images --no-such",
            "rstore --version",
        ] {
            let (lazy, eager) = (parse::<Cli>(words(line)), Cli::try_parse_from(words(line)));
            match (lazy, eager) {
                (Ok(lazy), Ok(eager)) => assert_eq!(format!("{lazy:?}"), format!("{eager:?}")),
                (Err(lazy), Err(eager)) => assert_eq!(lazy.to_string(), eager.to_string()),
                (lazy, eager) => panic!("{line}: {lazy:?}, {eager:?}"),
            }
        }
    }

    #[test]
    fn only_the_verb_that_is_meant_is_described() {
        LAZY.set(true);
        let mut command = Cli::command();
        LAZY.set(false);
        let described = |command: &Command, verb: &str| {
            let verb = command.find_subcommand(verb).expect("a verb");
            verb.get_arguments().count() > 0
        };
        assert!(!described(&command, "images") && described(&Cli::command(), "images"));
        let matches = command.try_get_matches_from_mut(words("rstore images -a"));
        assert!(matches.is_ok_and(|matches| matches.subcommand_name() == Some("images")));
    }
}
