//! Writes a seed for each target that reads files: `cargo run --example seeds` in `tests/fuzz`.

use std::fs;
use std::path::Path;

use millstream_fuzz::{files, folder, transactions};
use millstream_log::SimDisk;

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
