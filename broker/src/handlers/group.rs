//! Consumer groups: each handler hands its request to the coordinator and waits for the group's answer.

pub(crate) mod consumer_group_describe;
pub(crate) mod consumer_group_heartbeat;
pub(crate) mod delete;
pub(crate) mod describe;
pub(crate) mod describe_lag;
pub(crate) mod find_coordinator;
pub(crate) mod heartbeat;
pub(crate) mod join;
pub(crate) mod leave;
pub(crate) mod list;
pub(crate) mod offset_commit;
pub(crate) mod offset_delete;
pub(crate) mod offset_fetch;
pub(crate) mod sync;
