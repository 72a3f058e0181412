//! The file of a snapshot: how it is laid out, and how one takes the place of another.
//!
//! ```text
//! bytes  what                     all numbers big-endian
//!     8  magic "MSNAPSHT"
//!     4  format, 1                a reader refuses formats that it does not know
//!  2+..  name of the view         length, UTF-8
//!     4  version of the view
//!     4  positions
//!        each: 2+.. topic, 4 partition, 8 next offset, 1 has anchor, then 8 its offset and 4 its checksum
//!  8+..  state                    length, the view's own bytes
//!     4  CRC-32C of all before
//! ```
//!
//! What identifies the state stands before it, so that a tool can tell what a file is from its first bytes; the
//! checksum stands last, so that a file that was cut has none.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Buf, BufMut};
use millstream_protocol::records::crc32c;

use crate::projection::positions::{Anchor, Position, Positions};

const MAGIC: &[u8; 8] = b"MSNAPSHT";
const FORMAT: u32 = 1;
const CHECKSUM_BYTES: usize = 4;

/// A state as bytes, and what it is a state of.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Image<'a> {
    pub(super) name: &'a str,
    pub(super) version: u32,
    pub(super) state: &'a [u8],
}

pub(super) fn encode(image: &Image<'_>, positions: &Positions) -> Vec<u8> {
    let mut out = Vec::with_capacity(image.state.len() + 64 + positions.len() * 64);
    out.put_slice(MAGIC);
    out.put_u32(FORMAT);
    put_name(&mut out, image.name);
    out.put_u32(image.version);
    out.put_u32(u32::try_from(positions.len()).expect("a cluster has fewer partitions"));
    for (topic, partition, position) in positions.iter() {
        put_name(&mut out, topic);
        out.put_i32(partition);
        out.put_i64(position.next);
        out.put_u8(u8::from(position.anchor.is_some()));
        if let Some(anchor) = position.anchor {
            out.put_i64(anchor.offset);
            out.put_u32(anchor.checksum);
        }
    }
    out.put_u64(image.state.len() as u64);
    out.put_slice(image.state);
    let checksum = crc32c(&out);
    out.put_u32(checksum);
    out
}

fn put_name(out: &mut Vec<u8>, name: &str) {
    out.put_u16(u16::try_from(name.len()).expect("names of topics and views are short"));
    out.put_slice(name.as_bytes());
}

/// Reads what [`encode`] wrote. Nothing is allocated by a length that the bytes do not bear out.
pub(super) fn decode(bytes: &[u8]) -> Result<(Image<'_>, Positions), &'static str> {
    let Some((mut rest, checksum)) = bytes.split_last_chunk::<CHECKSUM_BYTES>() else {
        return Err("too short");
    };
    if !rest.starts_with(MAGIC) {
        return Err("not a snapshot");
    }
    if crc32c(rest) != u32::from_be_bytes(*checksum) {
        return Err("its checksum does not match");
    }
    rest.advance(MAGIC.len());
    let rest = &mut rest;
    if rest.try_get_u32().map_err(|_| CUT)? != FORMAT {
        return Err("a format that this version does not know");
    }
    let name = take_name(rest)?;
    let version = rest.try_get_u32().map_err(|_| CUT)?;
    let mut positions = Positions::default();
    for _ in 0..rest.try_get_u32().map_err(|_| CUT)? {
        let topic = take_name(rest)?;
        let partition = rest.try_get_i32().map_err(|_| CUT)?;
        let next = rest.try_get_i64().map_err(|_| CUT)?;
        let anchor = match rest.try_get_u8().map_err(|_| CUT)? {
            0 => None,
            _ => Some(Anchor {
                offset: rest.try_get_i64().map_err(|_| CUT)?,
                checksum: rest.try_get_u32().map_err(|_| CUT)?,
            }),
        };
        positions.put(topic, partition, Position { next, anchor });
    }
    let length = rest.try_get_u64().map_err(|_| CUT)?;
    if length != rest.len() as u64 {
        return Err(CUT);
    }
    Ok((Image { name, version, state: rest }, positions))
}

const CUT: &str = "its parts do not fit";

fn take_name<'a>(rest: &mut &'a [u8]) -> Result<&'a str, &'static str> {
    let length = usize::from(rest.try_get_u16().map_err(|_| CUT)?);
    let (name, after) = rest.split_at_checked(length).ok_or(CUT)?;
    *rest = after;
    std::str::from_utf8(name).map_err(|_| CUT)
}

