//! Claims about the local metadata store.

use super::*;

use millstream_log::RealDisk;

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
