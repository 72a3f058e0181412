//! Claims about the local metadata store.

use std::path::Path;
use std::sync::Arc;

use super::*;
use millstream_log::{PowerCut, RealDisk, SimDisk};

fn text(entry: Option<Entry>) -> Option<String> {
    entry.map(|entry| String::from_utf8(entry.value.to_vec()).unwrap())
}

fn value(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

#[test]
fn what_was_written_is_there_after_reopening() {
    let folder = tempfile::tempdir().unwrap();
    {
        let store = LocalMetaStore::open(Arc::new(RealDisk), folder.path()).unwrap();
        let first = store.put("a", value("1"), Expect::Absent).unwrap();
        store.put("b", value("2"), Expect::Absent).unwrap();
        store.put("a", value("3"), Expect::Version(first)).unwrap();
        store.put("c", value("4"), Expect::Absent).unwrap();
        let c = store.get("c").unwrap().unwrap();
        store.delete("c", Expect::Version(c.version)).unwrap();
    }
    let store = LocalMetaStore::open(Arc::new(RealDisk), folder.path()).unwrap();
    assert_eq!(text(store.get("a").unwrap()).as_deref(), Some("3"));
    assert_eq!(store.get("c").unwrap(), None);
    assert_eq!(store.put("d", value("5"), Expect::Absent).unwrap(), 6, "versions go on rising");
}

#[test]
fn a_change_that_expects_something_else_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = LocalMetaStore::open(Arc::new(RealDisk), folder.path()).unwrap();
    let version = store.put("a", value("1"), Expect::Absent).unwrap();
    let conflict = |result: Result<u64, MetaError>| matches!(result, Err(MetaError::Conflict { .. }));
    assert!(conflict(store.put("a", value("2"), Expect::Absent)));
    assert!(conflict(store.put("a", value("2"), Expect::Version(version + 1))));
    assert!(conflict(store.put("b", value("2"), Expect::Version(version))));
    assert!(store.delete("a", Expect::Version(version + 1)).is_err());
    assert_eq!(text(store.get("a").unwrap()).as_deref(), Some("1"));
}

#[test]
fn keys_are_listed_by_prefix_and_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let store = LocalMetaStore::open(Arc::new(RealDisk), folder.path()).unwrap();
    for key in ["t/b", "s/x", "t/a", "u"] {
        store.put(key, value("v"), Expect::Absent).unwrap();
    }
    let keys: Vec<String> = store.list("t/").unwrap().into_iter().map(|(key, _)| key).collect();
    assert_eq!(keys, ["t/a", "t/b"]);
}

#[test]
fn a_log_cut_anywhere_opens_with_a_prefix_of_its_changes() {
    let folder = tempfile::tempdir().unwrap();
    {
        let store = LocalMetaStore::open(Arc::new(RealDisk), folder.path()).unwrap();
        for key in ["a", "b", "c"] {
            store.put(key, value("value"), Expect::Absent).unwrap();
        }
    }
    let whole = std::fs::read(folder.path().join("log")).unwrap();
    let each = (whole.len() - MAGIC.len()) / 3;
    for cut in 0..=whole.len() {
        let copy = tempfile::tempdir().unwrap();
        std::fs::write(copy.path().join("log"), &whole[..cut]).unwrap();
        let store = LocalMetaStore::open(Arc::new(RealDisk), copy.path()).unwrap();
        let expected = cut.saturating_sub(MAGIC.len()) / each;
        assert_eq!(store.list("").unwrap().len(), expected, "cut at {cut}");
        store.put("later", value("x"), Expect::Absent).unwrap();
        drop(store);
        let store = LocalMetaStore::open(Arc::new(RealDisk), copy.path()).unwrap();
        assert_eq!(store.list("").unwrap().len(), expected + 1, "cut at {cut}, reopened");
    }
}

#[test]
fn rot_before_the_last_change_is_reported_and_not_cut_off() {
    let folder = tempfile::tempdir().unwrap();
    {
        let store = LocalMetaStore::open(Arc::new(RealDisk), folder.path()).unwrap();
        store.put("a", value("1"), Expect::Absent).unwrap();
        store.put("b", value("2"), Expect::Absent).unwrap();
    }
    let path = folder.path().join("log");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[MAGIC.len() + PREFIX_BYTES + 2] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let refused = LocalMetaStore::open(Arc::new(RealDisk), folder.path()).unwrap_err();
    assert!(matches!(refused, MetaError::Damaged { at: 8, .. }), "{refused}");
    assert_eq!(std::fs::read(&path).unwrap(), bytes);
}

#[test]
fn a_long_log_is_folded_into_a_snapshot_that_holds_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let large = Bytes::from(vec![7; 200_000]);
    let mut versions = Vec::new();
    {
        let store = LocalMetaStore::open(Arc::new(RealDisk), folder.path()).unwrap();
        store.put("kept", value("k"), Expect::Absent).unwrap();
        let mut version = store.put("big", large.clone(), Expect::Absent).unwrap();
        for _ in 0..20 {
            version = store.put("big", large.clone(), Expect::Version(version)).unwrap();
            versions.push(version);
        }
        assert!(store.state.lock().log_bytes <= COMPACT_BYTES_MIN + 300_000);
    }
    assert!(folder.path().join("snapshot").exists());
    let store = LocalMetaStore::open(Arc::new(RealDisk), folder.path()).unwrap();
    assert_eq!(text(store.get("kept").unwrap()).as_deref(), Some("k"));
    assert_eq!(store.get("big").unwrap().map(|entry| entry.version), versions.last().copied());
}

