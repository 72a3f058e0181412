//! Groups of consumers: who reads which partition, and how far the group has come.
//!
//! ```text
//! Consumer -- following --.                      .-- member: classic | modern (pure)
//!                         |--- shared <--- task -|
//! Committer -- commit ----'                      '-- requests to the coordinator
//! ```
//! `member` decides, `task` sends, `shared` is where they and the program meet. What a member holds is in `holdings`:
//! a partition is the program's until the program has given it up, or did not in time.
//!
//! In reading order: `status`, `rebalance` (what a program sees), `holdings`, `member`, `modern`, `classic` with
//! `wire`, `assignor` and `subscription`, `shared`, `task`, `following` (the consumer's side), `commit`.

mod assignor;
mod classic;
mod commit;
mod following;
mod holdings;
mod member;
mod modern;
mod rebalance;
mod shared;
mod status;
mod subscription;
mod task;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use millstream_client::Client;
use millstream_protocol::{KStr, Uuid};

pub use assignor::Assignor;
pub use commit::{CommitError, Committer};
pub use rebalance::{Assigned, Lost, Rebalance, Revoked, TopicPartition};
pub use status::{GroupError, GroupProtocol, GroupStatus, LossReason, MemberState};

pub(crate) use commit::committed;
pub(crate) use following::{Call, Following};
pub(crate) use rebalance::Hook;
pub(crate) use subscription::{Pattern, Subscription};

use member::{Member, MemberSettings};
use shared::{Shared, View};
use task::Task;

/// How often topics are looked at, where a member has to.
const TOPICS_EVERY: Duration = Duration::from_secs(30);

/// What a consumer is told of its group.
#[derive(Debug, Clone)]
pub(crate) struct GroupSettings {
    pub(crate) group: KStr,
    pub(crate) instance_id: Option<KStr>,
    pub(crate) rack: Option<KStr>,
    pub(crate) protocol: GroupProtocol,
    pub(crate) assignors: Vec<Assignor>,
    pub(crate) server_assignor: Option<KStr>,
    pub(crate) session_timeout: Duration,
    pub(crate) rebalance_timeout: Duration,
    pub(crate) heartbeat_interval: Duration,
    pub(crate) max_poll_interval: Option<Duration>,
    pub(crate) topics_every: Duration,
    pub(crate) auto_commit: Option<Duration>,
    pub(crate) hook: Option<Hook>,
}

impl GroupSettings {
    pub(crate) fn new(group: KStr) -> Self {
        Self {
            group,
            instance_id: None,
            rack: None,
            protocol: GroupProtocol::Consumer,
            assignors: vec![Assignor::CooperativeSticky],
            server_assignor: None,
            session_timeout: Duration::from_secs(45),
            rebalance_timeout: Duration::from_secs(60),
            heartbeat_interval: Duration::from_secs(3),
            max_poll_interval: None,
            topics_every: TOPICS_EVERY,
            auto_commit: None,
            hook: None,
        }
    }

    /// Starts a member. It joins in the background.
    pub(crate) fn join(self, client: &Client, subscription: Subscription) -> Following {
        let id = KStr::from(Uuid::new_v4().to_string());
        let settings = Arc::new(MemberSettings {
            group: self.group.clone(),
            instance_id: self.instance_id.clone(),
            rack: self.rack.clone(),
            subscription,
            assignors: self.assignors.clone(),
            server_assignor: self.server_assignor.clone(),
            session_timeout: self.session_timeout,
            rebalance_timeout: self.rebalance_timeout,
            heartbeat_interval: self.heartbeat_interval,
            topics_every: self.topics_every,
            patience: client.total_timeout(),
        });
        let member = Member::new(settings.clone(), self.protocol, id);
        let shared = Arc::new(Shared::new(View::of(&member, &self.group)));
        let task = Task {
            group: self.group.clone(),
            client: client.clone(),
            wire: client.isolated(),
            member,
            shared: shared.clone(),
            rebalance_timeout: self.rebalance_timeout,
            max_poll_interval: self.max_poll_interval,
        };
        let task = tokio::spawn(task.run());
        let names = (Some(self.group.clone()), self.instance_id.clone());
        let committer = Committer::new(client, names, Some(shared.clone()));
        Following::new(self, (shared, settings.revocation_time()), committer, task)
    }
}

#[cfg(test)]
mod tests;
