//! Features in Kafka's sense: levels of behaviour that an administrator can turn up and down (KIP-584). Kept in the
//! store, in force at once, and again after a restart. The rules and words of a refusal are those of Kafka 4.3.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use parking_lot::Mutex;

use super::cluster_view::NodeId;
use super::live_settings::Intent;
use crate::meta_store::{Expect, MetaError, MetaStore};

const KEY: &str = "features";

/// What has levels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Feature {
    /// 1: the new group protocol (KIP-848) is served. 0: its APIs are refused; groups that use it stay as they are.
    GroupVersion,
    /// 2: clients have a new epoch after each transaction, and partitions are added as they are written to (KIP-890). Below,
    /// they go by the protocol of before, which is served always. 1 is Kafka's for a format of its records.
    TransactionVersion,
}

impl Feature {
    pub(crate) const ALL: [Self; 2] = [Self::GroupVersion, Self::TransactionVersion];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::GroupVersion => "group.version",
            Self::TransactionVersion => "transaction.version",
        }
    }

    /// From 0, which is off, to the level that holds unless another is asked for.
    pub(crate) fn levels(self) -> RangeInclusive<i16> {
        match self {
            Self::GroupVersion => 0..=1,
            Self::TransactionVersion => 0..=2,
        }
    }

    fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|feature| feature.name() == name)
    }
}

/// Which way a level may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Up,
    Down,
    /// A number that Kafka does not know.
    Unknown,
}

/// What an administrator asks for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Update<'a> {
    pub(crate) feature: &'a str,
    pub(crate) level: i16,
    pub(crate) direction: Direction,
}

/// Why no level was changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FeatureError {
    #[error(
        "The update failed for all features since the following feature had an error: Invalid update version {level} \
         for feature {feature}. {reason}"
    )]
    Refused { feature: String, level: i16, reason: String },
    #[error(transparent)]
    Store(#[from] MetaError),
}

/// The levels that are in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Levels {
    levels: BTreeMap<Feature, i16>,
    /// Rises with each change.
    pub(crate) epoch: i64,
}

impl Levels {
    fn highest() -> Self {
        Self { levels: Feature::ALL.map(|feature| (feature, *feature.levels().end())).into(), epoch: 0 }
    }

    pub(crate) fn of(&self, feature: Feature) -> i16 {
        self.levels.get(&feature).copied().unwrap_or(0)
    }

    /// These with all updates or, on an error, with none.
    fn updated(&self, me: NodeId, updates: &[Update<'_>]) -> Result<Self, FeatureError> {
        let mut next = self.clone();
        for update in updates {
            let feature = self.check(me, update).map_err(|reason| FeatureError::Refused {
                feature: update.feature.to_owned(),
                level: update.level,
                reason,
            })?;
            next.levels.insert(feature, update.level);
        }
        Ok(next)
    }

    /// What is wrong with an update, in the order in which Kafka looks.
    fn check(
        &self,
        me: NodeId,
        Update { feature, level, direction }: &Update<'_>,
    ) -> Result<Feature, String> {
        let name = feature;
        if *direction == Direction::Unknown {
            return Err("The controller does not support the given upgrade type.".to_owned());
        }
        if *level < 0 {
            return Err("A feature version cannot be less than 0.".to_owned());
        }
        let Some(feature) = Feature::named(name) else {
            return Err(match level {
                0 => format!("Feature {name} not found."),
                _ => format!("Local controller {} does not support this feature.", me.0),
            });
        };
        let levels = feature.levels();
        if !levels.contains(level) {
            let (least, most) = (levels.start(), levels.end());
            return Err(format!("Local controller {} only supports versions {least}-{most}", me.0));
        }
        match (level.cmp(&self.of(feature)), direction) {
            (std::cmp::Ordering::Less, Direction::Up) => Err("Can't downgrade the version of this feature without \
                                                              setting the upgrade type to either safe or unsafe \
                                                              downgrade."
                .to_owned()),
            (std::cmp::Ordering::Greater, Direction::Down) => {
                Err("Can't downgrade to a newer version.".to_owned())
            }
            _ => Ok(feature),
        }
    }
}

/// The features of a running broker.
#[derive(Debug)]
pub(crate) struct Features {
    now: ArcSwap<Levels>,
    store: Arc<dyn MetaStore>,
    /// The store's version of the entry. Changes come one at a time.
    changing: Mutex<Expect>,
}

impl Features {
    pub(crate) fn load(store: Arc<dyn MetaStore>) -> Result<Self, MetaError> {
        let mut levels = Levels::highest();
        let mut expect = Expect::Absent;
        if let Some(entry) = store.get(KEY)? {
            let corrupt = |error: serde_json::Error| MetaError::corrupt(KEY, &error.to_string());
            let stored: BTreeMap<String, i16> = serde_json::from_slice(&entry.value).map_err(corrupt)?;
            for feature in Feature::ALL {
                match stored.get(feature.name()) {
                    Some(level) if feature.levels().contains(level) => {
                        levels.levels.insert(feature, *level);
                    }
                    Some(level) => {
                        let reason = format!("{} has no level {level}", feature.name());
                        return Err(MetaError::corrupt(KEY, &reason));
                    }
                    None => {}
                }
            }
            levels.epoch = epoch_of(entry.version);
            expect = Expect::Version(entry.version);
        }
        Ok(Self { now: ArcSwap::from_pointee(levels), store, changing: Mutex::new(expect) })
    }

