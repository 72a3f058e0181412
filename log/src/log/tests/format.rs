//! `docs/FORMAT.md` draws files byte by byte; these are the files.

use super::*;
use crate::clock::Pace;

use std::collections::BTreeMap;
use std::ops::ControlFlow;

const FORMAT: &str = include_str!("../../../../docs/FORMAT.md");

/// The bytes of each drawing, by the name of its file:
///
/// ```text
/// `00000000000000000000.log`
/// 0000  00 00 00 00 00 00 00 00   base offset
/// ```
fn drawings() -> BTreeMap<String, Vec<u8>> {
    let mut drawings = BTreeMap::new();
    let mut name = None;
    for line in FORMAT.lines() {
        if let Some(file) = line.strip_prefix("Example: `").and_then(|rest| rest.split('`').next()) {
            name = Some(file.to_owned());
            drawings.insert(file.to_owned(), Vec::new());
        }
        let Some(name) = &name else { continue };
        let Some((at, rest)) = line.split_once("  ").filter(|(at, _)| at.len() == 4) else { continue };
        let Ok(at) = usize::from_str_radix(at, 16) else { continue };
        let drawn: &mut Vec<u8> = drawings.get_mut(name).unwrap();
        assert_eq!(at, drawn.len(), "{name}: a line begins at {at:04x}: {line}");
        let hex = rest.split("  ").next().unwrap();
        drawn.extend(hex.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).unwrap()));
    }
    drawings
}

/// Two segments of a compacted topic, written by one idempotent producer, and a swap that the power interrupts.
fn files() -> BTreeMap<String, Vec<u8>> {
    let mut rig = Rig::new(LogConfig { index_interval_bytes: 0, segment_bytes: 240, ..LogConfig::default() });
    rig.config.cleanup = crate::CleanupPolicy::Compact;
    let mut files = BTreeMap::new();
    let mut keep = |disk: &SimDisk| {
        for name in disk.list(&Rig::dir()).unwrap() {
            let content = disk.content(&Rig::dir().join(&name)).unwrap();
            files.entry(name.into_string().unwrap()).or_insert(content);
        }
    };
    let log = rig.open();
    let put = |sequence: i32, key: &str, value: &str| {
        let mut batch = BatchBuilder::new(Compression::None);
        batch.producer(7, 0, sequence);
        let (key, value) = (Some(key.as_bytes()), Some(value.as_bytes()));
        let timestamp = NOW_MS + i64::from(sequence);
        batch.append(&NewRecord { timestamp, key, value, ..NewRecord::default() });
        submit(&log, append_of(batch.build(), Acks::Durable));
    };
    for (sequence, (key, value)) in [("a", "1"), ("b", "2"), ("a", "3"), ("b", "4")].into_iter().enumerate() {
        put(i32::try_from(sequence).unwrap(), key, value);
    }
    log.checkpoint().unwrap();
    keep(&rig.disk);
    // The power fails at every change of the compaction, until it has left an intent.
    for change in 0.. {
        let disk = rig.disk.fork();
        let forked = Rig { disk: disk.clone(), ..Rig::new(rig.config.clone()) };
        let log = forked.open();
        disk.fail_power_at(disk.changes() + change);
        let limits = CompactLimits { demand: Demand::Now, dedupe_buffer_bytes: 1 << 20 };
        let _ = log.compact(limits, &Pace::unlimited(), &mut |_| ControlFlow::Continue(()));
        disk.power_cut(PowerCut::LosesUnsynced);
        let names: Vec<_> = disk.list(&Rig::dir()).unwrap();
        if names.iter().any(|name| name.to_str().is_some_and(|name| name.ends_with(".swap"))) {
            keep(&disk);
            break;
        }
        assert!(change < 1000, "compaction leaves no intent behind");
    }
    // The last batch is torn.
    let active = Rig::file("00000000000000000003.log");
    let mut torn = rig.disk.content(&active).unwrap();
    torn.extend_from_slice(b"torn");
    rig.disk.overwrite(&active, &torn);
    drop(log);
    rig.open();
    keep(&rig.disk);
    // Another log, for what the first has not.
    let other = Rig::new(LogConfig::default());
    let log = other.open();
    let mut batch = batch_at(NOW_MS, &[b"aborted"]);
    batch.producer(7, 0, 0);
    submit(&log, in_transaction(&log, batch, Acks::Durable));
    ended(&log, abort_of(7, 0)).unwrap();
    log.checkpoint().unwrap();
    let name = "00000000000000000000.txnindex";
    files.insert(name.to_owned(), other.disk.content(&Rig::file(name)).unwrap());
    files
}

/// As the document draws them, but for what only a person can say.
fn as_drawn(content: &[u8]) -> String {
    let line = |(at, bytes): (usize, &[u8])| {
        let hex: Vec<_> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{:04x}  {}\n", 16 * at, hex.join(" "))
    };
    content.chunks(16).enumerate().map(line).collect()
}

#[test]
fn the_document_draws_the_bytes_that_are_written() {
    let (files, mut drawings) = (files(), drawings());
    // Drawn there, but no file of a partition.
    drawings.remove("meta/log");
    for (name, drawn) in &drawings {
        let content =
            files.get(name).unwrap_or_else(|| panic!("no {name} is written, only {:?}", files.keys()));
        assert_eq!(as_drawn(drawn), as_drawn(content), "docs/FORMAT.md draws {name} otherwise than it is");
    }
    for extension in
        [".log", ".index", ".timeindex", ".txnindex", ".snapshot", ".swap", ".log.cleaned", ".torn"]
    {
        assert!(drawings.keys().any(|name| name.ends_with(extension)), "docs/FORMAT.md draws no {extension}");
    }
}
