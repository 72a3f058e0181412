//! When an event happens, who waits for it, and what it leaves.

use std::time::Duration;

use super::StateMachine;

/// A moment of a clock that never jumps; only timers go by it, and it is never stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Millis(pub(crate) i64);

impl Millis {
    /// The time since `earlier`.
    pub(crate) fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// So much later.
    pub(crate) fn after(self, wait: Duration) -> Self {
        let wait = i64::try_from(wait.as_millis()).unwrap_or(i64::MAX);
        Self(self.0.saturating_add(wait))
    }
}

/// When an event happens.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Now {
    /// For timers.
    pub(crate) steady: Millis,
    /// For records: milliseconds since 1970.
    pub(crate) wall_ms: i64,
}

/// Stands for somebody who waits for a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Ticket(pub(crate) u64);

/// What an event leaves. The records are appended together; replies wait until they are durable.
#[derive(Debug)]
pub(crate) struct Effects<M: StateMachine> {
    pub(crate) records: Vec<M::Record>,
    pub(crate) replies: Vec<(Ticket, M::Reply)>,
    pub(crate) notes: Vec<M::Note>,
}

impl<M: StateMachine> Default for Effects<M> {
    fn default() -> Self {
        Self { records: Vec::new(), replies: Vec::new(), notes: Vec::new() }
    }
}

impl<M: StateMachine> Effects<M> {
    pub(crate) fn reply(&mut self, ticket: Ticket, reply: impl Into<M::Reply>) {
        self.replies.push((ticket, reply.into()));
    }
}
