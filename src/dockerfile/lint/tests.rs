//! Each rule, where it finds something and where it doesn't.

use std::collections::BTreeMap;

use super::*;
use crate::dockerfile::parse;

#[derive(Default)]
struct World {
    args: BTreeMap<&'static str, &'static str>,
    ignore: Option<IgnorePatterns>,
}

impl Surroundings for World {
    fn build_arg(&self, name: &str) -> Option<String> {
        self.args.get(name).map(|value| (*value).to_owned())
    }
    fn automatic(&self, name: &str) -> Option<String> {
        matches!(name, "TARGETPLATFORM" | "BUILDPLATFORM").then(|| "linux/amd64".to_owned())
    }
    fn automatic_names(&self) -> &[&str] {
        &["BUILDPLATFORM", "TARGETPLATFORM"]
    }
    fn base(&self, _: usize, image: &str, platform: Option<&str>) -> Option<BaseFacts> {
        let env = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        match image {
            "base" => Some(BaseFacts {
                env: vec![env("LANG", "C")],
                wrong_platform: platform
                    .filter(|platform| *platform == "linux/arm64")
                    .map(|wanted| (wanted.to_owned(), "linux/amd64".to_owned())),
                ..BaseFacts::default()
            }),
            "shelled" => Some(BaseFacts {
                shell: true,
                ..BaseFacts::default()
            }),
            "triggering" => Some(BaseFacts {
                on_build: vec!["ENV FROM_TRIGGER=1".into(), "WORKDIR rel".into()],
                ..BaseFacts::default()
            }),
            _ => None,
        }
    }
    fn is_image_name(&self, text: &str) -> bool {
        !text.is_empty() && !text.ends_with(':') && !text.contains('@')
    }
    fn ignore(&self) -> Option<&IgnorePatterns> {
        self.ignore.as_ref()
    }
}

fn report(text: &str, world: &World) -> Report {
    let file = parse(text.as_bytes()).unwrap();
    let settings = Settings::of(&file.directives, None).unwrap();
    lint(&file, &settings, world, None)
}

/// `Rule:line`, each.
fn found_in(text: &str, world: &World) -> Vec<String> {
    let report = report(text, world);
    assert_eq!(report.error, None, "{text}");
    let shown = |finding: &Finding| format!("{}:{}", finding.rule, finding.span.line);
    report.findings.iter().map(shown).collect()
}

fn found(text: &str) -> Vec<String> {
    found_in(text, &World::default())
}

#[track_caller]
fn nothing(text: &str) {
    assert_eq!(found(text), Vec::<String>::new(), "{text}");
}

#[test]
fn every_rule_has_a_name_of_its_own_and_a_description() {
    let names: BTreeSet<&str> = Rule::ALL.iter().map(|rule| rule.name()).collect();
    assert_eq!(names.len(), Rule::ALL.len());
    assert!(Rule::ALL.iter().all(|rule| !rule.description().is_empty()));
}

#[test]
fn stages_are_named_in_lower_case_and_as_follows_from() {
    assert_eq!(found("FROM base AS Build"), ["StageNameCasing:1"]);
    assert_eq!(found("FROM base as x\nRUN y"), ["FromAsCasing:1"]);
    assert_eq!(found("from base AS x\nrun y"), ["FromAsCasing:1"]);
    nothing(
        "FROM base AS x\nfrom base as y\nRUN x\nRUN x"
            .replace("from base as y\n", "")
            .as_str(),
    );
    assert_eq!(
        found("From base as x\nRUN y\nRUN z"),
        ["ConsistentInstructionCasing:1"]
    );
}

#[test]
fn keywords_are_in_the_case_that_most_have() {
    let text = "FROM base\nRUN a\nrun b\nCopy x y\n";
    assert_eq!(
        found(text),
        [
            "ConsistentInstructionCasing:3",
            "ConsistentInstructionCasing:4"
        ]
    );
    assert_eq!(
        found("from base\nrun a\nRUN b\n"),
        ["ConsistentInstructionCasing:3"]
    );
    // As many of both: capitals.
    assert_eq!(
        found("from base\nRUN a\n"),
        ["ConsistentInstructionCasing:1"]
    );
    nothing("from base as x\nrun a\n");
}

#[test]
fn an_empty_line_in_an_instruction_is_told_where_it_is() {
    assert_eq!(
        found("FROM base\nRUN a \\\n\n  && b\n"),
        ["NoEmptyContinuation:3"]
    );
}

#[test]
fn stage_names_are_unique_and_no_words_of_the_language() {
    assert_eq!(
        found("FROM base AS b\nFROM base AS B"),
        ["StageNameCasing:2", "DuplicateStageName:2"]
    );
    assert_eq!(
        found("FROM base AS scratch\nFROM base AS context"),
        ["ReservedStageName:1", "ReservedStageName:2"]
    );
}

