//! Bar 6: indexes are expendable.

use std::sync::Arc;
use std::time::Instant;

use anyhow::Context as _;
use millstream_log::{
    Acks, CleanStart, Disk as _, FirstBatch, Flusher, Isolation, LeaderEpoch, Log, LogConfig, Offset,
    OpenOptions, ReadFrom, RealDisk, SystemClock,
};
use millstream_protocol::records::BatchView;
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};

use super::{NOW_MS, Rig, append, batch, fetch};
use crate::proof::{Failure, Options, Proven, say};

/// What happens to each index file.
#[derive(Clone, Copy, Debug)]
enum Harm {
    Deleted,
    Emptied,
    Halved,
    /// Cut within an entry.
    Ragged,
    Zeroed,
    Filled,
    /// Each byte another one.
    Garbled,
    /// With entries that were never written.
    Longer,
}

const HARMS: [Harm; 8] = [
    Harm::Deleted,
    Harm::Emptied,
    Harm::Halved,
    Harm::Ragged,
    Harm::Zeroed,
    Harm::Filled,
    Harm::Garbled,
    Harm::Longer,
];

/// MB/s that a rebuild has to reach.
const REBUILD_MB_PER_SECOND: f64 = 300.0;

pub(in crate::proof) fn run(options: &Options) -> Proven {
    let seed = options.seed();
    let mut dice = SmallRng::seed_from_u64(seed);
    let rig = indexed(&mut dice)?;
    let lookups = options.either(10_000, 200_000) / HARMS.len();
    let (mut answered, mut harmed) = (0, 0);
    for harm in HARMS {
        for is_running in [false, true] {
            let questions: Vec<Question> = (0..lookups / 2).map(|_| Question::drawn(&mut dice)).collect();
            let (sound, _) = rig.fork().open(CleanStart::Yes)?;
            let expected: Vec<_> =
                questions.iter().map(|question| question.ask(&sound)).collect::<Result<_, _>>()?;
            let rig = rig.fork();
            let running = if is_running { Some(rig.open(CleanStart::Yes)?) } else { None };
            harmed += harm.done_to(&rig, &mut dice)?;
            let (log, _) = running.map_or_else(|| rig.open(CleanStart::Yes), Ok)?;
            for (question, expected) in questions.iter().zip(expected) {
                let answer = question.ask(&log)?;
                if answer != expected {
                    return Err(Failure::Broken(format!(
                        "{harm:?}, while running: {is_running}, seed {seed}: {question:?} is answered {answer:?} \
                         instead of {expected:?}"
                    )));
                }
                answered += 1;
            }
        }
    }
    if harmed < 100 {
        return Err(Failure::Invalid(format!("only {harmed} files were harmed")));
    }
    let rate = rebuild_rate(options)?;
    // Without optimisation the figure says nothing.
    if rate < REBUILD_MB_PER_SECOND && !cfg!(debug_assertions) {
        return Err(Failure::Broken(format!(
            "a rebuild makes {rate:.0} MB/s, not {REBUILD_MB_PER_SECOND:.0}"
        )));
    }
    Ok(format!(
        "{answered} lookups by offset and by time with {harmed} harmed index files: all as before; rebuilt at \
         {rate:.0} MB/s; seed {seed}"
    ))
}

/// A closed log of some twenty segments whose times rise, fall and repeat.
fn indexed(dice: &mut SmallRng) -> anyhow::Result<Rig> {
    let config = LogConfig { segment_bytes: 20_000, index_interval_bytes: 700, ..LogConfig::default() };
    let rig = Rig::new(config);
    let (log, _) = rig.open(CleanStart::Yes)?;
    for at in 0..1_500 {
        let time = NOW_MS + at * 10 + dice.random_range(0..40);
        let batch = batch(dice, time, &[200, 30]);
        append(&log, batch, Acks::Written)?;
    }
    log.close()?;
    Ok(rig)
}

