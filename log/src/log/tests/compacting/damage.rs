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

/// One bit of a closed segment flips, the log is compacted a few times, and the bit flips back: no byte of the
/// segment was lost meanwhile, and no key says anything else than if the bit had never flipped. Tells whether
/// the flip was found.
fn flip_and_mend(seed: u64) -> bool {
    let mut dice = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut below = move |bound: usize| {
        dice ^= dice << 13;
        dice ^= dice >> 7;
        dice ^= dice << 17;
        usize::try_from(dice % bound as u64).unwrap()
    };
    let mut rig = Rig::small();
    rig.config.delete_retention = Duration::from_secs(10);
    let log = rig.open();
    let mut expected = BTreeMap::new();
    let mut grow = |log: &Arc<Log>, below: &mut dyn FnMut(usize) -> usize| {
        for number in 0..30 {
            let key = ["a", "b", "c", "d", "e", "f"][below(6)];
            let value = (below(3) > 0).then(|| format!("{number}"));
            put(log, keyed(&[(key, value.as_deref())]));
            expected.insert(key.to_owned(), value);
        }
    };
    grow(&log, &mut below);
    if below(2) == 0 {
        compact(&log);
    }
    rig.clock.advance(Duration::from_secs(7));
    grow(&log, &mut below);
    log.roll_active();
    let closed: Vec<_> = log.segments.all().iter().filter(|one| one.extent().bytes > 0).cloned().collect();
    let name = format!("{:020}.log", closed[below(closed.len())].base().get());
    let original = rig.disk.content(&Rig::file(&name)).unwrap();
    let mut flipped = original.clone();
    let at = below(original.len());
    flipped[at] ^= 1 << below(8);
    rig.disk.overwrite(&Rig::file(&name), &flipped);
    let mut found = false;
    for _ in 0..3 {
        found |= !compact(&log).damaged.is_empty();
        rig.clock.advance(Duration::from_secs(7));
    }
    grow(&log, &mut below);
    compact(&log);
    if found {
        assert_eq!(rig.disk.content(&Rig::file(&name)).unwrap(), flipped, "a byte of {name} is lost");
        rig.disk.overwrite(&Rig::file(&name), &original);
    }
    drop(log);
    let log = rig.open();
    for run in 0..4 {
        let mut left = BTreeMap::new();
        for (_, key, value) in table(&log) {
            left.insert(key, value);
        }
        for (key, value) in &expected {
            let says = left.get(key).cloned().flatten();
            assert_eq!(says, *value, "{key} before run {run}");
        }
        compact(&log);
        rig.clock.advance(Duration::from_secs(7));
    }
    found
}

#[test]
fn a_bit_that_flips_and_flips_back_changes_no_key() {
    let mut found = 0;
    for seed in 0..150 {
        match std::panic::catch_unwind(|| flip_and_mend(seed)) {
            Ok(was_found) => found += usize::from(was_found),
            Err(panic) => {
                eprintln!("the seed is {seed}");
                std::panic::resume_unwind(panic);
            }
        }
    }
    assert!(found > 100, "only {found} flips were found");
}
