//! Who has a name, and what: asked before anything is held for it.
//!
//! ```text
//! tag ─▶ HEAD: its digest ─┬─ the name stands for that, and all of it is here: up to date
//!        (if it was pulled │  what was pulled for that before is here, under a lease: no more to do
//!         before)          └─ else:
//! ─▶ manifest of the tag or digest ─▶ fetched under a lease
//!    └─ mirrors first, each answer kept for the error
//! ```
//! What is up to date takes no lease: the tag holds it, and one row in the journal is all that is
//! written.

use super::super::endpoint;
use super::super::error::{Error, Result};
use super::super::event::{Event, Sink};
use super::super::repository::{Fetched, Repository};
use super::super::{Client, Stop};
use super::{Pulled, Wanted, ask, told};
use crate::catalog::Millis;
use crate::catalog::blob::BlobId;
use crate::catalog::journal::{JournalEntry, Particulars};
use crate::executor::Cancel;
use crate::http::{Pending, begin};
use crate::layout::Entry;
use crate::oci::{Digest, Platform, Reference, media};
use crate::store::{self, Image, Lease, Store};

/// A registry that was asked for the digest of a tag before there was time to look whether the
/// answer is of use: while the store is opened.
pub struct Ahead(Pending<Result<Option<Digest>>>);

impl Ahead {
    /// Asks the registry that comes first for the digest of `reference`'s tag. `None`: it has none,
    /// or nobody can be asked, which the [`Search`] will say.
    pub fn ask(client: &Client, reference: &Reference, cancel: &Cancel) -> Option<Ahead> {
        let tag = reference
            .tag
            .clone()
            .filter(|_| reference.digest.is_none())?;
        let endpoint = endpoint::sources(client, &reference.domain).ok()?;
        let repository = Repository::new(client, endpoint.into_iter().next()?, &reference.path);
        Some(Ahead::of(repository, tag, &Stop::new(cancel)))
    }

    fn of(repository: Repository, tag: String, stop: &Stop) -> Ahead {
        let stop = stop.clone();
        Ahead(begin(move || repository.digest(&tag, &stop)))
    }
}

/// A name that somebody wants to pull, and who has it.
pub struct Search<'a> {
    client: &'a Client,
    store: &'a Store,
    reference: &'a Reference,
    wanted: &'a Wanted,
    stop: Stop,
    began: Millis,
    /// Whether it was pulled before, so that its digest may be all that must be known.
    is_known: bool,
    /// What was pulled for it, if that is what it stands for, and whole.
    standing: Option<(BlobId, Image)>,
    answer: Answer,
}

/// What is known without a lease.
enum Answer {
    /// The store may have it: it is wanted by a digest that was pulled before.
    Unasked,
    /// The registry that comes first has this digest for the tag, and it was pulled before.
    Digest(Vec<Repository>, Digest),
    /// The manifest.
    Manifest(Vec<Repository>, Fetched),
}

/// Where it is.
pub(super) enum Found {
    /// In the store, and that is what the registry has.
    Here(Box<Pulled>),
    /// In a registry; and those that may be asked for the rest, that one first.
    There(Vec<Repository>, Fetched),
}