#[test]
fn commands_are_json_unless_a_shell_was_chosen() {
    assert_eq!(
        found("FROM base\nENTRYPOINT a\nCMD b"),
        ["JSONArgsRecommended:2", "JSONArgsRecommended:3"]
    );
    nothing("FROM base\nCMD [\"a\"]");
    nothing("FROM base AS x\nSHELL [\"/bin/bash\", \"-c\"]\nFROM x\nCMD a");
    nothing("FROM shelled\nCMD a");
}

#[test]
fn a_maintainer_is_out_of_use() {
    assert_eq!(
        found("FROM base\nMAINTAINER me"),
        ["MaintainerDeprecated:2"]
    );
}

#[test]
fn from_uses_what_is_declared() {
    let report = report("FROM --platform=$BULIDPLATFORM base", &World::default());
    assert_eq!(report.findings[0].rule, Rule::UndefinedArgInFrom);
    assert!(
        report.findings[0]
            .message
            .ends_with("did you mean BUILDPLATFORM?")
    );
    // The build stops there, too: it expands to nothing.
    assert!(report.error.is_some());
    nothing("ARG tag=base\nFROM $tag");
    nothing("FROM --platform=$BUILDPLATFORM base");
    assert_eq!(
        found("ARG tag=base\nFROM ${tag}${version}"),
        ["UndefinedArgInFrom:2"]
    );
    // What has no value is declared all the same.
    nothing("ARG DEBUG\nFROM ba${DEBUG:-se}");
}

#[test]
fn from_names_an_image_without_any_build_argument() {
    let world = World {
        args: BTreeMap::from([("NAME", "base"), ("VERSION", "1")]),
        ..World::default()
    };
    let rule = "InvalidDefaultArgInFrom:2";
    assert_eq!(found_in("ARG NAME\nFROM $NAME", &world), [rule]);
    assert_eq!(found_in("ARG VERSION\nFROM other:$VERSION", &world), [rule]);
    assert_eq!(
        found_in("ARG VERSION=1\nFROM other:$VERSION", &world),
        Vec::<String>::new()
    );
}

#[test]
fn platforms_of_stages_are_neither_constant_nor_what_they_are_anyway() {
    assert_eq!(
        found("FROM --platform=$TARGETPLATFORM base"),
        ["RedundantTargetPlatform:1"]
    );
    assert_eq!(
        found("FROM --platform=linux/amd64 base"),
        ["FromPlatformFlagConstDisallowed:1"]
    );
    nothing("FROM --platform=linux/amd64 base AS build-amd64");
    nothing("ARG P=linux/amd64\nFROM --platform=$P base");
}

#[test]
fn a_base_for_another_platform_is_told() {
    assert_eq!(
        found("FROM --platform=linux/arm64 base AS on_arm64"),
        ["InvalidBaseImagePlatform:1"]
    );
}

#[test]
fn the_first_workdir_is_absolute() {
    assert_eq!(
        found("FROM base\nWORKDIR a\nWORKDIR b"),
        ["WorkdirRelativePath:2"]
    );
    nothing("FROM base\nWORKDIR /a\nWORKDIR b");
    nothing("FROM base AS x\nWORKDIR /a\nFROM x\nWORKDIR b");
    nothing("FROM base\nENV d=/srv\nWORKDIR $d/x");
}

#[test]
fn variables_are_set_before_they_are_used() {
    assert_eq!(
        found("FROM base\nCOPY $foo .\nARG foo=bar\nCOPY $foo ."),
        ["UndefinedVar:2"]
    );
    nothing("FROM base\nARG foo\nCOPY file$foo .");
    nothing("FROM base AS x\nARG foo=a\nFROM x\nCOPY $foo .");
    nothing("FROM base\nENV A=$LANG B=$PATH");
    // The shell's are the shell's.
    nothing("FROM base\nRUN echo $nobody\nCMD [\"$nobody\"]");
    // Each word of ENV sees what was before it all.
    assert_eq!(found("FROM base\nENV A=1 B=$A"), ["UndefinedVar:2"]);
    nothing("FROM base\nARG A=1 B=$A");
    assert_eq!(found("FROM base\nARG B=$A"), ["UndefinedVar:2"]);
    let report = report("FROM base\nENV PATH=$PAHT:/x", &World::default());
    assert!(report.findings[0].message.ends_with("did you mean $PATH?"));
    assert_eq!(
        found("FROM base\nRUN --mount=type=cache,target=$none/x true"),
        ["UndefinedVar:2"]
    );
}

