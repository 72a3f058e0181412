//! Damage below the durable point: what is damaged is reported, all else is served as it was written, and
//! nothing is cut.

use std::ops::Range;
use std::path::Path;

use super::*;
use crate::disk::Damage;
use crate::recovery::LostRange;

/// A batch as it was written.
struct Batch {
    file: String,
    positions: Range<usize>,
    offsets: Range<i64>,
    bytes: Bytes,
}

struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % bound as u64).unwrap()
    }
}

/// Segments of 3,000 bytes, three leader epochs, batches of one to four records of all sizes.
fn written_log(rig: &mut Rig, seed: u64) -> Arc<Log> {
    let mut dice = Dice(seed | 1);
    let mut log = rig.open();
    for epoch in 1..=3 {
        for _ in 0..20 {
            let values: Vec<Vec<u8>> = (0..=dice.below(4))
                .map(|_| (0..dice.below(120)).map(|_| u8::try_from(dice.below(256)).unwrap()).collect())
                .collect();
            let values: Vec<&[u8]> = values.iter().map(Vec::as_slice).collect();
            written(&log, &values);
        }
        log.checkpoint().unwrap();
        if epoch < 3 {
            log.close().unwrap();
            rig.epoch += 1;
            log = rig.try_open(CleanStart::Yes).unwrap().0;
        }
    }
    log
}

fn rig() -> Rig {
    Rig::new(LogConfig { segment_bytes: 3000, index_interval_bytes: 500, ..LogConfig::default() })
}

fn batches_of(rig: &Rig) -> Vec<Batch> {
    let mut batches = Vec::new();
    for file in rig.names().into_iter().filter(|name| name.ends_with(".log")) {
        let content = Bytes::from(rig.disk.content(&Rig::file(&file)).unwrap());
        let mut at = 0;
        while at < content.len() {
            let view = BatchView::parse(&content[at..]).unwrap();
            let positions = at..at + view.size_in_bytes();
            let offsets = view.base_offset()..view.last_offset() + 1;
            batches.push(Batch {
                file: file.clone(),
                bytes: content.slice(positions.clone()),
                positions,
                offsets,
            });
            at += view.size_in_bytes();
        }
    }
    batches
}

fn fork(rig: &Rig) -> Rig {
    let (clock, config) = (Arc::clone(&rig.clock), rig.config.clone());
    Rig { disk: rig.disk.fork(), clock, config, epoch: rig.epoch, has_intervals: false }
}

/// Reads as the broker does: where it may not wait it is sent elsewhere.
fn fetch(log: &Log, offset: i64) -> Result<Bytes, ReadError> {
    let from = ReadFrom {
        offset: Offset::new(offset),
        max_bytes: 1500,
        first_batch: FirstBatch::Whole,
        isolation: Isolation::ReadUncommitted,
    };
    let slice = match log.try_read(from)? {
        Some(slice) if slice.is_resident() => slice,
        _ => log.read(from)?,
    };
    if !slice.is_resident() {
        slice.bring_in().unwrap();
    }
    match slice.records {
        None => Ok(Bytes::new()),
        Some(Chunk::Bytes(bytes)) => Ok(bytes),
        Some(Chunk::File(_)) => panic!("not on a simulated disk"),
    }
}

/// All that a consumer gets that goes on behind what is damaged: batches, and the offsets that it passed over.
fn consume_around(log: &Log) -> (Vec<Bytes>, Vec<Range<i64>>) {
    let (mut served, mut lost) = (Vec::new(), Vec::new());
    let mut next = log.offsets().log_start.get();
    while next < end(log) {
        match fetch(log, next) {
            Ok(bytes) => {
                let before = next;
                for batch in records::batches(bytes) {
                    // A slice may end within a batch.
                    let Ok(batch) = batch else { break };
                    next = BatchView::parse(&batch).unwrap().last_offset() + 1;
                    served.push(batch);
                }
                assert!(next > before, "a consumer at {before} does not get on");
            }
            Err(ReadError::Corrupt { lost: range, .. }) => {
                assert!(range.end > Offset::new(next), "{range:?} at {next}");
                lost.push(next..range.end.get());
                next = range.end.get();
            }
            Err(other) => panic!("at {next}: {other}"),
        }
    }
    (served, lost)
}