    pub(crate) fn now(&self) -> Arc<Levels> {
        self.now.load_full()
    }

    pub(crate) fn level(&self, feature: Feature) -> i16 {
        self.now.load().of(feature)
    }

    /// Changes levels, all or none: durable, and in force, when this returns. Blocks on the disk.
    pub(crate) fn update(
        &self,
        me: NodeId,
        updates: &[Update<'_>],
        intent: Intent,
    ) -> Result<(), FeatureError> {
        let mut expect = self.changing.lock();
        let before = self.now();
        let mut next = before.updated(me, updates)?;
        if intent == Intent::Check || next == *before {
            return Ok(());
        }
        let stored: BTreeMap<&str, i16> =
            next.levels.iter().map(|(feature, level)| (feature.name(), *level)).collect();
        let value = serde_json::to_vec(&stored).expect("text and numbers always serialise");
        let version = self.store.put(KEY, Bytes::from(value), *expect)?;
        *expect = Expect::Version(version);
        next.epoch = epoch_of(version);
        tracing::info!(levels = ?next.levels, "levels of features changed");
        self.now.store(Arc::new(next));
        Ok(())
    }
}

fn epoch_of(version: u64) -> i64 {
    i64::try_from(version).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(levels: &Levels, feature: &str, level: i16, direction: Direction) -> Result<Levels, String> {
        let updates = [Update { feature, level, direction }];
        levels.updated(NodeId(1), &updates).map_err(|error| {
            let told = error.to_string();
            told.split_once(&format!("version {level} for feature {feature}. ")).unwrap().1.to_owned()
        })
    }

    #[test]
    fn a_level_goes_down_only_if_that_is_said_and_up_again() {
        let on = Levels::highest();
        let off = ask(&on, "group.version", 0, Direction::Down).unwrap();
        assert_eq!((on.of(Feature::GroupVersion), off.of(Feature::GroupVersion)), (1, 0));
        assert_eq!(ask(&off, "group.version", 1, Direction::Up).unwrap(), on);
        assert_eq!(ask(&on, "group.version", 1, Direction::Down).unwrap(), on, "no change is no downgrade");
        assert_eq!(
            ask(&on, "group.version", 0, Direction::Up).unwrap_err(),
            "Can't downgrade the version of this feature without setting the upgrade type to either safe or unsafe \
             downgrade."
        );
        assert_eq!(
            ask(&off, "group.version", 1, Direction::Down).unwrap_err(),
            "Can't downgrade to a newer version."
        );
    }

    #[test]
    fn what_there_is_not_is_refused_as_kafka_does() {
        let on = Levels::highest();
        let table = [
            ("group.version", 2, Direction::Up, "Local controller 1 only supports versions 0-1"),
            ("group.version", -1, Direction::Down, "A feature version cannot be less than 0."),
            (
                "group.version",
                1,
                Direction::Unknown,
                "The controller does not support the given upgrade type.",
            ),
            ("no.such", 1, Direction::Up, "Local controller 1 does not support this feature."),
            ("no.such", 0, Direction::Down, "Feature no.such not found."),
        ];
        for (feature, level, direction, reason) in table {
            assert_eq!(ask(&on, feature, level, direction).unwrap_err(), reason);
        }
        let down = Update { feature: "group.version", level: 0, direction: Direction::Down };
        let wrong = Update { feature: "no.such", level: 1, direction: Direction::Up };
        assert!(on.updated(NodeId(1), &[down, wrong]).is_err(), "all or none");
    }
}
