//! Transactions in a log: what readers of committed records get, and what survives.

use super::*;
use crate::tail::Isolation;

pub(super) fn of(producer: i64, epoch: i16, sequence: i32, value: &str) -> BatchBuilder {
    let mut batch = batch_at(NOW_MS, &[value.as_bytes()]);
    batch.producer(producer, epoch, sequence);
    batch
}

/// Appends a batch of a transaction and returns its offset.
pub(super) fn put_in(log: &Arc<Log>, batch: BatchBuilder) -> i64 {
    let outcome = submit(log, in_transaction(log, batch, Acks::Durable));
    let result = outcome.lock().take();
    result.expect("an inline flusher answers at once").unwrap().base_offset.get()
}

/// What a consumer of committed records gets from `offset` on: values, as Kafka's consumers find them out.
pub(super) fn committed(log: &Log, offset: i64) -> Vec<String> {
    let mut found = Vec::new();
    let mut next = offset;
    loop {
        let read = ReadFrom { isolation: Isolation::ReadCommitted, ..from(next) };
        let slice = log.read(read).unwrap();
        let mut aborted: Vec<_> = slice.aborted().to_vec();
        aborted.sort_by_key(|one| one.first_offset);
        let mut aborted = std::collections::VecDeque::from(aborted);
        let bytes = read_bytes(log, read);
        if bytes.is_empty() {
            return found;
        }
        let mut skipping = std::collections::BTreeSet::new();
        for batch in records::batches(bytes) {
            let batch = batch.unwrap();
            let header = BatchView::parse(&batch).unwrap().header();
            assert!(header.last_offset() < log.offsets().last_stable.get(), "beyond what is stable");
            while let Some(one) = aborted.pop_front_if(|one| one.first_offset.get() <= header.last_offset()) {
                skipping.insert(one.producer);
            }
            let producer = ProducerId::new(header.producer_id);
            next = header.last_offset() + 1;
            if header.is_control() {
                skipping.remove(&producer);
                continue;
            }
            if header.is_transactional() && skipping.contains(&producer) {
                continue;
            }
            for record in records::records(&batch, usize::MAX).unwrap() {
                found.push(String::from_utf8(record.unwrap().value.unwrap().to_vec()).unwrap());
            }
        }
    }
}

#[test]
fn a_reader_of_committed_records_gets_what_counts_once_it_is_known() {
    let rig = Rig::small();
    let log = rig.open();
    written(&log, &[b"before"]);
    put_in(&log, of(1, 0, 0, "aborted"));
    put_in(&log, of(2, 0, 0, "committed"));
    written(&log, &[b"between"]);
    assert_eq!(committed(&log, 0), ["before"]);
    assert_eq!((log.offsets().last_stable.get(), end(&log)), (1, 4));
    ended(&log, commit_of(2, 0)).unwrap();
    assert_eq!(committed(&log, 0), ["before"], "the first one is open");
    ended(&log, abort_of(1, 0)).unwrap();
    put_in(&log, of(1, 0, 1, "open"));
    assert_eq!(committed(&log, 0), ["before", "committed", "between"]);
    assert_eq!(committed(&log, 2), ["committed", "between"]);
    let all = log.read(from(0)).unwrap();
    assert!(all.aborted().is_empty(), "nobody asked");
}

#[test]
fn what_was_aborted_is_told_where_its_marker_lies_in_another_segment() {
    let rig = Rig::small();
    let log = rig.open();
    put_in(&log, of(1, 0, 0, "aborted"));
    fill(&log, 0..30);
    put_in(&log, of(1, 0, 1, "aborted too"));
    assert!(log.segment_count() > 2);
    ended(&log, abort_of(1, 0)).unwrap();
    put_in(&log, of(1, 0, 2, "committed"));
    ended(&log, commit_of(1, 0)).unwrap();
    let mut wanted = numbered(0..30);
    wanted.push("committed".into());
    assert_eq!(committed(&log, 0), wanted);
}

