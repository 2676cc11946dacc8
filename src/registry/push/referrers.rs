//! What is about an image goes with it: what has a `subject` by its digest, and into the list that
//! the registry keeps, or that stands under its tag; what cosign tags under its tag.

use std::collections::BTreeMap;

use serde_json::Value;

use super::super::Client;
use super::super::error::{Error, Result};
use super::super::event::{Event, LayerState, Sink};
use super::super::pull::ask;
use super::super::referrers::entry;
use super::super::repository::Repository;
use super::{Blob, Stop, Written, bring, reach, write};
use crate::executor::Cancel;
use crate::oci::document;
use crate::oci::{Digest, Reference};
use crate::store::Lease;
use crate::store::referrers::{About, By, artifact_type};

/// Pushes what is about an image that the registry has by now. Returns how many bytes of blobs
/// were sent.
pub fn push_about(
    client: &Client,
    lease: &Lease,
    about: &[About],
    to: &Reference,
    sink: &dyn Sink,
    cancel: &Cancel,
) -> Result<u64> {
    let stop = Stop::new(cancel);
    let repository = Repository::new(client, client.registry(&to.domain)?, &to.path).for_pushes();
    let tell = |blob: &Blob, state: LayerState| {
        if blob.is_layer {
            sink.event(Event::Layer {
                digest: blob.digest,
                size: blob.size,
                state,
            });
        }
    };
    let mut lists: BTreeMap<Digest, Vec<Value>> = BTreeMap::new();
    let mut bytes = 0;
    for one in about {
        lease.hold(&one.digest)?;
        let (mut documents, blobs) = reach(lease.store(), &one.digest)?;
        bytes += bring(&repository, lease, blobs, to, &stop, sink, &tell)?;
        let Some(top) = documents.pop() else { continue };
        let parsed =
            document::parse(&top.bytes, &top.media_type).map_err(|source| Error::Document {
                digest: top.digest,
                source,
            })?;
        let of = match &one.by {
            By::Tag(tag) => {
                documents.push(top);
                let (own, name) = (repository.clone(), tag.clone());
                ask(&stop, move |stop| write(&own, &documents, &name, stop))?;
                tag.clone()
            }
            By::Subject(subject) => {
                let entry = entry(&top.digest, &top.media_type, &top.bytes, &parsed);
                if !put(&repository, documents, top, &stop)? {
                    lists.entry(*subject).or_default().push(entry);
                }
                subject.short()
            }
        };
        sink.event(Event::Referrer {
            digest: one.digest,
            kind: artifact_type(&parsed).unwrap_or("an index").to_owned(),
            of,
        });
    }
    for (subject, entries) in lists {
        let own = repository.clone();
        ask(&stop, move |stop| {
            own.enter_in_tag(&subject, &entries, stop)
        })?;
    }
    Ok(bytes)
}

/// Writes a referrer with what it reaches. Returns whether the registry has entered it in its list.
fn put(repository: &Repository, inner: Vec<Written>, top: Written, stop: &Stop) -> Result<bool> {
    let own = repository.clone();
    ask(stop, move |stop| {
        for written in inner {
            let digest = written.digest.to_string();
            own.put_manifest(&digest, &written.media_type, &written.bytes, stop)?;
        }
        own.put_referrer(&top.digest, &top.media_type, &top.bytes, stop)
    })
}
