//! What the blobs and the documents come to: which names are whole, which blobs are wrong, and
//! whom that harms.
//!
//! Links are taken from the documents where these were read and are whole, and from the catalog
//! otherwise: a digest promises that its document never said anything else.

use std::collections::BTreeMap;

use foldhash::fast::FixedState;
use hashbrown::{HashMap, HashSet};

use super::finding::{Broken, Finding, Kind, Severity};
use super::read::{BlobFile, Content, Files, Link};
use crate::graph::{ImageGraph, Roles};
use crate::layout::{BlobStat, Layout};
use crate::oci::Digest;
use crate::oci::document::Role;

/// A set of blobs.
pub type Digests = HashSet<Digest, FixedState>;

/// A name, or an entry without one, and what it points at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    /// The name; for what has none, what it is called here.
    pub name: String,
    /// What it points at.
    pub digest: Digest,
    /// How many bytes that is to have, where that is said.
    pub size: Option<u64>,
}

/// What is looked at.
pub struct Ground<'a> {
    /// The layout.
    pub layout: &'a Layout,
    /// What the catalog knows, where it can be read.
    pub graph: Option<&'a ImageGraph>,
    /// The files, as far as they were read.
    pub files: &'a Files,
    /// What must be whole: names, and pins.
    pub names: &'a [Name],
    /// Nothing but these is looked at.
    pub only: Option<&'a Digests>,
}

/// What was found.
#[derive(Debug, Default)]
pub struct Judged {
    /// The findings.
    pub findings: Vec<Finding>,
    /// The names that are not whole.
    pub broken: Vec<Broken>,
    /// Every blob that is missing or wrong.
    pub bad: Digests,
}

impl<'a> Ground<'a> {
    /// Looks at all of it.
    pub fn judge(&self) -> Judged {
        let mut judged = Judged::default();
        let needed = self.reach(self.names.iter().map(|name| name.digest));
        self.wrong_files(&needed, &mut judged);
        self.missing(&needed, &mut judged);
        self.descriptors(&mut judged);
        self.tell_images(&mut judged);
        judged
    }

    /// What `roots` need in order to be whole, themselves included.
    pub fn reach(&self, roots: impl IntoIterator<Item = Digest>) -> Digests {
        let mut reached = Digests::default();
        let mut pending: Vec<Digest> = roots.into_iter().collect();
        while let Some(digest) = pending.pop() {
            if reached.insert(digest) {
                self.each_link(&digest, |link| {
                    if Roles::RUN.contains(link.role) && !link.elsewhere {
                        pending.push(link.target);
                    }
                });
            }
        }
        reached
    }

    fn content(&self, digest: &Digest) -> Option<&Content> {
        self.files.get(digest).map(|file| &file.content)
    }

    fn concerns(&self, digest: &Digest) -> bool {
        self.only.is_none_or(|only| only.contains(digest))
    }

    /// Where a document points.
    fn each_link(&self, digest: &Digest, mut each: impl FnMut(Link)) {
        if let Some(Content::Document(links)) = self.content(digest) {
            links.iter().copied().for_each(each);
            return;
        }
        let Some((graph, node)) = self
            .graph
            .and_then(|graph| Some((graph, graph.find(digest)?)))
        else {
            return;
        };
        for (target, role) in graph.links(node) {
            let target = graph.node(target);
            each(Link {
                role,
                target: target.digest,
                size: target.size,
                elsewhere: false,
            });
        }
    }

    /// Whether there is a file now. What the listing has not may have come since.
    fn stat(&self, digest: &Digest) -> Option<BlobStat> {
        self.layout.blobs().stat(digest).ok().flatten()
    }

    fn condemned(&self, digest: &Digest) -> bool {
        self.graph
            .and_then(|graph| Some(graph.node(graph.find(digest)?).condemned))
            .unwrap_or(false)
    }

    // -- files that are there -----------------------------------------------------------------

