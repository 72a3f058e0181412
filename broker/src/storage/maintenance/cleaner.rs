//! What takes long and has time: compaction, first where somebody waits for it, then of the dirtiest log that is
//! due; and looking for damage. One piece at a time.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use millstream_log::{CompactError, CompactLimits, Demand, Log, Offset, Pace, ReadError, ScrubFrom};

use super::backoff::Backoff;
use crate::metadata::topics::{Partition, Topic};
use crate::node::Node;
use crate::storage::compactions::Key;
use crate::storage::directory::Directory;

/// How long it rests when there is nothing to do.
const REST: Duration = Duration::from_secs(1);

/// How often all that is stored is looked through, if that does not take longer.
const SCRUB_EACH: Duration = Duration::from_hours(24);

/// The most that compaction writes before it removes as much: one segment.
const COMPACTION_BYTES: u64 = 1 << 31;

/// How often a run begins anew because the log was cut meanwhile.
const OVERTAKEN_MAX: usize = 3;

/// What is looked through at a time. A stop waits for one such piece.
const SCRUB_BYTES: u64 = 4 << 20;

/// Where looking for damage has come to.
#[derive(Debug)]
struct Scrub {
    pace: Arc<Pace>,
    began: Option<Duration>,
    /// The partition that is looked through, and the next offset in it; `None` between two passes.
    at: Option<(Key, Offset)>,
    bytes: u64,
    damaged: usize,
}

/// Cleans one data folder. Owned by its thread.
#[derive(Debug)]
pub(crate) struct Cleaner {
    node: Arc<Node>,
    directory: Arc<Directory>,
    /// How fast compaction may go.
    pace: Arc<Pace>,
    compaction_due: Duration,
    /// Partitions whose compaction failed, and when it is tried next.
    failed: HashMap<Key, Backoff>,
    scrub: Option<Scrub>,
}

/// What a cleaner's waiting is ended with.
#[derive(Debug, Clone)]
pub(crate) struct Paces(Vec<Arc<Pace>>);

impl Paces {
    /// Whoever waits for a rate waits no more.
    pub(crate) fn hurry(&self) {
        self.0.iter().for_each(|pace| pace.hurry());
    }
}

impl Cleaner {
    pub(crate) fn new(node: Arc<Node>, directory: Arc<Directory>) -> Self {
        let scrub = node.settings().scrub_bytes_per_second.map(|rate| Scrub {
            pace: Arc::new(Pace::of(rate.get())),
            began: None,
            at: None,
            bytes: 0,
            damaged: 0,
        });
        let (pace, failed) = (Arc::new(Pace::unlimited()), HashMap::new());
        Self { node, directory, pace, compaction_due: Duration::ZERO, failed, scrub }
    }

    pub(crate) fn paces(&self) -> Paces {
        let of_scrub = self.scrub.iter().map(|scrub| Arc::clone(&scrub.pace));
        Paces(of_scrub.chain([Arc::clone(&self.pace)]).collect())
    }

    /// Does a piece of each work that there is to do and returns how long it may be left alone. `now` is counted from any
    /// one moment on. Blocks on the disk.
    pub(crate) fn step(&mut self, now: Duration) -> Duration {
        self.pace.set(self.node.settings().cleaner_bytes_per_second);
        let compacted = self.compact_on_wish() || self.compact_the_dirtiest(now);
        // Whatever there is to compact, damage has to be found one day.
        let scrubbed = self.scrub_a_piece(now);
        match compacted || scrubbed {
            true => Duration::ZERO,
            false => REST,
        }
    }

    /// Compacts a partition that somebody waits for. Tells whether there was one.
    fn compact_on_wish(&self) -> bool {
        let snapshot = Arc::clone(&self.node.topics.snapshot());
        let find = |(topic, index): Key| {
            let topic = snapshot.identified(topic)?;
            Some((topic, topic.partition(index)?))
        };
        let is_mine = |key| find(key).is_some_and(|(_, partition)| partition.is_on(&self.directory));
        let wished = self.node.compactions.next(is_mine, |key| find(key).is_none());
        let Some((key, (topic, partition))) = wished.and_then(|key| Some((key, find(key)?))) else {
            return false;
        };
        let done = match partition.log() {
            Ok(log) => self.compact(topic, partition, log, Demand::Now),
            Err(missing) => Err(missing.to_string()),
        };
        self.node.compactions.end(key, done.err());
        true
    }

    /// Compacts the log that needs it most, of those that are due. Tells whether there was one.
    fn compact_the_dirtiest(&mut self, now: Duration) -> bool {
        if now < self.compaction_due {
            return false;
        }
        let snapshot = Arc::clone(&self.node.topics.snapshot());
        let compacted = snapshot.sorted().into_iter().filter(|topic| topic.settings.cleanup().compacts());
        let here = compacted.flat_map(|topic| {
            let partitions = topic.partitions.iter().filter(|one| one.is_on(&self.directory));
            partitions.filter_map(move |partition| Some((topic, partition, partition.log().ok()?)))
        });
        let due = here.filter_map(|(topic, partition, log)| {
            let is_tried_later = |backoff: &Backoff| !backoff.is_due(now);
            let waits = self.failed.get(&(topic.id, partition.index)).is_some_and(is_tried_later);
            let dirtiness = log.dirtiness();
            let is_due = dirtiness.is_due && !waits && !log.is_failed() && self.has_room(log);
            is_due.then_some(((dirtiness.is_overdue, dirtiness.ratio_ppm()), topic, partition, log))
        });
        let Some((_, topic, partition, log)) = due.min_by_key(|(need, ..)| Reverse(*need)) else {
            self.compaction_due = now + self.node.settings().cleaner_backoff;
            self.failed.retain(|_, backoff| !backoff.is_over(now));
            return false;
        };
        let key = (topic.id, partition.index);
        let done = self.compact(topic, partition, log, Demand::IfDue);
        self.node.compactions.end(key, None);
        if done.is_err() {
            self.failed.entry(key).or_insert_with(|| Backoff::from(now)).tried(now);
        }
        true
    }

