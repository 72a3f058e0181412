//! A log with transactions against a list of what was written to it, under random operations: restarts, power cuts,
//! lost and damaged indexes and snapshots, compaction.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use super::super::model::Dice;
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

    fn append(&mut self, log: &Arc<Log>, dice: &mut Dice) {
        let value = format!("k{}={}", dice.below(7), self.entries.len());
        let end = self.entries.len() as i64;
        if dice.below(4) == 0 {
            let outcome = submit(log, append_of(keyed(&value).build(), Acks::Written));
            assert_eq!(outcome.lock().take().unwrap().unwrap().base_offset.get(), end);
            self.entries.push(Entry::Plain { value });
            return;
        }
        let producer = dice.below(PRODUCERS) as i64;
        // Some have sequences, and some write as the broker itself does.
        let sequence = if producer % 2 == 0 { -1 } else { self.batches_of(producer) };
        let mut batch = keyed(&value);
        batch.producer(producer, 0, sequence);
        let acks = if dice.below(3) == 0 { Acks::Durable } else { Acks::Written };
        let outcome = submit(log, in_transaction(log, batch, acks));
        assert_eq!(outcome.lock().take().unwrap().unwrap().base_offset.get(), end);
        self.entries.push(Entry::Data { producer, value });
        if acks == Acks::Durable {
            self.durable = self.entries.len();
        }
    }

    fn end(&mut self, log: &Arc<Log>, dice: &mut Dice) {
        let producer = dice.below(PRODUCERS) as i64;
        let outcome = if dice.below(2) == 0 { TransactionOutcome::Commit } else { TransactionOutcome::Abort };
        let end = self.entries.len() as i64;
        let at = ended(log, marker_of(producer, 0, outcome)).unwrap().base_offset.get();
        if at == end {
            self.entries.push(Entry::Marker { producer, outcome });
        } else {
            assert!(
                !self.open().contains_key(&producer),
                "the marker of an open transaction was not written"
            );
        }
        self.durable = self.durable.max(usize::try_from(at).unwrap() + 1);
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
            0..=8 => model.append(&log, &mut dice),
            9..=11 => model.end(&log, &mut dice),
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
