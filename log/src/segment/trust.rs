//! What is known of a segment's bytes: which were verified, and which are damaged.
//!
//! Both are memory of work done, and bounded: what is forgotten is found out again when it is asked for.

use std::ops::Range;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{Acquire, Release};

use parking_lot::Mutex;

use super::prove::{Damage, DamageCause};
use crate::ids::Offset;

/// Verified ranges that are remembered; the shortest is forgotten first.
const VERIFIED_MAX: usize = 128;

/// Damaged ranges that are remembered.
const DAMAGED_MAX: usize = 1024;

#[derive(Debug, Default)]
pub(super) struct Trust {
    /// Read without the lock by those who read the tail.
    is_damaged: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// What was written by this process before here has left memory since, in part at least.
    evicted_to: u64,
    /// In order, apart from each other.
    verified: Vec<Range<u64>>,
    /// In order, apart from each other.
    damaged: Vec<Damage>,
}

/// Whether damage was known before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum News {
    First,
    Known,
    /// Too much is damaged to remember it.
    Forgotten,
}

impl Trust {
    /// Whether some of the segment is damaged.
    pub(super) fn is_damaged(&self) -> bool {
        self.is_damaged.load(Acquire)
    }

    /// Whether all of a range was verified, or lies behind `since`, and none of it is damaged.
    pub(super) fn covers(&self, range: &Range<u64>, since: u64) -> bool {
        let state = self.state.lock();
        let since = since.max(state.evicted_to);
        let mut at = range.start;
        if at < since {
            let behind = state.verified.partition_point(|held| held.end <= at);
            match state.verified.get(behind) {
                Some(held) if held.start <= at => at = held.end,
                _ => return range.is_empty(),
            }
        }
        let is_apart =
            |damage: &Damage| damage.positions.end <= range.start || damage.positions.start >= range.end;
        at >= range.end.min(since) && state.damaged.iter().all(is_apart)
    }

    /// A range was just read and proven. What was damaged in it is so no longer.
    pub(super) fn note_verified(&self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let mut state = self.state.lock();
        state
            .damaged
            .retain(|damage| damage.positions.end <= range.start || damage.positions.start >= range.end);
        self.is_damaged.store(!state.damaged.is_empty(), Release);
        let first = state.verified.partition_point(|held| held.end < range.start);
        let behind = state.verified.partition_point(|held| held.start <= range.end);
        let merged = state.verified[first..behind]
            .iter()
            .fold(range, |all, held| all.start.min(held.start)..all.end.max(held.end));
        state.verified.splice(first..behind, [merged]);
        if state.verified.len() > VERIFIED_MAX
            && let Some((shortest, _)) =
                state.verified.iter().enumerate().min_by_key(|(_, held)| held.end - held.start)
        {
            state.verified.remove(shortest);
        }
    }

    /// Some of what lies before `end` has left memory; the rest may follow, or come back unseen.
    pub(super) fn distrust(&self, end: u64) {
        let mut state = self.state.lock();
        state.verified.clear();
        state.evicted_to = end;
    }

    /// A range cannot be proven.
    pub(super) fn note_damage(&self, damage: &Damage) -> News {
        let mut state = self.state.lock();
        let state = &mut *state;
        if state.damaged.contains(damage) {
            return News::Known;
        }
        let positions = &damage.positions;
        let cut = |held: &Range<u64>| {
            [held.start..held.end.min(positions.start), held.start.max(positions.end)..held.end]
        };
        state.verified = state.verified.iter().flat_map(cut).filter(|held| !held.is_empty()).collect();
        state
            .damaged
            .retain(|held| held.positions.end <= positions.start || held.positions.start >= positions.end);
        self.is_damaged.store(true, Release);
        if state.damaged.len() >= DAMAGED_MAX {
            return News::Forgotten;
        }
        let at = state.damaged.partition_point(|held| held.positions.start < positions.start);
        state.damaged.insert(at, damage.clone());
        News::First
    }

    /// The damage that has `offset`. What could not be read may be readable now, so it is not in question.
    pub(super) fn damage_at(&self, offset: Offset) -> Option<Damage> {
        let state = self.state.lock();
        let rotten = state.damaged.iter().filter(|damage| damage.cause == DamageCause::Rotten);
        rotten.into_iter().find(|damage| damage.offsets.contains(&offset)).cloned()
    }

    /// Where the first damage at or behind `position` begins.
    pub(super) fn damage_behind(&self, position: u64) -> Option<u64> {
        let state = self.state.lock();
        state.damaged.iter().map(|damage| damage.positions.start).find(|start| *start >= position)
    }

    /// The end of the last damage before `offset`: a batch that was proven begins there, with this offset.
    pub(super) fn resynced_before(&self, offset: Offset) -> Option<(u64, Offset)> {
        let state = self.state.lock();
        let before = state.damaged.iter().rfind(|damage| damage.offsets.end <= offset)?;
        Some((before.positions.end, before.offsets.end))
    }

    pub(super) fn damaged(&self) -> Vec<Damage> {
        self.state.lock().damaged.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn damage(positions: Range<u64>) -> Damage {
        let offset = |at: u64| Offset::new(i64::try_from(at / 10).unwrap());
        let offsets = offset(positions.start)..offset(positions.end);
        Damage { positions, offsets, cause: DamageCause::Rotten }
    }

    #[test]
    fn verified_ranges_grow_together_and_damage_cuts_them() {
        let trust = Trust::default();
        let far = u64::MAX;
        assert!(!trust.covers(&(0..10), far));
        assert!(trust.covers(&(0..10), 0), "all of it was written by this process");
        trust.note_verified(0..10);
        trust.note_verified(20..30);
        assert!(!trust.covers(&(0..30), far));
        trust.note_verified(10..20);
        assert_eq!(trust.state.lock().verified, std::iter::once(0..30).collect::<Vec<_>>());
        assert!(trust.covers(&(5..25), far) && !trust.covers(&(5..31), far) && trust.covers(&(5..31), 30));
        assert_eq!(trust.note_damage(&damage(10..20)), News::First);
        assert_eq!(trust.note_damage(&damage(10..20)), News::Known);
        assert_eq!(trust.state.lock().verified, [0..10, 20..30]);
        assert!(!trust.covers(&(5..25), 0) && trust.covers(&(20..50), 30));
        assert_eq!(trust.damage_at(Offset::new(1)), Some(damage(10..20)));
        assert_eq!((trust.damage_at(Offset::new(2)), trust.damage_behind(11)), (None, None));
        assert_eq!(trust.resynced_before(Offset::new(9)), Some((20, Offset::new(2))));
        trust.note_verified(5..25);
        assert!(!trust.is_damaged() && trust.covers(&(0..30), far));
    }

    #[test]
    fn memory_of_either_is_bounded() {
        let trust = Trust::default();
        for at in (0..100_000).step_by(20) {
            trust.note_verified(at..at + 10);
            trust.note_damage(&damage(at + 10..at + 20));
        }
        let state = trust.state.lock();
        assert!(state.verified.len() <= VERIFIED_MAX && state.damaged.len() <= DAMAGED_MAX);
    }
}
