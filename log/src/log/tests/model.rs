//! The log against a map, under random operations.

use std::collections::BTreeMap;

use super::*;

/// A small generator, so that a seed says it all.
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

struct Model {
    records: BTreeMap<i64, Vec<u8>>,
    /// When each record was appended, which is also its timestamp.
    times: BTreeMap<i64, i64>,
    start: i64,
    end: i64,
    durable: i64,
}

impl Model {
    fn check(&self, log: &Arc<Log>, dice: &mut Dice) {
        let offsets = log.offsets();
        assert_eq!((offsets.log_start.get(), offsets.log_end.get()), (self.start, self.end));
        let from = self.start
            + i64::try_from(dice.below(u64::try_from(self.end - self.start + 1).unwrap())).unwrap();
        let expected: Vec<_> = self.records.range(from..).map(|(at, value)| (*at, value.clone())).collect();
        assert_eq!(consume(log, from), expected, "from {from}");
    }

    fn start_at(&mut self, start: i64) {
        self.records = self.records.split_off(&start);
        self.times = self.times.split_off(&start);
        self.start = start;
        // Records are deleted only once they are durable.
        self.durable = self.durable.max(start);
    }

    /// Nothing is deleted that is neither old nor too much, and nothing is left of a log that is old.
    fn enforce(&mut self, rig: &Rig, log: &Arc<Log>) {
        let start = log.enforce_retention().unwrap().log_start.get();
        assert!(start >= self.start, "the log start fell from {} to {start}", self.start);
        let age_ms = rig.config.retention_age.map(|age| i64::try_from(age.as_millis()).unwrap());
        let is_old = |ms: i64| age_ms.is_some_and(|age_ms| rig.clock.now_ms() - ms > age_ms);
        let was_too_much = rig.config.retention_bytes.is_some_and(|bytes| log.size_bytes() >= bytes);
        let young = self.times.range(..start).find(|(_, ms)| !is_old(**ms));
        assert!(was_too_much || young.is_none(), "{young:?} is gone, the log starts at {start}");
        self.start_at(start);
        let newest = self.times.last_key_value().filter(|(_, ms)| is_old(**ms));
        assert_eq!(newest, None, "old, and still there");
        assert_eq!(log.enforce_retention().unwrap().segments, 0, "all at once, or not at all");
    }

    fn cut_to(&mut self, end: i64) {
        self.records.split_off(&end);
        self.times.split_off(&end);
        self.end = end;
        self.durable = self.durable.min(end);
    }

    /// Appends one or two records, which may fail if the disk does. What was written before it failed may be there.
    fn append(&mut self, rig: &Rig, log: &Arc<Log>, dice: &mut Dice) -> Result<(), AppendError> {
        let letter = b'a' + u8::try_from(dice.below(26)).unwrap();
        let value = vec![letter; usize::try_from(dice.below(120)).unwrap()];
        let values = vec![&value[..]; 1 + usize::try_from(dice.below(2)).unwrap()];
        let acks = if dice.below(3) == 0 { Acks::Durable } else { Acks::Written };
        let now_ms = rig.clock.now_ms();
        let outcome = append_at(log, now_ms, &values, acks);
        assert!(outcome.as_ref().is_ok_and(|done| done.base_offset.get() == self.end) || log.is_failed());
        for value in values {
            self.records.insert(self.end, value.to_vec());
            self.times.insert(self.end, now_ms);
            self.end += 1;
        }
        if outcome.is_ok() && acks == Acks::Durable {
            self.durable = self.end;
        }
        outcome.map(drop)
    }

