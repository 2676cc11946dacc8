//! `--chmod`: an octal mode, or chmod(1)'s symbolic one. Pure.
//!
//! ```text
//! u=rwX,go=rX     clause ("," clause)*
//! └┬┘└┬┘          clause = who* (op what*)+
//!  │  └ what: r w x X s t, or u g o: those bits of the mode so far
//!  └ who and operator; without who: everybody, the process' umask counting for nothing
//! ```
//! `X` is `x` for directories and for what was executable by anyone before the first clause.

use std::fmt;

/// Read, write, execute of user, group and others.
const READ: u32 = 0o444;
const WRITE: u32 = 0o222;
const EXECUTE: u32 = 0o111;
const SET_USER: u32 = 0o4000;
const SET_GROUP: u32 = 0o2000;
const STICKY: u32 = 0o1000;

/// What `--chmod` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chmod {
    text: String,
    meaning: Meaning,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Meaning {
    Octal(u32),
    Symbolic(Vec<Change>),
}

/// One operator and what stands behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Change {
    /// The bits that may change.
    who: u32,
    operator: Operator,
    bits: u32,
    /// `X`.
    execute_if: bool,
    /// `u`, `g`, `o`: how far those bits are from the right.
    copied: Vec<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Add,
    Remove,
    Set,
}

impl Chmod {
    /// Reads a mode; the error says what one is.
    pub fn parse(text: &str) -> Result<Chmod, String> {
        let octal = || {
            format!(
                "--chmod={text}: a mode is octal, from 0 to 7777, or symbolic, such as u=rwX,go=rX"
            )
        };
        let meaning = if text.starts_with(|c: char| c.is_ascii_digit()) {
            match u32::from_str_radix(text, 8) {
                Ok(mode) if mode <= 0o7777 => Meaning::Octal(mode),
                _ => return Err(octal()),
            }
        } else {
            let mut changes = Vec::new();
            for clause in text.split(',') {
                clause_changes(clause, &mut changes).ok_or_else(octal)?;
            }
            Meaning::Symbolic(changes)
        };
        Ok(Chmod {
            text: text.to_owned(),
            meaning,
        })
    }

    /// The mode, if it does not depend on what was.
    pub fn octal(&self) -> Option<u32> {
        match self.meaning {
            Meaning::Octal(mode) => Some(mode),
            Meaning::Symbolic(_) => None,
        }
    }

    /// The mode that a file of `mode` gets.
    pub fn apply(&self, mode: u32, is_directory: bool) -> u32 {
        let changes = match &self.meaning {
            Meaning::Octal(mode) => return *mode,
            Meaning::Symbolic(changes) => changes,
        };
        let executable = is_directory || mode & EXECUTE != 0;
        changes.iter().fold(mode & 0o7777, |mode, change| {
            let mut bits = change.bits;
            if change.execute_if && executable {
                bits |= EXECUTE;
            }
            for shift in &change.copied {
                bits |= ((mode >> shift) & 0o7) * 0o111;
            }
            let bits = bits & change.who;
            match change.operator {
                Operator::Add => mode | bits,
                Operator::Remove => mode & !bits,
                Operator::Set => (mode & !(change.who & !STICKY | bits & STICKY)) | bits,
            }
        })
    }
}

impl fmt::Display for Chmod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn clause_changes(clause: &str, changes: &mut Vec<Change>) -> Option<()> {
    let operators = clause.find(['+', '-', '='])?;
    let (who, mut rest) = clause.split_at(operators);
    let who = who.chars().try_fold(0, |who, letter| {
        Some(
            who | match letter {
                'u' => SET_USER | 0o700,
                'g' => SET_GROUP | 0o070,
                'o' => 0o007,
                'a' => SET_USER | SET_GROUP | 0o777,
                _ => return None,
            },
        )
    })?;
    let only_others = who == 0o007;
    // The sticky bit is nobody's: whoever is named, but for others alone, may set it.
    let who = match who {
        0 => 0o7777,
        0o007 => who,
        _ => who | STICKY,
    };
    while !rest.is_empty() {
        let (operator, behind) = rest.split_at(1);
        let end = behind.find(['+', '-', '=']).unwrap_or(behind.len());
        let (letters, next) = behind.split_at(end);
        rest = next;
        let mut change = Change {
            who,
            operator: match operator {
                "+" => Operator::Add,
                "-" => Operator::Remove,
                _ => Operator::Set,
            },
            bits: 0,
            execute_if: false,
            copied: Vec::new(),
        };
        for letter in letters.chars() {
            match letter {
                'r' => change.bits |= READ,
                'w' => change.bits |= WRITE,
                'x' => change.bits |= EXECUTE,
                'X' if change.operator == Operator::Remove => change.bits |= EXECUTE,
                'X' => change.execute_if = true,
                's' if !only_others => change.bits |= SET_USER | SET_GROUP,
                't' if !only_others => change.bits |= STICKY,
                's' | 't' => {}
                'u' => change.copied.push(6),
                'g' => change.copied.push(3),
                'o' => change.copied.push(0),
                _ => return None,
            }
        }
        changes.push(change);
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str, mode: u32) -> u32 {
        Chmod::parse(text).unwrap().apply(mode, false)
    }

    fn directory(text: &str, mode: u32) -> u32 {
        Chmod::parse(text).unwrap().apply(mode, true)
    }

    #[test]
    fn an_octal_mode_is_the_mode() {
        assert_eq!(file("0755", 0o644), 0o755);
        assert_eq!(file("4711", 0o644), 0o4711);
        assert_eq!(file("0", 0o644), 0);
    }

    #[test]
    fn a_symbolic_mode_changes_what_was() {
        assert_eq!(file("u=rwX,go=rX", 0o600), 0o644);
        assert_eq!(file("u=rwX,go=rX", 0o700), 0o755);
        assert_eq!(directory("u=rwX,go=rX", 0o700), 0o755);
        assert_eq!(file("+x", 0o644), 0o755);
        assert_eq!(file("a+x", 0o644), 0o755);
        assert_eq!(file("go-w", 0o666), 0o644);
        assert_eq!(file("go=", 0o777), 0o700);
        assert_eq!(file("go=u-w", 0o640), 0o644);
        assert_eq!(file("u=rwx,go=u-w", 0o600), 0o755);
        assert_eq!(file("g=u", 0o640), 0o660);
        assert_eq!(file("u+s", 0o755), 0o4755);
        assert_eq!(file("g-s,+t", 0o2755), 0o1755);
        assert_eq!(file("u=rw", 0o4755), 0o655);
        assert_eq!(file("=rw,+X", 0o755), 0o777);
        assert_eq!(file("o+t", 0o755), 0o755);
    }

    #[test]
    fn what_is_no_mode_is_refused() {
        for bad in [
            "", "8", "77777", "0x1", "rwx", "u", "u=q", "z+x", "u=r,", "u=r,,g=r", "-1",
        ] {
            let error = Chmod::parse(bad).unwrap_err();
            assert!(error.contains("octal"), "{bad:?}: {error}");
        }
    }
}