#[derive(Clone, Copy, Debug)]
enum Question {
    Offset(i64),
    Time(i64),
}

impl Question {
    fn drawn(dice: &mut SmallRng) -> Self {
        match dice.random::<bool>() {
            true => Self::Offset(dice.random_range(0..3_000)),
            false => Self::Time(NOW_MS + dice.random_range(-10..15_100)),
        }
    }

    /// An offset is answered with the base of its batch, a time with a record and its time.
    fn ask(self, log: &Log) -> anyhow::Result<Option<(i64, i64)>> {
        Ok(match self {
            Self::Offset(offset) => {
                let bytes = fetch(log, offset, 1)?;
                let batch = BatchView::parse(&bytes).context("no batch")?;
                Some((batch.base_offset(), batch.last_offset()))
            }
            Self::Time(time) => {
                log.offset_for_timestamp(time)?.map(|found| (found.offset.get(), found.timestamp))
            }
        })
    }
}

impl Harm {
    /// Returns how many files it changed.
    fn done_to(self, rig: &Rig, dice: &mut SmallRng) -> anyhow::Result<usize> {
        let names: Vec<_> = rig.names("index")?.into_iter().chain(rig.names("timeindex")?).collect();
        for name in &names {
            let path = Rig::path(name);
            let mut content = rig.content(name)?;
            let length = content.len();
            match self {
                Self::Deleted => {
                    rig.disk.remove_file(&path)?;
                    continue;
                }
                Self::Emptied => content.clear(),
                Self::Halved => content.truncate(length / 24 * 12),
                Self::Ragged => content.truncate(length.saturating_sub(5)),
                Self::Zeroed => content.fill(0),
                Self::Filled => content.fill(0xff),
                Self::Garbled => content.iter_mut().for_each(|byte| *byte ^= dice.random_range(1..=255)),
                Self::Longer => content.extend((0..96).map(|_| dice.random::<u8>())),
            }
            rig.disk.overwrite(&path, &content);
        }
        Ok(names.len())
    }
}

/// MB/s of log from a lookup that finds no index, on the real disk, with the log in memory.
fn rebuild_rate(options: &Options) -> anyhow::Result<f64> {
    let folder = tempfile::tempdir_in(&options.folder)?;
    let dir = folder.path().join("t").join("0");
    let open = || -> anyhow::Result<Arc<Log>> {
        let options = OpenOptions {
            disk: Arc::new(RealDisk),
            clock: Arc::new(SystemClock),
            flusher: Flusher::inline(),
            dir: dir.clone(),
            config: LogConfig::default(),
            leader_epoch: LeaderEpoch::new(1),
            clean: CleanStart::Yes,
        };
        Ok(Log::open(options)?.0)
    };
    let log = open()?;
    let mut dice = SmallRng::seed_from_u64(1);
    // What producers send by default is 16 KiB and less.
    let batch = batch(&mut dice, NOW_MS, &[1_000; 8]);
    let megabytes = options.either(128, 800);
    while log.size_bytes() < megabytes << 20 {
        append(&log, batch.clone(), Acks::Written)?;
    }
    log.close()?;
    for entry in std::fs::read_dir(&dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "index" || extension == "timeindex") {
            std::fs::remove_file(path)?;
        }
    }
    let began = Instant::now();
    let log = open()?;
    let end = log.offsets().log_end.get();
    let from = ReadFrom {
        offset: Offset::new(end - 1),
        max_bytes: 1,
        first_batch: FirstBatch::Whole,
        isolation: Isolation::ReadUncommitted,
    };
    anyhow::ensure!(log.read(from)?.bytes > 0, "the last batch is not found");
    let rate = log.size_bytes() as f64 / 1e6 / began.elapsed().as_secs_f64();
    say(&format!("an index of {megabytes} MiB was rebuilt at {rate:.0} MB/s"));
    Ok(rate)
}
