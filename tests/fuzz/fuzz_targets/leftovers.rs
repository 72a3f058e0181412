//! What an interrupted swap of segments leaves, with any bytes: `.swap`, `.cleaned`, unfinished snapshots,
//! and files of any name that is like one of ours.
#![no_main]

use libfuzzer_sys::fuzz_target;
use millstream_fuzz::{WHOLE, dir, durable_is_kept, folder, put, survives, survives_a_lie};
use millstream_protocol::records::crc32c;

const NAMES: [&str; 10] = [
    "00000000000000000000.swap",
    "00000000000000000007.swap",
    "00000000000000000000.log.cleaned",
    "00000000000000000007.log.cleaned",
    "00000000000000000000.index.cleaned",
    "00000000000000000007.start",
    "00000000000000000099.snapshot.tmp",
    "00000000000000000000.swap.tmp",
    "99999999999999999999.log",
    "notes.txt",
];

fuzz_target!(|input: &[u8]| {
    let Some(([which, how], bytes)) = input.split_first_chunk() else { return };
    let disk = folder();
    let mut bytes = bytes.to_vec();
    // A lie with a right checksum at either end may do harm, but it may not break anything.
    let lies = *how >= 128 && bytes.len() >= 16;
    if lies {
        let crc = crc32c(&bytes[10..]).to_be_bytes();
        bytes[6..10].copy_from_slice(&crc);
    }
    put(&disk, &dir().join(NAMES[usize::from(*which) % NAMES.len()]), &bytes);
    let second = NAMES[usize::from(*how) % NAMES.len()];
    if which & 128 != 0 {
        put(&disk, &dir().join(second), &bytes);
    }
    let moves_the_start = |name: &str| name.ends_with(".start");
    let starts = moves_the_start(NAMES[usize::from(*which) % NAMES.len()])
        || (which & 128 != 0 && moves_the_start(second));
    let opened = if lies || starts { survives_a_lie(&disk) } else { survives(&disk) };
    let Some((_, found)) = opened else { return };
    if !lies && !starts {
        durable_is_kept(&found, |_| false);
        assert_eq!(found, *WHOLE);
    }
});