impl<'a> Search<'a> {
    /// Asks who has it, as far as it takes to know whether anything must be fetched. What was asked
    /// `ahead` is not asked again.
    pub fn new(
        client: &'a Client,
        store: &'a Store,
        reference: &'a Reference,
        wanted: &'a Wanted,
        ahead: Option<Ahead>,
        sink: &dyn Sink,
        cancel: &Cancel,
    ) -> Result<Search<'a>> {
        let mut search = Search {
            client,
            store,
            reference,
            wanted,
            stop: Stop::new(cancel),
            began: store.now(),
            is_known: false,
            standing: None,
            answer: Answer::Unasked,
        };
        sink.event(Event::Pulling {
            what: search.what(),
            repository: reference.path.clone(),
        });
        let Wanted::One { platform, .. } = wanted else {
            search.answer = search.look(search.sources()?, None)?;
            return Ok(search);
        };
        if let Some(digest) = &reference.digest {
            if remembered(store, &digest.to_string(), platform)?.is_none() {
                search.answer = search.look(search.sources()?, None)?;
            }
            return Ok(search);
        }
        let Some(digest) = remembered(store, &reference.full(), platform)? else {
            search.answer = search.look(search.sources()?, None)?;
            return Ok(search);
        };
        search.is_known = true;
        let repositories = search.sources()?;
        let first = repositories.first().cloned();
        let ahead = ahead.or_else(|| first.map(|first| search.ask_digest(first)));
        // While the registry thinks.
        search.standing = search.standing(&digest, platform)?;
        search.answer = search.look(repositories, ahead)?;
        Ok(search)
    }

    /// What was pulled for the name, if that is what it stands for, and whole.
    fn standing(&self, digest: &Digest, platform: &Platform) -> Result<Option<(BlobId, Image)>> {
        let blob = self.store.stands_for(&self.reference.familiar(), digest)?;
        // One that cannot be read is looked at piece by piece.
        let standing = blob.and_then(|blob| Some((blob, self.store.image(digest).ok()?)));
        Ok(standing.filter(|(_, image)| !is_for_another(image, platform)))
    }

    fn ask_digest(&self, repository: Repository) -> Ahead {
        Ahead::of(repository, self.what(), &self.stop)
    }

    pub(super) fn reference(&self) -> &'a Reference {
        self.reference
    }

    pub(super) fn wanted(&self) -> &'a Wanted {
        self.wanted
    }

    pub(super) fn stop(&self) -> &Stop {
        &self.stop
    }

    /// The tag or the digest.
    fn what(&self) -> String {
        let digest = self.reference.digest.map(|digest| digest.to_string());
        digest.or(self.reference.tag.clone()).unwrap_or_default()
    }

    fn sources(&self) -> Result<Vec<Repository>> {
        let endpoints = endpoint::sources(self.client, &self.reference.domain)?.into_iter();
        let repository = |endpoint| Repository::new(self.client, endpoint, &self.reference.path);
        Ok(endpoints.map(repository).collect())
    }

    /// Asks one registry after the other: for the digest, where that may be enough, else for the
    /// manifest. The first may have been asked `ahead`.
    fn look(&self, mut repositories: Vec<Repository>, mut ahead: Option<Ahead>) -> Result<Answer> {
        let mut tried = Vec::new();
        while let Some(repository) = repositories.first().cloned() {
            match self.ask(repository, ahead.take()) {
                Ok((Some(digest), _)) => return Ok(Answer::Digest(repositories, digest)),
                Ok((None, Some(fetched))) => return Ok(Answer::Manifest(repositories, fetched)),
                Ok((None, None)) => {}
                Err(Error::Interrupted) => return Err(Error::Interrupted),
                Err(error) => tried.push(error.to_string()),
            }
            repositories.remove(0);
        }
        Err(Error::Nowhere {
            name: self.reference.full(),
            tried,
        })
    }

    fn ask(
        &self,
        repository: Repository,
        ahead: Option<Ahead>,
    ) -> Result<(Option<Digest>, Option<Fetched>)> {
        if let (Wanted::One { platform, .. }, true) = (self.wanted, self.is_known) {
            let ahead = ahead.unwrap_or_else(|| self.ask_digest(repository.clone()));
            let answer = ahead.0.wait(self.stop.cancel());
            match answer.unwrap_or(Err(Error::Interrupted)) {
                Ok(Some(digest)) => {
                    if remembered(self.store, &digest.to_string(), platform)?.is_some() {
                        return Ok((Some(digest), None));
                    }
                }
                // Whoever cannot be reached need not be tried again.
                Err(error @ (Error::Interrupted | Error::Failed { .. })) => return Err(error),
                // Why, an answer with a body says; and some know no HEAD.
                Ok(None) | Err(_) => {}
            }
        }
        let (what, digest) = (self.what(), self.reference.digest);
        let fetched = ask(&self.stop, move |stop| {
            repository.manifest(&what, digest.as_ref(), stop)
        })?;
        Ok((None, Some(fetched)))
    }

    /// If the name stands for what the registry has, and all of that is here: notes that it was
    /// asked for, and there is no more to do.
    pub fn up_to_date(&self, sink: &dyn Sink) -> Result<Option<Pulled>> {
        let (Answer::Digest(repositories, remote), Wanted::One { platform, .. }) =
            (&self.answer, self.wanted)
        else {
            return Ok(None);
        };
        let digest = remembered(self.store, &remote.to_string(), platform)?;
        let standing = self.standing.as_ref();
        let Some((blob, image)) = standing.filter(|(_, image)| digest == Some(image.digest)) else {
            return Ok(None);
        };
        let name = self.reference.familiar();
        let from = repositories
            .first()
            .map(|first| first.endpoint.name.clone());
        let pulled = unchanged(image, *remote, from);
        let (detail, more) = told(&pulled, Some(image.id()));
        let now = self.store.now();
        let entry = JournalEntry {
            time: now,
            operation: "pull".to_owned(),
            subject: name.clone(),
            bytes: 0,
            detail,
        };
        let more = Particulars {
            milliseconds: u64::try_from(now.saturating_sub(self.began)).ok(),
            ..more
        };
        self.store.last_write(|tx| {
            tx.touch_image(*blob, now)?;
            Ok(tx.note_with(&entry, more)?)
        })?;
        sink.event(Event::Pulled {
            name,
            digest: *remote,
            newer: false,
        });
        Ok(Some(pulled))
    }

    /// Where it is; what is in the store is pinned.
    pub(super) fn found(self, lease: &Lease) -> Result<Found> {
        let Wanted::One { platform, .. } = self.wanted else {
            return self.manifest();
        };
        let (remote, from) = match (&self.answer, &self.reference.digest) {
            (Answer::Unasked, Some(digest)) => (*digest, None),
            (Answer::Digest(repositories, digest), _) => {
                let first = repositories.first();
                (*digest, first.map(|first| first.endpoint.name.clone()))
            }
            _ => return self.manifest(),
        };
        match here(lease, &remote, platform, from)? {
            Some(pulled) => Ok(Found::Here(Box::new(pulled))),
            None => self.manifest(),
        }
    }

    /// The manifest, which is asked for where it was not yet.
    fn manifest(mut self) -> Result<Found> {
        let repositories = match std::mem::replace(&mut self.answer, Answer::Unasked) {
            Answer::Manifest(repositories, fetched) => {
                return Ok(Found::There(repositories, fetched));
            }
            Answer::Digest(repositories, _) => repositories,
            Answer::Unasked => self.sources()?,
        };
        self.is_known = false;
        match self.look(repositories, None)? {
            Answer::Manifest(repositories, fetched) => Ok(Found::There(repositories, fetched)),
            Answer::Digest(..) | Answer::Unasked => Err(Error::Nowhere {
                name: self.reference.full(),
                tried: Vec::new(),
            }),
        }
    }
}

