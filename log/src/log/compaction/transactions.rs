//! What became of transactions, as far as compaction has to know: which batches do not count, and which markers
//! nobody needs any more. Pure.
//!
//! A marker is needed as long as batches of its transaction lie before it. Because a run begins at the start of
//! the log, it has seen them all when it comes to the marker. Those that it removes itself count as seen: the
//! marker outlives them by a run, and then by the delete horizon, as tombstones do.

use std::collections::HashMap;

use millstream_protocol::records::BatchHeader;

use crate::ids::{Offset, ProducerId};
use crate::partition::Aborted;

/// Whether a batch of a transaction is still there after a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Remains {
    Yes,
    No,
}

/// What a run has seen of transactions whose marker it has not come to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen(HashMap<ProducerId, Remains>);

/// The transactions of the part of the log that is compacted. All of them have ended.
#[derive(Debug, Default)]
pub(super) struct Ended {
    /// Those of each producer that were aborted, in order; they do not overlap.
    aborted: HashMap<ProducerId, Vec<Aborted>>,
    seen: Seen,
}

/// What a run knows of a marker that it has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MarkerNeed {
    /// Batches of its transaction were there when the run came by.
    pub(super) is_needed: bool,
    /// What readers have to be told if batches of an aborted one remain.
    pub(super) aborted: Option<Aborted>,
}

impl Ended {
    pub(super) fn new(all: Vec<Aborted>) -> Self {
        let mut aborted: HashMap<_, Vec<_>> = HashMap::new();
        for one in all {
            aborted.entry(one.producer).or_default().push(one);
        }
        aborted.values_mut().for_each(|of_one| of_one.sort_unstable_by_key(|one| one.marker));
        Self { aborted, seen: Seen::default() }
    }

    /// The aborted transaction that has a batch or its marker here.
    pub(super) fn aborted_at(&self, header: &BatchHeader) -> Option<&Aborted> {
        let of_one = self.aborted.get(&ProducerId::new(header.producer_id))?;
        let offset = Offset::new(header.base_offset);
        let at = of_one.partition_point(|one| one.marker < offset);
        of_one.get(at).filter(|one| one.first <= offset)
    }

    /// Whether a batch belongs to a transaction that was aborted.
    pub(super) fn is_aborted(&self, header: &BatchHeader) -> bool {
        header.is_transactional() && !header.is_control() && self.aborted_at(header).is_some()
    }

    /// The run has come to a batch, and decided about it.
    pub(super) fn on_data(&mut self, header: &BatchHeader, remains: Remains) {
        if header.is_transactional() {
            let seen = self.seen.0.entry(ProducerId::new(header.producer_id)).or_insert(remains);
            if remains == Remains::Yes {
                *seen = remains;
            }
        }
    }

    /// The run has come to a marker.
    pub(super) fn on_marker(&mut self, header: &BatchHeader) -> MarkerNeed {
        let seen = self.seen.0.remove(&ProducerId::new(header.producer_id));
        let remains = seen == Some(Remains::Yes);
        let aborted = self.aborted_at(header).filter(|_| remains).copied();
        MarkerNeed { is_needed: seen.is_some(), aborted }
    }

    /// What was seen so far, to come back to.
    pub(super) fn seen(&self) -> Seen {
        self.seen.clone()
    }

    /// What was seen since then is seen again.
    pub(super) fn go_back(&mut self, seen: Seen) {
        self.seen = seen;
    }
}
