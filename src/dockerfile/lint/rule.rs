//! The rules: their names, which are BuildKit's, and what each asks for.

/// A rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// `FROM x AS Build`.
    StageNameCasing,
    /// `FROM x as y`.
    FromAsCasing,
    /// An empty line after a `\`.
    NoEmptyContinuation,
    /// `RUN` here and `run` there.
    ConsistentInstructionCasing,
    /// Two stages of one name.
    DuplicateStageName,
    /// A stage called `scratch` or `context`.
    ReservedStageName,
    /// `CMD` and `ENTRYPOINT` in shell form.
    JsonArgsRecommended,
    /// `MAINTAINER`.
    MaintainerDeprecated,
    /// `FROM $x` without an `ARG x` before it.
    UndefinedArgInFrom,
    /// `WORKDIR x` where no absolute one came before.
    WorkdirRelativePath,
    /// `$x` that nothing sets.
    UndefinedVar,
    /// A second `CMD`, `ENTRYPOINT` or `HEALTHCHECK` in a stage.
    MultipleInstructionsDisallowed,
    /// `ENV key value`.
    LegacyKeyValueFormat,
    /// A base image for another platform.
    InvalidBaseImagePlatform,
    /// `FROM --platform=$TARGETPLATFORM`.
    RedundantTargetPlatform,
    /// `ARG PASSWORD`.
    SecretsUsedInArgOrEnv,
    /// `ARG x` without default in `FROM y:$x`.
    InvalidDefaultArgInFrom,
    /// `FROM --platform=linux/arm64`.
    FromPlatformFlagConstDisallowed,
    /// `COPY x` where `.dockerignore` has `x`.
    CopyIgnoredFile,
    /// A comment above an `ARG` or `FROM` that is about something else.
    InvalidDefinitionDescription,
    /// `EXPOSE 80/TCP`.
    ExposeProtoCasing,
    /// `EXPOSE 127.0.0.1:80:80`.
    ExposeInvalidFormat,
}

impl Rule {
    /// Every rule.
    pub const ALL: [Rule; 22] = [
        Rule::StageNameCasing,
        Rule::FromAsCasing,
        Rule::NoEmptyContinuation,
        Rule::ConsistentInstructionCasing,
        Rule::DuplicateStageName,
        Rule::ReservedStageName,
        Rule::JsonArgsRecommended,
        Rule::MaintainerDeprecated,
        Rule::UndefinedArgInFrom,
        Rule::WorkdirRelativePath,
        Rule::UndefinedVar,
        Rule::MultipleInstructionsDisallowed,
        Rule::LegacyKeyValueFormat,
        Rule::InvalidBaseImagePlatform,
        Rule::RedundantTargetPlatform,
        Rule::SecretsUsedInArgOrEnv,
        Rule::InvalidDefaultArgInFrom,
        Rule::FromPlatformFlagConstDisallowed,
        Rule::CopyIgnoredFile,
        Rule::InvalidDefinitionDescription,
        Rule::ExposeProtoCasing,
        Rule::ExposeInvalidFormat,
    ];

    /// Its name, as `# check=skip=NAME` has it.
    pub fn name(self) -> &'static str {
        match self {
            Rule::StageNameCasing => "StageNameCasing",
            Rule::FromAsCasing => "FromAsCasing",
            Rule::NoEmptyContinuation => "NoEmptyContinuation",
            Rule::ConsistentInstructionCasing => "ConsistentInstructionCasing",
            Rule::DuplicateStageName => "DuplicateStageName",
            Rule::ReservedStageName => "ReservedStageName",
            Rule::JsonArgsRecommended => "JSONArgsRecommended",
            Rule::MaintainerDeprecated => "MaintainerDeprecated",
            Rule::UndefinedArgInFrom => "UndefinedArgInFrom",
            Rule::WorkdirRelativePath => "WorkdirRelativePath",
            Rule::UndefinedVar => "UndefinedVar",
            Rule::MultipleInstructionsDisallowed => "MultipleInstructionsDisallowed",
            Rule::LegacyKeyValueFormat => "LegacyKeyValueFormat",
            Rule::InvalidBaseImagePlatform => "InvalidBaseImagePlatform",
            Rule::RedundantTargetPlatform => "RedundantTargetPlatform",
            Rule::SecretsUsedInArgOrEnv => "SecretsUsedInArgOrEnv",
            Rule::InvalidDefaultArgInFrom => "InvalidDefaultArgInFrom",
            Rule::FromPlatformFlagConstDisallowed => "FromPlatformFlagConstDisallowed",
            Rule::CopyIgnoredFile => "CopyIgnoredFile",
            Rule::InvalidDefinitionDescription => "InvalidDefinitionDescription",
            Rule::ExposeProtoCasing => "ExposeProtoCasing",
            Rule::ExposeInvalidFormat => "ExposeInvalidFormat",
        }
    }

    /// What it asks for, in one clause.
    pub fn description(self) -> &'static str {
        match self {
            Rule::StageNameCasing => "stage names are in lower case",
            Rule::FromAsCasing => "AS is written in the case of its FROM",
            Rule::NoEmptyContinuation => "no empty lines inside an instruction",
            Rule::ConsistentInstructionCasing => "all instructions are written in one case",
            Rule::DuplicateStageName => "each stage has a name of its own",
            Rule::ReservedStageName => "no stage is called scratch or context",
            Rule::JsonArgsRecommended => {
                "CMD and ENTRYPOINT are JSON arrays, so that signals reach the program"
            }
            Rule::MaintainerDeprecated => "a label names the author, not MAINTAINER",
            Rule::UndefinedArgInFrom => "FROM uses ARGs that are declared before it",
            Rule::WorkdirRelativePath => "the first WORKDIR of a stage is absolute",
            Rule::UndefinedVar => "variables are set before they are used",
            Rule::MultipleInstructionsDisallowed => {
                "a stage has one CMD, one ENTRYPOINT, one HEALTHCHECK"
            }
            Rule::LegacyKeyValueFormat => "ENV and LABEL are written key=value",
            Rule::InvalidBaseImagePlatform => "a base image is for the platform of the build",
            Rule::RedundantTargetPlatform => "FROM needs no --platform=$TARGETPLATFORM",
            Rule::SecretsUsedInArgOrEnv => "no secrets in ARG or ENV, which the image shows",
            Rule::InvalidDefaultArgInFrom => "FROM names an image without any --build-arg",
            Rule::FromPlatformFlagConstDisallowed => "FROM --platform is not a constant",
            Rule::CopyIgnoredFile => "what is copied is not in .dockerignore",
            Rule::InvalidDefinitionDescription => {
                "a comment right above an ARG or a stage describes it"
            }
            Rule::ExposeProtoCasing => "protocols of EXPOSE are in lower case",
            Rule::ExposeInvalidFormat => "EXPOSE has ports, no addresses and no port mapping",
        }
    }

    /// Whether it is off until `experimental=` asks for it.
    pub fn is_experimental(self) -> bool {
        self == Rule::InvalidDefinitionDescription
    }
}

impl serde::Serialize for Rule {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl std::fmt::Display for Rule {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(self.name())
    }
}
