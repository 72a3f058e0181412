//! `.index` and `.timeindex` with any bytes: every answer stays what it was.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use millstream_fuzz::{BATCHES, WHOLE, files, folder, open, read, survives};
use millstream_log::Log;

static TIMES: LazyLock<Vec<Option<(i64, i64)>>> =
    LazyLock::new(|| times(&open(&folder(), 3).expect("whole").0));

/// The first record from each time on.
fn times(log: &Log) -> Vec<Option<(i64, i64)>> {
    let newest = log.max_timestamp().expect("whole").expect("not empty").timestamp;
    (newest - BATCHES..=newest + 1)
        .map(|time| log.offset_for_timestamp(time).expect("the log is whole"))
        .map(|found| found.map(|at| (at.timestamp, at.offset.get())))
        .collect()
}

fuzz_target!(|input: &[u8]| {
    let Some(([which, cut], bytes)) = input.split_first_chunk() else { return };
    let disk = folder();
    for (kind, bit) in [("index", 1), ("timeindex", 2)] {
        let paths = files(&disk, kind);
        let path = &paths[usize::from(which / 4) % paths.len()];
        if which & bit != 0 {
            // The beginning as it was, then anything.
            let held = disk.content(path).expect("it is there");
            let keep = usize::from(*cut).min(held.len());
            disk.overwrite(path, &[&held[..keep], bytes].concat());
        }
    }
    let (log, found) = survives(&disk).expect("an index keeps no log from opening");
    assert_eq!(found, *WHOLE, "an index is believed over its log");
    for offset in (0..BATCHES).rev() {
        let held = WHOLE.iter().find(|(at, _)| *at == offset).map(|(_, batch)| batch.clone());
        assert_eq!(held, Some(read(&log, offset)), "offset {offset}");
    }
    assert_eq!(times(&log), *TIMES, "a time index is believed over its log");
});
