//! How a layer is compressed, and how to read one whatever it was compressed with.
//!
//! Writing knows what an image may have (image-spec, layer.md, "+gzip", "+zstd"). The same bytes
//! in give the same bytes out: one zstd context without worker threads (with them the frame
//! differs), gzip with mtime 0 and no name. Reading goes by the first bytes, not by the media
//! type, since archives on disk have none and media types lie; bzip2 and xz are there for `ADD`.
//!
//! | first bytes | format |
//! |---|---|
//! | `1f 8b` | gzip (RFC 1952), members one after another |
//! | `28 b5 2f fd`, `5? 2a 4d 18` | zstd (RFC 8878), frames and skippable frames |
//! | `42 5a 68` (`BZh`) | bzip2 |
//! | `fd 37 7a 58 5a 00` | xz |
//! | else | none |

use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::str::FromStr;

/// How a layer is to be compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip, level 1 to 9.
    Gzip(u32),
    /// zstd, level 1 to 22.
    Zstd(i32),
}

/// Why a text names no compression.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a compression: none, gzip, gzip:1 to gzip:9, zstd, zstd:1 to zstd:22")]
pub struct ParseCompressionError(String);

impl Compression {
    /// The media type of a layer that is compressed so.
    pub const fn media_type(self) -> &'static str {
        match self {
            Compression::None => "application/vnd.oci.image.layer.v1.tar",
            Compression::Gzip(_) => "application/vnd.oci.image.layer.v1.tar+gzip",
            Compression::Zstd(_) => "application/vnd.oci.image.layer.v1.tar+zstd",
        }
    }

    /// A writer that compresses into `out`. End it with [`Compressor::finish`].
    pub fn writer<W: Write>(self, out: W) -> io::Result<Compressor<W>> {
        Ok(match self {
            Compression::None => Compressor::None(out),
            Compression::Gzip(level) => Compressor::Gzip(
                flate2::GzBuilder::new()
                    .mtime(0)
                    .write(out, flate2::Compression::new(level)),
            ),
            Compression::Zstd(level) => Compressor::Zstd(zstd::stream::Encoder::new(out, level)?),
        })
    }
}

impl Default for Compression {
    /// gzip level 1: what every tool reads that reads layers at all. zstd is faster and smaller,
    /// but tools of today's stable distributions refuse it (umoci 0.4, skopeo 1.9 to docker's
    /// archive), and a store is to be read by them as it is.
    fn default() -> Compression {
        Compression::Gzip(1)
    }
}

impl FromStr for Compression {
    type Err = ParseCompressionError;

    fn from_str(text: &str) -> Result<Compression, ParseCompressionError> {
        let bad = || ParseCompressionError(text.to_owned());
        let (name, level) = match text.split_once(':') {
            Some((name, level)) => (name, Some(level.parse::<u32>().map_err(|_| bad())?)),
            None => (text, None),
        };
        match (name, level) {
            ("none" | "uncompressed", None) => Ok(Compression::None),
            ("gzip", None) => Ok(Compression::default()),
            ("gzip", Some(level @ 1..=9)) => Ok(Compression::Gzip(level)),
            ("zstd", None) => Ok(Compression::Zstd(1)),
            ("zstd", Some(level @ 1..=22)) => Ok(Compression::Zstd(level.cast_signed())),
            _ => Err(bad()),
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Compression::None => f.write_str("none"),
            Compression::Gzip(level) => write!(f, "gzip:{level}"),
            Compression::Zstd(level) => write!(f, "zstd:{level}"),
        }
    }
}

/// A stream that is being compressed.
pub enum Compressor<W: Write> {
    /// Bytes as they come.
    None(W),
    /// A gzip member.
    Gzip(flate2::write::GzEncoder<W>),
    /// A zstd frame.
    Zstd(zstd::stream::Encoder<'static, W>),
}

impl<W: Write> Compressor<W> {
    /// Writes what is held back and the trailer; gives the writer back.
    pub fn finish(self) -> io::Result<W> {
        match self {
            Compressor::None(out) => Ok(out),
            Compressor::Gzip(encoder) => encoder.finish(),
            Compressor::Zstd(encoder) => encoder.finish(),
        }
    }
}

impl<W: Write> Write for Compressor<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Compressor::None(out) => out.write(bytes),
            Compressor::Gzip(encoder) => encoder.write(bytes),
            Compressor::Zstd(encoder) => encoder.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Compressor::None(out) => out.flush(),
            Compressor::Gzip(encoder) => encoder.flush(),
            Compressor::Zstd(encoder) => encoder.flush(),
        }
    }
}

/// How a stream is found to be compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// Not at all, as far as its first bytes say.
    None,
    /// gzip.
    Gzip,
    /// zstd.
    Zstd,
    /// bzip2.
    Bzip2,
    /// xz.
    Xz,
}

impl Format {
    /// What a stream that begins with `bytes` (6 are enough) is.
    pub fn sniff(bytes: &[u8]) -> Format {
        match bytes {
            [0x1f, 0x8b, ..] => Format::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Format::Zstd,
            [b'B', b'Z', b'h', ..] => Format::Bzip2,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Format::Xz,
            _ => Format::None,
        }
    }

    /// The media type of a layer in this format; images have neither bzip2 nor xz.
    pub const fn media_type(self) -> Option<&'static str> {
        match self {
            Format::None => Some(Compression::None.media_type()),
            Format::Gzip => Some(Compression::Gzip(6).media_type()),
            Format::Zstd => Some(Compression::Zstd(1).media_type()),
            Format::Bzip2 | Format::Xz => None,
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Format::None => "none",
            Format::Gzip => "gzip",
            Format::Zstd => "zstd",
            Format::Bzip2 => "bzip2",
            Format::Xz => "xz",
        })
    }
}

