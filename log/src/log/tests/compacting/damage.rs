//! Compaction of a log with damaged batches: not a byte of such a segment is lost, and nothing comes back.

use super::*;

/// Flips a byte in the middle of a file.
fn damage(rig: &Rig, name: &str, at: usize) -> Vec<u8> {
    let mut content = rig.disk.content(&Rig::file(name)).unwrap();
    content[at] ^= 0x40;
    rig.disk.overwrite(&Rig::file(name), &content);
    content
}

#[test]
fn a_damaged_segment_stays_as_it_is_and_the_others_are_cleaned() {
    let rig = Rig::small();
    let log = rig.open();
    cycle(&log, &["a", "b", "c"], 0..100);
    log.roll_active();
    let bases: Vec<_> = log.segments.all().iter().map(|segment| segment.base().get()).collect();
    let victim = bases[2];
    let name = format!("{victim:020}.log");
    let before = damage(&rig, &name, 300);
    let done = compact(&log);
    assert_eq!(done.damaged, [Offset::new(victim)]);
    assert_eq!(rig.disk.content(&Rig::file(&name)).unwrap(), before);
    assert_eq!(done.cleaned_to.get(), 100);
    let after: Vec<_> = log.segments.all().iter().map(|segment| segment.base().get()).collect();
    assert_eq!(after, bases);
    // The batches behind the damage can be read where they always were.
    let rest = consume_from(&log, bases[3]);
    assert_eq!(rest, [97, 98, 99]);
    let reopened = rig.open();
    assert_eq!(consume_from(&reopened, bases[3]), [97, 98, 99]);
    assert_eq!(rig.disk.content(&Rig::file(&name)).unwrap(), before);
}

/// Offsets from here on, as a consumer asks for them.
fn consume_from(log: &Log, offset: i64) -> Vec<i64> {
    let (mut found, mut next) = (Vec::new(), offset);
    loop {
        let bytes = read_bytes(log, from(next));
        if bytes.is_empty() {
            return found;
        }
        for batch in records::batches(bytes).map(Result::unwrap) {
            let view = BatchView::parse(&batch).unwrap();
            found.push(view.base_offset());
            next = view.last_offset() + 1;
        }
    }
}

#[test]
fn a_tombstone_behind_damage_stays_or_its_key_would_come_to_life_again() {
    let mut rig = Rig::small();
    rig.config.delete_retention = Duration::ZERO;
    let log = rig.open();
    put(&log, keyed(&[("a", Some("old"))]));
    put(&log, keyed(&[("x", Some("damaged"))]));
    log.roll_active();
    let name = "00000000000000000000.log";
    let whole = rig.disk.content(&Rig::file(name)).unwrap();
    put(&log, keyed(&[("a", None)]));
    damage(&rig, name, whole.len() - 3);
    for _ in 0..3 {
        rig.clock.advance(Duration::from_hours(1));
        assert_eq!(compact(&log).damaged, [Offset::new(0)]);
    }
    rig.disk.overwrite(&Rig::file(name), &whole);
    assert_eq!(brief(&log), "0:a=old 1:x=damaged 2:a=-");
    // It can be read again: the run that finds out leaves it, and the next learns from it on.
    assert_eq!(compact(&log).cleaned_to.get(), 0);
    assert_eq!(brief(&log), "0:a=old 1:x=damaged 2:a=-");
    drop(log);
    let log = rig.open();
    assert_eq!(compact(&log).damaged, []);
    assert_eq!(brief(&log), "1:x=damaged");
}

#[test]
fn offsets_that_no_checksum_covers_are_checked() {
    let rig = Rig::small();
    let log = rig.open();
    cycle(&log, &["a"], 0..30);
    log.roll_active();
    // The lowest byte of the second batch's offset.
    let size = batches(&log)[0].len();
    damage(&rig, "00000000000000000000.log", size + 7);
    let done = compact(&log);
    assert_eq!(done.damaged, [Offset::new(0)]);
}

#[test]
fn a_full_disk_leaves_the_log_as_it_was() {
    let rig = Rig::small();
    let log = rig.open();
    cycle(&log, &["a", "b"], 0..60);
    let values = |log: &Log| -> BTreeMap<_, _> {
        table(log).into_iter().map(|(offset, key, value)| (key, (offset, value))).collect()
    };
    let before = values(&log);
    let mut failed = 0;
    for nth in 0..8 {
        rig.disk.fail_write(nth);
        match try_compact(&log, now(ROOMY)) {
            Err(CompactError::Io { .. } | CompactError::StorageFailed { .. }) if !log.is_failed() => {
                failed += 1;
                assert_eq!(values(&log), before);
                assert_eq!(values(&rig.open()), before);
            }
            _ => break,
        }
    }
    assert!(failed > 0, "the fault did not bite");
}
