//! Opening the logs of all topics after a start, in parallel, while requests are served.
//!
//! A partition that cannot be opened costs itself only. Whoever waits for the end is told how many there
//! were, and how many failed.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use millstream_log::{OpenError, Recovery};
use parking_lot::{Condvar, Mutex};

use super::{Partition, Snapshot, Topic, Topics};
use crate::storage::directory::Home;

/// How often progress is reported while it lasts.
const REPORT_EACH: Duration = Duration::from_secs(1);

/// What recovery has found, or has found so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecoverySummary {
    /// Partitions that were on disk when the broker started.
    pub partitions: usize,
    /// Those that are open now.
    pub opened: usize,
    /// Those that cannot be opened; requests for them are refused with a storage error.
    pub failed: usize,
    /// Bytes that were read and checked because they lay above what was known to be on disk.
    pub scanned_bytes: u64,
    /// Tails that a crash had torn and that were cut off.
    pub torn_tails: usize,
    /// Ranges below the durable point that cannot be read any more.
    pub lost_ranges: usize,
    /// Since recovery began, or how long it took.
    pub elapsed: Duration,
}

/// How far recovery is; shared by those who work at it and those who wait for it.
#[derive(Debug)]
pub(crate) struct RecoveryProgress {
    began: Instant,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    summary: RecoverySummary,
    /// Threads that are still at it.
    workers: usize,
    is_over: bool,
}

impl RecoveryProgress {
    pub(super) fn of(partitions: usize) -> Self {
        let summary = RecoverySummary { partitions, ..RecoverySummary::default() };
        let state = Mutex::new(State { summary, workers: 0, is_over: false });
        Self { began: Instant::now(), state, changed: Condvar::new() }
    }

    /// From now on so many partitions are worked at by so many threads.
    fn begin(&self, partitions: usize, workers: usize) {
        let mut state = self.state.lock();
        state.summary.partitions = partitions;
        state.workers = workers;
    }

    /// What was found so far.
    pub(crate) fn summary(&self) -> RecoverySummary {
        let state = self.state.lock();
        match state.is_over {
            true => state.summary,
            false => RecoverySummary { elapsed: self.began.elapsed(), ..state.summary },
        }
    }

    /// Whether every partition was opened, or at least tried.
    pub(crate) fn is_over(&self) -> bool {
        self.state.lock().is_over
    }

    /// Waits until every partition was opened, or at least tried, or recovery was stopped. Blocks.
    pub(crate) fn wait(&self) -> RecoverySummary {
        let mut state = self.state.lock();
        self.changed.wait_while(&mut state, |state| !state.is_over);
        state.summary
    }

    fn note(&self, outcome: Outcome) {
        let mut state = self.state.lock();
        let summary = &mut state.summary;
        match outcome {
            Outcome::Opened(report) => {
                summary.opened += 1;
                summary.scanned_bytes += report.scanned_bytes;
                summary.torn_tails += report.torn.len();
                summary.lost_ranges += report.lost.len();
            }
            // Deleted, or opened by somebody else, in the meantime.
            Outcome::Superseded => summary.opened += 1,
            Outcome::Failed => summary.failed += 1,
        }
    }

    fn worker_is_done(&self) {
        self.state.lock().workers -= 1;
        self.changed.notify_all();
    }

    fn finish(&self) -> RecoverySummary {
        let mut state = self.state.lock();
        state.summary.elapsed = self.began.elapsed();
        state.is_over = true;
        self.changed.notify_all();
        state.summary
    }

    /// Tells the log each second how far it is, until nobody works at it any more.
    fn report_until_done(&self) {
        let mut state = self.state.lock();
        while state.workers > 0 {
            if self.changed.wait_for(&mut state, REPORT_EACH).timed_out() {
                let RecoverySummary { partitions, opened, failed, scanned_bytes, .. } = state.summary;
                let (done, seconds) = (opened + failed, self.began.elapsed().as_secs());
                tracing::info!(
                    done,
                    of = partitions,
                    failed,
                    scanned_bytes,
                    seconds,
                    "recovering partitions"
                );
            }
        }
    }
}

enum Outcome {
    Opened(Recovery),
    Superseded,
    Failed,
}

impl Topics {
    /// How far recovery is.
    pub(crate) fn recovery(&self) -> &RecoveryProgress {
        &self.progress
    }

