//! The records of consumer groups: kinds 3 to 8 and 16 of `__consumer_offsets`.

use bytes::Bytes;
use millstream_protocol::messages::{
    ConsumerGroupCurrentMemberAssignmentKey, ConsumerGroupCurrentMemberAssignmentValue,
    ConsumerGroupMemberMetadataKey, ConsumerGroupMemberMetadataValue, ConsumerGroupMetadataKey,
    ConsumerGroupMetadataValue, ConsumerGroupRegularExpressionKey, ConsumerGroupRegularExpressionValue,
    ConsumerGroupTargetAssignmentMemberKey, ConsumerGroupTargetAssignmentMemberValue,
    ConsumerGroupTargetAssignmentMetadataKey, ConsumerGroupTargetAssignmentMetadataValue,
};
use millstream_protocol::wire::{DecodeError, EncodeError, Reader};
use millstream_protocol::{KStr, Message};

use crate::groups::record::{KEY_VERSION, decoded, encoded};

const GROUP: i16 = 3;
/// What Kafka 4.0 knew of topics; since 4.1 a number in the group's own record says as much. Only ever removed.
const TOPICS: i16 = 4;
const WISH: i16 = 5;
const TARGET_EPOCH: i16 = 6;
const TARGET: i16 = 7;
const STANDING: i16 = 8;
const REGEX: i16 = 16;

/// The only version of every value.
const VALUE_VERSION: i16 = 0;

/// One change of a consumer group; `None` for a value is its removal.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Change {
    Group(Option<ConsumerGroupMetadataValue>),
    Topics { are_stored: bool },
    Wish { member: KStr, value: Option<ConsumerGroupMemberMetadataValue> },
    TargetEpoch(Option<ConsumerGroupTargetAssignmentMetadataValue>),
    Target { member: KStr, value: Option<ConsumerGroupTargetAssignmentMemberValue> },
    Standing { member: KStr, value: Option<ConsumerGroupCurrentMemberAssignmentValue> },
    Regex { regex: KStr, value: Option<ConsumerGroupRegularExpressionValue> },
}

impl Change {
    /// The key and the value as they are stored.
    pub(in crate::groups) fn encode(&self, group: &KStr) -> Result<(Bytes, Option<Bytes>), EncodeError> {
        let group_id = group.clone();
        match self {
            Self::Group(value) => {
                encoded(GROUP, &ConsumerGroupMetadataKey { group_id }, VALUE_VERSION, value.as_ref())
            }
            Self::Topics { .. } => encoded(
                TOPICS,
                &ConsumerGroupMetadataKey { group_id },
                VALUE_VERSION,
                None::<&ConsumerGroupMetadataValue>,
            ),
            Self::Wish { member, value } => {
                let key = ConsumerGroupMemberMetadataKey { group_id, member_id: member.clone() };
                encoded(WISH, &key, VALUE_VERSION, value.as_ref())
            }
            Self::TargetEpoch(value) => {
                let key = ConsumerGroupTargetAssignmentMetadataKey { group_id };
                encoded(TARGET_EPOCH, &key, VALUE_VERSION, value.as_ref())
            }
            Self::Target { member, value } => {
                let key = ConsumerGroupTargetAssignmentMemberKey { group_id, member_id: member.clone() };
                encoded(TARGET, &key, VALUE_VERSION, value.as_ref())
            }
            Self::Standing { member, value } => {
                let key = ConsumerGroupCurrentMemberAssignmentKey { group_id, member_id: member.clone() };
                encoded(STANDING, &key, VALUE_VERSION, value.as_ref())
            }
            Self::Regex { regex, value } => {
                let key = ConsumerGroupRegularExpressionKey { group_id, regular_expression: regex.clone() };
                encoded(REGEX, &key, VALUE_VERSION, value.as_ref())
            }
        }
    }

    /// Whether it only removes.
    pub(super) fn is_removal(&self) -> bool {
        match self {
            Self::Group(value) => value.is_none(),
            Self::Topics { are_stored } => !are_stored,
            Self::Wish { value, .. } => value.is_none(),
            Self::TargetEpoch(value) => value.is_none(),
            Self::Target { value, .. } => value.is_none(),
            Self::Standing { value, .. } => value.is_none(),
            Self::Regex { value, .. } => value.is_none(),
        }
    }

    /// Reads what follows the kind; `None` for a kind that is no consumer group's.
    pub(in crate::groups) fn decode(
        kind: i16,
        key: &mut Reader<'_>,
        value: Option<&Bytes>,
    ) -> Result<Option<(KStr, Self)>, DecodeError> {
        Ok(Some(match kind {
            GROUP => {
                let ConsumerGroupMetadataKey { group_id } = Message::decode(key, KEY_VERSION)?;
                (group_id, Self::Group(decoded(value)?))
            }
            TOPICS => {
                let ConsumerGroupMetadataKey { group_id } = Message::decode(key, KEY_VERSION)?;
                (group_id, Self::Topics { are_stored: value.is_some() })
            }
            WISH => {
                let ConsumerGroupMemberMetadataKey { group_id, member_id } =
                    Message::decode(key, KEY_VERSION)?;
                (group_id, Self::Wish { member: member_id, value: decoded(value)? })
            }
            TARGET_EPOCH => {
                let ConsumerGroupTargetAssignmentMetadataKey { group_id } =
                    Message::decode(key, KEY_VERSION)?;
                (group_id, Self::TargetEpoch(decoded(value)?))
            }
            TARGET => {
                let ConsumerGroupTargetAssignmentMemberKey { group_id, member_id } =
                    Message::decode(key, KEY_VERSION)?;
                (group_id, Self::Target { member: member_id, value: decoded(value)? })
            }
            STANDING => {
                let ConsumerGroupCurrentMemberAssignmentKey { group_id, member_id } =
                    Message::decode(key, KEY_VERSION)?;
                (group_id, Self::Standing { member: member_id, value: decoded(value)? })
            }
            REGEX => {
                let ConsumerGroupRegularExpressionKey { group_id, regular_expression } =
                    Message::decode(key, KEY_VERSION)?;
                (group_id, Self::Regex { regex: regular_expression, value: decoded(value)? })
            }
            _ => return Ok(None),
        }))
    }
}
