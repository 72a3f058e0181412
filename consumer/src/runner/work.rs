//! What a runner knows of its records: which may be worked on now, which wait, and what may be committed.
//!
//! A pure part: records, outcomes and times go in, jobs and offsets come out. It starts nothing and asks no clock.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use millstream_protocol::KStr;
use tokio::time::Instant;

use crate::consumer::TopicPartitionOffset;
use crate::record::ConsumerRecord;
use crate::runner::lanes::{Lane, Lanes, Order, Tenure};
use crate::runner::retry::{Failure, RetryPolicy};
use crate::runner::tracker::OffsetTracker;

/// Records that are finished while one before them is not are remembered, so they are limited, too.
const UNCOMMITTED_RECORDS_MAX: usize = 100_000;

/// How long a record waits that could not be parked, after all that was tried already.
const PARK_AGAIN: Duration = Duration::from_secs(1);

/// What is to be done with a record next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    Handle,
    /// It is given up, for this reason.
    Park(Failure),
}

/// A record on its way through.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) ticket: Ticket,
    pub(super) record: ConsumerRecord,
    pub(super) step: Step,
    /// How often it has been handled.
    pub(super) attempts: u32,
    tenure: Tenure,
    lane: Option<Lane>,
}

/// Names a job.
pub(super) type Ticket = u64;

/// What became of a job.
#[derive(Debug)]
pub(super) enum Outcome {
    /// It is handled, or parked.
    Finished,
    /// The handler failed.
    Failed(Failure),
    /// It could not be parked, and may be later.
    NotParked,
}

/// What is under way of a job.
#[derive(Debug, Clone, Copy)]
struct UnderWay {
    tenure: Tenure,
    bytes: usize,
}

/// A partition as long as it is read without a break.
#[derive(Debug)]
struct Slot {
    topic: KStr,
    partition: i32,
    tracker: OffsetTracker,
    /// Jobs that were handed out and not returned.
    under_way: usize,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// Nothing of it is begun any more; what is under way still counts.
    Closed,
    /// What is under way does not count any more.
    Released,
}

/// Limits of what is in flight, and rules for it.
#[derive(Debug, Clone)]
pub(super) struct Rules {
    pub(super) order: Order,
    pub(super) concurrency: usize,
    pub(super) retry: RetryPolicy,
    pub(super) can_park: bool,
    pub(super) max_records: usize,
    pub(super) max_bytes: usize,
}

/// A record that failed for good and cannot be parked.
#[derive(Debug)]
pub(super) struct GivenUp {
    pub(super) record: ConsumerRecord,
    pub(super) attempts: u32,
    pub(super) failure: Failure,
}

/// The offset to commit for a partition, and for whose sake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Due {
    tenure: Tenure,
    pub(super) offset: TopicPartitionOffset,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Work {
    rules: Rules,
    slots: BTreeMap<Tenure, Slot>,
    current: HashMap<(KStr, i32), Tenure>,
    lanes: Lanes<Job>,
    ready: VecDeque<Job>,
    /// Jobs that wait for their next attempt. The ticket keeps apart what is due at the same time.
    later: BTreeMap<(Instant, Ticket), Job>,
    under_way: HashMap<Ticket, UnderWay>,
    /// Records that were received and are not finished, and their size.
    records: usize,
    bytes: usize,
    last_tenure: Tenure,
    last_ticket: Ticket,
}

impl Work {
    pub(super) fn new(rules: Rules) -> Self {
        Self {
            lanes: Lanes::new(rules.order),
            rules,
            slots: BTreeMap::new(),
            current: HashMap::new(),
            ready: VecDeque::new(),
            later: BTreeMap::new(),
            under_way: HashMap::new(),
            records: 0,
            bytes: 0,
            last_tenure: 0,
            last_ticket: 0,
        }
    }

    /// Whether more records are wanted.
    pub(super) fn has_room(&self) -> bool {
        let open: usize = self.slots.values().map(|slot| slot.tracker.open()).sum();
        self.records < self.rules.max_records
            && self.bytes < self.rules.max_bytes
            && open < UNCOMMITTED_RECORDS_MAX
    }

