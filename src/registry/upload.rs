//! A blob's bytes, to a registry (distribution-spec, "Pushing blobs").
//!
//! ```text
//! HEAD blob ─▶ 200: it has it
//! POST uploads/?mount=D&from=OTHER ─▶ 201: it has it from there    202: no, but go on at Location
//! small   PUT Location?digest=D, all of it
//! large   PATCH Location, a piece after the other ─▶ PUT Location?digest=D
//!         cut off: GET Location ─▶ Range: 0-N, and on from there
//!         a registry that takes no pieces: PUT, all of it
//! ```

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Stop;
use super::error::{Error, Result, is_passing};
use super::repository::Repository;
use super::retry::{ATTEMPTS, delay};
use super::session::{Payload, Request, Response, header, is_as_safe, refused};
use crate::http::shown;
use crate::http::url::Url;
use crate::oci::Digest;

/// What is larger goes by pieces of this size, so that little is sent again after a cut.
const PIECE: u64 = 64 << 20;

/// How a registry came to have a blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Sent {
    /// It had it.
    There,
    /// From this repository of its own.
    Mounted(String),
    /// From us.
    Pushed,
}

/// A blob on its way.
pub(super) struct Upload<'a> {
    pub repository: &'a Repository,
    pub digest: Digest,
    pub size: u64,
    pub path: &'a Path,
    /// Repositories of the same registry that may have it.
    pub elsewhere: &'a [String],
    /// Bytes that were sent.
    pub done: &'a AtomicU64,
    pub stop: &'a Stop,
}

