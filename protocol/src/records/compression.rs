//! The codecs of record batches, and decompression that a hostile batch cannot blow up.
//!
//! All codecs write into an [`Output`] with a limit. No announced size is believed: memory grows with bytes
//! that really came out, or by no more than a codec's own format can yield from the bytes that are there.

mod lz4;
mod output;
mod snappy;
#[cfg(feature = "zstd")]
mod zstd;

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io::Write;
use std::ops::RangeInclusive;
use std::str::FromStr;

use flate2::bufread::MultiGzDecoder;
use flate2::write::GzEncoder;

use self::output::{Failure, Output};
use super::{BatchError, HEADER_BYTES};

/// What zlib calls its default, and Kafka's clients use.
const GZIP_LEVEL: u32 = 6;

/// How the records of a batch are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// RFC 1952, members may follow each other.
    Gzip,
    /// Snappy blocks in the frame of xerial's Java library; bare blocks are read too.
    Snappy,
    /// The standard LZ4 frame.
    Lz4,
    /// Zstandard, RFC 8878; with the feature `zstd`.
    #[cfg(feature = "zstd")]
    Zstd,
}

impl Compression {
    /// Every codec, by ascending code.
    pub const ALL: [Self; if cfg!(feature = "zstd") { 5 } else { 4 }] = [
        Self::None,
        Self::Gzip,
        Self::Snappy,
        Self::Lz4,
        #[cfg(feature = "zstd")]
        Self::Zstd,
    ];

    /// The codec with this number in the attributes of a batch.
    #[must_use]
    pub const fn from_code(code: i16) -> Option<Self> {
        match code {
            0 => Some(Self::None),
            1 => Some(Self::Gzip),
            2 => Some(Self::Snappy),
            3 => Some(Self::Lz4),
            #[cfg(feature = "zstd")]
            4 => Some(Self::Zstd),
            _ => None,
        }
    }

    /// Its number in the attributes of a batch.
    #[must_use]
    pub const fn code(self) -> i16 {
        match self {
            Self::None => 0,
            Self::Gzip => 1,
            Self::Snappy => 2,
            Self::Lz4 => 3,
            #[cfg(feature = "zstd")]
            Self::Zstd => 4,
        }
    }

    /// Its name in the configuration of producers: `none`, `gzip`, `snappy`, `lz4`, `zstd`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            #[cfg(feature = "zstd")]
            Self::Zstd => "zstd",
        }
    }

    /// The levels between which one can choose: higher is smaller and slower. `None`: the codec has only one.
    #[must_use]
    pub const fn levels(self) -> Option<RangeInclusive<i32>> {
        match self {
            Self::Gzip => Some(1..=9),
            // Below 1 it gives up size for speed.
            #[cfg(feature = "zstd")]
            Self::Zstd => Some(-7..=22),
            Self::None | Self::Snappy | Self::Lz4 => None,
        }
    }

    /// The same codec at another level than its default.
    ///
    /// ```
    /// use millstream_protocol::records::Compression;
    ///
    /// assert!(Compression::Zstd.at_level(9).is_ok());
    /// assert!(Compression::Snappy.at_level(9).is_err(), "it has none");
    /// ```
    ///
    /// # Errors
    /// That the codec has no such level.
    pub fn at_level(self, level: i32) -> Result<Codec, NoSuchLevel> {
        match self.levels() {
            Some(levels) if levels.contains(&level) => Ok(Codec { compression: self, level: Some(level) }),
            levels => Err(NoSuchLevel { compression: self, level, levels }),
        }
    }
}

/// A codec at a level.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Codec {
    compression: Compression,
    /// `None`: the default.
    level: Option<i32>,
}

impl Codec {
    /// The codec.
    #[must_use]
    pub fn compression(self) -> Compression {
        self.compression
    }
}

impl From<Compression> for Codec {
    fn from(compression: Compression) -> Self {
        Self { compression, level: None }
    }
}

/// A level that a codec does not have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{compression} has no level {level}; {}", match levels {
    Some(levels) => format!("there are {} to {}", levels.start(), levels.end()),
    None => "there is nothing to choose".to_owned(),
})]
pub struct NoSuchLevel {
    /// The codec.
    pub compression: Compression,
    /// The level that was asked for.
    pub level: i32,
    /// Those that there are.
    pub levels: Option<RangeInclusive<i32>>,
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that is no codec's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no codec; there are none, gzip, snappy, lz4 and, with the feature of that name, zstd")]
pub struct UnknownCompressionName(pub String);

impl FromStr for Compression {
    type Err = UnknownCompressionName;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|codec| codec.name() == name);
        found.ok_or_else(|| UnknownCompressionName(name.to_owned()))
    }
}

/// `body` under a codec, behind room for a batch header.
pub(super) fn compressed(codec: impl Into<Codec>, body: &[u8]) -> Vec<u8> {
    let codec = codec.into();
    let mut out = vec![0; HEADER_BYTES];
    match codec.compression {
        Compression::None => out.extend_from_slice(body),
        Compression::Gzip => gzip(codec.level, body, &mut out),
        Compression::Snappy => SNAPPY.with_borrow_mut(|encoder| snappy::compress(encoder, body, &mut out)),
        Compression::Lz4 => lz4::compress(body, &mut out),
        #[cfg(feature = "zstd")]
        Compression::Zstd => zstd::compress(codec.level, body, &mut out),
    }
    out
}

fn gzip(level: Option<i32>, body: &[u8], out: &mut Vec<u8>) {
    let level = level.and_then(|level| u32::try_from(level).ok()).unwrap_or(GZIP_LEVEL);
    let mut encoder = GzEncoder::new(out, flate2::Compression::new(level));
    encoder.write_all(body).and_then(|()| encoder.finish()).expect("writing to memory cannot fail");
}

thread_local! {
    // It is costly to set up, so each thread keeps its own.
    static SNAPPY: RefCell<snap::raw::Encoder> = RefCell::new(snap::raw::Encoder::new());
    static OUTPUT: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Decompresses into memory that the thread reuses, and hands that to `read`.
pub(super) fn with_decompressed<T>(
    compression: Compression,
    body: &[u8],
    limit: usize,
    read: impl FnOnce(&[u8]) -> T,
) -> Result<T, BatchError> {
    if compression == Compression::None {
        return Ok(read(body));
    }
    let mut output = Output::new(OUTPUT.take(), limit);
    let outcome = decompress(compression, body, &mut output)
        .map(|()| read(output.filled()))
        .map_err(|failure| failure.into_error(compression, limit));
    OUTPUT.set(output.into_buffer());
    outcome
}

fn decompress(compression: Compression, body: &[u8], output: &mut Output) -> Result<(), Failure> {
    match compression {
        Compression::None => output.extend(body),
        Compression::Gzip => output.read_all(&mut MultiGzDecoder::new(body)),
        Compression::Snappy => snappy::decompress(body, output),
        Compression::Lz4 => lz4::decompress(body, output),
        #[cfg(feature = "zstd")]
        Compression::Zstd => zstd::decompress(body, output),
    }
}

#[cfg(test)]
mod tests;
