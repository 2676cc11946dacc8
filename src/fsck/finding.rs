//! What a check can find, as values: a line of a table, an object of JSON.

use crate::oci::Digest;

/// How bad something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Something that a name or a pin needs is missing or wrong, or the store itself is.
    Error,
    /// Something that nothing named needs is wrong, or something derived lies.
    Warning,
    /// Nothing is wrong: what a crash, another tool or a prune that was stopped has left.
    Note,
}

impl Severity {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Note => "note",
        }
    }
}

/// What kind of thing was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// `oci-layout` is missing, or says nothing.
    Marker,
    /// `index.json` is missing.
    IndexMissing,
    /// `index.json` is torn, empty, or no image index.
    IndexInvalid,
    /// Two entries of `index.json` have the same name.
    DuplicateName,
    /// An entry of `index.json`, or a descriptor, has another size than its blob.
    DescriptorSize,
    /// A blob's bytes have another digest than its name.
    Corrupt,
    /// A blob's file has another size than is known of it.
    WrongSize,
    /// A blob cannot be read.
    Unreadable,
    /// A blob is needed and not there.
    Missing,
    /// A document is whole, and cannot be understood.
    Document,
    /// An index has members that are not stored.
    Partial,
    /// Something below `blobs/` that is no blob.
    Stray,
    /// There is no catalog.
    CatalogMissing,
    /// The catalog's file is torn.
    CatalogDamaged,
    /// The catalog knows a blob of which there is no file.
    RowWithoutFile,
    /// There are blobs that the catalog does not know.
    FileWithoutRow,
    /// The catalog has another size of a blob than its file.
    RowSize,
    /// The catalog has other links of a document than the document.
    Links,
    /// The catalog takes a document for broken that is whole.
    StaleDamage,
    /// The catalog's mirror of `index.json` is not what that says.
    Mirror,
    /// A cache record leads to an image that is not there, or not whole.
    CacheRecord,
    /// A snapshot is recorded, and not there.
    Snapshot,
    /// A container is recorded, and not there.
    Container,
    /// A lease is recorded, and its process is gone.
    DeadLease,
    /// What a writer that died was making.
    Temporary,
    /// A prune was interrupted.
    UnfinishedPrune,
    /// What was found damaged before, and moved away.
    Quarantine,
}

impl Kind {
    /// The word for it, as `--format json` has it.
    pub fn word(self) -> &'static str {
        match self {
            Kind::Marker => "marker",
            Kind::IndexMissing => "index_missing",
            Kind::IndexInvalid => "index_invalid",
            Kind::DuplicateName => "duplicate_name",
            Kind::DescriptorSize => "descriptor_size",
            Kind::Corrupt => "corrupt",
            Kind::WrongSize => "wrong_size",
            Kind::Unreadable => "unreadable",
            Kind::Missing => "missing",
            Kind::Document => "document",
            Kind::Partial => "partial",
            Kind::Stray => "stray",
            Kind::CatalogMissing => "catalog_missing",
            Kind::CatalogDamaged => "catalog_damaged",
            Kind::RowWithoutFile => "row_without_file",
            Kind::FileWithoutRow => "file_without_row",
            Kind::RowSize => "row_size",
            Kind::Links => "links",
            Kind::StaleDamage => "stale_damage",
            Kind::Mirror => "mirror",
            Kind::CacheRecord => "cache_record",
            Kind::Snapshot => "snapshot",
            Kind::Container => "container",
            Kind::DeadLease => "dead_lease",
            Kind::Temporary => "temporary",
            Kind::UnfinishedPrune => "unfinished_prune",
            Kind::Quarantine => "quarantine",
        }
    }
}

/// What became of a finding that was to be repaired.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case", tag = "outcome", content = "how")]
pub enum Outcome {
    /// It is right now, or out of the way; in words.
    Repaired(String),
    /// It cannot be repaired here, or not now; why, in words.
    Remains(String),
}

/// One thing that was found.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What it is.
    pub kind: Kind,
    /// What it is about: a digest, a name, a path below the root.
    pub subject: String,
    /// The blob that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// What is wrong, and what that means.
    pub detail: String,
    /// The names of images that are not whole because of it.
    pub images: Vec<String>,
    /// What repairs it.
    pub remedy: String,
    /// What a repair has come to; nothing, where none was asked for.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
}

impl Finding {
    /// A finding about something that is no blob.
    pub fn new(severity: Severity, kind: Kind, subject: impl Into<String>) -> Finding {
        Finding {
            severity,
            kind,
            subject: subject.into(),
            digest: None,
            detail: String::new(),
            images: Vec::new(),
            remedy: String::new(),
            outcome: None,
        }
    }

    /// A finding about a blob.
    pub fn of(severity: Severity, kind: Kind, digest: Digest) -> Finding {
        Finding {
            digest: Some(digest),
            ..Finding::new(severity, kind, digest.to_string())
        }
    }

    /// With what is wrong.
    pub fn detail(mut self, detail: impl Into<String>) -> Finding {
        self.detail = detail.into();
        self
    }

    /// With what repairs it.
    pub fn remedy(mut self, remedy: impl Into<String>) -> Finding {
        self.remedy = remedy.into();
        self
    }

    /// Whether two findings, of two looks, are about the same.
    pub fn is_same(&self, other: &Finding) -> bool {
        (self.kind, &self.subject) == (other.kind, &other.subject)
    }

    /// Whether it says that something is wrong and still is.
    pub fn is_damage(&self) -> bool {
        self.severity != Severity::Note && !matches!(self.outcome, Some(Outcome::Repaired(_)))
    }
}

/// An image that is not whole.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Broken {
    /// Its name.
    pub name: String,
    /// What it lacks: digests, or its own manifest's.
    pub lacks: Vec<Digest>,
}

/// What a check has come to.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Report {
    /// Blobs that were looked at.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Blobs that were read.
    pub read: u64,
    /// Names that were looked at.
    pub names: u64,
    /// Names whose images are not whole, after all repairs.
    pub broken: Vec<Broken>,
    /// What was found, the worst first.
    pub findings: Vec<Finding>,
}

impl Report {
    /// How many findings of a severity there are.
    pub fn count(&self, severity: Severity) -> usize {
        let of = |finding: &&Finding| finding.severity == severity;
        self.findings.iter().filter(of).count()
    }

    /// Whether something is wrong, and still is.
    pub fn is_damaged(&self) -> bool {
        self.findings.iter().any(Finding::is_damage)
    }

    /// Whether something was wrong and is right now.
    pub fn is_partly_repaired(&self) -> bool {
        let repaired = |f: &Finding| matches!(f.outcome, Some(Outcome::Repaired(_)));
        self.findings.iter().any(repaired)
    }
}
