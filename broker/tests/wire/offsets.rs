//! ListOffsets, OffsetForLeaderEpoch and DeleteRecords.

use millstream_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use millstream_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use millstream_protocol::messages::list_offsets_response::ListOffsetsPartitionResponse;
use millstream_protocol::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use millstream_protocol::messages::offset_for_leader_epoch_response::EpochEndOffset;
use millstream_protocol::messages::{DeleteRecordsRequest, ListOffsetsRequest, OffsetForLeaderEpochRequest};
use millstream_protocol::records::{BatchBuilder, Compression, NewRecord};
use millstream_protocol::{ErrorCode, KStr};

use super::bed::{Bed, Client, batch};

fn list(client: &mut Client, version: i16, asked: &[(i32, i64)]) -> Vec<ListOffsetsPartitionResponse> {
    let partitions = asked.iter().map(|(partition_index, timestamp)| ListOffsetsPartition {
        partition_index: *partition_index,
        timestamp: *timestamp,
        ..Default::default()
    });
    let topic = ListOffsetsTopic { name: KStr::from_static("t"), partitions: partitions.collect() };
    let request = ListOffsetsRequest { replica_id: -1, topics: vec![topic], ..Default::default() };
    client.call(version, &request).topics[0].partitions.clone()
}

fn at(times: &[i64]) -> bytes::Bytes {
    let mut builder = BatchBuilder::new(Compression::None);
    for time in times {
        builder.append(&NewRecord { timestamp: *time, key: None, value: Some(b"v"), headers: &[] });
    }
    builder.build()
}

#[test]
fn records_are_found_by_time_in_every_version() {
    let bed = Bed::new();
    let (mut client, _) = bed.with_topic("t");
    for times in [[1000, 2000], [5000, 3000], [4000, 4500]] {
        client.produce("t", at(&times), 1);
    }
    for version in 1..=11 {
        let found = |client: &mut Client, time| {
            let found = list(client, version, &[(0, time)])[0].clone();
            assert_eq!(found.error_code, 0);
            (found.offset, found.timestamp)
        };
        assert_eq!(found(&mut client, 0), (0, 1000));
        assert_eq!(found(&mut client, 1001), (1, 2000));
        assert_eq!(found(&mut client, 2001), (2, 5000), "the first that is not earlier");
        assert_eq!(found(&mut client, 5000), (2, 5000));
        assert_eq!(found(&mut client, 5001), (-1, -1));
        assert_eq!(found(&mut client, -1), (6, -1));
        assert_eq!(found(&mut client, -2), (0, -1));
    }
    let greatest = &list(&mut client, 7, &[(0, -3)])[0];
    assert_eq!((greatest.offset, greatest.timestamp, greatest.leader_epoch), (2, 5000, 0));
    assert_eq!(list(&mut client, 8, &[(0, -4)])[0].offset, 0);
    assert_eq!(list(&mut client, 9, &[(0, -5)])[0].offset, -1);
    assert_eq!(list(&mut client, 11, &[(0, -6)])[0].offset, -1);
}

#[test]
fn what_cannot_be_listed_is_told() {
    let bed = Bed::new();
    let (mut client, _) = bed.with_topic("t");
    let codes = |told: Vec<ListOffsetsPartitionResponse>| -> Vec<ErrorCode> {
        told.iter().map(|told| ErrorCode::from_code(told.error_code).unwrap()).collect()
    };
    let unsupported = ErrorCode::UnsupportedVersion;
    assert_eq!(codes(list(&mut client, 6, &[(0, -3)])), [unsupported]);
    assert_eq!(codes(list(&mut client, 11, &[(0, -7)])), [unsupported]);
    assert_eq!(codes(list(&mut client, 7, &[(3, -1)])), [ErrorCode::UnknownTopicOrPartition]);
    let twice = ErrorCode::InvalidRequest;
    assert_eq!(codes(list(&mut client, 7, &[(0, -1), (0, -2)])), [twice, twice]);
    let empty = &list(&mut client, 7, &[(0, -3)])[0];
    assert_eq!((empty.error_code, empty.offset, empty.timestamp), (0, -1, -1), "nothing is there yet");
}