#[test]
fn a_batch_let_in_before_the_log_was_reopened_is_refused() {
    let rig = Rig::small();
    let log = rig.open();
    let late = in_transaction(&log, of(1, 0, 0, "late"), Acks::Durable);
    log.note_failure("write to", &io::Error::other("injected"));
    log.reopen(LeaderEpoch::new(9)).unwrap();
    let outcome = submit(&log, late);
    let producer = ProducerId::new(1);
    assert_eq!(outcome.lock().take(), Some(Err(AppendError::TransactionMoved { producer })));
    assert_eq!(end(&log), 0);
}

#[test]
fn what_is_open_and_what_was_aborted_survive_a_restart() {
    let mut rig = Rig::small();
    let log = rig.open();
    put_in(&log, of(1, 0, 0, "aborted"));
    fill(&log, 0..12);
    ended(&log, Marker { coordinator_epoch: 3, ..abort_of(1, 0) }).unwrap();
    put_in(&log, of(2, 0, 0, "open"));
    let known = log.active_producers();
    log.close().unwrap();
    for clean in [CleanStart::Yes, CleanStart::No] {
        rig.epoch += 1;
        let (log, _) = rig.try_open(clean).unwrap();
        assert_eq!(log.active_producers(), known);
        assert_eq!(log.offsets().last_stable.get(), 14);
        assert_eq!(committed(&log, 0), numbered(0..12));
        assert!(log.active_producers().iter().any(|one| one.coordinator_epoch == 3));
    }
}

#[test]
fn an_index_of_aborted_transactions_that_is_lost_or_wrong_is_made_anew() {
    let rig = Rig::small();
    let log = rig.open();
    for round in 0..4 {
        put_in(&log, of(1, 0, round, "aborted"));
        written(&log, &[b"counts"]);
        fill(&log, 0..8);
        ended(&log, abort_of(1, 0)).unwrap();
    }
    let wanted = committed(&log, 0);
    assert_eq!(wanted.len(), 4 * 9);
    log.close().unwrap();
    let names: Vec<_> = rig.names().into_iter().filter(|name| name.ends_with(".txnindex")).collect();
    assert!(names.len() > 2, "{names:?}");
    for name in &names {
        let path = Rig::file(name);
        let whole = rig.disk.content(&path).unwrap();
        assert_eq!(whole.len() % 34, 0);
        for harmed in [None, Some(vec![]), Some(vec![0xff; whole.len()]), Some(whole[..33].to_vec())] {
            match &harmed {
                None => rig.disk.remove_file(&path).unwrap(),
                Some(harmed) => rig.disk.overwrite(&path, harmed),
            }
            let log = rig.try_open(CleanStart::Yes).unwrap().0;
            let read = ReadFrom { isolation: Isolation::ReadCommitted, ..from(0) };
            let _ = log.try_read(read).unwrap();
            assert_eq!(committed(&log, 0), wanted, "{name} was {harmed:?}");
            log.close().unwrap();
            assert_eq!(rig.disk.content(&path).unwrap(), whole, "{name}");
        }
    }
}

#[test]
fn many_aborted_transactions_are_told_only_where_they_are_read() {
    let rig = Rig::new(LogConfig { index_interval_bytes: 100, ..LogConfig::default() });
    let log = rig.open();
    for round in 0..200 {
        put_in(&log, of(1, 0, round, "aborted"));
        ended(&log, abort_of(1, 0)).unwrap();
    }
    let read = |offset, max_bytes| {
        let isolation = Isolation::ReadCommitted;
        log.read(ReadFrom { isolation, max_bytes, ..from(offset) }).unwrap().aborted().len()
    };
    assert_eq!(read(0, usize::MAX), 200);
    assert!((5..9).contains(&read(100, 800)), "{}", read(100, 800));
    assert_eq!(read(400, 800), 0);
}

mod model;
