//! What all threads of the proof share, and what they know of each other.

use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use millstream_protocol::Uuid;
use parking_lot::Mutex;

use crate::history::Key;
use crate::proof::bed::group::Offsets;

pub(super) const TOPIC: &str = "chaos";
pub(super) const GROUP: &str = "chaos";
pub(super) const PARTITIONS: u32 = 16;
pub(super) const MEMBERS: usize = 50;
/// How many partitions `__consumer_offsets` has.
pub(super) const SHARDS: u32 = 4;
/// Short sessions, for whoever dies without a word is waited for.
pub(super) const SESSION_MS: i32 = 500;
/// How often a member says that it lives.
pub(super) const HEARTBEAT_MS: i32 = SESSION_MS / 5;

/// The protocol of the group whose members die.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    Classic,
    /// KIP-848.
    Consumer,
}

impl Protocol {
    /// Settings of the broker; members of either protocol are to die as fast.
    pub(super) fn settings(self) -> Vec<String> {
        let (delay, shards) =
            ("group.initial.rebalance.delay.ms=0", format!("offsets.topic.num.partitions={SHARDS}"));
        let of_protocol = match self {
            Self::Classic => vec!["group.min.session.timeout.ms=100".to_owned()],
            Self::Consumer => vec![
                "group.consumer.min.session.timeout.ms=100".to_owned(),
                format!("group.consumer.session.timeout.ms={SESSION_MS}"),
                "group.consumer.min.heartbeat.interval.ms=50".to_owned(),
                format!("group.consumer.heartbeat.interval.ms={HEARTBEAT_MS}"),
            ],
        };
        [vec![delay.to_owned(), shards], of_protocol].concat()
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Classic => "classic protocol",
            Self::Consumer => "consumer protocol",
        })
    }
}

/// To what the present moment counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Window {
    /// To nothing: the group comes to rest.
    None,
    Calm(usize),
    Chaos(usize),
}

/// What all threads share.
#[derive(Debug)]
pub(super) struct Crowd {
    pub(super) address: SocketAddr,
    pub(super) protocol: Protocol,
    pub(super) topic_id: Uuid,
    /// Whether members die.
    pub(super) dying: AtomicBool,
    /// Whether nothing more is produced.
    pub(super) finishing: AtomicBool,
    /// Whether everybody is to end.
    pub(super) enough: AtomicBool,
    window: Mutex<Window>,
    /// Which records were processed, by partition and offset.
    processed: Vec<Mutex<Vec<bool>>>,
    /// How many records were acknowledged, by partition.
    pub(super) produced: Vec<AtomicUsize>,
    /// The highest acknowledged commits.
    pub(super) committed: Mutex<Offsets>,
    pub(super) joined: AtomicUsize,
    pub(super) died: AtomicUsize,
    pub(super) wrong: Mutex<Vec<String>>,
}

impl Crowd {
    pub(super) fn new(address: SocketAddr, protocol: Protocol, topic_id: Uuid) -> Self {
        Self {
            address,
            protocol,
            topic_id,
            dying: AtomicBool::new(false),
            finishing: AtomicBool::new(false),
            enough: AtomicBool::new(false),
            window: Mutex::new(Window::None),
            processed: (0..PARTITIONS).map(|_| Mutex::default()).collect(),
            produced: (0..PARTITIONS).map(|_| AtomicUsize::new(0)).collect(),
            committed: Mutex::default(),
            joined: AtomicUsize::new(0),
            died: AtomicUsize::new(0),
            wrong: Mutex::default(),
        }
    }

    pub(super) fn is_enough(&self) -> bool {
        self.enough.load(Ordering::Relaxed)
    }

    pub(super) fn is_dying(&self) -> bool {
        self.dying.load(Ordering::Relaxed)
    }

    pub(super) fn window(&self) -> Window {
        *self.window.lock()
    }

    pub(super) fn open(&self, window: Window) {
        *self.window.lock() = window;
    }

    pub(super) fn process(&self, key: Key, offset: i64) {
        let mut processed = self.processed[key as usize].lock();
        let at = offset as usize;
        if processed.len() <= at {
            processed.resize(at + 1, false);
        }
        processed[at] = true;
    }

    pub(super) fn processed(&self) -> usize {
        self.processed.iter().map(|partition| partition.lock().iter().filter(|done| **done).count()).sum()
    }

    /// The ends of all partitions.
    pub(super) fn ends(&self) -> Offsets {
        let end = |key: Key| self.produced[key as usize].load(Ordering::Relaxed) as i64;
        (0..PARTITIONS).map(|key| (key, end(key))).collect()
    }

    /// Notes acknowledged commits.
    pub(super) fn note(&self, moved: &Offsets) {
        let mut committed = self.committed.lock();
        for (key, offset) in moved {
            let known = committed.entry(*key).or_default();
            *known = (*known).max(*offset);
        }
    }

    pub(super) fn wrong(&self, what: String) {
        let mut wrong = self.wrong.lock();
        if wrong.len() < 10 {
            wrong.push(what);
        }
    }
}