pub(super) fn memory_key(of: &str, platform: &Platform) -> Digest {
    Digest::of(format!("pulled {of} {platform}").as_bytes())
}

/// What a name, or a digest of a registry's, came to for a platform when it was last pulled.
fn remembered(store: &Store, of: &str, platform: &Platform) -> Result<Option<Digest>> {
    let key = memory_key(of, platform);
    let row = store.catalog().read(|tx| tx.remote_file(&key));
    Ok(row.map_err(store::Error::from)?.map(|row| row.digest))
}

/// What the digest of a registry came to for a platform when it was pulled, if all of it is here.
fn here(
    lease: &Lease,
    remote: &Digest,
    platform: &Platform,
    from: Option<String>,
) -> Result<Option<Pulled>> {
    let Some(digest) = remembered(lease.store(), &remote.to_string(), platform)? else {
        return Ok(None);
    };
    let image = match lease.present_image(&digest) {
        Ok(image) => image,
        // An artifact: what it has is looked at piece by piece.
        Err(store::Error::NotAnImage { .. } | store::Error::Document { .. }) => None,
        Err(error) => return Err(error.into()),
    };
    let image = image.filter(|image| !is_for_another(image, platform));
    Ok(image.map(|image| unchanged(&image, *remote, from)))
}

/// Whether an image is for another platform than was asked for: that wants a word.
fn is_for_another(image: &Image, platform: &Platform) -> bool {
    image.manifest.is_image() && platform.distance(&image.config.platform()).is_none()
}

fn unchanged(image: &Image, remote: Digest, from: Option<String>) -> Pulled {
    let media_type = image.manifest.media_type.as_deref();
    let media_type = media_type.unwrap_or(media::MANIFEST);
    Pulled {
        entry: Entry::new(media_type, image.digest, image.size),
        remote,
        bytes: 0,
        from,
        unchanged: true,
    }
}