    /// Whether everything that was received is finished.
    pub(super) fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// Takes a record in.
    pub(super) fn receive(&mut self, record: ConsumerRecord) {
        let tenure = self.tenure_of(&record);
        let slot = self.slots.get_mut(&tenure).expect("a current tenure has a slot");
        slot.tracker.received(record.offset);
        self.records += 1;
        self.bytes += size(&record);
        self.last_ticket += 1;
        let lane = self.lanes.of(tenure, &record);
        let job = Job { ticket: self.last_ticket, record, step: Step::Handle, attempts: 0, tenure, lane };
        self.ready.extend(self.lanes.enter(lane, job));
    }

    fn tenure_of(&mut self, record: &ConsumerRecord) -> Tenure {
        let key = (record.topic.clone(), record.partition);
        if let Some(tenure) = self.current.get(&key).copied() {
            if self.slots[&tenure].tracker.is_ahead(record.offset) {
                return tenure;
            }
            // The reading jumped back: what is under way comes again, and must not move what is committed.
            self.close(tenure);
            self.release(tenure);
        }
        self.last_tenure += 1;
        let slot = Slot {
            topic: key.0.clone(),
            partition: key.1,
            tracker: OffsetTracker::default(),
            under_way: 0,
            state: State::Open,
        };
        self.slots.insert(self.last_tenure, slot);
        self.current.insert(key, self.last_tenure);
        self.last_tenure
    }

    /// The next job to begin with, if there is one and not too many are under way. Parking counts as well.
    pub(super) fn take(&mut self, now: Instant) -> Option<Job> {
        while let Some(entry) = self.later.first_entry().filter(|entry| entry.key().0 <= now) {
            // What has waited comes before what is new.
            self.ready.push_front(entry.remove());
        }
        if self.under_way.len() >= self.rules.concurrency {
            return None;
        }
        let mut job = self.ready.pop_front()?;
        if job.step == Step::Handle {
            job.attempts += 1;
        }
        let slot = self.slots.get_mut(&job.tenure).expect("jobs of a closed tenure are dropped");
        slot.under_way += 1;
        self.under_way.insert(job.ticket, UnderWay { tenure: job.tenure, bytes: size(&job.record) });
        Some(job)
    }

    /// When there is something to take that cannot be taken now.
    pub(super) fn alarm(&self) -> Option<Instant> {
        self.later.first_key_value().map(|((at, _), _)| *at)
    }

    /// A job that was taken has come to an end. If that ends everything, says so.
    pub(super) fn returned(&mut self, mut job: Job, outcome: Outcome, now: Instant) -> Option<GivenUp> {
        let under_way = self.under_way.remove(&job.ticket)?;
        let slot =
            self.slots.get_mut(&under_way.tenure).expect("a slot stays while jobs of it are under way");
        slot.under_way -= 1;
        let retry = match outcome {
            Outcome::Finished => {
                if slot.state != State::Released {
                    slot.tracker.finished(job.record.offset);
                }
                None
            }
            Outcome::Failed(_) | Outcome::NotParked if slot.state != State::Open => None,
            Outcome::NotParked => Some(PARK_AGAIN),
            Outcome::Failed(failure) => match self.rules.retry.wait(job.attempts, &failure) {
                Some(wait) => Some(wait),
                None if self.rules.can_park => {
                    job.step = Step::Park(failure);
                    Some(Duration::ZERO)
                }
                None => {
                    self.leave(&job, under_way.bytes);
                    return Some(GivenUp { attempts: job.attempts, record: job.record, failure });
                }
            },
        };
        match retry {
            Some(wait) => {
                self.later.insert((now + wait, job.ticket), job);
            }
            None => self.leave(&job, under_way.bytes),
        }
        None
    }

    fn leave(&mut self, job: &Job, bytes: usize) {
        self.records -= 1;
        self.bytes -= bytes;
        self.ready.extend(self.lanes.leave(job.lane));
        self.sweep(job.tenure);
    }

    /// A job that was taken will not come back.
    pub(super) fn aborted(&mut self, ticket: Ticket) {
        let Some(under_way) = self.under_way.remove(&ticket) else { return };
        self.records -= 1;
        self.bytes -= under_way.bytes;
        if let Some(slot) = self.slots.get_mut(&under_way.tenure) {
            slot.under_way -= 1;
        }
        self.sweep(under_way.tenure);
    }