/// Every batch is served as it was written, or it is one of the `damaged` and its offsets are reported. (What
/// went astray may have left a whole copy of a batch that belongs just there.)
fn check(log: &Log, batches: &[Batch], damaged: &[usize]) {
    let (served, lost) = consume_around(log);
    let mut served = served.into_iter().peekable();
    for (at, batch) in batches.iter().enumerate() {
        let first = |bytes: &Bytes| BatchView::parse(bytes).unwrap().base_offset();
        if let Some(bytes) = served.next_if(|bytes| first(bytes) == batch.offsets.start) {
            assert!(bytes == batch.bytes, "batch {at} is not what was written");
            continue;
        }
        assert!(
            damaged.contains(&at),
            "batch {at} at {} is not served; passed over: {lost:?}",
            batch.offsets.start
        );
        for offset in batch.offsets.clone() {
            assert!(lost.iter().any(|range| range.contains(&offset)), "{offset} is not reported: {lost:?}");
        }
    }
    assert_eq!(served.next(), None, "a batch that was not written there");
}

/// How the log comes to read the damaged bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Opened,
    WithoutIndexes,
    /// All snapshots are damaged: the log is walked from its start.
    WithoutSnapshots,
    /// It goes on after a broker was killed.
    AfterAKill,
}

const WAYS: [Way; 4] = [Way::Opened, Way::WithoutIndexes, Way::WithoutSnapshots, Way::AfterAKill];

impl Way {
    fn open(self, rig: &Rig) -> (Arc<Log>, Recovery) {
        let names = rig.names();
        let with =
            |extension: &str| names.iter().filter(|name| name.ends_with(extension)).collect::<Vec<_>>();
        let mut clean = CleanStart::Yes;
        match self {
            Self::Opened => {}
            Self::WithoutIndexes => {
                with("index").iter().for_each(|name| rig.disk.remove_file(&Rig::file(name)).unwrap());
            }
            Self::WithoutSnapshots => {
                with("snapshot").iter().for_each(|name| rig.disk.overwrite(&Rig::file(name), b"damaged"));
            }
            Self::AfterAKill => clean = CleanStart::No,
        }
        rig.try_open(clean).unwrap()
    }
}

fn files_of(rig: &Rig) -> Vec<(String, Vec<u8>)> {
    let logs = rig.names().into_iter().filter(|name| name.ends_with(".log"));
    logs.map(|name| (name.clone(), rig.disk.content(&Rig::file(&name)).unwrap())).collect()
}

fn last_of(batches: &[Batch]) -> &str {
    &batches.last().unwrap().file
}

#[test]
fn one_flipped_bit_costs_the_batch_that_has_it_and_nothing_else() {
    let mut sound = rig();
    written_log(&mut sound, 7).close().unwrap();
    let batches = batches_of(&sound);
    for trial in 0..800 {
        let rig = fork(&sound);
        let mut dice = Dice(trial * 977 + 1);
        let at = dice.below(batches.len());
        let batch = &batches[at];
        if batch.file == last_of(&batches) {
            continue;
        }
        // Headers are where it is hardest.
        let reach = if trial % 2 == 0 { 61 } else { batch.positions.len() };
        let bit = (batch.positions.start + dice.below(reach)) * 8 + dice.below(8);
        let way = WAYS[dice.below(4)];
        assert!(rig.disk.damage(&Rig::file(&batch.file), Damage::FlippedBit { bit: bit as u64 }));
        rig.disk.evict(&Rig::file(&batch.file));
        let before = files_of(&rig);
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let (log, recovery) = way.open(&rig);
            check(&log, &batches, &[at]);
            assert_eq!(recovery.torn, []);
            let [range] = &log.quarantined()[..] else { panic!("one range: {:?}", log.quarantined()) };
            assert_eq!(
                range.offsets.start.get()..range.offsets.end.get(),
                batch.offsets,
                "no more and no less"
            );
            assert_eq!(written(&log, &[b"next"]), batches.last().unwrap().offsets.end);
        }));
        if let Err(panic) = outcome {
            let byte = bit / 8 - batch.positions.start;
            eprintln!("trial {trial}: batch {at} of {}, byte {byte}, {way:?}", batches.len());
            std::panic::resume_unwind(panic);
        }
        let after = files_of(&rig);
        assert!(
            before.iter().all(|(name, held)| after.iter().any(|(n, now)| n == name && now.starts_with(held)))
        );
        assert!(rig.disk.bites().damage_read > 0, "the damage was never read");
    }
}

