//! `millstream log dump`, `verify` and `repair`, over files that the broker wrote.

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
    assert!(log(&["dump"], &data.join("lock")).ok().stdout.trim().parse::<u32>().is_ok());
    std::fs::write(data.join("notes.txt"), "mine").unwrap();
    log(&["dump"], &data.join("notes.txt")).failed(1, &["no file of a data folder"]);
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
fn a_torn_end_is_a_note_and_what_was_durable_is_a_problem() {
    let (_folder, data) = filled();
    let segments = files(&data, "log");
    let last = segments.last().unwrap();
    let bytes = std::fs::read(last).unwrap();
    std::fs::write(last, [&bytes[..], &bytes[..30]].concat()).unwrap();
    let checked = log(&["verify"], &data).ok();
    assert!(
        checked.stdout.contains("note: ") && checked.stdout.contains("end is missing"),
        "{}",
        checked.stdout
    );
    // It was closed cleanly: its snapshot knows how long it was.
    std::fs::write(last, &bytes[..bytes.len() - 10]).unwrap();
    let checked = log(&["verify", "--json"], &data);
    assert_eq!(checked.code, 1);
    let found = checked.json();
    assert!(
        found[0]["text"].as_str().unwrap().contains("10 bytes that were on disk are missing"),
        "{found:?}"
    );
    assert_eq!(found[1]["to"], 3000, "{found:?}");
    let inner = std::fs::read(&segments[0]).unwrap();
    std::fs::write(&segments[0], &inner[..inner.len() - 10]).unwrap();
    let checked = log(&["verify"], &data);
    assert_eq!(checked.code, 1);
    assert!(checked.stdout.contains("problem: "), "{}", checked.stdout);
}

#[test]
fn segments_offsets_and_snapshots_that_are_gone_are_named() {
    let (_folder, data) = filled();
    let segments = files(&data, "log");
    let base = |path: &Path| path.file_stem().unwrap().to_str().unwrap().parse::<i64>().unwrap();
    std::fs::remove_file(&segments[1]).unwrap();
    let found = log(&["verify", "--json"], &data).json();
    let missing = found.iter().find(|finding| finding["from"] == base(&segments[1])).unwrap();
    assert_eq!(missing["to"], base(&segments[2]));
    assert!(missing["text"].as_str().unwrap().contains("is missing"), "{missing}");
    assert!(
        found.iter().any(|finding| finding["remedy"] == "move_aside"),
        "its indexes are leftovers: {found:?}"
    );
    let snapshot = files(&data, "snapshot").pop().unwrap();
    let mut bytes = std::fs::read(&snapshot).unwrap();
    bytes[20] ^= 1;
    std::fs::write(&snapshot, bytes).unwrap();
    let found = log(&["verify"], &data).stdout;
    assert!(found.contains(".snapshot: its checksum is wrong"), "{found}");
    log(&["dump"], &snapshot).failed(1, &["is damaged", "its checksum is wrong"]);
}

#[test]
fn a_walk_that_loses_its_way_goes_on_where_the_index_knows_a_batch() {
    let (_folder, data) = filled();
    let segment = files(&data, "log").remove(0);
    let mut bytes = std::fs::read(&segment).unwrap();
    let batches = log(&["dump", "--json"], &segment).ok().json();
    let second = usize::try_from(batches[1]["position"].as_u64().unwrap()).unwrap();
    // Its length: nothing says where the next batch begins.
    bytes[second + 8] = 0xff;
    std::fs::write(&segment, bytes).unwrap();
    let found = log(&["verify", "--json"], &data).json();
    assert_eq!(found[0]["position"], second, "{found:?}");
    assert!(found[0]["text"].as_str().unwrap().contains("the index knows a batch"), "{found:?}");
    let read = found.last().unwrap()["records"].as_u64().unwrap();
    let lost = batches[1]["records"].as_u64().unwrap();
    assert_eq!(read, 3000 - lost, "all but one batch is checked");
}