#[test]
fn changes_that_the_snapshot_already_holds_are_skipped() {
    let folder = tempfile::tempdir().unwrap();
    let store = LocalMetaStore::open(Arc::new(RealDisk), folder.path()).unwrap();
    let version = store.put("a", value("1"), Expect::Absent).unwrap();
    store.delete("a", Expect::Version(version)).unwrap();
    let old_log = std::fs::read(folder.path().join("log")).unwrap();
    store.compact(&mut store.state.lock()).unwrap();
    drop(store);
    // As if the crash came after the snapshot's rename and before the log's.
    std::fs::write(folder.path().join("log"), old_log).unwrap();
    let store = LocalMetaStore::open(Arc::new(RealDisk), folder.path()).unwrap();
    assert_eq!(store.get("a").unwrap(), None);
    assert_eq!(store.put("b", value("2"), Expect::Absent).unwrap(), 3);
}

fn sim_store(disk: &SimDisk) -> Result<LocalMetaStore, MetaError> {
    LocalMetaStore::open(Arc::new(disk.clone()), Path::new("/meta"))
}

/// What was acknowledged at least, and what was tried at most.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Known {
    acked: u32,
    tried: u32,
}

/// Opens the store and changes it until the power fails.
fn change_until_the_power_fails(disk: &SimDisk, before: Known, changes: u32) -> Known {
    let mut known = before;
    let Ok(store) = sim_store(disk) else { return known };
    let found = stored(&store);
    assert!((before.acked..=before.tried).contains(&found), "{found} of {before:?}");
    for next in found + 1..=found + changes {
        let current = store.get("key").unwrap();
        let expect = current.map_or(Expect::Absent, |entry| Expect::Version(entry.version));
        // Longer than a sector, so that it can be torn; large enough that the log is folded on the way.
        let value = Bytes::from((next | 0x4040_4040).to_be_bytes().repeat(1000));
        known.tried = next.max(known.tried);
        if store.put("key", value, expect).is_err() {
            break;
        }
        known = Known { acked: next, tried: next };
    }
    known
}

fn stored(store: &LocalMetaStore) -> u32 {
    let entry = store.get("key").unwrap();
    entry.map_or(0, |entry| {
        assert!(entry.value.chunks(4).all(|part| part == &entry.value[..4]), "a torn value");
        u32::from_be_bytes(entry.value[..4].try_into().unwrap()) ^ 0x4040_4040
    })
}

/// Ends the process or the power in the middle of each change, twice in a row, and looks what is left.
fn no_acknowledged_change_is_lost(first: impl Fn(&SimDisk, u64), second: impl Fn(&SimDisk, u64)) {
    let mut bitten = 0;
    let empty = SimDisk::new();
    // Its own name is made durable by who holds the data folder.
    empty.create_dir(Path::new("/meta")).unwrap();
    empty.sync_dir(Path::new("/")).unwrap();
    for at in empty.changes().. {
        let disk = empty.fork();
        disk.fail_power_at(at);
        let known = change_until_the_power_fails(&disk, Known { acked: 0, tried: 0 }, 12);
        if disk.changes() <= at {
            break;
        }
        bitten += 1;
        first(&disk, at);
        for again in 0..8 {
            let disk = disk.fork();
            disk.fail_power_at(disk.changes() + again);
            let known = change_until_the_power_fails(&disk, known, 3);
            second(&disk, at * 100 + again);
            let store = sim_store(&disk).unwrap_or_else(|error| panic!("change {at}, then {again}: {error}"));
            let found = stored(&store);
            assert!(
                (known.acked..=known.tried).contains(&found),
                "change {at}, then {again}: {found} of {known:?}"
            );
        }
    }
    assert!(bitten > 20, "the power failed {bitten} times only");
}

#[test]
fn a_power_cut_at_every_change_loses_nothing_that_was_acknowledged() {
    let cut = |disk: &SimDisk, _| disk.power_cut(PowerCut::LosesUnsynced);
    no_acknowledged_change_is_lost(cut, cut);
    let cut = |disk: &SimDisk, seed| disk.power_cut(PowerCut::KeepsSome { seed });
    no_acknowledged_change_is_lost(cut, cut);
}

#[test]
fn a_power_cut_after_a_kill_at_every_change_loses_nothing_that_was_acknowledged() {
    let kill = |disk: &SimDisk, _| disk.kill();
    no_acknowledged_change_is_lost(kill, |disk, _| disk.power_cut(PowerCut::LosesUnsynced));
    no_acknowledged_change_is_lost(kill, |disk, seed| disk.power_cut(PowerCut::KeepsSome { seed }));
}

#[test]
fn what_a_failed_sync_has_lost_is_not_believed_by_the_next_process() {
    let disk = SimDisk::new();
    disk.create_dir(Path::new("/meta")).unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    let store = sim_store(&disk).unwrap();
    store.put("a", value("1"), Expect::Absent).unwrap();
    disk.fail_sync(0);
    store.put("lost", value("2"), Expect::Absent).unwrap_err();
    assert!(!disk.fault_is_pending());
    drop(store);
    disk.kill();
    let store = sim_store(&disk).unwrap();
    store.put("b", value("3"), Expect::Absent).unwrap();
    drop(store);
    disk.power_cut(PowerCut::LosesUnsynced);
    let keys = sim_store(&disk).unwrap().list("").unwrap().into_iter().map(|(key, _)| key);
    assert_eq!(keys.collect::<Vec<_>>(), ["a", "b"]);
}