/// The file's bytes; none if there is no file. Sweeps away what crashes have left beside it.
pub(super) fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    for left in leftovers(path)? {
        fs::remove_file(left).or_else(unless_gone)?;
    }
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Puts the bytes in the place of the file. When it returns they are on the disk.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    // A caller who was dropped may still be writing one: each has a name of its own.
    static WRITTEN: AtomicU64 = AtomicU64::new(0);
    let number = WRITTEN.fetch_add(1, Ordering::Relaxed);
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(format!(".{}-{number}{TEMPORARY}", std::process::id()));
    let temporary = PathBuf::from(temporary);
    let written = write(&temporary, bytes).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        fs::remove_file(&temporary).or_else(unless_gone)?;
    }
    written?;
    sync_folder(path)
}

pub(super) fn remove(path: &Path) -> io::Result<()> {
    fs::remove_file(path).or_else(unless_gone)?;
    sync_folder(path)
}

const TEMPORARY: &str = ".tmp";

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The name of a file is on the disk when its folder is.
fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(folder(path))?.sync_all()
}

fn unless_gone(error: io::Error) -> io::Result<()> {
    if error.kind() == ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

fn leftovers(path: &Path) -> io::Result<Vec<PathBuf>> {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for entry in fs::read_dir(folder(path))? {
        let entry = entry?;
        let is_ours = entry.file_name().to_str().is_some_and(|other| {
            other.strip_prefix(name).is_some_and(|rest| rest.starts_with('.') && rest.ends_with(TEMPORARY))
        });
        if is_ours {
            found.push(entry.path());
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn positions(of: &[(String, i32, i64, Option<(i64, u32)>)]) -> Positions {
        let mut positions = Positions::default();
        for (topic, partition, next, anchor) in of {
            let anchor = anchor.map(|(offset, checksum)| Anchor { offset, checksum });
            positions.put(topic, *partition, Position { next: *next, anchor });
        }
        positions
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_and_what_is_changed_is_refused(
            name in ".{0,20}",
            version in any::<u32>(),
            of in prop::collection::vec((".{0,9}", any::<i32>(), any::<i64>(), any::<Option<(i64, u32)>>()), 0..5),
            state in prop::collection::vec(any::<u8>(), 0..100),
            harm in (any::<prop::sample::Index>(), 1..=255_u8),
            cut in any::<prop::sample::Index>(),
        ) {
            let positions = positions(&of);
            let image = Image { name: &name, version, state: &state };
            let bytes = encode(&image, &positions);
            prop_assert_eq!(decode(&bytes), Ok((image, positions)));
            prop_assert!(decode(&bytes[..cut.index(bytes.len())]).is_err());
            let mut harmed = bytes;
            let at = harm.0.index(harmed.len());
            harmed[at] ^= harm.1;
            prop_assert!(decode(&harmed).is_err());
        }

        #[test]
        fn no_bytes_with_a_good_checksum_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut whole = MAGIC.to_vec();
            whole.extend(FORMAT.to_be_bytes());
            whole.append(&mut bytes);
            let checksum = crc32c(&whole);
            whole.extend(checksum.to_be_bytes());
            let _ = decode(&whole);
        }
    }

    #[test]
    fn a_file_is_replaced_and_what_a_crash_left_is_swept_away() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("view.snapshot");
        assert_eq!(read(&path).unwrap(), None);
        replace(&path, b"one").unwrap();
        replace(&path, b"two").unwrap();
        let left = folder.path().join("view.snapshot.7-1.tmp");
        let other = folder.path().join("view.snapshot2");
        fs::write(&left, b"half").unwrap();
        fs::write(&other, b"not ours").unwrap();
        assert_eq!(read(&path).unwrap().as_deref(), Some(&b"two"[..]));
        assert!(!left.exists() && other.exists());
        remove(&path).unwrap();
        remove(&path).unwrap();
        assert_eq!(read(&path).unwrap(), None);
    }
}
