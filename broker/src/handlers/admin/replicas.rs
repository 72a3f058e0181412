//! What clients may ask about replicas. Each partition has one replica for now: its leader.

use super::refused::Refused;
use crate::dispatch::Call;
use crate::settings::ReplicationPolicy;
use millstream_protocol::ErrorCode;

/// "As many as the broker thinks right."
pub(super) const DEFAULT_FACTOR: i16 = -1;

/// Checks a replication factor.
pub(super) fn check_factor(call: &Call, factor: i16) -> Result<(), Refused> {
    match (factor, call.node.settings().replication_policy) {
        (DEFAULT_FACTOR | 1, _) => Ok(()),
        (2.., ReplicationPolicy::Virtual) => Ok(()),
        (2.., ReplicationPolicy::Strict) => {
            let message = format!(
                "replication factor {factor} needs {factor} brokers and there is 1; ask for 1, or set \
                 replication.factor.policy=virtual to accept it with one replica"
            );
            Err(Refused::new(ErrorCode::InvalidReplicationFactor, message))
        }
        _ => {
            let message =
                format!("the replication factor is {factor}; it must be at least 1, or -1 for the default");
            Err(Refused::new(ErrorCode::InvalidReplicationFactor, message))
        }
    }
}

/// Checks a partition's hand-made list of brokers.
pub(super) fn check_assignment(call: &Call, brokers: &[i32]) -> Result<(), Refused> {
    let me = call.node.view.me().0;
    if brokers == [me] {
        return Ok(());
    }
    let message = format!("a partition can only be assigned to [{me}], not to {brokers:?}");
    Err(Refused::new(ErrorCode::InvalidReplicaAssignment, message))
}
