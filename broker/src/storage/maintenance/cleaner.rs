//! What takes long and has time: compaction, and looking for damage. One piece at a time.

use std::sync::Arc;
use std::time::Duration;

use millstream_log::{Log, Offset, Pace, ReadError, ScrubFrom};
use millstream_protocol::Uuid;

use crate::metadata::topics::{Partition, Topic};
use crate::node::Node;
use crate::storage::directory::Directory;

/// How long it rests when there is nothing to do.
const REST: Duration = Duration::from_secs(1);

/// How often all that is stored is looked through, if that does not take longer.
const SCRUB_EACH: Duration = Duration::from_hours(24);

/// What is looked through at a time. A stop waits for one such piece.
const SCRUB_BYTES: u64 = 4 << 20;

/// Where looking for damage has come to.
#[derive(Debug)]
struct Scrub {
    pace: Arc<Pace>,
    began: Option<Duration>,
    /// The partition that is looked through, and the next offset in it; `None` between two passes.
    at: Option<((Uuid, i32), Offset)>,
    bytes: u64,
    damaged: usize,
}

/// Cleans one data folder. Owned by its thread.
#[derive(Debug)]
pub(crate) struct Cleaner {
    node: Arc<Node>,
    directory: Arc<Directory>,
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
        let scrub = node.settings.scrub_bytes_per_second.map(|rate| Scrub {
            pace: Arc::new(Pace::of(rate.get())),
            began: None,
            at: None,
            bytes: 0,
            damaged: 0,
        });
        Self { node, directory, scrub }
    }

    pub(crate) fn paces(&self) -> Paces {
        Paces(self.scrub.iter().map(|scrub| Arc::clone(&scrub.pace)).collect())
    }

    /// Does one piece of what there is to do and returns how long it may be left alone. `now` is counted from any
    /// one moment on. Blocks on the disk.
    pub(crate) fn step(&mut self, now: Duration) -> Duration {
        match self.scrub_a_piece(now) {
            true => Duration::ZERO,
            false => REST,
        }
    }

    /// Tells whether there was something to look through.
    fn scrub_a_piece(&mut self, now: Duration) -> bool {
        let Some(scrub) = &mut self.scrub else { return false };
        if scrub.at.is_none() {
            if scrub.began.is_some_and(|began| now < began + SCRUB_EACH) {
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
