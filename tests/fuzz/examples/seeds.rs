//! Writes a seed for each target that reads files: `cargo run --example seeds` in `tests/fuzz`.

use std::fs;
use std::path::Path;

use millstream_fuzz::{files, folder, transactions};
use millstream_log::SimDisk;
use millstream_protocol::messages::TransactionLogValue;
use millstream_protocol::messages::transaction_log_value::TransactionPartition;
use millstream_protocol::wire::Writer;
use millstream_protocol::{KStr, Message};

fn main() -> std::io::Result<()> {
    let disk = folder();
    let first = |extension| {
        let path = files(&disk, extension).into_iter().next().expect("the folder has one of each");
        disk.content(&path).expect("it is there")
    };
    // One mode each, and one in which checksums are mended.
    for how in [0, 1, 2, 3, 131] {
        save("segment", &format!("mode-{how}"), &[&[how], &first("log")[..]].concat())?;
    }
    save("indexes", "index", &[&[1, 0], &first("index")[..]].concat())?;
    save("indexes", "timeindex", &[&[2, 0], &first("timeindex")[..]].concat())?;
    for how in [0, 1, 3] {
        save("snapshot", &format!("mode-{how}"), &[&[how, 0], &first("snapshot")[..]].concat())?;
    }
    let aborted = transactions();
    let index = files(&aborted, "txnindex").into_iter().next().and_then(|path| aborted.content(&path));
    save("aborted", "txnindex", &[&[0, 34], &index.unwrap_or_default()[..]].concat())?;
    save_states()?;
    save("leftovers", "cleaned", &[&[2, 0], &first("log")[..]].concat())?;
    save("leftovers", "snapshot", &[&[6, 0], &first("snapshot")[..]].concat())?;
    for (which, path) in [(0, "/data/meta/log"), (4, "/data/meta/log"), (3, "/data/format")] {
        let content = broker_folder().content(Path::new(path)).unwrap_or_default();
        save("meta_files", &format!("mode-{which}"), &[&[which, 0], &content[..]].concat())?;
    }
    let history = concat!(
        r#"{"process":1,"began_us":10,"ended_us":90,"outcome":"ok","op":"send","records":[{"key":0,"value":7,"crc":1,"offset":5}]}"#,
        "\n",
        r#"{"process":2,"began_us":20,"ended_us":95,"outcome":"ok","op":"assign","keys":[0]}"#,
        "\n",
        r#"{"process":2,"began_us":96,"ended_us":99,"outcome":"ok","op":"poll","records":[{"key":0,"offset":5,"value":7,"crc":1}]}"#,
        "\n",
    );
    save("history", "send-and-poll", history.as_bytes())
}

/// Records of a coordinator: an open transaction, one that is decided and gets another producer, and an id that has expired.
fn save_states() -> std::io::Result<()> {
    let partition = TransactionPartition { topic: KStr::from_static("t"), partition_ids: vec![0, 1] };
    let open = TransactionLogValue {
        producer_id: 1000,
        producer_epoch: 3,
        transaction_timeout_ms: 60_000,
        transaction_status: 1,
        transaction_partitions: Some(vec![partition]),
        transaction_last_update_timestamp_ms: 1_700_000_000_000,
        transaction_start_timestamp_ms: 1_700_000_000_000,
        ..Default::default()
    };
    let decided = TransactionLogValue {
        producer_epoch: i16::MAX,
        next_producer_id: 1001,
        transaction_status: 2,
        client_transaction_version: 2,
        ..open.clone()
    };
    // After the two bytes of its kind, which the target puts before it.
    let key = [0, 2, b'i', b'd'];
    let whole = |how: u8, value: &[u8]| [&[how, key.len() as u8], &key[..], value].concat();
    save("transaction_state", "open", &whole(0, &stored(0, &open)))?;
    save("transaction_state", "open-tagged", &whole(0, &stored(1, &open)))?;
    save("transaction_state", "decided", &whole(0, &stored(1, &decided)))?;
    save("transaction_state", "expired", &whole(2, &[]))
}

fn stored(version: i16, value: &TransactionLogValue) -> Vec<u8> {
    let mut writer = Writer::new();
    writer.i16(version);
    value.encode(&mut writer, version).expect("the version has all of it");
    writer.into_chunks().into_iter().flat_map(|chunk| chunk.into_bytes().to_vec()).collect()
}

fn save(target: &str, name: &str, bytes: &[u8]) -> std::io::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(target);
    fs::create_dir_all(&folder)?;
    fs::write(folder.join(name), bytes)
}

/// A folder in which a broker has run.
fn broker_folder() -> SimDisk {
    let disk = SimDisk::new();
    assert!(millstream_fuzz::broker_starts(&disk), "a broker starts on an empty disk");
    disk
}
