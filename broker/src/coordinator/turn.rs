//! When an event happens, who waits for it, and what it leaves.

use std::time::Duration;

use millstream_log::ProducerId;

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

/// Counts the batches that a machine's shell appends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct BatchNumber(pub(crate) u64);

/// What the shell tells a machine with each event.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    pub(crate) now: Now,
    /// The batch in which the records of this event will be.
    pub(crate) next_batch: BatchNumber,
}

/// Stands for somebody who waits for a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Ticket(pub(crate) u64);

/// Whose transaction records belong to: they count once it is committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Author {
    pub(crate) producer: ProducerId,
    pub(crate) epoch: i16,
}

/// What an event leaves. The records are appended together; replies and deeds wait until they are durable.
#[derive(Debug)]
pub(crate) struct Effects<M: StateMachine> {
    pub(crate) records: Vec<M::Record>,
    /// Whose transaction all the records belong to, if they do. The log has to admit them.
    pub(crate) author: Option<Author>,
    pub(crate) replies: Vec<(Ticket, M::Reply)>,
    /// The last batch on which the replies rest, if the event leaves no records; `None`: on all that was appended.
    pub(crate) rests_on: Option<BatchNumber>,
    /// Replies that rest on nothing which is not durable already.
    pub(crate) safe_replies: Vec<(Ticket, M::Reply)>,
    pub(crate) deeds: Vec<M::Deed>,
    pub(crate) notes: Vec<M::Note>,
}

impl<M: StateMachine> Default for Effects<M> {
    fn default() -> Self {
        Self {
            records: Vec::new(),
            author: None,
            replies: Vec::new(),
            rests_on: None,
            safe_replies: Vec::new(),
            deeds: Vec::new(),
            notes: Vec::new(),
        }
    }
}

impl<M: StateMachine> Effects<M> {
    pub(crate) fn reply(&mut self, ticket: Ticket, reply: impl Into<M::Reply>) {
        self.replies.push((ticket, reply.into()));
    }
}

/// What somebody who waits for a machine is told: an arm for each kind of reply, and the ways in and out.
macro_rules! replies {
    ($($(#[$doc:meta])* $arm:ident($reply:ty),)+) => {
        /// What somebody who waits is told.
        #[derive(Clone, Debug, PartialEq)]
        pub(crate) enum Reply {
            $($(#[$doc])* $arm($reply),)+
        }

        $(
            impl From<$reply> for Reply {
                fn from(reply: $reply) -> Self {
                    Self::$arm(reply)
                }
            }

            impl TryFrom<Reply> for $reply {
                type Error = Reply;

                fn try_from(reply: Reply) -> Result<Self, Reply> {
                    match reply {
                        Reply::$arm(reply) => Ok(reply),
                        other => Err(other),
                    }
                }
            }
        )+
    };
}

pub(crate) use replies;
