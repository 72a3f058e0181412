//! One member of a classic group: what it can, what it was given, what it waits for.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use millstream_protocol::KStr;
use millstream_protocol::messages::join_group_request::JoinGroupRequestProtocol;

use crate::groups::cause::Caller;
use crate::groups::turn::{Millis, Ticket};

/// A way to divide the work (an assignor), and what the member tells whoever divides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Protocol {
    pub(crate) name: KStr,
    pub(crate) metadata: Bytes,
}

impl Protocol {
    /// What a request offers, in its order of preference and cut loose from its frame. A name counts once.
    pub(super) fn offered(asked: &[JoinGroupRequestProtocol]) -> Vec<Self> {
        let mut names = BTreeSet::new();
        let first_of_its_name = asked.iter().filter(|protocol| names.insert(&protocol.name));
        first_of_its_name
            .map(|protocol| Self {
                name: protocol.name.detach(),
                metadata: Bytes::copy_from_slice(&protocol.metadata),
            })
            .collect()
    }

    pub(super) fn bytes(&self) -> usize {
        self.name.len() + self.metadata.len()
    }
}

/// How long a member may be silent, and how long it may take to join again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Timeouts {
    pub(crate) session: Duration,
    pub(crate) rebalance: Duration,
}

/// The request of a member that has no answer yet. There is one at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Parked {
    No,
    Join(Ticket),
    Sync(Ticket),
}

#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub(crate) id: KStr,
    /// The name under which a static member comes back (KIP-345).
    pub(crate) instance_id: Option<KStr>,
    pub(crate) caller: Caller,
    pub(crate) timeouts: Timeouts,
    /// In its order of preference; no name twice.
    pub(crate) protocols: Vec<Protocol>,
    /// What the leader gave it; empty before the first generation.
    pub(crate) assignment: Bytes,
    pub(super) parked: Parked,
    /// It waits for its first generation. It does not know its id, hence sends no heartbeats; and a client that
    /// gave up and asked anew is another member, so that this one must be able to expire while it is parked.
    pub(super) is_new: bool,
    /// When it is given up, unless it waits for us.
    pub(super) deadline: Millis,
}

impl Member {
    pub(super) fn is_joining(&self) -> bool {
        matches!(self.parked, Parked::Join(_))
    }

    pub(super) fn is_static(&self) -> bool {
        self.instance_id.is_some()
    }

    /// When it expires. A member whose request we hold is alive, unless it is new.
    pub(super) fn expires_at(&self) -> Option<Millis> {
        match self.parked {
            Parked::Join(_) | Parked::Sync(_) if !self.is_new => None,
            Parked::No | Parked::Join(_) | Parked::Sync(_) => Some(self.deadline),
        }
    }

    pub(super) fn hears(&mut self, now: Millis) {
        self.deadline = now.after(self.timeouts.session);
    }

    /// Bytes of what it told.
    pub(super) fn told(&self) -> usize {
        self.protocols.iter().map(Protocol::bytes).sum()
    }

    /// What it tells whoever divides the work by `protocol`.
    pub(super) fn metadata(&self, protocol: &str) -> Bytes {
        let spoken = self.protocols.iter().find(|offered| &*offered.name == protocol);
        spoken.map(|offered| offered.metadata.clone()).unwrap_or_default()
    }

    /// Its first choice among those that everybody speaks.
    pub(super) fn vote(&self, spoken_by_all: impl Fn(&str) -> bool) -> Option<&KStr> {
        self.protocols.iter().map(|offered| &offered.name).find(|name| spoken_by_all(name))
    }
}
