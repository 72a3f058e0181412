//! A member of a group of the new protocol: it is told what it has, and works on the rest meanwhile.

use std::io;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use millstream_protocol::{ErrorCode, Uuid};

use super::{HEARTBEAT, LOOK, Life};
use crate::history::Key;
use crate::proof::bed::broker::pause;
use crate::proof::bed::consumer_group::{JOINS, Subscription};
use crate::proof::bed::group::{Membership, Offsets};
use crate::proof::bed::wire::Wire;
use crate::proof::groups::chaos::crowd::{GROUP, SESSION_MS, TOPIC};

/// What a member has and where it is in it.
#[derive(Debug)]
struct Work {
    me: Membership,
    positions: Offsets,
    /// Processed, and not committed yet.
    unsaved: Offsets,
}

impl Life<'_> {
    /// Joins and works until it dies or all end; answers its last membership.
    pub(super) fn live_consumer(&self, wire: &mut Wire, id: u128) -> io::Result<Option<Membership>> {
        let member = Uuid::from_u128(id).to_string();
        let me = Membership { group: GROUP.to_owned(), member, generation: JOINS };
        let mut work = Work { me, positions: Offsets::new(), unsaved: Offsets::new() };
        let mut next_heartbeat = Instant::now();
        while !self.has_ended() {
            if Instant::now() >= next_heartbeat {
                // What it gave up or took is told at once.
                let has_news = self.beat(wire, &mut work)?;
                next_heartbeat = Instant::now() + if has_news { Duration::ZERO } else { HEARTBEAT };
            }
            let moved = self.read(wire, &mut work.positions)?;
            work.unsaved.extend(moved);
            self.save(wire, &mut work)?;
            pause(LOOK);
        }
        Ok((work.me.generation != JOINS).then_some(work.me))
    }

    /// A heartbeat, and what it brings; whether that is to be told.
    fn beat(&self, wire: &mut Wire, work: &mut Work) -> io::Result<bool> {
        let subscription =
            Subscription { topic: TOPIC, topic_id: self.crowd.topic_id, rebalance_ms: SESSION_MS };
        let owned: Vec<Key> = work.positions.keys().copied().collect();
        match wire.beat(subscription, &work.me, &owned)? {
            Ok(beat) => {
                work.me.generation = beat.epoch;
                let Some(assigned) = beat.assignment else { return Ok(false) };
                self.crowd.joined.fetch_add(1, Ordering::Relaxed);
                self.take(wire, work, &assigned)?;
                Ok(true)
            }
            Err(ErrorCode::FencedMemberEpoch | ErrorCode::UnknownMemberId) => {
                work.abandon();
                Ok(true)
            }
            Err(code) => {
                self.crowd.wrong(format!("a member's heartbeat: {}", code.name()));
                Ok(false)
            }
        }
    }

    /// Gives up what is not its own any more, once it is committed, and begins what is new where it was committed.
    fn take(&self, wire: &mut Wire, work: &mut Work, assigned: &[Key]) -> io::Result<()> {
        self.save(wire, work)?;
        if work.me.generation == JOINS {
            return Ok(());
        }
        work.positions.retain(|key, _| assigned.contains(key));
        work.unsaved.retain(|key, _| assigned.contains(key));
        let new: Vec<Key> =
            assigned.iter().copied().filter(|key| !work.positions.contains_key(key)).collect();
        if !new.is_empty() {
            match wire.committed(GROUP, TOPIC, new)? {
                Ok(committed) => work.positions.extend(committed),
                Err(code) => self.crowd.wrong(format!("a member's committed offsets: {}", code.name())),
            }
        }
        Ok(())
    }

    /// Commits what was processed. A stale epoch is no harm: the next heartbeat brings the new one.
    fn save(&self, wire: &mut Wire, work: &mut Work) -> io::Result<()> {
        if work.unsaved.is_empty() {
            return Ok(());
        }
        match wire.commit(&work.me, TOPIC, &work.unsaved)? {
            ErrorCode::None => self.crowd.note(&std::mem::take(&mut work.unsaved)),
            ErrorCode::StaleMemberEpoch => {}
            // It is out: who has its partitions now reads them again.
            ErrorCode::UnknownMemberId | ErrorCode::FencedMemberEpoch => work.abandon(),
            code => self.crowd.wrong(format!("a member's commit: {}", code.name())),
        }
        Ok(())
    }
}

impl Work {
    fn abandon(&mut self) {
        self.me.generation = JOINS;
        self.positions.clear();
        self.unsaved.clear();
    }
}
