//! Settings of members of a group.

use std::future::Future;
use std::time::Duration;

use millstream_protocol::KStr;

use super::{ConsumerBuilder, StartAt, StopAt, Subscribed};
use crate::error::SettingsError;
use crate::group::{Assignor, GroupProtocol, Hook, Pattern, Rebalance, Subscription};

impl ConsumerBuilder {
    /// Reads those partitions of these topics that the group gives to this member. Topics that do not exist yet are read
    /// once they do.
    pub fn subscribe(mut self, topics: impl IntoIterator<Item = impl Into<KStr>>) -> Self {
        self.subscribed = Some(Subscribed::Names(topics.into_iter().map(Into::into).collect()));
        self
    }

    /// Reads those partitions that the group gives to this member of all topics whose whole name matches a regular
    /// expression, also of those that come later. Topics of the brokers themselves do not match.
    ///
    /// In the new protocol it is the broker that matches, in the syntax of RE2; otherwise topics are looked at each
    /// [`topics_every`](Self::topics_every). What both take is Perl's syntax without look-around and back-references.
    pub fn subscribe_pattern(mut self, pattern: impl Into<String>) -> Self {
        self.subscribed = Some(Subscribed::Pattern(pattern.into()));
        self
    }

    /// Where to start in a partition for which the group has committed nothing. Default: nowhere. That nothing is
    /// committed is an error then ([`NoCommittedOffset`](crate::ConsumeError::NoCommittedOffset)), because the beginning
    /// may be much and the end may skip records, and only the program knows which is right.
    pub fn start_at(mut self, start: StartAt) -> Self {
        self.settings.uncommitted = Some(start);
        self
    }

    /// How members come to their partitions. Default: [`GroupProtocol::Consumer`], because there a member that is slow, or
    /// comes, or goes, holds up nobody but the one that waits for its partitions; and the classic protocol where the broker
    /// does not serve the new one. Members of both kinds can be in one group if the broker can convert it
    /// (`group.consumer.migration.policy`).
    pub fn protocol(mut self, protocol: GroupProtocol) -> Self {
        self.group.protocol = protocol;
        self
    }

    /// A name that the member keeps over restarts (static membership). Its partitions wait for it when it is closed, until
    /// its session ends, so a restart moves nothing. Each member has its own: of two that use the same one, one is
    /// [fenced](crate::GroupError::Fenced). Default: none.
    pub fn instance_id(mut self, name: impl Into<KStr>) -> Self {
        self.group.instance_id = Some(name.into());
        self
    }

    /// Where the member stands, for brokers and leaders that care. Default: unsaid.
    pub fn rack(mut self, rack: impl Into<KStr>) -> Self {
        self.group.rack = Some(rack.into());
        self
    }

    /// How the leader of a classic group shares out partitions; the group uses the first that all its members have.
    /// Default: [`Assignor::CooperativeSticky`] alone. To bring a group of members with range or round-robin to the
    /// cooperative one, name both here first, in all members, and then the cooperative one alone.
    pub fn assignors(mut self, assignors: impl IntoIterator<Item = Assignor>) -> Self {
        self.group.assignors = assignors.into_iter().collect();
        self
    }

    /// How the broker shares out partitions in the new protocol: `uniform`, `range`, or whatever else it has. Default: its
    /// own.
    pub fn server_assignor(mut self, name: impl Into<KStr>) -> Self {
        self.group.server_assignor = Some(name.into());
        self
    }

    /// After how long without a sign of life a member of a classic group is taken for dead. In the new protocol it is the
    /// broker that says. Default: 45 s.
    pub fn session_timeout(mut self, timeout: Duration) -> Self {
        self.group.session_timeout = timeout;
        self
    }

    /// How often a member of a classic group gives a sign of life, in the background. In the new protocol it is the broker
    /// that says. Default: 3 s.
    pub fn heartbeat_interval(mut self, interval: Duration) -> Self {
        self.group.heartbeat_interval = interval;
        self
    }

    /// How long the group waits for its members in a rebalance. A program has four fifths of it to be done with what it was
    /// handed of partitions that are to go; the rest is for the way. What it does not give up by then is
    /// [taken](crate::ConsumeError::PartitionsLost), and the member stays in the group. Default: 60 s.
    pub fn rebalance_timeout(mut self, timeout: Duration) -> Self {
        self.group.rebalance_timeout = timeout;
        self
    }

    /// How long the program may be busy with what it was handed before its member leaves the group, so that others read its
    /// partitions; the next call [says so](crate::GroupError::Lapsed) and joins again. Default: for ever, because a member
    /// that is busy is alive; set it where a program may hang.
    pub fn max_poll_interval(mut self, interval: Duration) -> Self {
        self.group.max_poll_interval = Some(interval);
        self
    }

    /// How often topics are looked at where it is the member that has to see whether some came or grew; not more often than
    /// each 10 ms. Default: 30 s.
    pub fn topics_every(mut self, interval: Duration) -> Self {
        self.group.topics_every = interval.max(Duration::from_millis(10));
        self
    }

    /// Commits from time to time, in the background, what was handed out before the latest call of
    /// [`recv`](crate::Consumer::recv) and its likes; and, when partitions are given up and at
    /// [`close`](crate::Consumer::close), what was handed out of them. Not for programs that hand records on to other tasks
    /// and come back before these are done. Default: off, nothing is committed but what the program commits.
    pub fn auto_commit(mut self, interval: Duration) -> Self {
        self.group.auto_commit = Some(interval);
        self
    }

    /// Has a function called whenever the partitions of this member change. [`Rebalance`] has an example, and says when.
    ///
    /// Without one a partition that is to go is given up when the program comes back for more: it is done then with what it
    /// was handed. A program that comes back before it is done, because other tasks work on records, needs one.
    pub fn on_rebalance<F>(mut self, hook: impl FnMut(Rebalance) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.group.hook = Some(Hook::new(hook));
        self
    }

    /// What to subscribe to, if that is what is wanted, and if everything else goes with it.
    pub(super) fn subscription(&self) -> Result<Option<Subscription>, SettingsError> {
        let Some(subscribed) = &self.subscribed else {
            let group = &self.group;
            let is_member =
                group.hook.is_some() || group.auto_commit.is_some() || group.instance_id.is_some();
            return match is_member || group.max_poll_interval.is_some() {
                true => Err(SettingsError::MemberWithoutSubscription),
                false => Ok(None),
            };
        };
        let (heartbeat, session) = (self.group.heartbeat_interval, self.group.session_timeout);
        if self.settings.group.is_none() {
            return Err(SettingsError::SubscribesWithoutGroup);
        }
        if !self.assignments.is_empty() {
            return Err(SettingsError::AssignsAndSubscribes);
        }
        if self.stop != StopAt::Never {
            return Err(SettingsError::StopsAndSubscribes);
        }
        if self.group.assignors.is_empty() {
            return Err(SettingsError::NoAssignor);
        }
        if heartbeat.is_zero() || heartbeat >= session {
            return Err(SettingsError::Heartbeat { heartbeat, session });
        }
        Ok(Some(match subscribed {
            Subscribed::Names(names) => Subscription::Names(names.clone()),
            Subscribed::Pattern(text) => {
                let wrong = |error: regex::Error| SettingsError::Pattern {
                    pattern: text.clone(),
                    reason: error.to_string(),
                };
                Subscription::Pattern(Pattern::new(text).map_err(wrong)?)
            }
        }))
    }
}
