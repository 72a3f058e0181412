//! One assigned partition: where it is read, and what is known of its leader.

use millstream_client::{BrokerId, OffsetAt};
use millstream_protocol::{KStr, Uuid};
use tokio::time::Instant;

use crate::builder::StartAt;
use crate::group::TopicPartition;

/// An offset that has to be looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sought {
    At(OffsetAt),
    /// What the group has committed.
    Committed,
}

/// Where the next record comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cursor {
    /// To be looked up.
    Unknown(Sought),
    /// `fetch_at` runs ahead of `position` by what has been fetched and not handed out.
    At { position: i64, fetch_at: i64 },
}

impl From<StartAt> for Cursor {
    fn from(start: StartAt) -> Self {
        match start {
            StartAt::Beginning => Self::Unknown(Sought::At(OffsetAt::Earliest)),
            StartAt::End => Self::Unknown(Sought::At(OffsetAt::Latest)),
            StartAt::Timestamp(ms) => Self::Unknown(Sought::At(OffsetAt::Timestamp(ms))),
            StartAt::Committed => Self::Unknown(Sought::Committed),
            StartAt::Offset(offset) => Self::At { position: offset, fetch_at: offset },
        }
    }
}

/// One partition.
#[derive(Debug)]
pub(crate) struct Partition {
    pub(crate) topic: KStr,
    pub(crate) index: i32,
    pub(crate) topic_id: Uuid,
    pub(crate) leader: Option<BrokerId>,
    pub(crate) leader_epoch: i32,
    pub(crate) cursor: Cursor,
    /// One that is not any more keeps its place.
    pub(crate) is_assigned: bool,
    /// The program wants nothing of it for now.
    pub(crate) is_paused: bool,
    /// It is about to be taken away, and nothing more of it is handed out.
    pub(crate) is_going: bool,
    /// Something was handed out since it was given or sought; the leader epoch of the last of it.
    pub(crate) consumed: Option<i32>,
    /// Rises with every jump: what was fetched before it is not for here any more.
    pub(crate) generation: u64,
    /// Reading ends before this offset.
    pub(crate) stop_at: Option<i64>,
    pub(crate) high_watermark: Option<i64>,
    pub(crate) retry_at: Option<Instant>,
    failures: u32,
    failing_since: Option<Instant>,
}

impl Partition {
    pub(crate) fn new(topic: KStr, index: i32, start: StartAt) -> Self {
        Self {
            topic,
            index,
            topic_id: Uuid::nil(),
            leader: None,
            leader_epoch: -1,
            cursor: start.into(),
            is_assigned: true,
            is_paused: false,
            is_going: false,
            consumed: None,
            generation: 0,
            stop_at: None,
            high_watermark: None,
            retry_at: None,
            failures: 0,
            failing_since: None,
        }
    }

    /// Starts reading somewhere else.
    pub(crate) fn jump(&mut self, cursor: Cursor) {
        self.cursor = cursor;
        self.consumed = None;
        self.generation += 1;
        self.retry_at = None;
    }

    /// It is not read any more, and nothing is known of where it stood.
    pub(crate) fn take_away(&mut self) {
        self.is_assigned = false;
        self.is_paused = false;
        self.is_going = false;
        self.stop_at = None;
        self.high_watermark = None;
        self.jump(Cursor::Unknown(Sought::At(OffsetAt::Latest)));
    }

    /// It is read, whether it was before or not.
    pub(crate) fn give_back(&mut self, cursor: Cursor) {
        self.is_assigned = true;
        self.on_success();
        self.jump(cursor);
    }

    /// The next offset to hand out, if it is known.
    pub(crate) fn position(&self) -> Option<i64> {
        match self.cursor {
            Cursor::At { position, .. } => Some(position),
            Cursor::Unknown(_) => None,
        }
    }

    /// The next offset to fetch, unless everything that is wanted has been fetched.
    pub(crate) fn fetch_at(&self) -> Option<i64> {
        match self.cursor {
            _ if !self.is_assigned || self.is_paused || self.is_going => None,
            Cursor::At { fetch_at, .. } if self.stop_at.is_none_or(|stop| fetch_at < stop) => Some(fetch_at),
            Cursor::At { .. } | Cursor::Unknown(_) => None,
        }
    }

    /// Whether everything that is wanted has been handed out.
    pub(crate) fn is_finished(&self) -> bool {
        matches!((self.cursor, self.stop_at), (Cursor::At { position, .. }, Some(stop)) if position >= stop)
    }

    /// Whether its leader or its start has to be looked up.
    pub(crate) fn needs_lookup(&self) -> bool {
        self.is_assigned
            && !self.is_going
            && !self.is_finished()
            && (self.leader.is_none() || matches!(self.cursor, Cursor::Unknown(_)))
    }

    /// Whether it may be asked about now.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.retry_at.is_none_or(|at| at <= now)
    }

    /// Its name.
    pub(crate) fn name(&self) -> TopicPartition {
        TopicPartition { topic: self.topic.clone(), partition: self.index }
    }

    /// Records up to here have been handed out.
    pub(crate) fn advance(&mut self, to: i64) {
        if let Cursor::At { position, .. } = &mut self.cursor {
            *position = to;
        }
    }

    /// Batches up to here have been fetched.
    pub(crate) fn fetched(&mut self, to: i64) {
        if let Cursor::At { fetch_at, .. } = &mut self.cursor {
            *fetch_at = to;
        }
    }

    /// What was fetched and not handed out is dropped, and fetched again.
    pub(crate) fn rewind(&mut self) {
        if let Cursor::At { position, .. } = self.cursor {
            let (retry_at, consumed) = (self.retry_at, self.consumed);
            self.jump(Cursor::At { position, fetch_at: position });
            (self.retry_at, self.consumed) = (retry_at, consumed);
        }
    }

    pub(crate) fn on_success(&mut self) {
        self.failures = 0;
        self.failing_since = None;
        self.retry_at = None;
    }

    /// Counts a failure. Says how many there were in a row, and since when.
    pub(crate) fn on_failure(&mut self, now: Instant) -> (u32, Instant) {
        self.failures += 1;
        (self.failures, *self.failing_since.get_or_insert(now))
    }

    /// The failure has been reported: the next report is due after as long again.
    pub(crate) fn reported(&mut self, now: Instant) {
        self.failing_since = Some(now);
    }
}