    fn wrong_files(&self, needed: &Digests, judged: &mut Judged) {
        for file in self.files.iter().filter(|file| self.concerns(&file.digest)) {
            let digest = &file.digest;
            let is_needed = needed.contains(digest);
            let Some(mut finding) = self.wrong_file(file, is_needed) else {
                continue;
            };
            // One that a prune has taken since, or is about to take, is no harm.
            if self.stat(digest).is_none() || (self.condemned(digest) && !is_needed) {
                continue;
            }
            if finding.severity != Severity::Note {
                judged.bad.insert(*digest);
                if !is_needed {
                    finding
                        .detail
                        .push_str("; nothing that has a name needs it");
                }
            }
            judged.findings.push(finding);
        }
    }

    fn wrong_file(&self, file: &BlobFile, needed: bool) -> Option<Finding> {
        let (digest, size) = (&file.digest, file.size);
        let severity = match needed {
            true => Severity::Error,
            false => Severity::Warning,
        };
        match &file.content {
            Content::Corrupt(actual) => Some(
                Finding::of(severity, Kind::Corrupt, *digest)
                    .detail(format!("its {} bytes have digest {actual}", size))
                    .remedy("fsck --repair moves it to quarantine"),
            ),
            Content::Unreadable(why) => Some(
                Finding::of(severity, Kind::Unreadable, *digest)
                    .detail(why.to_string())
                    .remedy("look at the disk and at its owner: what cannot be read is not moved"),
            ),
            Content::Odd(why) => {
                let severity = if needed { severity } else { Severity::Note };
                Some(
                    Finding::of(severity, Kind::Document, *digest)
                        .detail(format!("whole, but not understood: {why}"))
                        .remedy("untag what needs it, or `rstore prune --ignore-broken` with its digest"),
                )
            }
            Content::Unread => {
                let known = self.known_size(digest)?;
                (known != size).then(|| {
                    Finding::of(severity, Kind::WrongSize, *digest)
                        .detail(format!("its file has {} bytes instead of {known}", size))
                        .remedy("fsck --repair reads it, and moves it to quarantine if it is wrong")
                })
            }
            Content::Whole | Content::Document(_) | Content::Gone => None,
        }
    }

    /// What the catalog or an entry of index.json says of a blob's size.
    fn known_size(&self, digest: &Digest) -> Option<u64> {
        let by_name = || self.names.iter().find(|name| name.digest == *digest)?.size;
        let graph = self.graph;
        let node = graph.and_then(|graph| Some(graph.node(graph.find(digest)?)));
        match node {
            Some(node) if node.present => Some(node.size),
            _ => by_name(),
        }
    }

    // -- files that are not there -------------------------------------------------------------

    fn missing(&self, needed: &Digests, judged: &mut Judged) {
        for name in self.names {
            if self.stat(&name.digest).is_none() {
                self.lacks(
                    name.digest,
                    &format!("{} points at it", name.name),
                    true,
                    judged,
                );
            }
        }
        for document in self.documents() {
            let is_needed = needed.contains(&document);
            if !self.concerns(&document) || (self.condemned(&document) && !is_needed) {
                continue;
            }
            let (mut lacking, mut members) = (Vec::new(), 0);
            self.each_link(&document, |link| {
                if link.elsewhere || !Roles::RUN.contains(link.role) {
                    return;
                }
                members += usize::from(link.role == Role::Child);
                if self.stat(&link.target).is_none() {
                    lacking.push(link);
                }
            });
            if lacking.is_empty() || self.stat(&document).is_none() && !is_needed {
                continue;
            }
            let (children, parts): (Vec<Link>, Vec<Link>) = lacking
                .into_iter()
                .partition(|link| link.role == Role::Child);
            if !children.is_empty() {
                let text = format!("{} of its {members} members are not stored", children.len());
                judged.findings.push(
                    Finding::of(Severity::Note, Kind::Partial, document)
                        .detail(text)
                        .remedy("nothing: indexes are often stored in part"),
                );
            }
            for link in parts {
                let role = match link.role {
                    Role::Config => "config",
                    _ => "layer",
                };
                let text = format!("{role} of {document}");
                self.lacks(link.target, &text, is_needed, judged);
            }
        }
    }

