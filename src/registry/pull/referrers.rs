//! What is about an image comes with it: signatures, attestations, SBOMs, and what is about these.
//!
//! ```text
//! manifest, or index and members ─▶ their referrers ─▶ referrers of those … eight deep, and no more
//!                                └▶ cosign's tags      than a thousand; nothing twice
//! ```
//! Only what has the `subject` for which it is listed, digest and size, is believed to be about it:
//! nothing else would be held by it in the store.

use hashbrown::HashSet;

use super::super::error::{Error, Result};
use super::super::event::{Event, Sink};
use super::super::referrers::{MOST, too_many};
use super::super::repository::{Fetched, Repository};
use super::super::{Client, Stop, endpoint};
use super::{Pull, Pulled, media_type, parse};
use crate::executor::Cancel;
use crate::layout::Entry;
use crate::oci::document::Descriptor;
use crate::oci::{Digest, Reference};
use crate::store::referrers::{About, By, COSIGN, Kinds, artifact_type, subject, tag_of};
use crate::store::{self, Lease};

/// How long a chain of referrers of referrers may be.
const DEPTH: u32 = 8;

/// What was found, before it is fetched.
struct Found {
    about: About,
    document: Fetched,
}

/// Brings into the store what the registry has about an image that was pulled, for this lease:
/// [`Lease::keep_about`] is for whoever gives the image its name.
pub fn pull_about(
    client: &Client,
    lease: &Lease,
    reference: &Reference,
    pulled: &Pulled,
    kinds: &Kinds,
    sink: &dyn Sink,
    cancel: &Cancel,
) -> Result<Vec<About>> {
    let stop = Stop::new(cancel);
    let repositories = endpoint::sources(client, &reference.domain)?
        .into_iter()
        .map(|endpoint| Repository::new(client, endpoint, &reference.path))
        .collect();
    let mut pull = Pull::new(lease, repositories, sink, &stop);
    let documents = lease.store().documents(&pulled.digest())?;
    pull.tell_of_index(pulled, &documents, kinds)?;
    let mut found = pull.by_subject(&documents, kinds)?;
    found.extend(pull.by_cosign(&documents, kinds)?);
    for one in &found {
        pull.reach(&one.document, 0)?;
        let of = match &one.about.by {
            By::Subject(subject) => subject.short(),
            By::Tag(tag) => tag.clone(),
        };
        let parsed = parse(&one.document)?;
        sink.event(Event::Referrer {
            digest: one.about.digest,
            kind: artifact_type(&parsed).unwrap_or("an index").to_owned(),
            of,
        });
    }
    pull.fetch_blobs()?;
    for one in &found {
        let document = &one.document;
        let entry = Entry::new(
            &media_type(document),
            document.digest,
            document.bytes.len() as u64,
        );
        match pull.documents.is_empty() {
            true => lease.take_in(&entry.descriptor)?,
            false => drop(pull.publish(document.clone())?),
        }
        pull.documents.clear();
    }
    Ok(found.into_iter().map(|one| one.about).collect())
}

impl Pull<'_> {
    /// The list of the first registry that has anything to list.
    fn referrers(&self, subject: &Digest, kinds: &Kinds) -> Result<Vec<Descriptor>> {
        let (subject, kinds) = (*subject, kinds.clone());
        let repositories = self.repositories.clone();
        super::ask(self.stop, move |stop| {
            let mut answer = Err(Error::Interrupted);
            for repository in &repositories {
                answer = repository.referrers(&subject, &kinds, stop);
                match &answer {
                    Ok(listed) if listed.is_empty() => {}
                    Ok(_) | Err(Error::Interrupted) => break,
                    Err(_) => {}
                }
            }
            answer
        })
    }

    /// Of an index one image was taken: what is about the index stays where it is.
    fn tell_of_index(&self, pulled: &Pulled, documents: &[Digest], kinds: &Kinds) -> Result<()> {
        if documents.contains(&pulled.remote) {
            return Ok(());
        }
        let count = self.referrers(&pulled.remote, kinds)?.len();
        if count > 0 {
            self.sink.event(Event::Warning {
                message: format!(
                    "{count} referrers are about the image for all platforms, and this is the one for one of them: --all-platforms pulls it, and them"
                ),
            });
        }
        Ok(())
    }

    fn by_subject(&self, documents: &[Digest], kinds: &Kinds) -> Result<Vec<Found>> {
        let all = Kinds::default();
        let mut found: Vec<Found> = Vec::new();
        let mut seen: HashSet<Digest> = documents.iter().copied().collect();
        let mut level = Vec::new();
        for digest in documents {
            let stat = self.lease.store().layout().blobs().stat(digest);
            let size = stat
                .map_err(store::Error::from)?
                .map_or(0, |stat| stat.size);
            level.push((*digest, size));
        }
        for depth in 0.. {
            let kinds = if depth == 0 { kinds } else { &all };
            let mut next = Vec::new();
            for (subject, size) in &level {
                for listed in self.referrers(subject, kinds)? {
                    let told = listed.artifact_type.as_deref();
                    if told.is_some() && !kinds.takes(told) || !seen.insert(listed.digest) {
                        continue;
                    }
                    if depth == DEPTH {
                        return Err(Error::Refused {
                            what: format!("what is about {}", documents[0]),
                            why: format!(
                                "it is about what is about it, and so on, more than {DEPTH} deep; --referrers=TYPE asks for those of one type"
                            ),
                        });
                    }
                    let document = self.child(&listed.digest)?;
                    if self.is_about(&document, (subject, *size), kinds)? {
                        next.push((document.digest, document.bytes.len() as u64));
                        let by = By::Subject(*subject);
                        let about = About {
                            digest: document.digest,
                            by,
                        };
                        found.push(Found { about, document });
                    }
                    if found.len() > MOST {
                        return Err(too_many(subject));
                    }
                }
            }
            if next.is_empty() {
                break;
            }
            level = next;
        }
        Ok(found)
    }

    /// Whether a document that is listed is about what it is listed for, and wanted.
    fn is_about(
        &self,
        document: &Fetched,
        (of, size): (&Digest, u64),
        kinds: &Kinds,
    ) -> Result<bool> {
        let parsed = parse(document)?;
        if !subject(&parsed).is_some_and(|told| told.digest == *of && told.size == size) {
            self.sink.event(Event::Warning {
                message: format!(
                    "{} is listed as about {of}, and does not say so itself: it is left out",
                    document.digest
                ),
            });
            return Ok(false);
        }
        Ok(kinds.takes_document(&parsed))
    }

    /// What stands under cosign's tags for these documents.
    fn by_cosign(&self, documents: &[Digest], kinds: &Kinds) -> Result<Vec<Found>> {
        let mut found = Vec::new();
        for digest in documents {
            for suffix in COSIGN {
                let tag = format!("{}{suffix}", tag_of(digest));
                let wanted = tag.clone();
                let fetched = self.first(move |repository, stop| {
                    match repository.manifest(&wanted, None, stop) {
                        Err(Error::NotFound { .. }) => Ok(None),
                        fetched => fetched.map(Some),
                    }
                })?;
                let Some(document) = fetched else { continue };
                if kinds.takes_document(&parse(&document)?) {
                    let about = About {
                        digest: document.digest,
                        by: By::Tag(tag),
                    };
                    found.push(Found { about, document });
                }
            }
        }
        Ok(found)
    }
}