impl Upload<'_> {
    /// Brings the blob there, if it isn't.
    pub fn run(&self) -> Result<Sent> {
        let mut location = match self.spared()? {
            Ok(sent) => return Ok(sent),
            Err(location) => location,
        };
        let mut failures = 0;
        loop {
            let begun = match location.take() {
                Some(location) => location,
                None => match self.begin(None)? {
                    Some(location) => location,
                    None => return Ok(Sent::There),
                },
            };
            match self.send(begun) {
                Ok(()) => return Ok(Sent::Pushed),
                Err(error) if error.is_passing() && failures + 1 < ATTEMPTS => {
                    failures += 1;
                    let wait = delay(failures, self.repository.client.chance());
                    self.stop.pause(wait)?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Whether the blob is there, or can be had from another repository: then nothing is sent. Else
    /// where an upload has been begun, if one has.
    pub fn spared(&self) -> Result<Result<Sent, Option<Url>>> {
        if self.is_there()? {
            return Ok(Ok(Sent::There));
        }
        let mut location = None;
        // An upload that is not used is forgotten by the registry in time; many need not be.
        for other in self.elsewhere.iter().take(3) {
            match self.begin(Some(other))? {
                None => return Ok(Ok(Sent::Mounted(other.clone()))),
                Some(found) => location = Some(found),
            }
        }
        Ok(Err(location))
    }

    fn is_there(&self) -> Result<bool> {
        let path = format!("blobs/{}", self.digest);
        let request = self.repository.request("HEAD", &path, self.stop)?;
        let response = self.repository.send(&request, self.stop)?;
        match response.status().as_u16() {
            200 => Ok(true),
            404 => Ok(false),
            _ => Err(refused(&request.url, response)),
        }
    }

    /// Begins an upload, or has the blob mounted; `None`: the registry has it now.
    fn begin(&self, from: Option<&str>) -> Result<Option<Url>> {
        let path = match from {
            Some(from) => format!("blobs/uploads/?mount={}&from={from}", self.digest),
            None => "blobs/uploads/".to_owned(),
        };
        let mut request = self.repository.request("POST", &path, self.stop)?;
        if let Some(from) = from {
            request.scope = format!("{} repository:{from}:pull", request.scope);
        }
        let response = match self.repository.send(&request, self.stop) {
            // That we may not look there is no reason not to send it.
            Err(Error::Unauthorized { .. }) if from.is_some() => return self.begin(None),
            response => response?,
        };
        match response.status().as_u16() {
            201 if from.is_some() => Ok(None),
            202 => Ok(Some(self.location(&request.url, &response)?)),
            403 | 404 if from.is_some() => self.begin(None),
            _ => Err(refused(&request.url, response)),
        }
    }

    fn send(&self, mut begun: Url) -> Result<()> {
        if self.size > PIECE {
            match self.pieces(begun)? {
                Some(at) => return self.finish(at, self.size),
                None => match self.begin(None)? {
                    Some(anew) => begun = anew,
                    None => return Ok(()),
                },
            }
        }
        self.finish(begun, 0)
    }

    /// Sends all of it piece by piece. `None`: the registry takes no pieces.
    fn pieces(&self, mut at: Url) -> Result<Option<Url>> {
        let (mut start, mut failures) = (0, 0);
        while start < self.size {
            let length = PIECE.min(self.size - start);
            let mut request = self.to(at.clone(), "PATCH", start, length);
            let range = format!("{start}-{}", start + length - 1);
            request.headers.push(("content-range", range));
            let sent = self.repository.send(&request, self.stop);
            let passing = match sent {
                Ok(response) => match response.status().as_u16() {
                    202 | 201 | 204 => {
                        at = self.location(&at, &response)?;
                        start += length;
                        failures = 0;
                        continue;
                    }
                    404 | 405 | 400 | 501 if start == 0 => return Ok(None),
                    416 => refused(&at, response),
                    _ => return Err(refused(&at, response)),
                },
                Err(error) if error.is_passing() => error,
                Err(error) => return Err(error),
            };
            failures += 1;
            if failures >= ATTEMPTS {
                return Err(passing);
            }
            let wait = delay(failures, self.repository.client.chance());
            self.stop.pause(wait)?;
            (at, start) = self.where_it_is(at)?;
        }
        Ok(Some(at))
    }

    /// How far an upload has come.
    fn where_it_is(&self, at: Url) -> Result<(Url, u64)> {
        let mut request = self.to(at, "GET", 0, 0);
        request.payload = Payload::Nothing;
        request.again = true;
        let response = self.repository.send(&request, self.stop)?;
        if !matches!(response.status().as_u16(), 200 | 202 | 204) {
            // It has forgotten it: from the beginning, in another upload.
            let error = refused(&request.url, response);
            return Err(Error::Failed {
                url: shown(&request.url),
                why: error.to_string(),
                again: true,
            });
        }
        let range = header(&response, "range").unwrap_or_default();
        let last = range
            .rsplit_once('-')
            .and_then(|(_, last)| last.trim().parse::<u64>().ok());
        // Nothing of it is there: `0-0`, or no range at all.
        let start = match last {
            Some(0) | None => 0,
            Some(last) => (last + 1).min(self.size),
        };
        let next = self
            .location(&request.url, &response)
            .unwrap_or(request.url);
        Ok((next, start))
    }

    /// Sends what stands from `start` on, and says that this is all.
    fn finish(&self, at: Url, start: u64) -> Result<()> {
        let mut url = at;
        let digest = format!("digest=sha256%3A{}", self.digest.hex());
        url.query = Some(match url.query.take() {
            Some(query) if !query.is_empty() => format!("{query}&{digest}"),
            _ => digest,
        });
        let mut request = self.to(url, "PUT", start, self.size - start);
        if start == self.size {
            request.payload = Payload::Nothing;
        }
        let response = self.repository.send(&request, self.stop)?;
        match response.status().as_u16() {
            200..=204 => {
                self.done.store(self.size, Ordering::Relaxed);
                Ok(())
            }
            status if is_passing(status) => Err(refused(&request.url, response)),
            _ => Err(refused(&request.url, response)),
        }
    }

    /// Where an upload goes on.
    fn location(&self, url: &Url, response: &Response) -> Result<Url> {
        let wrong = |why: String| Error::Wrong {
            what: shown(url),
            why,
        };
        let location = header(response, "location").and_then(|to| url.join(&to));
        let Some(next) = location else {
            let why = "the registry does not say where to send the blob";
            return Err(wrong(why.to_owned()));
        };
        match is_as_safe(&self.repository.endpoint, url, &next) {
            true => Ok(next),
            false => Err(wrong(format!(
                "the blob is to be sent to {}, which is less safe than HTTPS: a proxy before the registry must tell it so, by X-Forwarded-Proto",
                shown(&next)
            ))),
        }
    }

    fn to(&self, url: Url, method: &'static str, start: u64, length: u64) -> Request<'_> {
        Request {
            method,
            url,
            headers: vec![("content-type", "application/octet-stream".to_owned())],
            payload: Payload::File {
                path: self.path,
                start,
                length,
                sent: self.done,
            },
            scope: self.repository.scope(),
            again: false,
        }
    }
}