    /// Something fails while the log is written to, and then the log is reopened.
    fn fail_and_mend(&mut self, rig: &Rig, log: &Arc<Log>, dice: &mut Dice) {
        match dice.below(4) {
            0 => rig.disk.fail_sync(dice.below(3)),
            1 => rig.disk.fail_write(dice.below(4)),
            2 => rig.disk.fail_change(dice.below(8)),
            _ => rig.disk.set_capacity(Some(rig.disk.used_bytes() + dice.below(600))),
        }
        // A deletion that failed may be found done.
        let mut starts = vec![self.start];
        for _ in 0..dice.below(10) {
            let failed = match dice.below(6) {
                0 => log.checkpoint().is_err(),
                1 => {
                    let before = (self.start + i64::try_from(dice.below(3)).unwrap()).min(self.end);
                    let deleted = log.delete_records(Some(Offset::new(before)));
                    match deleted {
                        Ok(start) => starts = vec![start.get()],
                        Err(_) => starts.push(before),
                    }
                    deleted.is_err()
                }
                _ => self.append(rig, log, dice).is_err(),
            };
            // A checkpoint may fail by itself; nothing is written to a log that has.
            if failed && log.is_failed() {
                break;
            }
        }
        rig.disk.set_capacity(None);
        rig.disk.heal();
        if log.is_failed() {
            let epoch = log.leader_epoch();
            log.reopen(LeaderEpoch::new(0)).unwrap();
            assert!(log.leader_epoch() > epoch);
            self.accept_loss(log);
        }
        let start = log.offsets().log_start.get();
        assert!(starts.contains(&start), "{start}, not one of {starts:?}");
        self.start_at(start);
    }

    /// After a power cut anything from the durable point on may be gone, from the end.
    fn accept_loss(&mut self, log: &Arc<Log>) {
        let kept = end(log);
        assert!(kept >= self.durable && kept <= self.end, "{} to {} became {kept}", self.durable, self.end);
        self.cut_to(kept);
    }
}

fn some_config(dice: &mut Dice) -> LogConfig {
    LogConfig {
        segment_bytes: 400 + dice.below(3000),
        index_interval_bytes: dice.below(400),
        checkpoint_bytes: 200 + dice.below(5000),
        retention_age: (dice.below(2) == 0).then(|| Duration::from_hours(dice.below(200))),
        retention_bytes: (dice.below(2) == 0).then(|| dice.below(10_000)),
        ..LogConfig::default()
    }
}

fn run(seed: u64) {
    let mut dice = Dice::new(seed);
    let mut rig = Rig::new(some_config(&mut dice));
    let mut log = rig.open();
    let (records, times) = (BTreeMap::new(), BTreeMap::new());
    let mut model = Model { records, times, start: 0, end: 0, durable: 0 };
    for _ in 0..150 {
        match dice.below(19) {
            0..=8 => {
                model.append(&rig, &log, &mut dice).unwrap();
            }
            9 => log.checkpoint().unwrap(),
            10 => {
                let before = i64::try_from(dice.below(u64::try_from(model.end + 1).unwrap())).unwrap();
                let start = log.delete_records(Some(Offset::new(before))).unwrap().get();
                assert_eq!(start, model.start.max(before));
                model.start_at(start);
            }
            11 => {
                let to = model.start
                    + i64::try_from(dice.below(u64::try_from(model.end - model.start + 1).unwrap())).unwrap();
                let cut = log.truncate(Offset::new(to)).unwrap().get();
                assert!(cut <= to && cut >= to - 1, "batches have at most two records");
                let cut = cut.max(model.start);
                model.cut_to(cut);
            }
            12 => {
                log.close().unwrap();
                model.durable = model.end;
                log = rig.try_open(CleanStart::Yes).unwrap().0;
            }
            13 => {
                drop(log);
                log = rig.open();
            }
            14 => {
                drop(log);
                rig.disk.power_cut(PowerCut::KeepsSome { seed: dice.below(u64::MAX) });
                rig.epoch += 1;
                log = rig.open();
                model.accept_loss(&log);
            }
            15 | 16 => model.enforce(&rig, &log),
            17 => model.fail_and_mend(&rig, &log, &mut dice),
            _ => rig.clock.advance(Duration::from_hours(dice.below(60))),
        }
        model.check(&log, &mut dice);
    }
}

#[test]
fn a_log_is_a_map_that_forgets_only_what_it_may() {
    for seed in 0..150 {
        if let Err(panic) = std::panic::catch_unwind(|| run(seed)) {
            eprintln!("the seed is {seed}");
            std::panic::resume_unwind(panic);
        }
    }
}
