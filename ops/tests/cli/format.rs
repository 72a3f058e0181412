//! The examples of `docs/FORMAT.md`, read by `millstream log dump` and by a broker.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use crate::server::{Server, millstream, run};

const FORMAT: &str = include_str!("../../../docs/FORMAT.md");

/// The bytes of each example, by the name of its file.
fn examples() -> BTreeMap<String, Vec<u8>> {
    let mut examples: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let mut name = String::new();
    for line in FORMAT.lines() {
        if let Some(rest) = line.strip_prefix("Example: `") {
            rest.split('`').next().unwrap().clone_into(&mut name);
        }
        let Some((at, rest)) = line.split_once("  ").filter(|(at, _)| at.len() == 4) else { continue };
        if u16::from_str_radix(at, 16).is_ok() {
            let bytes = rest.split("  ").next().unwrap().split_whitespace();
            let bytes = bytes.map(|byte| u8::from_str_radix(byte, 16).unwrap());
            examples.entry(name.clone()).or_default().extend(bytes);
        }
    }
    examples
}

fn dump(path: &Path) -> Vec<Value> {
    let mut command = millstream();
    command.args(["log", "dump", "--json"]).arg(path);
    run(command, b"").ok().json()
}

#[test]
fn every_example_is_read_as_it_is_described() {
    let folder = tempfile::tempdir().unwrap();
    let examples = examples();
    let read = |name: &str| {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &examples[name]).unwrap();
        dump(&path)
    };
    let batches = read("00000000000000000000.log");
    let offsets: Vec<_> = batches.iter().map(|batch| batch["base_offset"].as_i64().unwrap()).collect();
    assert_eq!(offsets, [0, 1, 2]);
    assert!(batches.iter().all(|batch| batch["crc_ok"] == true && batch["producer_id"] == 7), "{batches:?}");
    let entries = read("00000000000000000000.index");
    assert_eq!((&entries[1]["offset"], &entries[1]["position"]), (&2.into(), &140.into()));
    assert_eq!(read("00000000000000000000.timeindex").len(), 2);
    let aborted = read("00000000000000000000.txnindex").remove(0);
    assert_eq!((&aborted["producer_id"], &aborted["last_offset"]), (&7.into(), &1.into()));
    let snapshot = read("00000000000000000004.snapshot").remove(0);
    assert_eq!((&snapshot["durable"], &snapshot["segments"][1]["bytes"]), (&4.into(), &70.into()));
    assert_eq!(snapshot["producers"][0]["batches"][3]["base_sequence"], 3);
    let swap = read("00000000000000000000.swap").remove(0);
    assert_eq!(
        (&swap["end"], &swap["replaced"][0], &swap["segment"]["compacted"]),
        (&3.into(), &0.into(), &true.into())
    );
    assert_eq!(read("00000000000000000000.log.cleaned")[0]["base_offset"], 2);
    let frame = read("meta/log").remove(0);
    assert_eq!(
        (&frame["key"], &frame["value"], &frame["kind"]),
        (&"producer-ids/next".into(), &1000.into(), &"put".into())
    );
}

#[test]
fn a_broker_goes_on_from_the_metadata_of_the_example() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    std::fs::create_dir_all(data.join("meta")).unwrap();
    std::fs::write(data.join("meta/log"), &examples()["meta/log"]).unwrap();
    let server = Server::start(folder.path());
    server.run_with_input(&["produce", "t"], b"hello\n").ok();
    server.stop();
    let topics = std::fs::read_dir(data.join("topics")).unwrap().map(|entry| entry.unwrap().path());
    let written = topics.into_iter().next().unwrap().join("0/00000000000000000000.log");
    assert_eq!(dump(&written)[0]["producer_id"], 1000, "the first that was not handed out");
}