    /// The tenure of a partition, if anything was received in one.
    pub(super) fn tenure(&self, topic: &KStr, partition: i32) -> Option<Tenure> {
        self.current.get(&(topic.clone(), partition)).copied()
    }

    /// All tenures that are not over.
    pub(super) fn tenures(&self) -> Vec<Tenure> {
        self.slots.keys().copied().collect()
    }

    /// Begins nothing more of a partition: what has not begun is dropped, and will be read again by whoever reads
    /// the partition next. What is under way may finish.
    pub(super) fn close(&mut self, tenure: Tenure) {
        if let Some(slot) = self.slots.get_mut(&tenure) {
            slot.state = State::Closed;
        }
        let mut dropped = self.lanes.close(tenure);
        let (ready, kept) = std::mem::take(&mut self.ready).into_iter().partition(|job| job.tenure == tenure);
        self.ready = kept;
        let ready: VecDeque<Job> = ready;
        dropped.extend(ready);
        dropped.extend(self.later.extract_if(.., |_, job| job.tenure == tenure).map(|(_, job)| job));
        self.records -= dropped.len();
        self.bytes -= dropped.iter().map(|job| size(&job.record)).sum::<usize>();
    }

    /// Whether nothing of these is under way.
    pub(super) fn is_idle(&self, tenures: &[Tenure]) -> bool {
        tenures.iter().all(|tenure| self.slots.get(tenure).is_none_or(|slot| slot.under_way == 0))
    }

    /// The jobs of these that are under way.
    pub(super) fn under_way(&self, tenures: &[Tenure]) -> Vec<Ticket> {
        let of = self.under_way.iter().filter(|(_, under_way)| tenures.contains(&under_way.tenure));
        of.map(|(ticket, _)| *ticket).collect()
    }

    /// A partition that was closed is not ours any more: nothing of it is committed from now on.
    pub(super) fn release(&mut self, tenure: Tenure) {
        let Some(slot) = self.slots.get_mut(&tenure) else { return };
        let key = (slot.topic.clone(), slot.partition);
        slot.state = State::Released;
        if self.current.get(&key) == Some(&tenure) {
            self.current.remove(&key);
        }
        if self.slots[&tenure].under_way == 0 {
            self.slots.remove(&tenure);
        }
    }

    fn sweep(&mut self, tenure: Tenure) {
        let is_gone = |slot: &Slot| slot.state == State::Released && slot.under_way == 0;
        if self.slots.get(&tenure).is_some_and(is_gone) {
            self.slots.remove(&tenure);
        }
    }

    /// What is to be committed: of these, or of all.
    pub(super) fn due(&self, tenures: Option<&[Tenure]>) -> Vec<Due> {
        let slots = self.slots.iter().filter(|(tenure, _)| tenures.is_none_or(|of| of.contains(tenure)));
        let slots = slots.filter(|(_, slot)| slot.state != State::Released);
        let due = slots.filter_map(|(tenure, slot)| {
            let offset = slot.tracker.due()?;
            let (topic, partition) = (slot.topic.clone(), slot.partition);
            Some(Due { tenure: *tenure, offset: TopicPartitionOffset { topic, partition, offset } })
        });
        due.collect()
    }

    /// These were committed.
    pub(super) fn on_committed(&mut self, committed: &[Due]) {
        for due in committed {
            if let Some(slot) = self.slots.get_mut(&due.tenure) {
                slot.tracker.on_committed(due.offset.offset);
            }
        }
    }

    /// Before these everything is finished.
    pub(super) fn positions(&self) -> Vec<TopicPartitionOffset> {
        let position = |slot: &Slot| {
            let (topic, partition) = (slot.topic.clone(), slot.partition);
            slot.tracker.position().map(|offset| TopicPartitionOffset { topic, partition, offset })
        };
        self.slots.values().filter(|slot| slot.state != State::Released).filter_map(position).collect()
    }
}

/// What a record takes of the limit.
fn size(record: &ConsumerRecord) -> usize {
    let part = |bytes: &Option<bytes::Bytes>| bytes.as_ref().map_or(0, bytes::Bytes::len);
    let headers = record.headers.iter().map(|header| header.key.len() + part(&header.value));
    part(&record.key) + part(&record.value) + headers.sum::<usize>()
}

#[cfg(test)]
mod tests;
