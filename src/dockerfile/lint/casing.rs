//! Upper and lower case: of keywords, of `AS`, of stage names.

use super::{Linter, Rule};
use crate::dockerfile::{Dockerfile, FromInstruction, Span};

pub(super) fn check(file: &Dockerfile, linter: &mut Linter<'_>) {
    let mut keywords: Vec<(&str, Span, &[String])> = Vec::new();
    for stage in &file.stages {
        check_stage(&stage.from, stage.span, linter);
        keywords.push((&stage.from.keyword, stage.span, &stage.from.comments));
        for instruction in &stage.instructions {
            keywords.push((
                &instruction.keyword,
                instruction.span,
                &instruction.comments,
            ));
        }
    }
    check_keywords(&keywords, linter);
}

fn check_stage(from: &FromInstruction, span: Span, linter: &mut Linter<'_>) {
    if let Some(name) = &from.alias
        && *name != name.to_lowercase()
    {
        let lower = name.to_lowercase();
        linter.find(Rule::StageNameCasing, span, &from.comments, || {
            format!("the stage name {name} has capitals; call it {lower}")
        });
    }
    let Some(word) = &from.as_keyword else { return };
    let keyword = &from.keyword;
    // A FROM that is neither is told of by the rule about all keywords.
    let wanted = if *keyword == keyword.to_lowercase() {
        "as"
    } else if *keyword == keyword.to_uppercase() {
        "AS"
    } else {
        return;
    };
    if word != wanted {
        linter.find(Rule::FromAsCasing, span, &from.comments, || {
            format!("{word} beside {keyword}; write {wanted}")
        });
    }
}

/// The case that most keywords have is that of all; capitals where there are as many of both.
fn check_keywords(keywords: &[(&str, Span, &[String])], linter: &mut Linter<'_>) {
    let is_lower = |word: &str| word == word.to_lowercase();
    let is_upper = |word: &str| word == word.to_uppercase();
    let lower = keywords.iter().filter(|(word, ..)| is_lower(word)).count();
    let upper = keywords.iter().filter(|(word, ..)| is_upper(word)).count();
    let (fits, case): (&dyn Fn(&str) -> bool, _) = if lower > upper {
        (&is_lower, "lower case")
    } else {
        (&is_upper, "capitals")
    };
    for (word, span, comments) in keywords {
        if !fits(word) {
            linter.find(Rule::ConsistentInstructionCasing, *span, comments, || {
                format!("{word} is not in {case}, as most instructions here are")
            });
        }
    }
}