    /// Opens every partition that is not open yet, on as many threads as there are processors. Returns when
    /// all were tried, or soon after `is_stopping` says so. Blocks on the disk.
    pub(crate) fn recover(&self, is_stopping: &(dyn Fn() -> bool + Sync)) -> RecoverySummary {
        let snapshot = self.with_folders();
        let jobs: Vec<(&Arc<Topic>, &Arc<Partition>)> = snapshot
            .sorted()
            .into_iter()
            .flat_map(|topic| topic.partitions.iter().map(move |partition| (topic, partition)))
            .filter(|(_, partition)| partition.log().is_err())
            .collect();
        let next = AtomicUsize::new(0);
        let work = || {
            while let Some((topic, partition)) = jobs.get(next.fetch_add(1, Relaxed))
                && !is_stopping()
            {
                self.progress.note(self.recover_one(topic, partition));
            }
            self.progress.worker_is_done();
        };
        let threads = self.logs.machine.threads.min(jobs.len());
        self.progress.begin(jobs.len(), threads);
        match threads {
            0 => {}
            1 => work(),
            _ => std::thread::scope(|scope| {
                for _ in 0..threads {
                    scope.spawn(work);
                }
                self.progress.report_until_done();
            }),
        }
        let summary = self.progress.finish();
        report(&summary);
        self.finish_deletions();
        self.look_for_strangers();
        summary
    }

    /// Tries to open a partition that could not be opened before. Tells whether it is open now. Blocks on the
    /// disk.
    pub(crate) fn open_again(&self, topic: &Topic, partition: &Partition) -> bool {
        !matches!(self.recover_one(topic, partition), Outcome::Failed)
    }

    /// The topics, after their folders were made sure of: some file systems lose the name of a folder in a
    /// crash although the metadata is there.
    fn with_folders(&self) -> Arc<Snapshot> {
        let _changing = self.changing.lock();
        let snapshot = self.snapshot.load_full();
        for directory in self.directories() {
            let topics = snapshot.sorted().into_iter();
            let here = topics.filter(|topic| topic.partitions.iter().any(|one| one.is_on(directory)));
            let mut made = here.map(|topic| directory.make_folder(topic.id)).peekable();
            if made.peek().is_none() {
                continue;
            }
            if let Err(error) = made.collect::<Result<(), _>>().and_then(|()| directory.sync_folder()) {
                // The opening of each partition will tell what is the matter with it.
                tracing::error!(%error, "the folders of topics cannot be made sure of");
            }
        }
        snapshot
    }

    /// A broken invariant is kept to its partition, too: the others have nothing to do with it.
    fn recover_one(&self, topic: &Topic, partition: &Partition) -> Outcome {
        let (name, index) = (&*topic.name, partition.index);
        // What is missing was reported once, for all that lies there.
        let Home::On(home) = &partition.home else { return Outcome::Failed };
        let open = || {
            let clean = home.clean;
            partition.open_with(|| self.logs.open(home, (topic.id, index), &topic.settings, clean))
        };
        let opened = catch_unwind(AssertUnwindSafe(open)).unwrap_or_else(|_| {
            let error = io::Error::other("a broken invariant, reported above");
            partition.fail(OpenError::Io { action: "open", path: home.folder_of(topic.id, index), error })
        });
        match opened {
            Ok(Some(report)) => {
                self.tell_settings(topic, partition);
                tell(name, index, &report);
                Outcome::Opened(report)
            }
            Ok(None) => Outcome::Superseded,
            Err(error) => {
                tracing::error!(
                    topic = name, partition = index, %error,
                    "a partition cannot be opened; it answers with a storage error, the others are served"
                );
                Outcome::Failed
            }
        }
    }
}

/// Everything that somebody will want to know of one partition.
fn tell(topic: &str, partition: i32, report: &Recovery) {
    for torn in &report.torn {
        tracing::warn!(
            topic, partition, from = %torn.from, bytes = torn.bytes, kept = ?torn.kept,
            "a torn tail was cut off: it was never known to be on disk"
        );
    }
    for lost in &report.lost {
        tracing::error!(topic, partition, from = %lost.from, to = %lost.to, "records are lost: they were on disk and are not any more");
    }
    for name in &report.foreign {
        tracing::warn!(
            topic,
            partition,
            ?name,
            "a file in this partition's folder is not ours and is left alone"
        );
    }
    let Recovery { log_start, log_end, scanned_bytes, .. } = report;
    tracing::debug!(topic, partition, %log_start, %log_end, scanned_bytes, "partition opened");
}

fn report(summary: &RecoverySummary) {
    let RecoverySummary { partitions, opened, failed, scanned_bytes, torn_tails, lost_ranges, elapsed } =
        *summary;
    let ms = elapsed.as_millis();
    match (opened + failed < partitions, failed) {
        (true, _) => tracing::warn!(opened, failed, of = partitions, "recovery was stopped"),
        (false, 0) if partitions == 0 => {}
        (false, 0) => {
            tracing::info!(partitions, scanned_bytes, torn_tails, lost_ranges, ms, "partitions recovered");
        }
        (false, _) => tracing::error!(
            opened,
            failed,
            scanned_bytes,
            torn_tails,
            lost_ranges,
            ms,
            "partitions recovered, but not all"
        ),
    }
}
