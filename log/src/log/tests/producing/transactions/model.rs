//! A log with transactions against a list of what was written to it, under random operations: restarts, power cuts,
//! lost and damaged indexes and snapshots, compaction.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use super::super::super::model::Dice;
use super::*;
use crate::clock::Pace;

#[derive(Clone, Debug)]
enum Entry {
    Plain { value: String },
    Data { producer: i64, value: String },
    Marker { producer: i64, outcome: TransactionOutcome },
}

#[derive(Debug, Default)]
struct Model {
    entries: Vec<Entry>,
    start: usize,
    durable: usize,
    is_compacted: bool,
}

const PRODUCERS: u64 = 5;

/// Values are `key=value`.
fn key(value: &str) -> String {
    value.split('=').next().unwrap().to_owned()
}

fn keyed(value: &str) -> BatchBuilder {
    let mut builder = BatchBuilder::new(Compression::None);
    let key = key(value);
    let (key, value) = (Some(key.as_bytes()), Some(value.as_bytes()));
    builder.append(&NewRecord { timestamp: NOW_MS, key, value, ..NewRecord::default() });
    builder
}

impl Model {
    /// The first offset of each open transaction.
    fn open(&self) -> BTreeMap<i64, usize> {
        let mut open = BTreeMap::new();
        for (at, entry) in self.entries.iter().enumerate() {
            match entry {
                Entry::Plain { .. } => {}
                Entry::Data { producer, .. } => {
                    open.entry(*producer).or_insert(at);
                }
                Entry::Marker { producer, .. } => {
                    open.remove(producer);
                }
            }
        }
        open
    }

    fn last_stable(&self) -> usize {
        self.open().into_values().min().unwrap_or(self.entries.len()).max(self.start)
    }

    /// What counts from `from` on.
    fn committed(&self, from: usize) -> Vec<String> {
        let stable = self.last_stable();
        let mut found = Vec::new();
        for (at, entry) in self.entries.iter().enumerate().take(stable).skip(from) {
            match entry {
                Entry::Plain { value } => found.push(value.clone()),
                Entry::Data { producer, value } => {
                    let ends = self.entries[at..].iter().find_map(|later| match later {
                        Entry::Marker { producer: ended, outcome } if ended == producer => Some(*outcome),
                        Entry::Marker { .. } | Entry::Plain { .. } | Entry::Data { .. } => None,
                    });
                    if ends == Some(TransactionOutcome::Commit) {
                        found.push(value.clone());
                    }
                }
                Entry::Marker { .. } => {}
            }
        }
        found
    }

    /// How many batches of a producer there are, which is its next sequence.
    fn batches_of(&self, of: i64) -> i32 {
        let count = self.entries.iter().filter(|entry| match entry {
            Entry::Data { producer, .. } => *producer == of,
            Entry::Plain { .. } | Entry::Marker { .. } => false,
        });
        i32::try_from(count.count()).unwrap()
    }

    fn check(&self, log: &Log, dice: &mut Dice) {
        let offsets = log.offsets();
        let wanted = (self.start as i64, self.last_stable() as i64, self.entries.len() as i64);
        let found = (offsets.log_start.get(), offsets.last_stable.get(), offsets.log_end.get());
        assert_eq!(found, wanted, "log start, last stable offset and log end");
        let open: BTreeMap<i64, i64> = log
            .open_transactions()
            .iter()
            .map(|open| (open.producer.get(), open.first_offset.get()))
            .collect();
        let wanted: BTreeMap<i64, i64> =
            self.open().into_iter().map(|(producer, first)| (producer, first as i64)).collect();
        if self.last_stable() < self.entries.len() {
            assert_eq!(open, wanted, "what is open");
        }
        let from = self.start + dice.below((self.entries.len() - self.start + 1) as u64) as usize;
        if !self.is_compacted {
            assert_eq!(committed(log, from as i64), self.committed(from), "what counts from {from} on");
            return;
        }
        let newest = |values: Vec<String>| -> BTreeMap<String, String> {
            values.into_iter().map(|value| (key(&value), value)).collect()
        };
        let found = committed(log, self.start as i64);
        let possible: BTreeSet<String> = self.committed(self.start).into_iter().collect();
        assert!(found.iter().all(|value| possible.contains(value)), "{found:?} has what does not count");
        assert_eq!(newest(found), newest(self.committed(self.start)), "the newest of each key");
    }

