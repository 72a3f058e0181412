//! Standard input in blocks of whole records.

use std::io::{self, Read};
use std::sync::Arc;

use anyhow::{Context, bail};
use memchr::memmem::Finder;
use tokio::sync::mpsc;

/// What one read asks for, and so what a block holds at least when the input is fast.
const BLOCK_BYTES: usize = 256 << 10;

/// Blocks between the reader and the producer.
const BLOCKS_MAX: usize = 4;

/// Longest record, well inside the producer's buffer. Beyond this the separator is wrong, rather than the record
/// long; what a topic takes (`max.message.bytes`) is less as a rule, and the broker says so.
pub(super) const RECORD_BYTES_MAX: usize = 16 << 20;

/// What stands between records, or between key and value. Never empty.
#[derive(Debug, Clone)]
pub(super) struct Separator(Arc<Finder<'static>>);

impl Separator {
    pub(super) fn new(bytes: &[u8]) -> Option<Self> {
        (!bytes.is_empty()).then(|| Self(Arc::new(Finder::new(bytes).into_owned())))
    }

    fn len(&self) -> usize {
        self.0.needle().len()
    }

    /// What stands before and after the first separator.
    pub(super) fn split<'a>(&self, bytes: &'a [u8]) -> Option<(&'a [u8], &'a [u8])> {
        let at = self.find(bytes)?;
        Some((&bytes[..at], &bytes[at + self.len()..]))
    }

    fn find(&self, bytes: &[u8]) -> Option<usize> {
        // One byte is the common case, and a table search is slower there.
        match self.0.needle() {
            [byte] => memchr::memchr(*byte, bytes),
            _ => self.0.find(bytes),
        }
    }

    /// Where the last whole record of `bytes` ends, its separator included; the first `seen` bytes have none.
    fn end_of_last(&self, bytes: &[u8], seen: usize) -> Option<usize> {
        let last = match self.0.needle() {
            [byte] => seen + memchr::memrchr(*byte, &bytes[seen..])?,
            // From the front, as the records are split: in "a---" the separator "--" is the first two.
            _ => self.0.find_iter(bytes).last()?,
        };
        Some(last + self.len())
    }
}

/// Whole records, each ended by a separator but perhaps the last of the input.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Block(Vec<u8>);

impl Block {
    pub(super) fn size(&self) -> u64 {
        self.0.len() as u64
    }

    /// The records, without their separators.
    pub(super) fn records<'a>(&'a self, separator: &'a Separator) -> impl Iterator<Item = &'a [u8]> {
        let mut rest = self.0.as_slice();
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let (record, after) = separator.split(rest).unwrap_or((rest, &[]));
            rest = after;
            Some(record)
        })
    }
}

/// Starts a thread that reads standard input. A thread of its own and not a task: the read cannot be
/// cancelled, and the process ends without waiting for it.
pub(super) fn read_stdin(separator: Separator) -> mpsc::Receiver<anyhow::Result<Block>> {
    let (blocks, receiver) = mpsc::channel(BLOCKS_MAX);
    std::thread::spawn(move || {
        let mut reader = BlockReader::new(io::stdin().lock(), separator);
        while let Some(block) = reader.next().transpose() {
            let failed = block.is_err();
            if blocks.blocking_send(block).is_err() || failed {
                return;
            }
        }
    });
    receiver
}

struct BlockReader<R> {
    input: R,
    separator: Separator,
    /// The beginning of a record whose end is not read yet.
    carry: Vec<u8>,
    ended: bool,
}

impl<R: Read> BlockReader<R> {
    fn new(input: R, separator: Separator) -> Self {
        Self { input, separator, carry: Vec::new(), ended: false }
    }

    fn next(&mut self) -> anyhow::Result<Option<Block>> {
        let mut bytes = std::mem::take(&mut self.carry);
        while !self.ended {
            let filled = bytes.len();
            bytes.resize(filled + BLOCK_BYTES, 0);
            let read = self.read(&mut bytes[filled..]).context("standard input cannot be read")?;
            bytes.truncate(filled + read);
            self.ended = read == 0;
            if let Some(end) = self.separator.end_of_last(&bytes, filled) {
                self.carry.extend_from_slice(&bytes[end..]);
                bytes.truncate(end);
                return Ok(Some(Block(bytes)));
            }
            if bytes.len() > RECORD_BYTES_MAX {
                bail!(
                    "a record of standard input is longer than {RECORD_BYTES_MAX} bytes; is --record-separator right?"
                );
            }
        }
        Ok((!bytes.is_empty()).then_some(Block(bytes)))
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.input.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => return read,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hands out as few bytes as a slow pipe may.
    struct Drip<'a>(&'a [u8], usize);

    impl Read for Drip<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let size = self.1.min(self.0.len());
            buffer[..size].copy_from_slice(&self.0[..size]);
            self.0 = &self.0[size..];
            Ok(size)
        }
    }

    fn records(input: &[u8], drip: usize, separator: &str) -> Vec<Vec<u8>> {
        let separator = Separator::new(separator.as_bytes()).unwrap();
        let mut reader = BlockReader::new(Drip(input, drip), separator.clone());
        let mut records = Vec::new();
        while let Some(block) = reader.next().unwrap() {
            records.extend(block.records(&separator).map(<[u8]>::to_vec));
        }
        records
    }

    #[test]
    fn records_do_not_depend_on_how_the_input_is_cut() {
        let input = b"one\n\nthree\r\nno end";
        for drip in 1..=input.len() {
            assert_eq!(records(input, drip, "\n"), [&b"one"[..], b"", b"three\r", b"no end"], "drip {drip}");
        }
        let input = b"a--b---c----";
        for drip in 1..=input.len() {
            assert_eq!(records(input, drip, "--"), [&b"a"[..], b"b", b"-c", b""], "drip {drip}");
        }
        assert!(records(b"", 1, "\n").is_empty());
        assert_eq!(records(b"\n", 1, "\n"), [b""]);
    }

    #[test]
    fn a_record_may_be_larger_than_a_block() {
        let long = vec![b'x'; BLOCK_BYTES * 3];
        let input = [long.as_slice(), b"\nshort\n"].concat();
        assert_eq!(records(&input, BLOCK_BYTES, "\n"), [long.as_slice(), b"short"]);
    }

    #[test]
    fn a_key_ends_at_the_first_separator() {
        let colon = Separator::new(b":").unwrap();
        assert_eq!(colon.split(b"k:v:w"), Some((&b"k"[..], &b"v:w"[..])));
        assert_eq!(colon.split(b"none"), None);
        assert!(Separator::new(b"").is_none());
    }
}