    /// New content lies beside the old for a while. What it takes must not keep records from being taken.
    fn has_room(&self, log: &Log) -> bool {
        let space = &self.directory.space;
        let needed = log.size_bytes().min(COMPACTION_BYTES).saturating_add(space.mark());
        !space.is_refusing() && space.space().free_bytes >= needed
    }

    /// Compacts a log, in as many runs as it takes.
    fn compact(&self, topic: &Topic, partition: &Partition, log: &Log, demand: Demand) -> Result<(), String> {
        let (name, index) = (&*topic.name, partition.index);
        let key = (topic.id, index);
        let limits = CompactLimits { demand, dedupe_buffer_bytes: self.node.settings().dedupe_buffer_bytes };
        if !self.has_room(log) {
            return Err("there is not enough room on the disk to compact this partition".to_owned());
        }
        let mut overtaken = 0;
        loop {
            let done = log.compact(limits, &self.pace, &mut |progress| {
                self.pace.set(self.node.settings().cleaner_bytes_per_second);
                self.node.compactions.progress(key, progress.read_bytes, progress.total_bytes);
                match self.node.is_stopping() {
                    true => ControlFlow::Break(()),
                    false => ControlFlow::Continue(()),
                }
            });
            match done {
                Ok(None) => return Ok(()),
                Ok(Some(run)) => {
                    self.node.metrics.storage.compacted(&run, self.node.clock.now_ms());
                    let ms = run.took.as_millis();
                    tracing::info!(
                        topic = name, partition = index, cleaned_to = %run.cleaned_to, ms,
                        bytes_before = run.bytes_before, bytes_after = run.bytes_after,
                        records_removed = run.records_removed, "a partition was compacted"
                    );
                    if !run.more || self.node.is_stopping() {
                        return Ok(());
                    }
                }
                Err(CompactError::Stopped) => return Ok(()),
                // Records were deleted under its eyes: that happens, but not again and again.
                Err(CompactError::Overtaken) if overtaken < OVERTAKEN_MAX => overtaken += 1,
                Err(error) => {
                    self.node.metrics.storage.compaction_failed();
                    tracing::warn!(topic = name, partition = index, %error, "a partition was not compacted");
                    return Err(error.to_string());
                }
            }
        }
    }

    /// Tells whether there was something to look through.
    fn scrub_a_piece(&mut self, now: Duration) -> bool {
        let Some(scrub) = &mut self.scrub else { return false };
        if scrub.at.is_none() {
            // What is not open yet would be passed over, and not be looked at for a day.
            if !self.node.topics.recovery().is_over()
                || scrub.began.is_some_and(|began| now < began + SCRUB_EACH)
            {
                return false;
            }
            (scrub.began, scrub.bytes, scrub.damaged) = (Some(now), 0, 0);
        }
        let snapshot = Arc::clone(&self.node.topics.snapshot());
        // By id, so that topics that come and go meanwhile change nothing.
        let mut topics = snapshot.sorted();
        topics.sort_unstable_by_key(|topic| topic.id);
        let mut here = topics.into_iter().flat_map(|topic| {
            let partitions = topic.partitions.iter().filter(|one| one.is_on(&self.directory));
            partitions.filter_map(move |partition| Some((topic, partition, partition.log().ok()?)))
        });
        let from = scrub.at;
        let next = here.find(|(topic, partition, _)| {
            from.is_none_or(|(reached, _)| (topic.id, partition.index) >= reached)
        });
        let Some((topic, partition, log)) = next else {
            let (bytes, damaged, folder) = (scrub.bytes, scrub.damaged, self.directory.path.display());
            if bytes > 0 {
                tracing::info!(%folder, bytes, damaged, "everything that is stored was looked through");
            }
            scrub.at = None;
            return false;
        };
        let key = (topic.id, partition.index);
        let offset = from.filter(|(reached, _)| *reached == key).map_or(Offset::default(), |(_, next)| next);
        let next = self.scrub_log(topic, partition, log, offset);
        if let Some(scrub) = &mut self.scrub {
            scrub.at =
                Some(next.map_or(((topic.id, partition.index + 1), Offset::default()), |at| (key, at)));
        }
        true
    }

    /// Looks through a piece of one log; where to go on in it, if anywhere.
    fn scrub_log(&mut self, topic: &Topic, partition: &Partition, log: &Log, from: Offset) -> Option<Offset> {
        let scrub = self.scrub.as_mut()?;
        let (name, index) = (&*topic.name, partition.index);
        match log.scrub(ScrubFrom { offset: from, max_bytes: SCRUB_BYTES }, &scrub.pace) {
            Ok(report) => {
                scrub.bytes += report.bytes;
                scrub.damaged += report.damaged.len();
                self.node.metrics.storage.scrubbed(report.bytes);
                for range in &report.damaged {
                    tracing::error!(
                        topic = name, partition = index, from = %range.offsets.start, to = %range.offsets.end,
                        file = %range.file.display(), cause = %range.cause,
                        "records are damaged and are not served; all others are"
                    );
                }
                report.next
            }
            // Deleted in the meantime.
            Err(ReadError::Closed) => None,
            Err(error) => {
                tracing::warn!(topic = name, partition = index, offset = %from, %error, "a partition cannot be looked through");
                None
            }
        }
    }
}
