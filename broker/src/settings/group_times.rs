//! The times of groups of the new protocol: the broker's, within bounds, and what single groups set for themselves.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{SettingError, Side, Written, group_knob, number};

/// The times of one group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pace {
    /// How often members are to come; unless somebody set it, more often while they are few.
    pub(crate) heartbeat_interval: Duration,
    pub(crate) heartbeat_is_set: bool,
    /// How long a member may be silent.
    pub(crate) session_timeout: Duration,
    /// The least time between two targets.
    pub(crate) assignment_interval: Duration,
}

/// The times of all groups, and what a group may set for itself.
#[derive(Debug, Clone)]
pub(crate) struct GroupTimes {
    heartbeat: Time,
    session: Time,
    assignment: Time,
}

/// One of them, in milliseconds.
#[derive(Debug, Clone, Copy)]
struct Time {
    /// The broker's name for it, and a group's.
    name: &'static str,
    group_name: &'static str,
    of_all: i64,
    /// Whether somebody set it for all.
    is_set: bool,
    min: (&'static str, i64),
    max: (&'static str, i64),
}

impl Time {
    fn check(&self, name: &'static str, value: i64) -> Result<(), SettingError> {
        hold(name, value, Side::AtLeast, self.min)?;
        hold(name, value, Side::AtMost, self.max)
    }

    /// What holds for a group. What it set before the bounds moved counts up to them, as in Kafka.
    fn of(&self, own: Option<&GroupOwn>) -> i64 {
        let set = own.and_then(|own| own.values.get(self.group_name));
        set.map_or(self.of_all, |value| (*value).min(self.max.1).max(self.min.1))
    }

    fn is_set_for(&self, own: Option<&GroupOwn>) -> bool {
        self.is_set || own.is_some_and(|own| own.values.contains_key(self.group_name))
    }

    fn duration(&self, own: Option<&GroupOwn>) -> Duration {
        Duration::from_millis(u64::try_from(self.of(own)).unwrap_or(0))
    }
}

fn hold(
    name: &'static str,
    value: i64,
    side: Side,
    (bound, limit): (&'static str, i64),
) -> Result<(), SettingError> {
    match side.holds(value, limit) {
        true => Ok(()),
        false => Err(SettingError::BeyondBound { name, side, bound, limit, value }),
    }
}

impl GroupTimes {
    pub(super) fn new(written: &Written) -> Self {
        let bound = |name| (name, number(written, name));
        let time = |name, group_name, min, max| Time {
            name,
            group_name,
            of_all: number(written, name),
            is_set: written.contains_key(name),
            min: bound(min),
            max: bound(max),
        };
        Self {
            heartbeat: time(
                "group.consumer.heartbeat.interval.ms",
                "consumer.heartbeat.interval.ms",
                "group.consumer.min.heartbeat.interval.ms",
                "group.consumer.max.heartbeat.interval.ms",
            ),
            session: time(
                "group.consumer.session.timeout.ms",
                "consumer.session.timeout.ms",
                "group.consumer.min.session.timeout.ms",
                "group.consumer.max.session.timeout.ms",
            ),
            assignment: time(
                "group.consumer.assignment.interval.ms",
                "consumer.assignment.interval.ms",
                "group.consumer.min.assignment.interval.ms",
                "group.consumer.max.assignment.interval.ms",
            ),
        }
    }

    fn all(&self) -> [&Time; 3] {
        [&self.heartbeat, &self.session, &self.assignment]
    }

    /// Whether the broker's own go together.
    ///
    /// # Errors
    /// One is beyond its bounds, the bounds contradict each other, or a member would be out before its next heartbeat.
    pub(super) fn check(&self) -> Result<(), SettingError> {
        for time in self.all() {
            let (max, limit) = time.max;
            hold(max, limit, Side::AtLeast, time.min)?;
            time.check(time.name, time.of_all)?;
        }
        let Self { heartbeat, session, .. } = self;
        hold(session.name, session.of_all, Side::Above, (heartbeat.name, heartbeat.of_all))
    }

    /// Whether a group may set this for itself.
    ///
    /// # Errors
    /// One is beyond its bounds, or a member would be out before its next heartbeat.
    pub(crate) fn check_own(&self, own: &GroupOwn) -> Result<(), SettingError> {
        for time in self.all() {
            if let Some(value) = own.values.get(time.group_name) {
                time.check(time.group_name, *value)?;
            }
        }
        let Self { heartbeat, session, .. } = self;
        let limit = (heartbeat.group_name, heartbeat.of(Some(own)));
        hold(session.group_name, session.of(Some(own)), Side::Above, limit)
    }

    pub(super) fn pace(&self, own: Option<&GroupOwn>) -> Pace {
        Pace {
            heartbeat_interval: self.heartbeat.duration(own),
            heartbeat_is_set: self.heartbeat.is_set_for(own),
            session_timeout: self.session.duration(own),
            assignment_interval: self.assignment.duration(own),
        }
    }
}

/// What single groups set for themselves, by their ids.
pub(crate) type GroupOverrides = BTreeMap<String, GroupOwn>;

/// What one group sets for itself, by the group's names; each value is one that its knob allows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct GroupOwn {
    written: BTreeMap<String, String>,
    values: BTreeMap<&'static str, i64>,
}

impl GroupOwn {
    /// Reads what is written for a group.
    ///
    /// # Errors
    /// A name or a value is not legal for a group.
    pub(crate) fn new(written: BTreeMap<String, String>) -> Result<Self, SettingError> {
        let mut values = BTreeMap::new();
        for (name, value) in &written {
            let knob = group_knob(name)?;
            let name = knob.group_name().unwrap_or(knob.name);
            knob.check_as(name, value)?;
            values.insert(
                name,
                value.parse().expect("all that a group can set are numbers, and it was checked"),
            );
        }
        Ok(Self { written, values })
    }

    /// As it was written.
    pub(crate) fn written(&self) -> &BTreeMap<String, String> {
        &self.written
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.written.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{BrokerSettings, REGISTRY, write};

    fn broker(pairs: &[(&str, &str)]) -> Result<BrokerSettings, String> {
        let mut written = Written::new();
        for (name, value) in pairs {
            write(&mut written, name, value).map_err(|error| error.to_string())?;
        }
        BrokerSettings::new(written).map_err(|error| error.to_string())
    }

    fn own(pairs: &[(&str, &str)]) -> Result<GroupOwn, String> {
        let written = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        GroupOwn::new(written).map_err(|error| error.to_string())
    }

    fn checked(pairs: &[(&str, &str)]) -> Result<GroupOwn, String> {
        let own = own(pairs)?;
        let times = broker(&[]).unwrap().groups.consumer.times;
        times.check_own(&own).map_err(|error| error.to_string())?;
        Ok(own)
    }

    #[test]
    fn every_setting_of_a_group_is_one_of_its_times() {
        let times = broker(&[]).unwrap().groups.consumer.times;
        let mut named: Vec<_> = times.all().iter().map(|time| Some((time.name, time.group_name))).collect();
        named.sort_unstable();
        let known: Vec<_> =
            REGISTRY.iter().filter_map(|knob| Some(Some((knob.name, knob.group_name()?)))).collect();
        assert_eq!(named, known);
    }

    #[test]
    fn the_bound_that_a_group_is_beyond_is_named() {
        let told = |name: &str, value: &str| checked(&[(name, value)]).unwrap_err();
        assert_eq!(
            told("consumer.session.timeout.ms", "44999"),
            "consumer.session.timeout.ms must be greater than or equal to group.consumer.min.session.timeout.ms, \
             45000; it is 44999"
        );
        assert_eq!(
            told("consumer.heartbeat.interval.ms", "15001"),
            "consumer.heartbeat.interval.ms must be less than or equal to group.consumer.max.heartbeat.interval.ms, \
             15000; it is 15001"
        );
        assert!(told("consumer.assignment.interval.ms", "15001").contains("group.consumer.max.assignment"));
        assert!(told("consumer.assignment.interval.ms", "-1").contains("must be between 0 and"));
        assert!(told("consumer.heartbeat.interval.ms", "soon").contains("not a whole number"));
        assert!(checked(&[("consumer.session.timeout.ms", "45000")]).is_ok());
        assert!(checked(&[("consumer.assignment.interval.ms", "0")]).is_ok());
    }

    #[test]
    fn names_of_the_broker_and_of_groups_that_are_not_served_are_refused_for_a_group() {
        let told = |name: &str| own(&[(name, "50000")]).unwrap_err();
        assert!(told("group.consumer.session.timeout.ms").contains("here is 'consumer.session.timeout.ms'"));
        assert!(told("share.session.timeout.ms").contains("there are no share groups"));
        assert!(told("streams.session.timeout.ms").contains("there are no streams groups"));
        assert!(told("consumer.session.timeout").contains("did you mean 'consumer.session.timeout.ms'?"));
    }

    #[test]
    fn a_session_outlasts_the_interval_between_two_heartbeats() {
        let bounds = [
            ("group.consumer.min.session.timeout.ms", "1000"),
            ("group.consumer.min.heartbeat.interval.ms", "100"),
        ];
        let times = broker(&bounds).unwrap().groups.consumer.times;
        let short = own(&[("consumer.session.timeout.ms", "5000")]).unwrap();
        let told = times.check_own(&short).unwrap_err().to_string();
        assert_eq!(
            told,
            "consumer.session.timeout.ms must be greater than consumer.heartbeat.interval.ms, 5000; it is 5000"
        );
        let both = [("consumer.session.timeout.ms", "5000"), ("consumer.heartbeat.interval.ms", "1000")];
        assert_eq!(times.check_own(&own(&both).unwrap()), Ok(()));
        let broker_wide = [&bounds[..], &[("group.consumer.session.timeout.ms", "2000")]].concat();
        assert!(
            broker(&broker_wide).unwrap_err().contains("greater than group.consumer.heartbeat.interval.ms")
        );
    }

    #[test]
    fn the_brokers_times_lie_within_its_bounds() {
        let told = |pairs: &[(&str, &str)]| broker(pairs).unwrap_err();
        assert!(
            told(&[("group.consumer.session.timeout.ms", "10000")]).contains("min.session.timeout.ms, 45000")
        );
        assert!(told(&[("group.consumer.max.session.timeout.ms", "40000")]).starts_with(
            "group.consumer.max.session.timeout.ms must be greater than or equal to group.consumer.min.session"
        ));
        let lower = [
            ("group.consumer.min.session.timeout.ms", "10000"),
            ("group.consumer.session.timeout.ms", "10000"),
        ];
        assert!(broker(&lower).is_ok());
    }

    #[test]
    fn what_a_group_set_before_its_bounds_moved_counts_up_to_them() {
        let own = own(&[("consumer.session.timeout.ms", "20000")]).unwrap();
        let times = broker(&[]).unwrap().groups.consumer.times;
        assert_eq!(times.pace(Some(&own)).session_timeout, Duration::from_secs(45));
        assert_eq!(times.pace(None).heartbeat_interval, Duration::from_secs(5));
    }
}
