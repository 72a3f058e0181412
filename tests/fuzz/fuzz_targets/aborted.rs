//! `.txnindex` with any bytes: what a reader of committed records is told stays what it was.
#![no_main]

use libfuzzer_sys::fuzz_target;
use millstream_fuzz::{TOLD, files, open, put, told, transactions};

fuzz_target!(|input: &[u8]| {
    let Some(([which, cut], bytes)) = input.split_first_chunk() else { return };
    let disk = transactions();
    let segments = files(&disk, "log");
    let path = segments[usize::from(*which) % segments.len()].with_extension("txnindex");
    // The beginning as it was, then anything; or a file where none was.
    let held = disk.content(&path).unwrap_or_default();
    let keep = usize::from(*cut).min(held.len());
    put(&disk, &path, &[&held[..keep], bytes].concat());
    for _ in 0..2 {
        let (log, _) = open(&disk, 3).expect("an index keeps no log from opening");
        assert_eq!(told(&log), *TOLD, "an index is believed over its log");
    }
});