#[test]
fn a_length_that_is_wrong_and_ends_where_a_later_batch_does_costs_none_of_those_between() {
    let rig = Rig::small();
    let log = rig.open();
    // Every batch has 128 bytes and begins at a multiple of them.
    let value = [b'v'; 128 - 69];
    for _ in 0..20 {
        written(&log, &[&value]);
    }
    log.close().unwrap();
    let batches = batches_of(&rig);
    assert!(batches.iter().all(|batch| batch.positions.len() == 128));
    let sealed: Vec<_> = (0..batches.len()).filter(|at| batches[*at].file != last_of(&batches)).collect();
    for at in sealed {
        for way in WAYS {
            let rig = fork(&rig);
            // 256 bytes more: two batches.
            let bit = (batches[at].positions.start + 10) as u64 * 8;
            assert!(rig.disk.damage(&Rig::file(&batches[at].file), Damage::FlippedBit { bit }));
            rig.disk.evict(&Rig::file(&batches[at].file));
            let (log, _) = way.open(&rig);
            check(&log, &batches, &[at]);
        }
    }
}

#[test]
fn what_left_memory_is_verified_again_though_this_process_wrote_it() {
    for trial in 0..60 {
        let mut rig = rig();
        let log = written_log(&mut rig, 11);
        let batches = batches_of(&rig);
        let mut dice = Dice(trial * 31 + 1);
        let at = dice.below(batches.len());
        let batch = &batches[at];
        check(&log, &batches, &[]);
        let bit = (batch.positions.start + dice.below(batch.positions.len())) * 8 + dice.below(8);
        assert!(rig.disk.damage(&Rig::file(&batch.file), Damage::FlippedBit { bit: bit as u64 }));
        check(&log, &batches, &[]);
        rig.disk.evict(&Rig::file(&batch.file));
        // Others read too, and bring in more than they look at.
        if trial % 2 == 0 {
            log.offset_for_timestamp(NOW_MS).unwrap();
            let segment = log.segments.holding(Offset::new(batch.offsets.start)).unwrap();
            segment.file().unwrap().read_at(&mut [0; 1], 0).unwrap();
        }
        check(&log, &batches, &[at]);
    }
}

/// Sectors that went astray or never arrived, and files that lost their end.
fn harm(rig: &Rig, file: &Path, dice: &mut Dice) {
    let length = rig.disk.content(file).unwrap().len();
    let sectors = length.div_ceil(512);
    let count = 1 + dice.below(3);
    let to = dice.below(sectors.saturating_sub(count).max(1));
    match dice.below(3) {
        0 => {
            let from = dice.below(sectors.saturating_sub(count).max(1));
            for at in 0..count as u64 {
                rig.disk.damage(file, Damage::Misdirected { from: from as u64 + at, to: to as u64 + at });
            }
        }
        1 => (0..count as u64).for_each(|at| {
            rig.disk.damage(file, Damage::Stale { sector: to as u64 + at });
        }),
        _ => {
            let content = rig.disk.content(file).unwrap();
            rig.disk.overwrite(file, &content[..dice.below(length)]);
        }
    }
    rig.disk.evict(file);
}

