//! Idempotent producers, and what an acknowledgement rests on.

use super::*;

mod transactions;

fn produced(epoch: i16, sequence: i32, values: &[&[u8]]) -> Bytes {
    let mut batch = batch_at(NOW_MS, values);
    batch.producer(7, epoch, sequence);
    batch.build()
}

fn produce(log: &Arc<Log>, epoch: i16, sequence: i32) -> Result<i64, AppendError> {
    let outcome = submit(log, append_of(produced(epoch, sequence, &[b"a", b"b"]), Acks::Durable));
    let result = outcome.lock().take().expect("an inline flusher answers at once");
    result.map(|appended| appended.base_offset.get())
}

fn out_of_order(expected: i32, found: i32) -> Result<i64, AppendError> {
    Err(AppendError::OutOfOrderSequence { producer: ProducerId::new(7), expected, found })
}

#[test]
fn a_repeated_batch_is_answered_with_its_first_offset() {
    let log = Rig::small().open();
    for batch in 0..6 {
        assert_eq!(produce(&log, 0, batch * 2), Ok(i64::from(batch) * 2));
    }
    for batch in 1..6 {
        assert_eq!(produce(&log, 0, batch * 2), Ok(i64::from(batch) * 2), "one of the last five");
    }
    assert_eq!(produce(&log, 0, 0), out_of_order(12, 0), "the sixth is forgotten");
    assert_eq!(end(&log), 12);
    assert_eq!(produce(&log, 0, 14), out_of_order(12, 14));
}

#[test]
fn what_is_known_of_producers_survives_every_kind_of_end() {
    let rig = Rig::small();
    let check = |log: &Arc<Log>| {
        assert_eq!(produce(log, 3, 4), Ok(4));
        assert_eq!(produce(log, 3, 8), out_of_order(6, 8));
        let fenced = AppendError::InvalidProducerEpoch { producer: ProducerId::new(7), current: 3, found: 2 };
        assert_eq!(produce(log, 2, 6), Err(fenced));
        assert_eq!(end(log), 6);
    };
    let log = rig.open();
    for batch in 0..3 {
        produce(&log, 3, batch * 2).unwrap();
    }
    check(&log);
    drop(log);
    check(&rig.open());
    rig.disk.power_cut(PowerCut::LosesUnsynced);
    let log = rig.open();
    check(&log);
    log.close().unwrap();
    check(&rig.try_open(CleanStart::Yes).unwrap().0);
}

#[test]
fn a_silent_producer_is_forgotten_after_its_time() {
    let rig = Rig::small();
    let log = rig.open();
    produce(&log, 0, 0).unwrap();
    rig.clock.advance(rig.config.producer_expiration);
    log.checkpoint().unwrap();
    assert_eq!(produce(&log, 0, 0), Ok(0), "not yet");
    rig.clock.advance(rig.config.producer_expiration + Duration::from_millis(1));
    log.checkpoint().unwrap();
    assert_eq!(produce(&log, 0, 77), Ok(2), "unknown again: any sequence will do");
}

#[test]
fn a_duplicate_waits_for_the_batch_it_repeats() {
    let rig = Rig::small();
    let log = rig.open();
    let first = produced(0, 0, &[b"a"]);
    submit(&log, append_of(first.clone(), Acks::Written));
    rig.disk.fail_sync(0);
    let repeated = submit(&log, append_of(first, Acks::Durable)).lock().take().unwrap();
    assert!(matches!(repeated, Err(AppendError::StorageFailed { .. })), "{repeated:?}");
}

#[test]
fn after_a_failed_sync_nothing_is_acknowledged_until_the_log_is_reopened() {
    let syncs = 12;
    for nth in 0..syncs {
        let rig = Rig::small();
        let log = rig.open();
        rig.disk.fail_sync(nth);
        let outcomes: Vec<_> =
            numbered(0..30).iter().map(|v| append(&log, &[v.as_bytes()], Acks::Durable)).collect();
        let acknowledged = outcomes.iter().take_while(|outcome| outcome.is_ok()).count();
        assert!(acknowledged < 30, "the fault of sync {nth} did not bite");
        assert!(log.is_failed() || acknowledged == 30);
        let later = &outcomes[acknowledged..];
        assert!(later.iter().all(|outcome| matches!(outcome, Err(AppendError::StorageFailed { .. }))));
        assert!(append(&log, &[b"late"], Acks::Written).is_err(), "not even what asks for less");
        assert!(log.flush().is_err());
        drop(log);
        rig.disk.power_cut(PowerCut::LosesUnsynced);
        let kept = values(&consume(&rig.open(), 0));
        assert!(kept.len() >= acknowledged && kept == numbered(0..kept.len()), "sync {nth}: {kept:?}");
    }
}

#[test]
fn a_failed_write_is_final_and_what_it_left_is_cut() {
    for nth in 0..8 {
        let rig = Rig::small();
        let log = rig.open();
        rig.disk.fail_write(nth);
        let outcomes: Vec<_> =
            numbered(0..30).iter().map(|v| append(&log, &[v.as_bytes()], Acks::Written)).collect();
        let acknowledged = outcomes.iter().take_while(|outcome| outcome.is_ok()).count();
        assert!(outcomes[acknowledged..].iter().all(Result::is_err));
        assert_eq!(values(&consume(&log, 0)), numbered(0..acknowledged), "what was acknowledged can be read");
        drop(log);
        assert_eq!(values(&consume(&rig.open(), 0)), numbered(0..acknowledged));
    }
}
