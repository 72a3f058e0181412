//! Compaction against a model that knows Kafka's rules, under random operations.

use super::*;

/// A small generator, so that a seed says it all.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }

    fn size(&mut self, bound: u64) -> usize {
        usize::try_from(self.below(bound)).unwrap()
    }
}

#[derive(Clone, Debug)]
struct Batch {
    base: i64,
    last: i64,
    records: Vec<Seen>,
    horizon: Option<i64>,
}

#[derive(Debug)]
struct Model {
    batches: Vec<Batch>,
    start: i64,
    end: i64,
    durable: i64,
    delete_retention_ms: i64,
}

impl Model {
    /// By Kafka's rules: of each key the last below `end`; a tombstone until its batch's horizon, which begins
    /// with the first run that has been through all of the batch.
    fn compact(&mut self, end: i64, now_ms: i64) {
        let mut last = BTreeMap::new();
        for record in self.batches.iter().flat_map(|batch| &batch.records) {
            if record.offset < end
                && let Some(key) = &record.key
            {
                last.insert(key.clone(), record.offset);
            }
        }
        for batch in &mut self.batches {
            let keeps_tombstones = batch.horizon.is_none_or(|horizon| now_ms < horizon);
            batch.records.retain(|record| {
                let is_last = record.key.as_ref().is_some_and(|key| last.get(key) == Some(&record.offset));
                record.offset >= end || (is_last && (record.value.is_some() || keeps_tombstones))
            });
            let has_tombstone = batch.records.iter().any(|record| record.value.is_none());
            if batch.last < end && has_tombstone && batch.horizon.is_none() {
                batch.horizon = Some(now_ms + self.delete_retention_ms);
            }
        }
    }

    fn visible(&self) -> Vec<Seen> {
        let records = self.batches.iter().flat_map(|batch| &batch.records);
        records.filter(|record| record.offset >= self.start).cloned().collect()
    }

    fn check(&self, log: &Arc<Log>, dice: &mut Dice) {
        let offsets = log.offsets();
        assert_eq!((offsets.log_start.get(), offsets.log_end.get()), (self.start, self.end));
        let expected = self.visible();
        assert_eq!(seen(log), expected);
        let time = NOW_MS + i64::try_from(dice.below(3000)).unwrap();
        let found =
            log.offset_for_timestamp(time).unwrap().map(|found| (found.offset.get(), found.timestamp));
        let first = expected.iter().find(|record| record.timestamp >= time);
        assert_eq!(found, first.map(|record| (record.offset, record.timestamp)), "the first at {time}");
        let newest = log.max_timestamp().unwrap().map(|found| (found.offset.get(), found.timestamp));
        let newest_of_all = expected.iter().map(|record| record.timestamp).max();
        let first = expected.iter().find(|record| Some(record.timestamp) == newest_of_all);
        assert_eq!(newest, first.map(|record| (record.offset, record.timestamp)), "the newest");
    }

    fn cut_to(&mut self, end: i64) {
        self.batches.retain(|batch| batch.last < end);
        self.end = end;
        self.durable = self.durable.min(end);
    }
}

/// A batch of a few records, and what the model keeps of it.
fn random_batch(dice: &mut Dice, now_ms: i64, model: &Model) -> (BatchBuilder, Batch) {
    let codec = Compression::ALL[dice.size(8).min(4)];
    let mut builder = BatchBuilder::new(codec);
    let mut records = Vec::new();
    for offset in (model.end..).take(1 + dice.size(4)) {
        let key = (dice.below(30) > 0).then(|| format!("key-{}", dice.below(9)));
        let value = (dice.below(4) > 0).then(|| format!("{}", dice.below(1 << 40)).repeat(1 + dice.size(6)));
        let timestamp = now_ms - i64::try_from(dice.below(500)).unwrap();
        builder.append(&NewRecord {
            timestamp,
            key: key.as_deref().map(str::as_bytes),
            value: value.as_deref().map(str::as_bytes),
            ..NewRecord::default()
        });
        records.push(Seen { offset, timestamp, key, value });
    }
    let last = model.end + i64::try_from(records.len()).unwrap() - 1;
    (builder, Batch { base: model.end, last, records, horizon: None })
}

fn run(seed: u64) {
    let mut dice = Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let mut rig = Rig::new(LogConfig {
        segment_bytes: 1500 + dice.below(3000),
        index_interval_bytes: dice.below(400),
        checkpoint_bytes: 200 + dice.below(5000),
        delete_retention: Duration::from_millis(dice.below(1500)),
        ..LogConfig::default()
    });
    let delete_retention_ms = i64::try_from(rig.config.delete_retention.as_millis()).unwrap();
    let mut log = rig.open();
    let mut model = Model { batches: Vec::new(), start: 0, end: 0, durable: 0, delete_retention_ms };
    for _ in 0..120 {
        match dice.below(21) {
            0..=10 => {
                let (builder, batch) = random_batch(&mut dice, rig.clock.now_ms(), &model);
                assert_eq!(put(&log, builder), batch.base);
                model.end = batch.last + 1;
                model.batches.push(batch);
            }
            11..=13 => {
                let buffer = if dice.below(3) == 0 { 24 * (1 + dice.size(6)) } else { ROOMY };
                let done = try_compact(&log, now(buffer)).unwrap().unwrap();
                assert!(done.more || done.cleaned_to.get() == model.end, "{done:?}");
                model.compact(done.cleaned_to.get(), rig.clock.now_ms());
                model.durable = model.end;
            }
            14 => {
                let before = i64::try_from(dice.below(u64::try_from(model.end + 1).unwrap())).unwrap();
                model.start = log.delete_records(Some(Offset::new(before))).unwrap().get();
                model.durable = model.durable.max(model.start);
            }
            15 => log.checkpoint().unwrap(),
            16 => {
                log.close().unwrap();
                model.durable = model.end;
                log = rig.try_open(CleanStart::Yes).unwrap().0;
            }
            17 => {
                drop(log);
                rig.disk.power_cut(PowerCut::KeepsSome { seed: dice.below(u64::MAX) });
                rig.epoch += 1;
                log = rig.open();
                let kept = end(&log);
                assert!((model.durable..=model.end).contains(&kept), "{kept} of {}", model.durable);
                model.cut_to(kept);
            }
            18 => {
                log.flush().unwrap();
                drop(log);
                for name in rig.names().iter().filter(|name| name.ends_with(".snapshot")) {
                    rig.disk.remove_file(&Rig::file(name)).unwrap();
                }
                log = rig.open();
            }
            _ => rig.clock.advance(Duration::from_millis(dice.below(900))),
        }
        model.check(&log, &mut dice);
    }
}

#[test]
fn a_compacted_log_is_what_kafka_would_have_made_of_it() {
    for seed in 0..150 {
        if let Err(panic) = std::panic::catch_unwind(|| run(seed)) {
            eprintln!("the seed is {seed}");
            std::panic::resume_unwind(panic);
        }
    }
}
