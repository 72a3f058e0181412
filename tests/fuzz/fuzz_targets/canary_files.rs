//! Must fail: the input is the offset and the leader epoch of a batch that is whole otherwise. A fuzzer that does
//! not get it into the log within a minute is blind in there, and its silence about what lies behind the checks of
//! a file is worth nothing.
#![no_main]

use libfuzzer_sys::fuzz_target;
use millstream_fuzz::{BATCHES, WHOLE, files, folder, survives};
use millstream_protocol::records;

fuzz_target!(|input: &[u8]| {
    let Some([high, low, epoch]) = input.first_chunk() else { return };
    let mut batch =
        WHOLE.last().and_then(|(_, batch)| batch.clone()).expect("the last batch is whole").to_vec();
    records::set_base(&mut batch, i64::from(u16::from_be_bytes([*high, *low])), i32::from(*epoch));
    let disk = folder();
    let last = files(&disk, "log").pop().expect("a log has a segment");
    let held = disk.content(&last).expect("it is there");
    disk.overwrite(&last, &[held, batch].concat());
    let (log, _) = survives(&disk).expect("garbage behind the end keeps no log from opening");
    assert!(
        log.offsets().log_end.get() <= BATCHES,
        "a batch of the fuzzer's: the canary is found, as it must be"
    );
});
