//! Kafka's error codes: the whole table of version 4.3, one row each.
//!
//! Code, name and retriable bit are Kafka's; a client's reaction depends on them. The sentences are ours.
//! A code that is not in the table (a newer broker's) is no [`ErrorCode`]: [`ErrorCode::from_code`] says so.

use std::fmt;

/// Declares the table once and derives every direction of it.
macro_rules! error_codes {
    ($($variant:ident = $code:literal, $name:literal, $retry:ident, $message:literal;)*) => {
        /// An error code of the Kafka protocol.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(i16)]
        pub enum ErrorCode {
            $(#[doc = $message] $variant = $code,)*
        }

        impl ErrorCode {
            /// Every code, in ascending order.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The code with this number, if the table has it.
            pub const fn from_code(code: i16) -> Option<Self> {
                match code {
                    $($code => Some(Self::$variant),)*
                    _ => None,
                }
            }

            /// Kafka's name: `OFFSET_OUT_OF_RANGE`.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// What it means, for a person.
            pub const fn message(self) -> &'static str {
                match self {
                    $(Self::$variant => $message,)*
                }
            }

            /// Whether the same request may succeed later without a change.
            pub const fn is_retriable(self) -> bool {
                match self {
                    $(Self::$variant => error_codes!(@ $retry),)*
                }
            }
        }
    };
    (@ retriable) => { true };
    (@ permanent) => { false };
}

