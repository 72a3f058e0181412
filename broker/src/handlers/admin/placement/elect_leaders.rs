//! ElectLeaders, key 43, versions 0 to 2.
//!
//! A partition that has its leader needs no election. One whose folder cannot be used has no other replica that could
//! lead it. A null list means all partitions; those that need nothing are not named then. 1: the kind of election.

use std::ops::RangeInclusive;

use millstream_protocol::messages::elect_leaders_request::TopicPartitions;
use millstream_protocol::messages::elect_leaders_response::{PartitionResult, ReplicaElectionResult};
use millstream_protocol::messages::{ElectLeadersRequest, ElectLeadersResponse};
use millstream_protocol::{ErrorCode, KStr};

use crate::dispatch::{Answer, Call, Handler};
use crate::metadata::topics::{Partition, Snapshot};

/// The kinds of elections, as Kafka numbers them.
const PREFERRED: i8 = 0;
const UNCLEAN: i8 = 1;

pub(crate) struct ElectLeaders;

impl Handler for ElectLeaders {
    type Request = ElectLeadersRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=2;

    fn handle(call: Call, request: ElectLeadersRequest) -> Answer<ElectLeadersResponse> {
        if ![PREFERRED, UNCLEAN].contains(&request.election_type) {
            let error_code = ErrorCode::InvalidRequest.code();
            return Answer::Now(ElectLeadersResponse { error_code, ..Default::default() });
        }
        let snapshot = call.node.topics.snapshot();
        let replica_election_results = match &request.topic_partitions {
            Some(asked) => {
                asked.iter().map(|topic| elect_asked(&snapshot, topic, request.election_type)).collect()
            }
            None => elect_all(&snapshot, request.election_type),
        };
        Answer::Now(ElectLeadersResponse { replica_election_results, ..Default::default() })
    }
}

fn elect_asked(snapshot: &Snapshot, asked: &TopicPartitions, kind: i8) -> ReplicaElectionResult {
    let topic = snapshot.named(&asked.topic);
    let told = asked.partitions.iter().map(|index| {
        let unknown = ErrorCode::UnknownTopicOrPartition;
        let (code, message) = match topic {
            None => (unknown, "there is no such topic"),
            Some(topic) => match topic.partition(*index) {
                None => (unknown, "the topic has no such partition"),
                Some(partition) => elect(partition, kind),
            },
        };
        result(*index, code, message)
    });
    ReplicaElectionResult { topic: asked.topic.clone(), partition_result: told.collect() }
}

fn elect_all(snapshot: &Snapshot, kind: i8) -> Vec<ReplicaElectionResult> {
    let told = snapshot.sorted().into_iter().filter_map(|topic| {
        let needed = topic.partitions.iter().filter_map(|partition| match elect(partition, kind) {
            (ErrorCode::ElectionNotNeeded, _) => None,
            (code, message) => Some(result(partition.index, code, message)),
        });
        let partition_result: Vec<_> = needed.collect();
        (!partition_result.is_empty())
            .then(|| ReplicaElectionResult { topic: topic.name.clone(), partition_result })
    });
    told.collect()
}

/// Every partition has one replica, which leads it once its log is open.
fn elect(partition: &Partition, kind: i8) -> (ErrorCode, &'static str) {
    match partition.log() {
        Ok(_) => (ErrorCode::ElectionNotNeeded, "the partition has the only leader that it can have"),
        Err(_) if kind == UNCLEAN => {
            (ErrorCode::EligibleLeadersNotAvailable, "the partition has one replica, which cannot be used")
        }
        Err(_) => {
            (ErrorCode::PreferredLeaderNotAvailable, "the partition has one replica, which cannot be used")
        }
    }
}

fn result(partition_id: i32, code: ErrorCode, message: &'static str) -> PartitionResult {
    PartitionResult { partition_id, error_code: code.code(), error_message: Some(KStr::from_static(message)) }
}
