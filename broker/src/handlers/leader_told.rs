//! What Metadata and DescribeTopicPartitions tell of a partition's leader.
//!
//! A partition that is being recovered has none for a moment: clients ask again. One whose log cannot be
//! opened keeps its leader, which refuses requests with a storage error: that is what its user has to see,
//! rather than a client that waits for a leader in silence.

use millstream_protocol::ErrorCode;

use crate::dispatch::Call;
use crate::metadata::topics::{Partition, Topic, Unavailable};

use super::wire_errors::code_for_unavailable;

const NO_LEADER: i32 = -1;
const NO_EPOCH: i32 = -1;

pub(super) struct LeaderTold {
    pub(super) code: ErrorCode,
    pub(super) leader_id: i32,
    pub(super) leader_epoch: i32,
    /// Every partition has one replica, the node that leads it.
    pub(super) replicas: Vec<i32>,
    pub(super) offline: Vec<i32>,
}

impl LeaderTold {
    pub(super) fn of(call: &Call, topic: &Topic, partition: &Partition) -> Self {
        let view = &call.node.view;
        let now = view.leadership(topic.id, partition);
        let leads = Self {
            code: ErrorCode::None,
            leader_id: now.leader.0,
            leader_epoch: now.epoch.get(),
            replicas: vec![now.leader.0],
            offline: Vec::new(),
        };
        let missing = if now.leader == view.me() { partition.log().err() } else { None };
        match missing {
            None => leads,
            Some(Unavailable::Recovering | Unavailable::Deleted) => Self {
                code: ErrorCode::LeaderNotAvailable,
                leader_id: NO_LEADER,
                leader_epoch: NO_EPOCH,
                ..leads
            },
            Some(failed @ Unavailable::Failed { .. }) => {
                Self { code: code_for_unavailable(&failed), offline: leads.replicas.clone(), ..leads }
            }
        }
    }
}
