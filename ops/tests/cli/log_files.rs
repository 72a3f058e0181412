//! `millstream log dump` and `millstream log verify`, over files that the broker wrote.

use std::path::{Path, PathBuf};

use crate::server::{Ran, Server, millstream, run};

fn log(arguments: &[&str], path: &Path) -> Ran {
    let mut command = millstream();
    command.arg("log").args(arguments).arg(path);
    run(command, b"")
}

fn files(dir: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path, extension));
        } else if path.extension().is_some_and(|other| other == extension) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// A folder with one topic of several segments, its broker stopped.
fn filled() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    server.run(&["topic", "create", "t", "--config", "segment.bytes=65536"]).ok();
    let input: String = (0..3000).map(|line| format!("k{line}:{}\n", "v".repeat(100))).collect();
    let produce = ["produce", "t", "--key-separator", ":", "--batch-bytes", "8192", "-H", "h=1"];
    server.run_with_input(&produce, input.as_bytes()).ok();
    server.stop();
    let data = folder.path().join("data");
    (folder, data)
}

#[test]
fn what_the_broker_wrote_is_well() {
    let (_folder, data) = filled();
    let checked = log(&["verify", "--json", "--records"], &data).ok().json();
    assert_eq!(checked.len(), 1, "{checked:?}");
    assert_eq!((&checked[0]["records"], &checked[0]["problems"]), (&3000.into(), &0.into()));
    assert!(checked[0]["segments"].as_u64().unwrap() >= 3);
    assert!(log(&["verify"], &data).ok().stdout.contains("all is well"));
}

#[test]
fn segments_and_indexes_are_printed() {
    let (_folder, data) = filled();
    let segments = files(&data, "log");
    let batches = log(&["dump", "--json"], &segments[0]).ok().json();
    assert_eq!(batches[0]["base_offset"], 0);
    assert!(
        batches.iter().all(|batch| batch["crc_ok"] == true && batch["producer_id"].as_i64().unwrap() >= 0)
    );
    let text = log(&["dump", "--records"], &segments[0]).ok().stdout;
    assert!(
        text.starts_with("offsets 0..=") && text.contains("key k0  value vvv") && text.contains("  h=1"),
        "{text}"
    );
    let batches = batches.iter().map(|batch| batch["position"].as_u64().unwrap()).collect::<Vec<_>>();
    let entries = log(&["dump", "--json"], &segments[0].with_extension("index")).ok().json();
    assert!(!entries.is_empty());
    assert!(entries.iter().all(|entry| batches.contains(&entry["position"].as_u64().unwrap())));
    let entries = log(&["dump", "--json"], &segments[0].with_extension("timeindex")).ok().json();
    assert!(entries.iter().all(|entry| entry["timestamp"].as_i64().unwrap() > 1_700_000_000_000));
    log(&["dump"], &data.join("lock")).failed(1, &["no .log, .index or .timeindex"]);
    log(&["dump"], &data.join("00000000000000000000.log")).failed(1, &["cannot be opened"]);
}

#[test]
fn a_flipped_byte_is_found_and_placed() {
    let (_folder, data) = filled();
    let segment = files(&data, "log").remove(1);
    let mut bytes = std::fs::read(&segment).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    let checked = log(&["verify", "--json"], &data);
    assert_eq!(checked.code, 1);
    let problems = checked.json();
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(problems[0]["text"].as_str().unwrap().contains("checksum"), "{problems:?}");
    assert!(segment.ends_with(problems[0]["file"].as_str().unwrap()));
    assert!(problems[0]["position"].as_u64().unwrap() as usize <= middle);
    assert_eq!(problems[1]["problems"], 1);
    assert!(log(&["dump"], &segment).stdout.contains("WRONG"));
    assert_eq!(log(&["dump"], &segment).code, 1);
}

#[test]
fn a_torn_end_is_a_note_and_a_hole_is_a_problem() {
    let (_folder, data) = filled();
    let segments = files(&data, "log");
    let last = segments.last().unwrap();
    let bytes = std::fs::read(last).unwrap();
    std::fs::write(last, &bytes[..bytes.len() - 10]).unwrap();
    let checked = log(&["verify"], &data).ok();
    assert!(
        checked.stdout.contains("note: ") && checked.stdout.contains("end is missing"),
        "{}",
        checked.stdout
    );
    let inner = std::fs::read(&segments[0]).unwrap();
    std::fs::write(&segments[0], &inner[..inner.len() - 10]).unwrap();
    let checked = log(&["verify"], &data);
    assert_eq!(checked.code, 1);
    assert!(checked.stdout.contains("problem: "), "{}", checked.stdout);
}

#[test]
fn an_index_that_lies_is_found() {
    let (_folder, data) = filled();
    let index = files(&data, "index").remove(0);
    let mut bytes = std::fs::read(&index).unwrap();
    bytes[7] ^= 1;
    std::fs::write(&index, bytes).unwrap();
    let checked = log(&["verify"], &data);
    assert_eq!(checked.code, 1);
    assert!(
        checked.stdout.contains(".index") && checked.stdout.contains("is not at byte"),
        "{}",
        checked.stdout
    );
}

#[test]
fn a_folder_without_segments_is_told() {
    let folder = tempfile::tempdir().unwrap();
    log(&["verify"], folder.path()).failed(1, &["no segments"]);
    log(&["verify"], &folder.path().join("missing")).failed(1, &["missing", "cannot be read"]);
}