#[test]
fn chunks_that_went_astray_are_stale_or_missing_cost_no_batch_but_those_that_they_hit() {
    let mut harmed = 0;
    let mut sound = rig();
    written_log(&mut sound, 5).close().unwrap();
    let batches = batches_of(&sound);
    for trial in 0..600 {
        let rig = fork(&sound);
        let mut dice = Dice(trial * 7919 + 3);
        let file = batches[dice.below(batches.len())].file.clone();
        let way = WAYS[dice.below(4)];
        if way == Way::WithoutSnapshots && file == last_of(&batches) {
            // How far the log went behind what is missing is not known then.
            continue;
        }
        harm(&rig, &Rig::file(&file), &mut dice);
        let now = rig.disk.content(&Rig::file(&file)).unwrap();
        let is_hit =
            |batch: &Batch| batch.file == file && now.get(batch.positions.clone()) != Some(&batch.bytes[..]);
        let damaged: Vec<_> = (0..batches.len()).filter(|at| is_hit(&batches[*at])).collect();
        harmed += usize::from(!damaged.is_empty());
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let (log, recovery) = way.open(&rig);
            check(&log, &batches, &damaged);
            assert_eq!(recovery.torn, []);
            assert!(written(&log, &[b"next"]) >= batches.last().unwrap().offsets.end);
        }));
        if let Err(panic) = outcome {
            eprintln!("trial {trial}: {file}, {damaged:?} of {}, {way:?}", batches.len());
            std::panic::resume_unwind(panic);
        }
    }
    assert!(harmed > 300, "only {harmed} did harm");
}

#[test]
fn lookups_by_time_go_around_damage() {
    let rig = Rig::small();
    let log = rig.open();
    for at in 0..40 {
        submit(&log, append_of(batch_at(1000 + at, &[b"some value"]).build(), Acks::Written));
    }
    log.close().unwrap();
    let batches = batches_of(&rig);
    for (at, batch) in batches.iter().enumerate().filter(|(_, batch)| batch.file != last_of(&batches)) {
        let rig = fork(&rig);
        let bit = (batch.positions.start + 70) as u64 * 8;
        assert!(rig.disk.damage(&Rig::file(&batch.file), Damage::FlippedBit { bit }));
        rig.disk.evict(&Rig::file(&batch.file));
        let log = rig.open();
        for time in 1000..1040 {
            let found = log.offset_for_timestamp(time).unwrap().unwrap().offset.get();
            let expected = if time - 1000 == at as i64 { time - 999 } else { time - 1000 };
            assert_eq!(found, expected, "time {time}, batch {at} is damaged");
        }
        assert_eq!(log.max_timestamp().unwrap().unwrap().offset.get(), 39);
    }
}

#[test]
fn a_scrub_finds_what_nobody_asked_for_and_leaves_memory_as_it_was() {
    let mut rig = rig();
    written_log(&mut rig, 3).close().unwrap();
    let batches = batches_of(&rig);
    let file = Rig::file(&batches[4].file);
    let bit = (batches[4].positions.start + 65) as u64 * 8;
    assert!(rig.disk.damage(&file, Damage::FlippedBit { bit }));
    rig.disk.evict(&file);
    let log = rig.try_open(CleanStart::Yes).unwrap().0;
    let (mut next, mut bytes, mut found, mut turns) = (Some(Offset::default()), 0, Vec::new(), 0);
    while let Some(offset) = next {
        let report = log.scrub(ScrubFrom { offset, max_bytes: 2000 }, &crate::Pace::unlimited()).unwrap();
        (next, bytes, turns) = (report.next, bytes + report.bytes, turns + 1);
        found.extend(report.damaged);
    }
    assert!(turns > 3 && bytes >= log.size_bytes(), "{bytes} of {} in {turns} turns", log.size_bytes());
    assert_eq!(found, log.quarantined());
    let [damaged] = &found[..] else { panic!("one range: {found:?}") };
    assert_eq!(damaged.offsets.start.get()..damaged.offsets.end.get(), batches[4].offsets);
    let at = |offset: i64| ReadFrom {
        offset: Offset::new(offset),
        max_bytes: 1,
        first_batch: FirstBatch::Whole,
        isolation: Isolation::ReadUncommitted,
    };
    assert!(log.try_read(at(0)).unwrap().is_none(), "it was not in memory, and is not now");
    let other = batches.iter().find(|batch| batch.file != batches[4].file).unwrap();
    assert!(log.try_read(at(other.offsets.start)).unwrap().is_some(), "it was, and is verified now");
}