    /// What fails may have been written all the same.
    fn append(&mut self, log: &Arc<Log>, dice: &mut Dice) -> Result<(), AppendError> {
        let value = format!("k{}={}", dice.below(7), self.entries.len());
        let (append, entry) = if dice.below(4) == 0 {
            (append_of(keyed(&value).build(), Acks::Written), Entry::Plain { value })
        } else {
            let producer = dice.below(PRODUCERS) as i64;
            // Some have sequences, and some write as the broker itself does.
            let sequence = if producer % 2 == 0 { -1 } else { self.batches_of(producer) };
            let mut batch = keyed(&value);
            batch.producer(producer, 0, sequence);
            let acks = if dice.below(3) == 0 { Acks::Durable } else { Acks::Written };
            (in_transaction(log, batch, acks), Entry::Data { producer, value })
        };
        let (acks, end) = (append.acks, self.entries.len() as i64);
        let outcome = submit(log, append).lock().take().unwrap();
        self.entries.push(entry);
        assert_eq!(outcome?.base_offset.get(), end);
        if acks == Acks::Durable {
            self.durable = self.entries.len();
        }
        Ok(())
    }

    fn end(&mut self, log: &Arc<Log>, dice: &mut Dice) -> Result<(), AppendError> {
        let producer = dice.below(PRODUCERS) as i64;
        let outcome = if dice.below(2) == 0 { TransactionOutcome::Commit } else { TransactionOutcome::Abort };
        self.end_of(log, producer, outcome)
    }

    fn end_of(
        &mut self,
        log: &Arc<Log>,
        producer: i64,
        outcome: TransactionOutcome,
    ) -> Result<(), AppendError> {
        let (end, was_open) = (self.entries.len() as i64, self.open().contains_key(&producer));
        let ended = ended(log, marker_of(producer, 0, outcome));
        let at = ended.as_ref().map_or(end, |ended| ended.base_offset.get());
        if at == end {
            self.entries.push(Entry::Marker { producer, outcome });
        } else {
            assert!(!was_open, "the marker of an open transaction was not written");
        }
        self.durable = self.durable.max(usize::try_from(ended?.base_offset.get()).unwrap() + 1);
        Ok(())
    }

    fn accept_loss(&mut self, log: &Log) {
        let kept = usize::try_from(end(log)).unwrap();
        assert!((self.durable..=self.entries.len()).contains(&kept), "{kept} of {}", self.durable);
        self.entries.truncate(kept);
    }
}

/// Something happens to a file that may be lost or damaged at any time.
fn harm(rig: &Rig, dice: &mut Dice, model: &Model) {
    let mut expendable = rig.names();
    // Where a transaction began whose first batches were deleted only a snapshot knows.
    let may_go =
        |name: &String| name.ends_with(".txnindex") || (name.ends_with(".snapshot") && model.start == 0);
    expendable.retain(may_go);
    if expendable.is_empty() {
        return;
    }
    let name = &expendable[dice.below(expendable.len() as u64) as usize];
    let path = Rig::file(name);
    let content = rig.disk.content(&path).unwrap();
    match dice.below(4) {
        0 => rig.disk.remove_file(&path).unwrap(),
        1 => rig.disk.overwrite(&path, &content[..content.len() / 2]),
        2 => rig.disk.overwrite(&path, &vec![0; content.len()]),
        _ => {
            let mut flipped = content;
            if let Some(byte) = flipped.last_mut() {
                *byte ^= 1;
            }
            rig.disk.overwrite(&path, &flipped);
        }
    }
}

fn run(seed: u64, is_compacted: bool) {
    let mut dice = Dice::new(seed);
    let mut rig = Rig::new(LogConfig {
        segment_bytes: 300 + dice.below(1500),
        index_interval_bytes: dice.below(400),
        checkpoint_bytes: 200 + dice.below(3000),
        delete_retention: Duration::from_millis(dice.below(1500)),
        ..LogConfig::default()
    });
    let mut log = rig.open();
    let mut model = Model { is_compacted, ..Model::default() };
    for _ in 0..150 {
        match dice.below(20) {
            0..=8 => model.append(&log, &mut dice).unwrap(),
            9..=11 => model.end(&log, &mut dice).unwrap(),
            12 => {
                log.checkpoint().unwrap();
                model.durable = model.entries.len();
            }
            13 => {
                log.close().unwrap();
                model.durable = model.entries.len();
                harm(&rig, &mut dice, &model);
                log = rig.try_open(CleanStart::Yes).unwrap().0;
            }
            14 => {
                drop(log);
                rig.disk.power_cut(PowerCut::KeepsSome { seed: dice.below(u64::MAX) });
                rig.epoch += 1;
                log = rig.open();
                model.accept_loss(&log);
            }
            15 => {
                drop(log);
                harm(&rig, &mut dice, &model);
                rig.epoch += 1;
                log = rig.open();
            }
            16 => {
                log.note_failure("write to", &io::Error::other("injected"));
                log.reopen(LeaderEpoch::new(0)).unwrap();
                model.accept_loss(&log);
            }
            17 if is_compacted => {
                let limits = CompactLimits {
                    demand: Demand::Now,
                    dedupe_buffer_bytes: 24 * (2 + dice.below(40) as usize),
                };
                log.compact(limits, &Pace::unlimited(), &mut |_| ControlFlow::Continue(())).unwrap();
                model.durable = model.entries.len();
            }
            17 => {
                let before = dice.below(model.entries.len() as u64 + 1) as i64;
                model.start =
                    usize::try_from(log.delete_records(Some(Offset::new(before))).unwrap().get()).unwrap();
                model.durable = model.durable.max(model.start);
            }
            _ => rig.clock.advance(Duration::from_millis(dice.below(900))),
        }
        model.check(&log, &mut dice);
    }
}

