//! A `.log` file with any bytes: as the only one of a folder, behind a durable point, or below it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use millstream_fuzz::{BATCHES, durable_is_kept, files, folder, mend, put, survives};
use millstream_log::{Disk, SimDisk};

fuzz_target!(|input: &[u8]| {
    let Some((how, bytes)) = input.split_first() else { return };
    let mut bytes = bytes.to_vec();
    if *how >= 128 {
        mend(&mut bytes);
    }
    let bytes = &bytes[..];
    let disk = folder();
    let logs = files(&disk, "log");
    match how % 4 {
        0 => {
            // No snapshot says anything: the walk has to find out what counts.
            let empty = SimDisk::new();
            make_folders(&empty);
            put(&empty, &logs[0], bytes);
            survives(&empty);
        }
        1 => {
            // The tail, from the first byte behind what is durable.
            let at = logs.len() - 1 - usize::from(how / 4) % 2;
            disk.overwrite(&logs[at], bytes);
            let Some((_, found)) = survives(&disk) else { return };
            durable_is_kept(&found, |offset| offset >= base(&logs[at]));
        }
        2 => {
            // Rot: one sealed segment is other than it was. All others answer as before.
            let at = usize::from(how / 4) % (logs.len() / 2);
            disk.overwrite(&logs[at], bytes);
            let (from, to) = (base(&logs[at]), base(&logs[at + 1]));
            let Some((_, found)) = survives(&disk) else { return };
            durable_is_kept(&found, |offset| (from..to).contains(&offset));
            assert_eq!(disk.content(&logs[at]).as_deref(), Some(bytes), "what is durable was touched");
        }
        _ => {
            // The end of the last segment is followed by more.
            let last = logs.last().expect("a log has a segment");
            let held = disk.content(last).expect("it is there");
            disk.overwrite(last, &[&held, bytes].concat());
            let (_, found) = survives(&disk).expect("garbage behind the end keeps no log from opening");
            durable_is_kept(&found, |_| false);
            assert!(found.len() as i64 >= BATCHES, "a whole batch was cut");
        }
    }
});

fn base(path: &std::path::Path) -> i64 {
    let stem = path.file_stem().and_then(|stem| stem.to_str()).expect("a segment's name");
    stem.parse().expect("twenty digits")
}

fn make_folders(disk: &SimDisk) {
    for dir in ["/data", "/data/topics", "/data/topics/t", "/data/topics/t/0"] {
        disk.create_dir(std::path::Path::new(dir)).expect("the disk is empty");
    }
}