#[test]
fn a_base_that_nobody_knows_leaves_variables_unjudged() {
    let report = report("FROM elsewhere\nCOPY $foo .\nWORKDIR x", &World::default());
    let rules: Vec<Rule> = report.findings.iter().map(|finding| finding.rule).collect();
    assert_eq!(rules, [Rule::WorkdirRelativePath]);
    assert_eq!(
        report.unknown_bases,
        BTreeSet::from(["elsewhere".to_owned()])
    );
}

#[test]
fn triggers_of_a_base_are_gone_through_at_the_from() {
    assert_eq!(
        found("FROM triggering\nLABEL x=$FROM_TRIGGER"),
        ["WorkdirRelativePath:1"]
    );
    assert_eq!(
        found("FROM base AS x\nONBUILD COPY $none /\nFROM x"),
        ["UndefinedVar:3"]
    );
}

#[test]
fn what_counts_once_is_there_once() {
    assert_eq!(
        found("FROM base\nCMD [\"a\"]\nCMD [\"b\"]\nHEALTHCHECK NONE\nHEALTHCHECK CMD [\"x\"]"),
        [
            "MultipleInstructionsDisallowed:2",
            "MultipleInstructionsDisallowed:4"
        ]
    );
    nothing("FROM base AS a\nCMD [\"a\"]\nFROM a\nCMD [\"b\"]");
}

#[test]
fn pairs_have_an_equals_sign() {
    assert_eq!(
        found("FROM base\nENV a b\nLABEL c d\nENV e=f"),
        ["LegacyKeyValueFormat:2", "LegacyKeyValueFormat:3"]
    );
}

#[test]
fn secrets_are_no_arguments() {
    let text = "FROM base\nARG API_TOKEN\nENV password=1 secret=2 PUBLIC_KEY=3\n\
        # check=skip=SecretsUsedInArgOrEnv // known\nENV password=x\n";
    assert_eq!(
        found(text),
        [
            "SecretsUsedInArgOrEnv:2",
            "SecretsUsedInArgOrEnv:3",
            "SecretsUsedInArgOrEnv:3"
        ]
    );
}

#[test]
fn what_the_context_leaves_out_is_not_copied() {
    let world = World {
        ignore: Some(IgnorePatterns::parse(b"Dockerfile\nout\n").unwrap()),
        ..World::default()
    };
    let text = "FROM base AS x\nCOPY Dockerfile a /\nADD ./out/x /\nCOPY . /\nADD https://h/out /\nFROM base\nCOPY --from=x /out /";
    assert_eq!(
        found_in(text, &world),
        ["CopyIgnoredFile:2", "CopyIgnoredFile:3"]
    );
}

#[test]
fn comments_describe_only_where_that_is_asked_for() {
    let text = "# bar is no name here\nARG foo=bar\n# base this is it\nFROM base AS base\n# odd\nARG a b\n";
    nothing(text);
    let text = format!("# check=experimental=InvalidDefinitionDescription\n{text}");
    assert_eq!(
        found(&text),
        [
            "InvalidDefinitionDescription:3",
            "InvalidDefinitionDescription:7"
        ]
    );
}

#[test]
fn ports_are_numbers_and_protocols() {
    assert_eq!(
        found("FROM base\nEXPOSE 80/TCP 127.0.0.1:81:81 82/udp"),
        ["ExposeProtoCasing:2", "ExposeInvalidFormat:2"]
    );
    nothing("FROM base\nEXPOSE 80 $nothing 81-83/tcp");
}

#[test]
fn a_directive_switches_rules_off() {
    nothing("# check=skip=all\nFROM base as x\nCMD a");
    assert_eq!(
        found("# check=skip=JSONArgsRecommended;error=true\nFROM base as x\nCMD a"),
        ["FromAsCasing:2"]
    );
}

#[test]
fn a_mistake_is_told_beside_what_was_found() {
    let report = report("FROM base as x\nWORKDIR ${\nCMD a", &World::default());
    let rules: Vec<Rule> = report.findings.iter().map(|finding| finding.rule).collect();
    assert_eq!(rules, [Rule::FromAsCasing, Rule::JsonArgsRecommended]);
    assert_eq!(report.error.map(|error| error.line), Some(2));
}

#[test]
fn stages_that_are_not_wanted_are_not_walked() {
    let file = parse(b"FROM base AS a\nCMD x\nFROM base\nCMD y").unwrap();
    let settings = Settings::default();
    let report = lint(
        &file,
        &settings,
        &World::default(),
        Some(&BTreeSet::from([1])),
    );
    let lines: Vec<u32> = report.findings.iter().map(|f| f.span.line).collect();
    assert_eq!(lines, [4]);
}