#[test]
fn snapshots_metadata_and_names_are_printed() {
    let (_folder, data) = filled();
    let snapshot = log(&["dump", "--json"], &files(&data, "snapshot").pop().unwrap()).ok().json().remove(0);
    assert_eq!((&snapshot["durable"], &snapshot["log_start"]), (&3000.into(), &0.into()));
    assert_eq!(snapshot["segments"].as_array().unwrap().len(), files(&data, "log").len());
    assert_eq!(snapshot["producers"][0]["batches"].as_array().unwrap().len(), 5);
    let text = log(&["dump"], &files(&data, "snapshot").pop().unwrap()).ok().stdout;
    assert!(text.starts_with("durable to 3000  log start 0"), "{text}");
    let metadata = log(&["dump", "--json"], &data.join("meta/log")).ok().json();
    assert!(
        metadata.iter().any(|frame| frame["key"] == "topics/t" && frame["kind"] == "put"),
        "{metadata:?}"
    );
    assert!(log(&["dump"], &data.join("meta/log")).ok().stdout.contains("put  topics/t"));
}

#[test]
fn a_repair_says_what_it_would_do_and_takes_nothing_away() {
    let (_folder, data) = filled();
    let partition = files(&data, "log")[0].parent().unwrap().to_owned();
    let (index, times) = (files(&data, "index").remove(0), files(&data, "timeindex").remove(0));
    let whole = (std::fs::read(&index).unwrap(), std::fs::read(&times).unwrap());
    let mut damaged = whole.0.clone();
    damaged[7] ^= 1;
    std::fs::write(&index, &damaged).unwrap();
    std::fs::remove_file(&times).unwrap();
    let leftover = partition.join("00000000000000000000.snapshot-unfinished");
    std::fs::write(&leftover, "half").unwrap();
    let foreign = partition.join("notes.txt");
    std::fs::write(&foreign, "mine").unwrap();

    let said = log(&["repair"], &data);
    assert_eq!(said.code, 1);
    assert!(said.stdout.contains("would: build the indexes anew of"), "{}", said.stdout);
    assert!(said.stdout.contains("would: move aside") && said.stdout.contains("nothing was changed"));
    assert!(!times.exists() && leftover.exists() && std::fs::read(&index).unwrap() == damaged);

    let done = log(&["repair", "--yes"], &data).ok();
    assert!(done.stdout.contains("all is well"), "{}", done.stdout);
    assert_eq!(
        (std::fs::read(&index).unwrap(), std::fs::read(&times).unwrap()),
        whole,
        "as the broker made them"
    );
    assert!(!leftover.exists() && foreign.exists());
    let aside = std::fs::read_dir(&data).unwrap().map(|entry| entry.unwrap().path());
    let aside = aside.into_iter().find(|path| path.to_str().unwrap().contains("repaired-")).unwrap();
    assert_eq!(files(&aside, "index").len(), 1);
    assert_eq!(std::fs::read(&files(&aside, "index")[0]).unwrap(), damaged, "what was replaced is kept");
    assert_eq!(std::fs::read(&files(&aside, "snapshot-unfinished")[0]).unwrap(), b"half");
    assert!(log(&["repair"], &data).ok().stdout.contains("nothing that a repair can do"));
}

#[test]
fn rot_is_told_with_its_offsets_and_left_where_it_is() {
    let (_folder, data) = filled();
    let segment = files(&data, "log").remove(0);
    let mut bytes = std::fs::read(&segment).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&segment, &bytes).unwrap();
    let told = log(&["repair", "--yes", "--json"], &data);
    assert_eq!(told.code, 1);
    let found = told.json();
    assert!(found[0]["from"].as_i64().unwrap() < found[0]["to"].as_i64().unwrap(), "{found:?}");
    assert_eq!(std::fs::read(&segment).unwrap(), bytes);
}

#[test]
fn a_repair_needs_the_lock_of_the_data_folder() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let data = folder.path().join("data");
    log(&["repair", "--yes"], &data).failed(1, &["a broker (process", "stop it first"]);
    assert!(log(&["verify"], &data).ok().stdout.contains("is writing here"));
    server.stop();
    log(&["repair", "--yes"], &data).ok();
    let elsewhere = tempfile::tempdir().unwrap();
    log(&["repair"], elsewhere.path()).failed(1, &["does not lie in a data folder"]);
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
