//! The time by which ages are judged, remembered across restarts: what was believed when this broker was last
//! alive is the only evidence there is against a wall clock that is wrong at the next start.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use millstream_log::{BelievedClock, Clock, ClockState, LastBelieved};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::meta_store::{Expect, MetaError, MetaStore};

const KEY: &str = "time/believed";

/// How often the time is to be remembered. A clock is believed at a start if it is ten minutes ahead at most:
/// this, and the restart.
pub(crate) const REMEMBER_EACH: Duration = Duration::from_mins(5);

/// The time as the store keeps it, in milliseconds.
#[derive(Debug, Serialize, Deserialize)]
struct StoredTime {
    believed: i64,
    wall: i64,
    held_for: i64,
}

/// The clock of all logs, and where it is remembered.
#[derive(Debug)]
pub(crate) struct BelievedTime {
    clock: Arc<BelievedClock>,
    store: Arc<dyn MetaStore>,
    /// The store's version of the entry.
    expect: Mutex<Expect>,
}

impl BelievedTime {
    /// The machine's clock, held to what was remembered.
    pub(crate) fn new(
        store: Arc<dyn MetaStore>,
        machine: Arc<dyn Clock>,
        hold: Duration,
    ) -> Result<Self, MetaError> {
        let entry = store.get(KEY)?;
        let expect =
            Mutex::new(entry.as_ref().map_or(Expect::Absent, |entry| Expect::Version(entry.version)));
        let stored = entry.map(|entry| serde_json::from_slice::<StoredTime>(&entry.value)).transpose();
        let stored = stored.map_err(|error| MetaError::corrupt(KEY, &error.to_string()))?;
        let last = stored.map(|StoredTime { believed, wall, held_for }| LastBelieved {
            believed_ms: believed,
            wall_ms: wall,
            held_for_ms: held_for,
        });
        Ok(Self { clock: Arc::new(BelievedClock::new(machine, hold, last)), store, expect })
    }

    /// What logs are given for a clock.
    pub(crate) fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.clock) as Arc<dyn Clock>
    }

    /// The time by which ages are judged, in milliseconds since 1970.
    pub(crate) fn now_ms(&self) -> i64 {
        self.clock.now_ms()
    }

    /// Whether the wall clock is believed.
    pub(crate) fn state(&self) -> ClockState {
        self.clock.state()
    }

    /// Remembers the time for the next start. Blocks on the disk.
    pub(crate) fn remember(&self) {
        let mut expect = self.expect.lock();
        let LastBelieved { believed_ms, wall_ms, held_for_ms } = self.clock.last_believed();
        let stored = StoredTime { believed: believed_ms, wall: wall_ms, held_for: held_for_ms };
        let value = serde_json::to_vec(&stored).expect("numbers always serialise");
        match self.store.put(KEY, Bytes::from(value), *expect) {
            Ok(version) => *expect = Expect::Version(version),
            // The one before is still there, and holds the clock a little more than need be.
            Err(error) => tracing::warn!(%error, "the time was not remembered for the next start"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta_store::LocalMetaStore;
    use millstream_log::{ManualClock, RealDisk};

    #[test]
    fn what_was_remembered_holds_a_clock_that_is_wrong_at_the_next_start() {
        let folder = tempfile::tempdir().unwrap();
        let day = Duration::from_hours(24);
        let start = |wall_ms: i64| {
            let store = Arc::new(LocalMetaStore::open(Arc::new(RealDisk), folder.path()).unwrap());
            let machine = Arc::new(ManualClock::at(wall_ms));
            (BelievedTime::new(store, machine.clone(), day).unwrap(), machine)
        };
        let (time, machine) = start(1_000_000);
        assert_eq!((time.clock().now_ms(), time.state()), (1_000_000, ClockState::Believed), "a new folder");
        time.remember();
        machine.advance(Duration::from_secs(60));
        time.remember();
        drop(time);
        let (time, _) = start(1_061_000);
        assert_eq!((time.clock().now_ms(), time.state()), (1_061_000, ClockState::Believed));
        drop(time);
        let (time, machine) = start(1_060_000 + 3_600_000);
        assert_eq!(time.clock().now_ms(), 1_060_000);
        assert!(matches!(time.state(), ClockState::Held { ahead_ms: 3_600_000, .. }));
        machine.advance(day / 2);
        time.remember();
        drop(time);
        let (time, machine) = start(machine.now_ms());
        assert!(matches!(time.state(), ClockState::Held { ahead_ms: 3_600_000, .. }));
        machine.advance(day / 2);
        assert_eq!((time.clock().now_ms(), time.state()), (machine.now_ms(), ClockState::Believed));
    }
}
