//! The files of a data folder that are not a partition's, with any bytes: the metadata's log and snapshot,
//! and the mark of the folder's format. A broker starts over them, or says why not; never half.
#![no_main]

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use millstream_fuzz::{broker_starts, put};
use millstream_log::SimDisk;
use millstream_protocol::records::crc32c;

/// A folder in which a broker has run.
static FOLDER: LazyLock<SimDisk> = LazyLock::new(|| {
    let disk = SimDisk::new();
    assert!(broker_starts(&disk), "a broker starts on an empty disk");
    disk
});

fuzz_target!(|input: &[u8]| {
    let Some(([which, cut], bytes)) = input.split_first_chunk() else { return };
    let disk = FOLDER.fork();
    let path = match which % 4 {
        0 | 1 => PathBuf::from("/data/meta/log"),
        2 => PathBuf::from("/data/meta/snapshot"),
        _ => PathBuf::from("/data/format"),
    };
    let mut content = disk.content(&path).unwrap_or_default();
    content.truncate(usize::from(*cut).min(content.len()));
    match which & 4 != 0 {
        // A frame whose checksum is right.
        true => content.extend(framed(bytes)),
        false => content.extend_from_slice(bytes),
    }
    put(&disk, Path::new(&path), &content);
    let first = broker_starts(&disk);
    assert_eq!(broker_starts(&disk), first, "the second start is other than the first");
});

fn framed(payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("inputs are small");
    [&length.to_be_bytes(), &crc32c(payload).to_be_bytes(), payload].concat()
}