fn for_seeds(seeds: std::ops::Range<u64>, is_compacted: bool) {
    for seed in seeds {
        if let Err(panic) = std::panic::catch_unwind(|| run(seed, is_compacted)) {
            eprintln!("the seed is {seed}");
            std::panic::resume_unwind(panic);
        }
    }
}

#[test]
fn a_reader_of_committed_records_sees_what_counts_whatever_happened() {
    for_seeds(0..150, false);
}

#[test]
fn compaction_takes_nothing_that_counts_and_nothing_comes_back() {
    for_seeds(0..150, true);
}

/// A short life, of which something may fail at any time.
fn live(log: &Arc<Log>, model: &mut Model, dice: &mut Dice) -> bool {
    for _ in 0..60 {
        let went_well = match dice.below(12) {
            0..=6 => model.append(log, dice).is_ok(),
            7..=9 => model.end(log, dice).is_ok(),
            10 if model.is_compacted => {
                let limits = CompactLimits { demand: Demand::Now, dedupe_buffer_bytes: 1 << 20 };
                let pace = Pace::unlimited();
                let done = log.compact(limits, &pace, &mut |_| ControlFlow::Continue(())).is_ok();
                model.durable = if done { model.entries.len() } else { model.durable };
                done
            }
            _ => {
                let done = log.checkpoint().is_ok();
                model.durable = if done { model.entries.len() } else { model.durable };
                done
            }
        };
        if !went_well {
            return false;
        }
    }
    true
}

fn small(seed: u64, is_compacted: bool) -> (Rig, Model, Dice) {
    let mut rig = Rig::small();
    rig.config.segment_bytes = 500;
    rig.config.delete_retention = Duration::from_millis(0);
    (rig, Model { is_compacted, ..Model::default() }, Dice::new(seed))
}

/// The power fails at change `at`; then the coordinator writes the markers anew that are missing.
fn crash(seed: u64, is_compacted: bool, (at, cut): (u64, PowerCut)) {
    let (mut rig, mut model, mut dice) = small(seed, is_compacted);
    rig.disk.fail_power_at(at);
    if let Ok((log, _)) = rig.try_open(CleanStart::Yes) {
        live(&log, &mut model, &mut dice);
    }
    rig.disk.power_cut(cut);
    for _ in 0..2 {
        rig.epoch += 1;
        let log = rig.open();
        model.accept_loss(&log);
        model.check(&log, &mut dice);
    }
    let log = rig.open();
    for (producer, _) in model.open() {
        model.end_of(&log, producer, TransactionOutcome::Commit).unwrap();
    }
    model.check(&log, &mut dice);
    assert_eq!(log.offsets().last_stable, log.offsets().log_end, "nothing hangs");
    drop(log);
    rig.disk.power_cut(PowerCut::LosesUnsynced);
    model.check(&rig.open(), &mut dice);
}

#[test]
fn no_power_cut_makes_a_transaction_hang_or_half_of_it_count() {
    for (seed, is_compacted) in [(1, false), (2, true), (3, true)] {
        let (rig, mut model, mut dice) = small(seed, is_compacted);
        assert!(live(&rig.open(), &mut model, &mut dice), "nothing fails");
        let changes = rig.disk.changes();
        assert!(changes > 60, "{changes} changes are no life");
        for at in 0..=changes {
            for cut in [PowerCut::LosesUnsynced, PowerCut::KeepsSome { seed: seed << 32 | at }] {
                let crashed = std::panic::catch_unwind(|| crash(seed, is_compacted, (at, cut)));
                if let Err(panic) = crashed {
                    eprintln!("seed {seed}, change {at} of {changes}, {cut:?}");
                    std::panic::resume_unwind(panic);
                }
            }
        }
    }
}