    fn lacks(&self, digest: Digest, needed_as: &str, needed: bool, judged: &mut Judged) {
        judged.bad.insert(digest);
        let told =
            |finding: &Finding| finding.kind == Kind::Missing && finding.digest == Some(digest);
        let place = judged.findings.iter().position(told);
        if let Some(place) = place {
            if !needed || judged.findings[place].severity == Severity::Error {
                return;
            }
            judged.findings.swap_remove(place);
        }
        let finding = match needed {
            true => Finding::of(Severity::Error, Kind::Missing, digest)
                .detail(format!("not there: {needed_as}"))
                .remedy("build, load or import the image again, or remove it with `rstore rmi`"),
            false => Finding::of(Severity::Note, Kind::Missing, digest)
                .detail(format!(
                    "not there: {needed_as}, which nothing that has a name needs"
                ))
                .remedy("the next prune removes what lacks it"),
        };
        judged.findings.push(finding);
    }

    /// Every document that was read or that the catalog knows.
    fn documents(&self) -> Vec<Digest> {
        let read = self.files.iter();
        let read = read.filter(|file| matches!(file.content, Content::Document(_)));
        let mut documents: Digests = read.map(|file| file.digest).collect();
        if let Some(graph) = self.graph {
            let known = graph
                .nodes()
                .filter(|node| graph.links(node.node).len() > 0);
            documents.extend(known.map(|node| node.digest));
        }
        let mut documents: Vec<Digest> = documents.into_iter().collect();
        documents.sort_unstable();
        documents
    }

    // -- descriptors --------------------------------------------------------------------------

    /// Sizes that documents and index.json promise, against those that are.
    fn descriptors(&self, judged: &mut Judged) {
        let whole = |digest: &Digest| {
            let file = self.files.get(digest)?;
            let whole = matches!(file.content, Content::Whole | Content::Document(_));
            whole.then_some(file.size)
        };
        for name in self.names {
            if let (Some(said), Some(size)) = (name.size, whole(&name.digest))
                && said != size
            {
                let text = format!(
                    "index.json says {said} bytes of {}, which has {size}",
                    name.digest
                );
                judged.findings.push(
                    Finding::new(Severity::Warning, Kind::DescriptorSize, &*name.name)
                        .detail(text)
                        .remedy(format!("rstore tag {} {} again", name.digest, name.name)),
                );
            }
        }
        for document in self
            .documents()
            .iter()
            .filter(|digest| self.concerns(digest))
        {
            let mut wrong = Vec::new();
            if !matches!(self.content(document), Some(Content::Document(_))) {
                continue;
            }
            self.each_link(document, |link| {
                if let Some(size) = whole(&link.target)
                    && size != link.size
                {
                    wrong.push((link.target, link.size, size));
                }
            });
            for (target, said, size) in wrong {
                judged.findings.push(
                    Finding::of(Severity::Warning, Kind::DescriptorSize, *document)
                        .detail(format!("says {said} bytes of {target}, which has {size}"))
                        .remedy("whoever wrote it made a mistake: get the image again from there"),
                );
            }
        }
    }

    // -- whom it harms ------------------------------------------------------------------------

    /// Says which names need each bad blob.
    fn tell_images(&self, judged: &mut Judged) {
        if judged.bad.is_empty() {
            return;
        }
        let mut holders: HashMap<Digest, Vec<Digest>, FixedState> = HashMap::default();
        for document in self.documents() {
            self.each_link(&document, |link| {
                if Roles::RUN.contains(link.role) && !link.elsewhere {
                    holders.entry(link.target).or_default().push(document);
                }
            });
        }
        let mut broken: BTreeMap<&str, Vec<Digest>> = BTreeMap::new();
        for finding in &mut judged.findings {
            let Some(digest) = finding.digest.filter(|digest| judged.bad.contains(digest)) else {
                continue;
            };
            let mut above = Digests::default();
            let mut pending = vec![digest];
            while let Some(digest) = pending.pop() {
                if above.insert(digest) {
                    pending.extend(holders.get(&digest).into_iter().flatten());
                }
            }
            for name in self
                .names
                .iter()
                .filter(|name| above.contains(&name.digest))
            {
                finding.images.push(name.name.clone());
                let lacks = broken.entry(&name.name).or_default();
                if !lacks.contains(&digest) {
                    lacks.push(digest);
                }
            }
        }
        judged.broken = broken
            .into_iter()
            .map(|(name, lacks)| Broken {
                name: name.to_owned(),
                lacks,
            })
            .collect();
    }
}
