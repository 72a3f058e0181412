//! One member's step towards its target: first it gives back what it is not to have, then it takes the target's
//! epoch and what is free of its target, then the rest as others give it back (KIP-848).

use std::collections::BTreeSet;

use millstream_protocol::Uuid;

use super::member::{MemberState, Standing};
use super::partitions::{Held, Partitions};

/// What a step depends on besides where the member stands.
pub(super) struct Step<'a> {
    pub(super) target_epoch: i32,
    pub(super) target: &'a Partitions,
    /// Topics that the member wants now. What it holds of others it must give back even without a new target.
    pub(super) subscribed: &'a BTreeSet<Uuid>,
    pub(super) subscription_changed: bool,
    /// What the member says that it owns; `None` if it said nothing.
    pub(super) owned: Option<&'a Partitions>,
}

impl Step<'_> {
    /// Where the member stands after this. `is_taken` tells whether another member holds a partition.
    pub(super) fn take(&self, standing: &Standing, is_taken: impl Fn(Uuid, i32) -> bool) -> Standing {
        match standing.state {
            MemberState::Stable if standing.epoch != self.target_epoch => {
                self.go_on(standing, standing.epoch, is_taken)
            }
            MemberState::Stable if self.subscription_changed => self.drop_unsubscribed(standing),
            MemberState::Stable => standing.clone(),
            MemberState::Unrevoked if self.still_owns(&standing.revoking) => {
                match self.subscription_changed {
                    true => self.drop_unsubscribed(standing),
                    false => standing.clone(),
                }
            }
            // Not beyond the target: what it gave back may have been for a subscription whose target is not made.
            MemberState::Unrevoked => {
                self.go_on(standing, (standing.epoch + 1).min(self.target_epoch), is_taken)
            }
            MemberState::Unreleased => self.go_on(standing, standing.epoch, is_taken),
            // Only somebody who owns nothing comes this far.
            MemberState::Unknown => self.go_on(standing, self.target_epoch, is_taken),
        }
    }

    /// Whether the member owns any of these still, as far as it told.
    fn still_owns(&self, revoking: &Held) -> bool {
        self.owned
            .is_none_or(|owned| owned.iter().any(|(topic, partition)| revoking.contains(topic, partition)))
    }

    fn drop_unsubscribed(&self, standing: &Standing) -> Standing {
        let (held, dropped): (Held, Held) =
            split(&standing.held, |topic, _| self.subscribed.contains(&topic));
        if dropped.is_empty() {
            return standing.clone();
        }
        let revoking: Held = standing.revoking.iter().chain(dropped.iter()).collect();
        if self.still_owns(&revoking) {
            return Standing { state: MemberState::Unrevoked, held, revoking, ..standing.clone() };
        }
        Standing { held, ..standing.clone() }
    }

    fn go_on(&self, standing: &Standing, epoch: i32, is_taken: impl Fn(Uuid, i32) -> bool) -> Standing {
        let wanted =
            |topic, partition| self.subscribed.contains(&topic) && self.target.contains(topic, partition);
        let (mut held, revoking) = split(&standing.held, wanted);
        if !revoking.is_empty() && self.still_owns(&revoking) {
            // It stays at the old epoch until it has given them back.
            return Standing { state: MemberState::Unrevoked, held, revoking, ..standing.at_epoch(epoch) };
        }
        let mut state = MemberState::Stable;
        for (topic, partition) in self.target.iter() {
            if held.contains(topic, partition) || !self.subscribed.contains(&topic) {
                continue;
            }
            match is_taken(topic, partition) {
                true => state = MemberState::Unreleased,
                false => held.insert(topic, partition, self.target_epoch),
            }
        }
        Standing { state, held, revoking: Held::default(), ..standing.at_epoch(self.target_epoch) }
    }
}

/// What stays, and the rest.
fn split(held: &Held, stays: impl Fn(Uuid, i32) -> bool) -> (Held, Held) {
    let (left, right): (Vec<_>, Vec<_>) =
        held.iter().partition(|(topic, partition, _)| stays(*topic, *partition));
    (left.into_iter().collect(), right.into_iter().collect())
}
