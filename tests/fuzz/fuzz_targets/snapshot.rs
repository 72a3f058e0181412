//! A `.snapshot` with any bytes, and with any bytes behind a checksum that is right.
#![no_main]

use libfuzzer_sys::fuzz_target;
use millstream_fuzz::{WHOLE, durable_is_kept, files, folder, survives, survives_a_lie};
use millstream_protocol::records::crc32c;

/// Magic and version; then the checksum; what it covers.
const CRC_AT: usize = 6;
const BODY_AT: usize = 10;

fuzz_target!(|input: &[u8]| {
    let Some(([how, cut], bytes)) = input.split_first_chunk() else { return };
    let disk = folder();
    let snapshots = files(&disk, "snapshot");
    let path = &snapshots[usize::from(how / 4) % snapshots.len()];
    let mut content = disk.content(path).expect("it is there");
    content.truncate((2 * usize::from(*cut)).min(content.len()));
    content.extend_from_slice(bytes);
    let lies = how % 2 == 1 && content.len() >= BODY_AT;
    if lies {
        let crc = crc32c(&content[BODY_AT..]);
        content[CRC_AT..BODY_AT].copy_from_slice(&crc.to_be_bytes());
    }
    if how & 2 != 0 {
        // There is no other.
        for other in snapshots.iter().filter(|other| *other != path) {
            disk.overwrite(other, b"");
        }
    }
    disk.overwrite(path, &content);
    if lies {
        survives_a_lie(&disk);
        return;
    }
    // It is as good as none: the log itself says all that there is to say.
    let (_, found) = survives(&disk).expect("a damaged snapshot keeps no log from opening");
    durable_is_kept(&found, |_| false);
    assert_eq!(found, *WHOLE);
});