fn epoch_end(client: &mut Client, version: i16, current: i32, epoch: i32) -> EpochEndOffset {
    let partition =
        OffsetForLeaderPartition { partition: 0, current_leader_epoch: current, leader_epoch: epoch };
    let topic = OffsetForLeaderTopic { topic: KStr::from_static("t"), partitions: vec![partition] };
    let request = OffsetForLeaderEpochRequest { topics: vec![topic], ..Default::default() };
    client.call(version, &request).topics[0].partitions[0].clone()
}

#[test]
fn epochs_end_where_the_next_one_begins() {
    let mut bed = Bed::new();
    let (mut client, _) = bed.with_topic("t");
    client.produce("t", batch(&["a", "b"]), -1);
    bed.stop();
    // As if it had been killed.
    std::fs::remove_file(bed.folder.path().join("data/clean")).unwrap();
    bed.start();
    let mut client = bed.client();
    client.produce("t", batch(&["c"]), -1);
    for version in 2..=4 {
        let told = |told: EpochEndOffset| (told.error_code, told.leader_epoch, told.end_offset);
        assert_eq!(told(epoch_end(&mut client, version, 1, 0)), (0, 0, 2));
        assert_eq!(told(epoch_end(&mut client, version, -1, 1)), (0, 1, 3));
        assert_eq!(told(epoch_end(&mut client, version, 0, 0)).0, ErrorCode::FencedLeaderEpoch.code());
        assert_eq!(told(epoch_end(&mut client, version, 2, 0)).0, ErrorCode::UnknownLeaderEpoch.code());
    }
}

fn delete(client: &mut Client, partition_index: i32, offset: i64) -> (i16, i64) {
    let partitions = vec![DeleteRecordsPartition { partition_index, offset }];
    let topic = DeleteRecordsTopic { name: KStr::from_static("t"), partitions };
    let told = client.call(2, &DeleteRecordsRequest { topics: vec![topic], timeout_ms: 1000 });
    let told = &told.topics[0].partitions[0];
    (told.error_code, told.low_watermark)
}

#[test]
fn deleted_records_are_out_of_range_and_stay_so_after_a_restart() {
    let mut bed = Bed::new();
    let (mut client, _) = bed.with_topic("t");
    for _ in 0..3 {
        client.produce("t", batch(&["a", "b"]), -1);
    }
    assert_eq!(delete(&mut client, 0, 3), (0, 3));
    assert_eq!(delete(&mut client, 0, 7), (ErrorCode::OffsetOutOfRange.code(), -1));
    assert_eq!(delete(&mut client, 0, -2), (ErrorCode::OffsetOutOfRange.code(), -1));
    assert_eq!(delete(&mut client, 9, 0), (ErrorCode::UnknownTopicOrPartition.code(), -1));
    bed.stop();
    bed.start();
    let mut client = bed.client();
    assert_eq!(client.offset_at("t", -2), 3);
    assert_eq!(client.fetch("t", 2).error_code, ErrorCode::OffsetOutOfRange.code());
    assert_eq!(client.fetch("t", 3).error_code, 0);
    assert_eq!(delete(&mut client, 0, -1), (0, 6));
    assert_eq!(client.produce("t", batch(&["c"]), -1).base_offset, 6);
}

#[test]
fn records_of_a_topic_that_is_only_compacted_are_not_deleted_on_request() {
    let bed = Bed::new();
    let mut client = bed.client();
    client.create_topic("t", 1, &[("cleanup.policy", "compact")]);
    assert_eq!(delete(&mut client, 0, -1), (ErrorCode::PolicyViolation.code(), -1));
    // An empty policy: nothing goes by itself.
    for (name, policy) in [("both", "compact,delete"), ("kept", "")] {
        client.create_topic(name, 1, &[("cleanup.policy", policy)]);
        client.produce(name, batch(&["v"]), -1);
        let partitions = vec![DeleteRecordsPartition { partition_index: 0, offset: -1 }];
        let topic = DeleteRecordsTopic { name: KStr::from_static(name), partitions };
        let told = client.call(2, &DeleteRecordsRequest { topics: vec![topic], timeout_ms: 1000 });
        let told = &told.topics[0].partitions[0];
        assert_eq!((told.error_code, told.low_watermark), (0, 1), "{name}");
    }
}
