//! An interrupted build does not finish the layer that it is writing: a COPY of gigabytes would
//! keep whoever pressed Ctrl-C waiting.

use std::io::{self, Read};

use crate::layer::{self, Entry, EntrySink};

/// Passes entries on until somebody asks for the end.
pub struct Interruptible<'a> {
    sink: &'a mut dyn EntrySink,
    stopped: &'a dyn Fn() -> bool,
}

impl<'a> Interruptible<'a> {
    /// A sink that fails as soon as `stopped` answers yes.
    pub fn new(sink: &'a mut dyn EntrySink, stopped: &'a dyn Fn() -> bool) -> Interruptible<'a> {
        Interruptible { sink, stopped }
    }
}

impl EntrySink for Interruptible<'_> {
    fn entry(&mut self, entry: &Entry, content: Option<&mut dyn Read>) -> Result<(), layer::Error> {
        if (self.stopped)() {
            return Err(layer::Error::Read(interrupted()));
        }
        match content {
            None => self.sink.entry(entry, None),
            Some(content) => {
                let stopped = self.stopped;
                let mut content = Content { content, stopped };
                self.sink.entry(entry, Some(&mut content))
            }
        }
    }
}

struct Content<'a> {
    content: &'a mut dyn Read,
    stopped: &'a dyn Fn() -> bool,
}

impl Read for Content<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if (self.stopped)() {
            return Err(interrupted());
        }
        self.content.read(buffer)
    }
}

/// Not `ErrorKind::Interrupted`, after which readers try again.
fn interrupted() -> io::Error {
    io::Error::other("interrupted")
}