#[test]
fn a_lost_segment_answers_for_its_offsets_and_the_others_are_served() {
    let mut rig = rig();
    written_log(&mut rig, 9).close().unwrap();
    let batches = batches_of(&rig);
    let files: Vec<_> = rig.names().into_iter().filter(|name| name.ends_with(".log")).collect();
    for gone in &files {
        let rig = fork(&rig);
        rig.disk.remove_file(&Rig::file(gone)).unwrap();
        let (log, recovery) = rig.try_open(CleanStart::Yes).unwrap();
        let damaged: Vec<_> = (0..batches.len()).filter(|at| batches[*at].file == *gone).collect();
        check(&log, &batches, &damaged);
        let from = Offset::new(batches[damaged[0]].offsets.start);
        let to = Offset::new(batches[*damaged.last().unwrap()].offsets.end);
        assert_eq!(recovery.lost, [LostRange { from, to }]);
    }
}

/// Three hundred batches of about a kilobyte in three segments, closed.
fn pages() -> Rig {
    let rig = Rig::new(LogConfig { segment_bytes: 100_000, ..LogConfig::default() });
    let log = rig.open();
    for _ in 0..300 {
        written(&log, &[&[7; 900]]);
    }
    log.close().unwrap();
    rig
}

#[test]
fn a_read_that_fails_once_is_tried_again_page_by_page() {
    let rig = pages();
    let log = rig.try_open(CleanStart::Yes).unwrap().0;
    rig.disk.fail_read(2);
    assert!(fetch(&log, 40).is_ok());
    assert!(!rig.disk.fault_is_pending(), "it failed");
    assert_eq!(log.quarantined(), []);
}

#[test]
fn a_sector_that_the_device_cannot_read_costs_the_batches_of_its_page_until_it_can() {
    let rig = pages();
    let file = Rig::file("00000000000000000000.log");
    let content = rig.disk.content(&file).unwrap();
    let batch = BatchView::parse(&content).unwrap().size_in_bytes();
    let sector = 40 * batch as u64 / 512;
    assert!(rig.disk.damage(&file, Damage::Unreadable { sector }));
    rig.disk.evict(&file);
    let log = rig.try_open(CleanStart::Yes).unwrap().0;
    let page = sector / 8 * 4096;
    let is_hit = |at: i64| {
        let batch = at as u64 * batch as u64..(at as u64 + 1) * batch as u64;
        at < 90 && batch.start < page + 4096 && batch.end > page
    };
    for at in 0..300 {
        match fetch(&log, at) {
            Ok(bytes) => {
                assert_eq!((BatchView::parse(&bytes).unwrap().base_offset(), is_hit(at)), (at, false));
            }
            Err(ReadError::Io(error)) => {
                assert!(is_hit(at), "{at}: {error}");
                assert!(error.to_string().contains("cannot read"), "{error}");
            }
            Err(other) => panic!("{at}: {other}"),
        }
    }
    assert!(rig.disk.bites().failed_calls > 0);
    let [range] = &log.quarantined()[..] else { panic!("one range: {:?}", log.quarantined()) };
    assert_eq!(range.cause, crate::DamageCause::Unreadable);
    assert!(is_hit(range.offsets.start.get()) && !is_hit(range.offsets.end.get()));
    // A cable is put back: nothing has to be told.
    rig.disk.overwrite(&file, &content);
    assert!(fetch(&log, 40).is_ok());
    assert_eq!(log.quarantined(), []);
}