error_codes! {
    UnknownServerError = -1, "UNKNOWN_SERVER_ERROR", permanent,
        "the broker failed in a way it did not expect; its log says more";
    None = 0, "NONE", permanent, "no error";
    OffsetOutOfRange = 1, "OFFSET_OUT_OF_RANGE", permanent,
        "the offset is not within the range of offsets that the partition holds";
    CorruptMessage = 2, "CORRUPT_MESSAGE", retriable,
        "the bytes of the records do not match their checksum, or are damaged in another way";
    UnknownTopicOrPartition = 3, "UNKNOWN_TOPIC_OR_PARTITION", retriable,
        "the topic or partition is not known to this broker";
    InvalidFetchSize = 4, "INVALID_FETCH_SIZE", permanent, "the fetch size is not valid";
    LeaderNotAvailable = 5, "LEADER_NOT_AVAILABLE", retriable,
        "the partition has no leader at the moment; ask for metadata again";
    NotLeaderOrFollower = 6, "NOT_LEADER_OR_FOLLOWER", retriable,
        "this broker neither leads the partition nor holds a replica that may serve the request; ask for metadata again";
    RequestTimedOut = 7, "REQUEST_TIMED_OUT", retriable, "the request was not completed within its time";
    BrokerNotAvailable = 8, "BROKER_NOT_AVAILABLE", permanent, "the broker is not available";
    ReplicaNotAvailable = 9, "REPLICA_NOT_AVAILABLE", retriable,
        "the replica is not available on this broker";
    MessageTooLarge = 10, "MESSAGE_TOO_LARGE", permanent,
        "the batch is larger than the topic's max.message.bytes";
    StaleControllerEpoch = 11, "STALE_CONTROLLER_EPOCH", permanent,
        "the request comes from a controller that has been replaced";
    OffsetMetadataTooLarge = 12, "OFFSET_METADATA_TOO_LARGE", permanent,
        "the metadata text of a committed offset is too long";
    NetworkException = 13, "NETWORK_EXCEPTION", retriable, "the connection closed before the answer arrived";
    CoordinatorLoadInProgress = 14, "COORDINATOR_LOAD_IN_PROGRESS", retriable,
        "the coordinator is still loading its state; try again";
    CoordinatorNotAvailable = 15, "COORDINATOR_NOT_AVAILABLE", retriable,
        "the coordinator is not available; try again";
    NotCoordinator = 16, "NOT_COORDINATOR", retriable,
        "this broker does not coordinate the group or transactional id; look up the coordinator again";
    InvalidTopicException = 17, "INVALID_TOPIC_EXCEPTION", permanent,
        "the topic name is not allowed: 1 to 249 of a-z A-Z 0-9 . _ - and neither \".\" nor \"..\"";
    RecordListTooLarge = 18, "RECORD_LIST_TOO_LARGE", permanent,
        "the batch is larger than a log segment of the topic";
    NotEnoughReplicas = 19, "NOT_ENOUGH_REPLICAS", retriable,
        "fewer replicas are in sync than the topic requires; nothing was written";
    NotEnoughReplicasAfterAppend = 20, "NOT_ENOUGH_REPLICAS_AFTER_APPEND", retriable,
        "the records were written, but to fewer in-sync replicas than the topic requires";
    InvalidRequiredAcks = 21, "INVALID_REQUIRED_ACKS", permanent, "acks must be -1, 0 or 1";
    IllegalGeneration = 22, "ILLEGAL_GENERATION", permanent,
        "the generation of the group is not the current one";
    InconsistentGroupProtocol = 23, "INCONSISTENT_GROUP_PROTOCOL", permanent,
        "the member supports no protocol that the other members of the group support, or names none";
    InvalidGroupId = 24, "INVALID_GROUP_ID", permanent, "the group id is not valid";
    UnknownMemberId = 25, "UNKNOWN_MEMBER_ID", permanent,
        "the coordinator does not know this member; join the group again";
    InvalidSessionTimeout = 26, "INVALID_SESSION_TIMEOUT", permanent,
        "the session timeout is outside the bounds that the broker allows";
    RebalanceInProgress = 27, "REBALANCE_IN_PROGRESS", permanent, "the group is rebalancing; join it again";
    InvalidCommitOffsetSize = 28, "INVALID_COMMIT_OFFSET_SIZE", permanent,
        "the offsets to commit take too many bytes";
    TopicAuthorizationFailed = 29, "TOPIC_AUTHORIZATION_FAILED", permanent, "not authorized for the topic";
    GroupAuthorizationFailed = 30, "GROUP_AUTHORIZATION_FAILED", permanent, "not authorized for the group";
    ClusterAuthorizationFailed = 31, "CLUSTER_AUTHORIZATION_FAILED", permanent,
        "not authorized for the cluster";
    InvalidTimestamp = 32, "INVALID_TIMESTAMP", permanent, "a timestamp is too far from the broker's time";
    UnsupportedSaslMechanism = 33, "UNSUPPORTED_SASL_MECHANISM", permanent,
        "the SASL mechanism is not supported";
    IllegalSaslState = 34, "ILLEGAL_SASL_STATE", permanent,
        "the request does not fit the state of the SASL exchange";
    UnsupportedVersion = 35, "UNSUPPORTED_VERSION", permanent, "the version of the request is not supported";
    TopicAlreadyExists = 36, "TOPIC_ALREADY_EXISTS", permanent, "a topic of this name exists already";
    InvalidPartitions = 37, "INVALID_PARTITIONS", permanent, "the number of partitions is not valid";
    InvalidReplicationFactor = 38, "INVALID_REPLICATION_FACTOR", permanent,
        "the replication factor is below 1 or above the number of brokers";
    InvalidReplicaAssignment = 39, "INVALID_REPLICA_ASSIGNMENT", permanent,
        "the assignment of replicas is not valid";
    InvalidConfig = 40, "INVALID_CONFIG", permanent, "a configuration key or value is not valid";
    NotController = 41, "NOT_CONTROLLER", retriable,
        "this broker is not the controller; ask for metadata again";
    InvalidRequest = 42, "INVALID_REQUEST", permanent,
        "the request contradicts itself or breaks a rule of the protocol";
    UnsupportedForMessageFormat = 43, "UNSUPPORTED_FOR_MESSAGE_FORMAT", permanent,
        "the format of the stored records does not allow the request";
    PolicyViolation = 44, "POLICY_VIOLATION", permanent, "the request breaks a policy of the cluster";
    OutOfOrderSequenceNumber = 45, "OUT_OF_ORDER_SEQUENCE_NUMBER", permanent,
        "the batch's first sequence does not follow the producer's last one";
    DuplicateSequenceNumber = 46, "DUPLICATE_SEQUENCE_NUMBER", permanent, "the batch was written already";
    InvalidProducerEpoch = 47, "INVALID_PRODUCER_EPOCH", permanent,
        "a newer epoch of this producer has written to the partition";
    InvalidTxnState = 48, "INVALID_TXN_STATE", permanent,
        "the transaction is not in a state that allows the operation";
    InvalidProducerIdMapping = 49, "INVALID_PRODUCER_ID_MAPPING", permanent,
        "the producer id does not belong to the transactional id";
    InvalidTransactionTimeout = 50, "INVALID_TRANSACTION_TIMEOUT", permanent,
        "the transaction timeout is above the broker's transaction.max.timeout.ms";
    ConcurrentTransactions = 51, "CONCURRENT_TRANSACTIONS", retriable,
        "another operation on the transaction is still under way; try again";
    TransactionCoordinatorFenced = 52, "TRANSACTION_COORDINATOR_FENCED", permanent,
        "the transaction coordinator that sent the marker has been replaced";
    TransactionalIdAuthorizationFailed = 53, "TRANSACTIONAL_ID_AUTHORIZATION_FAILED", permanent,
        "not authorized for the transactional id";
    SecurityDisabled = 54, "SECURITY_DISABLED", permanent,
        "the broker runs without the security feature that the request needs";
    OperationNotAttempted = 55, "OPERATION_NOT_ATTEMPTED", permanent,
        "the operation was not tried, because another one of the request failed";
    KafkaStorageError = 56, "KAFKA_STORAGE_ERROR", retriable,
        "the broker's disk failed; the partition may be available elsewhere or after a restart";
    LogDirNotFound = 57, "LOG_DIR_NOT_FOUND", permanent, "the log directory is not known to this broker";
    SaslAuthenticationFailed = 58, "SASL_AUTHENTICATION_FAILED", permanent, "authentication failed";
    UnknownProducerId = 59, "UNKNOWN_PRODUCER_ID", permanent,
        "the partition holds no state of this producer id";
    ReassignmentInProgress = 60, "REASSIGNMENT_IN_PROGRESS", permanent, "the partition is being reassigned";
    DelegationTokenAuthDisabled = 61, "DELEGATION_TOKEN_AUTH_DISABLED", permanent,
        "delegation tokens are not enabled";
    DelegationTokenNotFound = 62, "DELEGATION_TOKEN_NOT_FOUND", permanent,
        "the delegation token is not known";
    DelegationTokenOwnerMismatch = 63, "DELEGATION_TOKEN_OWNER_MISMATCH", permanent,
        "the principal is neither owner nor renewer of the delegation token";
    DelegationTokenRequestNotAllowed = 64, "DELEGATION_TOKEN_REQUEST_NOT_ALLOWED", permanent,
        "delegation token requests are not allowed on this connection";
    DelegationTokenAuthorizationFailed = 65, "DELEGATION_TOKEN_AUTHORIZATION_FAILED", permanent,
        "not authorized for the delegation token";
    DelegationTokenExpired = 66, "DELEGATION_TOKEN_EXPIRED", permanent, "the delegation token has expired";
    InvalidPrincipalType = 67, "INVALID_PRINCIPAL_TYPE", permanent, "the type of principal is not supported";
    NonEmptyGroup = 68, "NON_EMPTY_GROUP", permanent, "the group still has members";
    GroupIdNotFound = 69, "GROUP_ID_NOT_FOUND", permanent, "the group does not exist";
    FetchSessionIdNotFound = 70, "FETCH_SESSION_ID_NOT_FOUND", retriable,
        "the fetch session is not known to this broker; open a new one";
    InvalidFetchSessionEpoch = 71, "INVALID_FETCH_SESSION_EPOCH", retriable,
        "the epoch of the fetch session is not the expected one";
    ListenerNotFound = 72, "LISTENER_NOT_FOUND", retriable,
        "the leader has no listener of the name on which the request arrived";
    TopicDeletionDisabled = 73, "TOPIC_DELETION_DISABLED", permanent,
        "topics may not be deleted on this cluster";
    FencedLeaderEpoch = 74, "FENCED_LEADER_EPOCH", retriable,
        "the leader epoch of the request is older than the broker's; ask for metadata again";
    UnknownLeaderEpoch = 75, "UNKNOWN_LEADER_EPOCH", retriable,
        "the leader epoch of the request is newer than the broker's; try again";
    UnsupportedCompressionType = 76, "UNSUPPORTED_COMPRESSION_TYPE", permanent,
        "the compression codec is not supported by this version of the request";
    StaleBrokerEpoch = 77, "STALE_BROKER_EPOCH", permanent, "the epoch of the broker has changed";
    OffsetNotAvailable = 78, "OFFSET_NOT_AVAILABLE", retriable,
        "the leader is new and does not know the high watermark yet; try again";
    MemberIdRequired = 79, "MEMBER_ID_REQUIRED", permanent,
        "the group gave out a member id; join again with it";
    PreferredLeaderNotAvailable = 80, "PREFERRED_LEADER_NOT_AVAILABLE", retriable,
        "the preferred leader is not available";
    GroupMaxSizeReached = 81, "GROUP_MAX_SIZE_REACHED", permanent,
        "the group has as many members as it may have";
    FencedInstanceId = 82, "FENCED_INSTANCE_ID", permanent,
        "another member has joined under this group instance id";
    EligibleLeadersNotAvailable = 83, "ELIGIBLE_LEADERS_NOT_AVAILABLE", retriable,
        "none of the replicas that may lead is available";
    ElectionNotNeeded = 84, "ELECTION_NOT_NEEDED", retriable, "the partition already has the wanted leader";
    NoReassignmentInProgress = 85, "NO_REASSIGNMENT_IN_PROGRESS", permanent,
        "the partition is not being reassigned";
    GroupSubscribedToTopic = 86, "GROUP_SUBSCRIBED_TO_TOPIC", permanent,
        "offsets of a topic cannot be deleted while the group is subscribed to it";
    InvalidRecord = 87, "INVALID_RECORD", permanent,
        "the broker refuses the batch because its records break a rule";
    UnstableOffsetCommit = 88, "UNSTABLE_OFFSET_COMMIT", retriable,
        "offsets of an open transaction are pending; try again";
    ThrottlingQuotaExceeded = 89, "THROTTLING_QUOTA_EXCEEDED", retriable,
        "the quota is used up; try again later";
    ProducerFenced = 90, "PRODUCER_FENCED", permanent,
        "a newer producer with the same transactional id has taken over";
    ResourceNotFound = 91, "RESOURCE_NOT_FOUND", permanent, "the resource does not exist";
    DuplicateResource = 92, "DUPLICATE_RESOURCE", permanent, "the request names a resource twice";
    UnacceptableCredential = 93, "UNACCEPTABLE_CREDENTIAL", permanent,
        "the credential does not meet the rules";
    InconsistentVoterSet = 94, "INCONSISTENT_VOTER_SET", permanent,
        "sender or receiver is not among the expected voters";
    InvalidUpdateVersion = 95, "INVALID_UPDATE_VERSION", permanent, "the version of the update is not valid";
    FeatureUpdateFailed = 96, "FEATURE_UPDATE_FAILED", permanent, "the features could not be updated";
    PrincipalDeserializationFailure = 97, "PRINCIPAL_DESERIALIZATION_FAILURE", permanent,
        "the principal of a forwarded request could not be read";
    SnapshotNotFound = 98, "SNAPSHOT_NOT_FOUND", permanent, "the snapshot does not exist";
    PositionOutOfRange = 99, "POSITION_OUT_OF_RANGE", permanent, "the position is not within the snapshot";
    UnknownTopicId = 100, "UNKNOWN_TOPIC_ID", retriable, "the topic id is not known to this broker";
    DuplicateBrokerRegistration = 101, "DUPLICATE_BROKER_REGISTRATION", permanent, "the broker id is in use";
    BrokerIdNotRegistered = 102, "BROKER_ID_NOT_REGISTERED", permanent, "the broker id is not registered";
    InconsistentTopicId = 103, "INCONSISTENT_TOPIC_ID", retriable,
        "the topic id does not match that of the log";
    InconsistentClusterId = 104, "INCONSISTENT_CLUSTER_ID", permanent,
        "the cluster id does not match that of this cluster";
    TransactionalIdNotFound = 105, "TRANSACTIONAL_ID_NOT_FOUND", permanent,
        "the transactional id does not exist";
    FetchSessionTopicIdError = 106, "FETCH_SESSION_TOPIC_ID_ERROR", retriable,
        "the fetch session mixes requests with and without topic ids; open a new one";
    IneligibleReplica = 107, "INELIGIBLE_REPLICA", permanent,
        "the new in-sync set holds a replica that may not be in it";
    NewLeaderElected = 108, "NEW_LEADER_ELECTED", permanent, "the partition changed, and so did its leader";
    OffsetMovedToTieredStorage = 109, "OFFSET_MOVED_TO_TIERED_STORAGE", permanent,
        "the offset has been moved to tiered storage";
    FencedMemberEpoch = 110, "FENCED_MEMBER_EPOCH", permanent,
        "the member's epoch is fenced; give up all partitions and join again";
    UnreleasedInstanceId = 111, "UNRELEASED_INSTANCE_ID", permanent,
        "the group instance id is in use by another member, which must leave first";
    UnsupportedAssignor = 112, "UNSUPPORTED_ASSIGNOR", permanent,
        "the group does not support the assignor or its version";
    StaleMemberEpoch = 113, "STALE_MEMBER_EPOCH", permanent,
        "the member's epoch is old; use the one of the next heartbeat";
    MismatchedEndpointType = 114, "MISMATCHED_ENDPOINT_TYPE", permanent,
        "the request went to the wrong kind of endpoint";
    UnsupportedEndpointType = 115, "UNSUPPORTED_ENDPOINT_TYPE", permanent,
        "this kind of endpoint is not supported";
    UnknownControllerId = 116, "UNKNOWN_CONTROLLER_ID", permanent, "the controller id is not known";
    UnknownSubscriptionId = 117, "UNKNOWN_SUBSCRIPTION_ID", permanent,
        "the telemetry subscription is not known or outdated";
    TelemetryTooLarge = 118, "TELEMETRY_TOO_LARGE", permanent,
        "the telemetry of the client is larger than the broker accepts";
    InvalidRegistration = 119, "INVALID_REGISTRATION", permanent,
        "the registration of the broker is not valid";
    TransactionAbortable = 120, "TRANSACTION_ABORTABLE", permanent,
        "the transaction failed; abort it to go on with this transactional id";
    InvalidRecordState = 121, "INVALID_RECORD_STATE", permanent,
        "the state of the shared record does not allow the acknowledgement";
    ShareSessionNotFound = 122, "SHARE_SESSION_NOT_FOUND", retriable,
        "the share session is not known to this broker; open a new one";
    InvalidShareSessionEpoch = 123, "INVALID_SHARE_SESSION_EPOCH", retriable,
        "the epoch of the share session is not the expected one";
    FencedStateEpoch = 124, "FENCED_STATE_EPOCH", permanent,
        "the state epoch of the share group is not the current one";
    InvalidVoterKey = 125, "INVALID_VOTER_KEY", permanent,
        "the key of the voter does not match that of the receiving replica";
    DuplicateVoter = 126, "DUPLICATE_VOTER", permanent, "the voter is a voter already";
    VoterNotFound = 127, "VOTER_NOT_FOUND", permanent, "the replica is not a voter";
    InvalidRegularExpression = 128, "INVALID_REGULAR_EXPRESSION", permanent,
        "the regular expression is not valid";
    RebootstrapRequired = 129, "REBOOTSTRAP_REQUIRED", permanent,
        "the client's metadata is too old; connect to the bootstrap servers again";
    StreamsInvalidTopology = 130, "STREAMS_INVALID_TOPOLOGY", permanent, "the topology is not valid";
    StreamsInvalidTopologyEpoch = 131, "STREAMS_INVALID_TOPOLOGY_EPOCH", permanent,
        "the epoch of the topology is not valid";
    StreamsTopologyFenced = 132, "STREAMS_TOPOLOGY_FENCED", permanent,
        "the epoch of the topology is outdated";
    ShareSessionLimitReached = 133, "SHARE_SESSION_LIMIT_REACHED", retriable,
        "there are as many share sessions as there may be";
}

