//! A segment file from front to back, batch after batch.
//!
//! ```text
//! 0   base offset   i64   big-endian, as all of it
//! 8   length        i32   bytes that follow these first twelve
//! 12  leader epoch, magic, CRC-32C, ...  (`millstream_protocol::records`)
//! ```
//!
//! A length that cannot be true ends the walk: nothing says where the next batch would begin. A wrong
//! checksum does not.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use anyhow::Context;
use bytes::Bytes;
use millstream_protocol::records::{BatchError, BatchHeader, BatchView, HEADER_BYTES};

/// The first two fields: what is needed to find the end of a batch.
const PREFIX_BYTES: usize = 12;

/// A length beyond this is taken for garbage rather than for a batch whose end is missing.
const BATCH_BYTES_MAX: i32 = 256 << 20;

/// A whole batch, and where it stands. Its checksum may be wrong.
pub(super) struct Located {
    pub(super) position: u64,
    pub(super) bytes: Bytes,
    pub(super) header: BatchHeader,
    pub(super) crc_is_valid: bool,
}

/// What a walk finds instead of a batch; nothing after it can be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    /// Fewer bytes are left than the batch needs.
    #[error("the last {left} bytes are the beginning of a batch whose end is missing")]
    Unfinished { left: u64 },
    /// Nothing but zeros from here on: room that was taken in advance, or bytes that never reached the disk.
    #[error("the last {left} bytes are zeros")]
    Zeros { left: u64 },
    /// The length field lies.
    #[error("a batch says that it is {length} bytes long; the {left} bytes from here on cannot be read")]
    Length { length: i32, left: u64 },
    /// The header is not that of a batch.
    #[error("no batch: {0}; the {left} bytes from here on cannot be read", left = .1)]
    Batch(BatchError, u64),
}

impl Broken {
    /// What a crash may leave behind, and the next start cuts off.
    pub(super) fn is_torn_tail(&self) -> bool {
        match self {
            Self::Unfinished { .. } | Self::Zeros { .. } => true,
            Self::Length { .. } | Self::Batch(..) => false,
        }
    }
}

/// Reads one segment.
pub(super) struct SegmentFile {
    file: BufReader<File>,
    position: u64,
    /// At the time of opening: a broker may be appending.
    length: u64,
}

impl SegmentFile {
    /// Goes on from there.
    pub(super) fn seek(&mut self, position: u64) -> anyhow::Result<()> {
        self.file.seek(SeekFrom::Start(position)).context("a segment cannot be read")?;
        self.position = position;
        Ok(())
    }

    pub(super) fn length(&self) -> u64 {
        self.length
    }

    pub(super) fn open(path: &Path) -> anyhow::Result<Self> {
        let file = File::open(path).with_context(|| format!("{} cannot be opened", path.display()))?;
        let length = file.metadata().with_context(|| format!("{} cannot be read", path.display()))?.len();
        Ok(Self { file: BufReader::with_capacity(1 << 20, file), position: 0, length })
    }

    /// Where the next batch begins.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// The next batch, `None` at the end; the inner error when the bytes are wrong, the outer when the disk is.
    pub(super) fn next(&mut self) -> anyhow::Result<Option<Result<Located, Broken>>> {
        let left = self.length - self.position;
        if left == 0 {
            return Ok(None);
        }
        let mut prefix = [0; PREFIX_BYTES];
        if left < PREFIX_BYTES as u64 {
            return Ok(Some(Err(Broken::Unfinished { left })));
        }
        self.file.read_exact(&mut prefix)?;
        let [.., a, b, c, d] = prefix;
        let length = i32::from_be_bytes([a, b, c, d]);
        let size = u64::try_from(length).unwrap_or(0) + PREFIX_BYTES as u64;
        if size < HEADER_BYTES as u64 || size > left {
            return Ok(Some(Err(self.judge_length(prefix, length, left)?)));
        }
        // Not more than the file has: `size <= left`.
        let mut bytes = vec![0; usize::try_from(size).context("a batch is larger than the memory")?];
        bytes[..PREFIX_BYTES].copy_from_slice(&prefix);
        self.file.read_exact(&mut bytes[PREFIX_BYTES..])?;
        let (header, crc_is_valid) = match BatchView::parse(&bytes) {
            Ok(batch) => (batch.header(), batch.crc_is_valid()),
            Err(error) => return Ok(Some(Err(Broken::Batch(error, left)))),
        };
        let position = self.position;
        self.position += size;
        Ok(Some(Ok(Located { position, bytes: bytes.into(), header, crc_is_valid })))
    }

    fn judge_length(&mut self, prefix: [u8; PREFIX_BYTES], length: i32, left: u64) -> anyhow::Result<Broken> {
        if prefix == [0; PREFIX_BYTES] && self.rest_is_zero()? {
            return Ok(Broken::Zeros { left });
        }
        let plausible = (HEADER_BYTES - PREFIX_BYTES) as i32..BATCH_BYTES_MAX;
        Ok(if plausible.contains(&length) {
            Broken::Unfinished { left }
        } else {
            Broken::Length { length, left }
        })
    }

    fn rest_is_zero(&mut self) -> anyhow::Result<bool> {
        let mut chunk = vec![0; 64 << 10];
        loop {
            match self.file.read(&mut chunk)? {
                0 => return Ok(true),
                read if chunk[..read].iter().any(|byte| *byte != 0) => return Ok(false),
                _ => {}
            }
        }
    }
}

/// The offset that a file of a partition is named by: twenty digits before the first dot.
pub(super) fn base_offset_of(path: &Path) -> Option<i64> {
    offset_of(path.file_name()?.to_str()?.split_once('.')?.0)
}

/// Twenty digits.
pub(super) fn offset_of(digits: &str) -> Option<i64> {
    let is_offset = digits.len() == 20 && digits.bytes().all(|c| c.is_ascii_digit());
    is_offset.then(|| digits.parse().ok()).flatten()
}