#[test]
fn recovery_goes_on_behind_what_the_device_cannot_read() {
    let rig = Rig::new(LogConfig::default());
    let log = rig.open();
    for _ in 0..100 {
        append(&log, &[&[7; 900]], Acks::Durable).unwrap();
    }
    drop(log);
    let file = Rig::file("00000000000000000000.log");
    let length = rig.disk.content(&file).unwrap().len();
    assert!(rig.disk.damage(&file, Damage::Unreadable { sector: length as u64 / 1024 }));
    rig.disk.evict(&file);
    let (log, recovery) = rig.try_open(CleanStart::No).unwrap();
    assert!(rig.disk.bites().failed_calls > 0);
    assert_eq!((end(&log), &recovery.torn), (100, &vec![]), "what was acknowledged is not cut off");
    let [lost] = recovery.lost[..] else { panic!("one range: {recovery:?}") };
    assert!(lost.to.get() - lost.from.get() <= 6, "{lost:?}");
    assert_eq!(consume(&log, lost.to.get()).len(), usize::try_from(100 - lost.to.get()).unwrap());
    assert!(matches!(fetch(&log, lost.from.get()), Err(ReadError::Io(_))));
    assert_eq!(written(&log, &[b"next"]), 100);
}

/// One record a batch; about half of them are gone after the compaction, and the rest is closed.
fn compacted() -> Rig {
    let rig = Rig::new(LogConfig {
        segment_bytes: 2000,
        index_interval_bytes: 500,
        cleanup: crate::CleanupPolicy::Compact,
        ..LogConfig::default()
    });
    let log = rig.open();
    let mut dice = Dice(99);
    for number in 0..200 {
        let key = format!("key-{}", dice.below(90));
        let mut batch = BatchBuilder::new(Compression::None);
        let value = vec![b'v'; dice.below(100)];
        let (key, value) = (Some(key.as_bytes()), Some(&value[..]));
        batch.append(&NewRecord { timestamp: NOW_MS + number, key, value, ..NewRecord::default() });
        submit(&log, append_of(batch.build(), Acks::Written));
    }
    let limits = crate::CompactLimits { demand: crate::Demand::Now, dedupe_buffer_bytes: 1 << 20 };
    log.compact(limits, &crate::Pace::unlimited(), &mut |_| std::ops::ControlFlow::Continue(()))
        .unwrap()
        .unwrap();
    log.close().unwrap();
    rig
}

/// Where offsets may be missing, a base offset that turns into one of the missing ones is the one damage that
/// no header tells. All others cost their batch and are reported.
#[test]
fn a_flipped_bit_in_a_compacted_segment_costs_its_batch_too() {
    let sound = compacted();
    let batches = batches_of(&sound);
    let gaps = batches.windows(2).filter(|pair| pair[0].offsets.end < pair[1].offsets.start).count();
    assert!(gaps > 20, "{gaps} gaps in {} batches", batches.len());
    let (mut told, mut untold) = (0, 0);
    for trial in 0..1000 {
        let rig = fork(&sound);
        let mut dice = Dice(trial * 613 + 5);
        let at = dice.below(batches.len());
        let batch = &batches[at];
        if batch.file == last_of(&batches) {
            continue;
        }
        let byte = dice.below(if trial % 2 == 0 { 61 } else { batch.positions.len() });
        let turned = dice.below(8);
        let bit = (batch.positions.start + byte) * 8 + turned;
        let way = WAYS[dice.below(4)];
        assert!(rig.disk.damage(&Rig::file(&batch.file), Damage::FlippedBit { bit: bit as u64 }));
        rig.disk.evict(&Rig::file(&batch.file));
        let base = batch.offsets.start ^ if byte < 8 { 1 << ((7 - byte) * 8 + turned) } else { 0 };
        let before = at.checked_sub(1).map_or(0, |before| batches[before].offsets.end);
        if byte < 8 && base >= before && base < batches[at + 1].offsets.start {
            untold += 1;
            continue;
        }
        told += 1;
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let (log, recovery) = way.open(&rig);
            check(&log, &batches, &[at]);
            assert_eq!(recovery.torn, []);
            assert_eq!(log.quarantined().len(), 1, "{:?}", log.quarantined());
        }));
        if let Err(panic) = outcome {
            eprintln!("trial {trial}: batch {at} of {}, byte {byte}, {way:?}", batches.len());
            std::panic::resume_unwind(panic);
        }
    }
    assert!(told > 700 && untold < told / 30, "{told} told, {untold} not");
}