impl ErrorCode {
    /// The number on the wire.
    pub const fn code(self) -> i16 {
        self as i16
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): {}", self.name(), self.code(), self.message())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_comes_back_from_its_number() {
        for &code in ErrorCode::ALL {
            assert_eq!(ErrorCode::from_code(code.code()), Some(code));
        }
    }

    #[test]
    fn the_table_has_no_holes_from_minus_one_to_133() {
        let numbers: Vec<i16> = ErrorCode::ALL.iter().map(|code| code.code()).collect();
        assert_eq!(numbers, (-1..=133).collect::<Vec<i16>>());
    }

    #[test]
    fn unknown_numbers_have_no_code() {
        assert_eq!(ErrorCode::from_code(-2), None);
        assert_eq!(ErrorCode::from_code(134), None);
        assert_eq!(ErrorCode::from_code(i16::MAX), None);
    }

    #[test]
    fn variant_names_are_kafkas_names() {
        for &code in ErrorCode::ALL {
            let flat = code.name().replace('_', "").to_lowercase();
            assert_eq!(format!("{code:?}").to_lowercase(), flat);
        }
    }

    #[test]
    fn the_retriable_bit_follows_kafka() {
        let retriable = ErrorCode::ALL.iter().filter(|code| code.is_retriable()).count();
        assert_eq!(retriable, 32);
        assert!(ErrorCode::NotLeaderOrFollower.is_retriable());
        assert!(ErrorCode::KafkaStorageError.is_retriable());
        assert!(!ErrorCode::MessageTooLarge.is_retriable());
        assert!(!ErrorCode::None.is_retriable());
    }
}
