//! Elections, moves, producers and the quorum of a broker that is alone.

use millstream_protocol::messages::alter_partition_reassignments_request::{
    ReassignablePartition, ReassignableTopic,
};
use millstream_protocol::messages::describe_producers_request::TopicRequest;
use millstream_protocol::messages::describe_quorum_request::{PartitionData, TopicData};
use millstream_protocol::messages::elect_leaders_request::TopicPartitions;
use millstream_protocol::messages::*;
use millstream_protocol::records::Compression;
use millstream_protocol::{ErrorCode, KStr};

use super::bed::{Bed, builder_of};

fn text(text: &str) -> KStr {
    KStr::from(text)
}

fn code(number: i16) -> ErrorCode {
    ErrorCode::from_code(number).unwrap()
}

#[test]
fn no_partition_needs_an_election_whichever_is_asked_for() {
    let bed = Bed::new();
    let (mut client, _) = bed.with_topic("t");
    for version in 0..=2 {
        let asked = |topic: &str, partitions: &[i32]| TopicPartitions {
            topic: text(topic),
            partitions: partitions.to_vec(),
        };
        let request = ElectLeadersRequest {
            topic_partitions: Some(vec![asked("t", &[0, 1]), asked("no", &[0])]),
            ..Default::default()
        };
        let told = client.call(version, &request);
        let results = told.replica_election_results.iter().flat_map(|topic| &topic.partition_result);
        let codes: Vec<_> = results.map(|one| code(one.error_code)).collect();
        let unknown = ErrorCode::UnknownTopicOrPartition;
        assert_eq!(codes, [ErrorCode::ElectionNotNeeded, unknown, unknown], "version {version}");
        let all = ElectLeadersRequest { topic_partitions: None, ..Default::default() };
        let told = client.call(version, &all);
        assert_eq!((told.error_code, told.replica_election_results.len()), (0, 0), "version {version}");
    }
    let unknown = ElectLeadersRequest { election_type: 2, ..Default::default() };
    assert_eq!(code(client.call(2, &unknown).error_code), ErrorCode::InvalidRequest);
}

#[test]
fn a_partition_moves_to_where_it_is_and_nowhere_else() {
    let bed = Bed::new();
    let (mut client, _) = bed.with_topic("t");
    let mut reassign = |version, may_resize, topic: &str, index, replicas: Option<&[i32]>| {
        let replicas = replicas.map(<[i32]>::to_vec);
        let partitions = vec![ReassignablePartition { partition_index: index, replicas }];
        let request = AlterPartitionReassignmentsRequest {
            topics: vec![ReassignableTopic { name: text(topic), partitions }],
            allow_replication_factor_change: may_resize,
            ..Default::default()
        };
        let told = client.call(version, &request);
        assert_eq!(told.error_code, 0);
        code(told.responses[0].partitions[0].error_code)
    };
    let (unknown, assignment) = (ErrorCode::UnknownTopicOrPartition, ErrorCode::InvalidReplicaAssignment);
    for version in 0..=1 {
        assert_eq!(reassign(version, true, "t", 0, Some(&[1])), ErrorCode::None);
        assert_eq!(reassign(version, true, "t", 0, Some(&[2])), assignment);
        assert_eq!(reassign(version, true, "t", 0, Some(&[1, 1])), assignment);
        assert_eq!(reassign(version, true, "t", 0, Some(&[])), assignment);
        assert_eq!(reassign(version, true, "t", 0, None), ErrorCode::NoReassignmentInProgress);
        assert_eq!(reassign(version, true, "t", 1, Some(&[1])), unknown);
        assert_eq!(reassign(version, true, "no", 0, None), unknown);
    }
    assert_eq!(reassign(1, false, "t", 0, Some(&[1, 2])), ErrorCode::InvalidReplicationFactor);
    assert_eq!(reassign(1, false, "t", 0, Some(&[1])), ErrorCode::None);
    let told = client.call(0, &ListPartitionReassignmentsRequest::default());
    assert_eq!((told.error_code, told.topics.len()), (0, 0));
}

#[test]
fn producers_that_a_partition_remembers_are_told() {
    let bed = Bed::new();
    let (mut client, _) = bed.with_topic("t");
    let mut batch = builder_of(Compression::None, &["a", "b", "c"]);
    batch.producer(7, 2, 0);
    assert_eq!(client.produce("t", batch.build(), -1).error_code, 0);
    let asked =
        |name: &str, indexes: &[i32]| TopicRequest { name: text(name), partition_indexes: indexes.to_vec() };
    let request = DescribeProducersRequest { topics: vec![asked("t", &[0, 1]), asked("no", &[0])] };
    let told = client.call(0, &request).topics;
    let codes: Vec<_> =
        told.iter().flat_map(|topic| &topic.partitions).map(|one| code(one.error_code)).collect();
    let unknown = ErrorCode::UnknownTopicOrPartition;
    assert_eq!(codes, [ErrorCode::None, unknown, unknown]);
    let producers = &told[0].partitions[0].active_producers;
    let facts: Vec<_> =
        producers.iter().map(|p| (p.producer_id, p.producer_epoch, p.last_sequence)).collect();
    assert_eq!(facts, [(7, 2, 2)]);
    assert_eq!((producers[0].current_txn_start_offset, producers[0].coordinator_epoch), (-1, -1));
    assert!(producers[0].last_timestamp > 0);
}

#[test]
fn the_metadata_has_a_quorum_of_one() {
    let bed = Bed::new();
    let mut client = bed.client();
    let mut ask = |version, topic: &str, partition_index| {
        let partitions = vec![PartitionData { partition_index }];
        let topics = vec![TopicData { topic_name: text(topic), partitions }];
        let told = client.call(version, &DescribeQuorumRequest { topics });
        (told.error_code, told.topics[0].partitions[0].clone(), told.nodes.len())
    };
    for version in 0..=2 {
        let (error, quorum, nodes) = ask(version, "__cluster_metadata", 0);
        assert_eq!((error, quorum.error_code, quorum.leader_id, nodes), (0, 0, 1, usize::from(version == 2)));
        let voter = &quorum.current_voters[0];
        assert_eq!((voter.replica_id, voter.log_end_offset), (1, quorum.high_watermark));
        assert!(quorum.high_watermark > 0 && quorum.observers.is_empty());
        for (topic, partition) in [("__cluster_metadata", 1), ("t", 0)] {
            let (error, told, _) = ask(version, topic, partition);
            assert_eq!((error, code(told.error_code)), (0, ErrorCode::UnknownTopicOrPartition));
        }
    }
}