/// Reads a stream in any of the formats, found out by its first bytes.
///
/// A stream that is cut short is an error of kind `UnexpectedEof`, never an early end.
pub struct Decompressor<'a> {
    format: Format,
    inner: Box<dyn Read + Send + 'a>,
}

impl<'a> Decompressor<'a> {
    /// A decompressor of `source`; reads its first bytes.
    pub fn new<R: Read + Send + 'a>(source: R) -> io::Result<Decompressor<'a>> {
        let mut source = BufReader::with_capacity(BUFFER, source);
        let mut first = Vec::with_capacity(MAGIC);
        // A short read is not an end: ask until there is enough, then put it back in front.
        (&mut source).take(MAGIC as u64).read_to_end(&mut first)?;
        let format = Format::sniff(&first);
        let whole = BufReader::with_capacity(MAGIC, io::Cursor::new(first)).chain(source);
        Ok(Decompressor {
            format,
            inner: decoder(format, whole)?,
        })
    }

    /// What the stream is compressed with.
    pub fn format(&self) -> Format {
        self.format
    }
}

/// Bytes of the longest magic number.
const MAGIC: usize = 6;
/// Compressed bytes read at once.
const BUFFER: usize = 256 << 10;

fn decoder<'a>(
    format: Format,
    source: impl BufRead + Send + 'a,
) -> io::Result<Box<dyn Read + Send + 'a>> {
    Ok(match format {
        Format::None => Box::new(source),
        Format::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(source)),
        Format::Zstd => Box::new(zstd::stream::Decoder::with_buffer(source)?),
        Format::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(source)),
        Format::Xz => Box::new(liblzma::bufread::XzDecoder::new_multi_decoder(source)),
    })
}

impl Read for Decompressor<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.inner.read(buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compressed(compression: Compression, bytes: &[u8]) -> Vec<u8> {
        let mut writer = compression.writer(Vec::new()).unwrap();
        writer.write_all(bytes).unwrap();
        writer.finish().unwrap()
    }

    fn sample() -> Vec<u8> {
        (0..300_000u32)
            .flat_map(|n| (n.wrapping_mul(n) / 7).to_le_bytes())
            .collect()
    }

    /// The sample in each format, foreign ones included.
    fn every_format() -> Vec<(Format, Vec<u8>)> {
        let mut bzip2 = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
        bzip2.write_all(&sample()).unwrap();
        let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 1);
        xz.write_all(&sample()).unwrap();
        vec![
            (Format::None, sample()),
            (Format::Gzip, compressed(Compression::Gzip(6), &sample())),
            (Format::Zstd, compressed(Compression::Zstd(1), &sample())),
            (Format::Bzip2, bzip2.finish().unwrap()),
            (Format::Xz, xz.finish().unwrap()),
        ]
    }

    fn read_all(bytes: &[u8]) -> io::Result<(Format, Vec<u8>)> {
        let mut decompressor = Decompressor::new(bytes)?;
        let mut all = Vec::new();
        decompressor.read_to_end(&mut all)?;
        Ok((decompressor.format(), all))
    }

    #[test]
    fn each_format_is_known_by_its_first_bytes_and_read() {
        for (format, bytes) in every_format() {
            let (found, all) = read_all(&bytes).unwrap();
            assert_eq!(found, format);
            assert!(all == sample(), "{format}");
        }
        assert_eq!(read_all(b"").unwrap(), (Format::None, Vec::new()));
    }

    #[test]
    fn a_stream_that_is_cut_short_is_an_error_wherever_it_is_cut() {
        for (format, bytes) in every_format().into_iter().skip(1) {
            for length in [7, 20, bytes.len() / 2, bytes.len() - 9, bytes.len() - 1] {
                assert!(
                    read_all(&bytes[..length]).is_err(),
                    "{format} cut at {length}"
                );
            }
        }
    }

    #[test]
    fn members_and_frames_one_after_another_are_one_stream() {
        for (format, bytes) in every_format().into_iter().skip(1) {
            let twice = [bytes.as_slice(), &bytes].concat();
            assert!(
                read_all(&twice).unwrap().1 == [sample(), sample()].concat(),
                "{format}"
            );
        }
    }

    #[test]
    fn the_same_bytes_come_out_each_time_and_gzip_carries_no_time() {
        for compression in [
            Compression::Gzip(1),
            Compression::Gzip(9),
            Compression::Zstd(3),
        ] {
            assert!(compressed(compression, &sample()) == compressed(compression, &sample()));
        }
        assert_eq!(
            compressed(Compression::Gzip(6), b"x")[3..8],
            [0; 5],
            "flags and mtime"
        );
    }

    #[test]
    fn compressions_are_read_from_text_and_shown_as_it() {
        for (text, value) in [
            ("none", Compression::None),
            ("gzip", Compression::default()),
            ("gzip:9", Compression::Gzip(9)),
            ("zstd", Compression::Zstd(1)),
            ("zstd:19", Compression::Zstd(19)),
        ] {
            assert_eq!(text.parse(), Ok(value));
            assert_eq!(value.to_string().parse(), Ok(value));
        }
        for text in [
            "", "gz", "gzip:0", "gzip:10", "zstd:23", "zstd:-1", "none:1", "zstd:",
        ] {
            assert!(text.parse::<Compression>().is_err(), "{text}");
        }
    }
}
