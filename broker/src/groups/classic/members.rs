//! The members of a classic group, and what is counted over all of them.

use std::collections::BTreeMap;
use std::time::Duration;

use millstream_protocol::KStr;

use super::member::{Member, Parked, Protocol, Timeouts};
use crate::groups::cause::Caller;
use crate::groups::turn::Ticket;

/// Members by id, in the order of ids: chance decides nothing here, neither who leads nor what a reply lists.
#[derive(Debug, Default)]
pub(super) struct Members {
    by_id: BTreeMap<KStr, Member>,
    /// Ids of the static members.
    by_instance: BTreeMap<KStr, KStr>,
    /// How many members speak a protocol.
    speakers: BTreeMap<KStr, usize>,
    /// How many have a JoinGroup parked.
    joining: usize,
    /// Bytes of all that the members told.
    told: usize,
}

impl Members {
    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    pub(super) fn get(&self, id: &str) -> Option<&Member> {
        self.by_id.get(id)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Member> {
        self.by_id.values()
    }

    /// To change what is not counted: deadlines and assignments. For the rest there is a method each.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Member> {
        self.by_id.values_mut()
    }

    pub(super) fn get_mut(&mut self, id: &str) -> Option<&mut Member> {
        self.by_id.get_mut(id)
    }

    /// The member that holds a static name now.
    pub(super) fn holder(&self, instance_id: &str) -> Option<&KStr> {
        self.by_instance.get(instance_id)
    }

    pub(super) fn joining(&self) -> usize {
        self.joining
    }

    pub(super) fn all_joining(&self) -> bool {
        self.joining == self.by_id.len()
    }

    /// Whether one of these is spoken by every member.
    pub(super) fn share_one_of<'a>(&self, mut names: impl Iterator<Item = &'a KStr>) -> bool {
        names.any(|name| self.is_spoken_by_all(name))
    }

    fn is_spoken_by_all(&self, name: &str) -> bool {
        self.speakers.get(name).copied().unwrap_or(0) == self.by_id.len()
    }

    /// The protocol with the most votes among those that all speak; the first by name if it is a draw.
    pub(super) fn elect_protocol(&self) -> Option<KStr> {
        let mut votes: BTreeMap<&KStr, usize> = BTreeMap::new();
        for member in self.by_id.values() {
            if let Some(choice) = member.vote(|name| self.is_spoken_by_all(name)) {
                *votes.entry(choice).or_default() += 1;
            }
        }
        let most = votes.values().copied().max()?;
        votes.into_iter().find(|(_, count)| *count == most).map(|(name, _)| name.clone())
    }

    /// The group waits as long as its slowest member may take.
    pub(super) fn rebalance_timeout(&self) -> Duration {
        self.by_id.values().map(|member| member.timeouts.rebalance).max().unwrap_or_default()
    }

    /// Bytes of what the others told.
    pub(super) fn told_by_others(&self, id: &str) -> usize {
        let own = self.by_id.get(id).map_or(0, Member::told);
        self.told - own
    }

    /// # Panics
    /// Its id or its static name is taken.
    pub(super) fn insert(&mut self, member: Member) {
        if let Some(instance) = &member.instance_id {
            let holder = self.by_instance.insert(instance.clone(), member.id.clone());
            assert!(holder.is_none(), "a static name belongs to one member");
        }
        self.count(&member.protocols);
        self.joining += usize::from(member.is_joining());
        let before = self.by_id.insert(member.id.clone(), member);
        assert!(before.is_none(), "an id belongs to one member");
    }

    /// The member comes out with what it had parked: somebody must answer it.
    pub(super) fn remove(&mut self, id: &str) -> Option<Member> {
        let member = self.by_id.remove(id)?;
        if let Some(instance) = &member.instance_id {
            self.by_instance.remove(instance);
        }
        self.uncount(&member.protocols);
        self.joining -= usize::from(member.is_joining());
        Some(member)
    }

    /// What a member says about itself when it joins again.
    pub(super) fn update(&mut self, id: &str, protocols: &[Protocol], timeouts: Timeouts, caller: Caller) {
        let Some(member) = self.by_id.get_mut(id) else { return };
        member.timeouts = timeouts;
        member.caller = caller;
        let before = std::mem::replace(&mut member.protocols, protocols.to_vec());
        self.uncount(&before);
        self.count(protocols);
    }

    /// Parks a request, or none, and gives back what was parked before.
    pub(super) fn park(&mut self, id: &str, parked: Parked) -> Parked {
        let Some(member) = self.by_id.get_mut(id) else { return Parked::No };
        let before = std::mem::replace(&mut member.parked, parked);
        self.joining += usize::from(matches!(parked, Parked::Join(_)));
        self.joining -= usize::from(matches!(before, Parked::Join(_)));
        before
    }

    /// Takes out every request of one kind, in the order of ids.
    pub(super) fn unpark_syncs(&mut self) -> Vec<(KStr, Ticket)> {
        let mut waiting = Vec::new();
        for member in self.by_id.values_mut() {
            if let Parked::Sync(ticket) = member.parked {
                member.parked = Parked::No;
                waiting.push((member.id.clone(), ticket));
            }
        }
        waiting
    }

    fn count(&mut self, protocols: &[Protocol]) {
        for protocol in protocols {
            self.told += protocol.bytes();
            *self.speakers.entry(protocol.name.clone()).or_default() += 1;
        }
    }

    fn uncount(&mut self, protocols: &[Protocol]) {
        for protocol in protocols {
            self.told -= protocol.bytes();
            if let Some(speakers) = self.speakers.get_mut(&*protocol.name) {
                *speakers -= 1;
                if *speakers == 0 {
                    self.speakers.remove(&*protocol.name);
                }
            }
        }
    }
}
