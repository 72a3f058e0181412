//! Compactions that somebody asked for, and how far the running ones are.

use std::collections::BTreeMap;

use millstream_protocol::Uuid;
use parking_lot::Mutex;

/// A partition.
pub(crate) type Key = (Uuid, i32);

/// What became of the wish to have a partition compacted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wish {
    /// The cleaner has not come to it.
    Waiting,
    /// It runs, on somebody's wish or because it was due.
    Running { done_bytes: u64, total_bytes: u64 },
    /// It was tried and failed; kept until somebody asks again.
    Failed { reason: String },
}

/// At most one entry for each partition that there is, or was a moment ago.
#[derive(Debug, Default)]
pub(crate) struct Compactions {
    wishes: Mutex<BTreeMap<Key, Wish>>,
}

impl Compactions {
    /// Somebody wants a partition compacted. One that waits or runs does so already.
    pub(crate) fn ask(&self, key: Key) {
        let mut wishes = self.wishes.lock();
        let wish = wishes.entry(key).or_insert(Wish::Waiting);
        if let Wish::Failed { .. } = wish {
            *wish = Wish::Waiting;
        }
    }

    /// The next partition that somebody waits for and that is `mine`. Forgets those that are `gone`.
    pub(crate) fn next(&self, is_mine: impl Fn(Key) -> bool, is_gone: impl Fn(Key) -> bool) -> Option<Key> {
        let mut wishes = self.wishes.lock();
        wishes.retain(|key, _| !is_gone(*key));
        let mut waiting = wishes.iter().filter(|(_, wish)| **wish == Wish::Waiting);
        waiting.find(|(key, _)| is_mine(**key)).map(|(key, _)| *key)
    }

    /// It runs, and is so far.
    pub(crate) fn progress(&self, key: Key, done_bytes: u64, total_bytes: u64) {
        self.wishes.lock().insert(key, Wish::Running { done_bytes, total_bytes });
    }

    /// It has come to its end.
    pub(crate) fn end(&self, key: Key, failure: Option<String>) {
        let mut wishes = self.wishes.lock();
        match failure {
            None => wishes.remove(&key),
            Some(reason) => wishes.insert(key, Wish::Failed { reason }),
        };
    }

    /// What there is to say of a partition; `None` if nothing was asked for, or it is done.
    pub(crate) fn state(&self, key: Key) -> Option<Wish> {
        self.wishes.lock().get(&key).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_waits_runs_and_is_gone_or_remembered_as_failed() {
        let wishes = Compactions::default();
        let [one, other] = [0, 1].map(|index| (Uuid::nil(), index));
        assert_eq!(wishes.next(|_| true, |_| false), None);
        wishes.ask(one);
        wishes.ask(one);
        wishes.ask(other);
        assert_eq!(wishes.next(|key| key == other, |_| false), Some(other));
        wishes.progress(other, 5, 10);
        assert_eq!(wishes.state(other), Some(Wish::Running { done_bytes: 5, total_bytes: 10 }));
        wishes.ask(other);
        assert_eq!(wishes.next(|_| true, |_| false), Some(one), "what runs is not begun again");
        wishes.end(other, Some("no space".into()));
        assert_eq!(wishes.state(other), Some(Wish::Failed { reason: "no space".into() }));
        wishes.ask(other);
        assert_eq!(wishes.state(other), Some(Wish::Waiting));
        wishes.progress(one, 0, 1);
        wishes.end(one, None);
        assert_eq!(wishes.state(one), None);
        assert_eq!(wishes.next(|_| true, |key| key == other), None, "its topic was deleted");
        assert_eq!(wishes.state(other), None);
    }
}
