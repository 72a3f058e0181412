//! What is advertised is served, in every version.

use millstream_protocol::messages::*;
use millstream_protocol::{ErrorCode, KStr, Request, decode_response};

use super::bed::{Bed, Client, fetch};

fn asked() -> ApiVersionsRequest {
    let (client_software_name, client_software_version) =
        (KStr::from_static("test"), KStr::from_static("1.0"));
    ApiVersionsRequest { client_software_name, client_software_version }
}

fn try_all<R: Request>(client: &mut Client, served: &ApiVersionsResponse, request: &R) {
    let api = served.api_keys.iter().find(|api| api.api_key == R::KEY.code()).unwrap();
    let min = if api.api_key == 0 { 3 } else { api.min_version };
    for version in min..=api.max_version {
        client.call(version, request);
    }
}

/// The APIs of transactions.
fn try_transactions(client: &mut Client, served: &ApiVersionsResponse) {
    try_all(client, served, &TxnOffsetCommitRequest::default());
    try_all(client, served, &WriteTxnMarkersRequest::default());
    try_all(client, served, &AddPartitionsToTxnRequest::default());
    try_all(client, served, &AddOffsetsToTxnRequest::default());
    try_all(client, served, &EndTxnRequest::default());
    try_all(client, served, &DescribeTransactionsRequest::default());
    try_all(client, served, &ListTransactionsRequest::default());
}

#[test]
fn every_advertised_version_is_answered_in_its_own_form() {
    let bed = Bed::new();
    let (mut client, _) = bed.with_topic("t");
    let served = client.call(4, &asked());
    let keys: Vec<i16> = served.api_keys.iter().map(|api| api.api_key).collect();
    assert_eq!(
        keys,
        [
            0, 1, 2, 3, 8, 9, 10, 11, 12, 13, 14, 15, 16, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 32, 33,
            35, 37, 42, 43, 44, 45, 46, 47, 55, 57, 60, 61, 65, 66, 68, 69, 74, 75, 16384, 16385, 16386
        ]
    );
    try_all(&mut client, &served, &ProduceRequest { acks: 1, ..Default::default() });
    for version in 4..=12 {
        client.call(version, &fetch("t", 0, 0));
    }
    for version in 13..=18 {
        let mut request = fetch("t", 0, 0);
        request.topics[0].topic = KStr::default();
        client.call(version, &request);
    }
    try_all(&mut client, &served, &ListOffsetsRequest::default());
    for version in 0..=13 {
        let request = MetadataRequest { topics: Some(Vec::new()), ..Default::default() };
        client.call(version, &request);
    }
    try_all(&mut client, &served, &asked());
    try_all(&mut client, &served, &OffsetCommitRequest::default());
    try_all(&mut client, &served, &OffsetFetchRequest::default());
    for version in 0..=6 {
        client.call(version, &FindCoordinatorRequest::default());
    }
    try_all(&mut client, &served, &JoinGroupRequest::default());
    try_all(&mut client, &served, &HeartbeatRequest::default());
    try_all(&mut client, &served, &LeaveGroupRequest::default());
    try_all(&mut client, &served, &SyncGroupRequest::default());
    try_all(&mut client, &served, &DescribeGroupsRequest::default());
    try_all(&mut client, &served, &ListGroupsRequest::default());
    try_all(&mut client, &served, &DeleteGroupsRequest::default());
    try_all(&mut client, &served, &ConsumerGroupHeartbeatRequest::default());
    try_all(&mut client, &served, &ConsumerGroupDescribeRequest::default());
    try_all(&mut client, &served, &OffsetDeleteRequest::default());
    try_all(&mut client, &served, &CreateTopicsRequest::default());
    try_all(&mut client, &served, &DeleteTopicsRequest::default());
    try_all(&mut client, &served, &DeleteRecordsRequest::default());
    try_all(&mut client, &served, &InitProducerIdRequest { transactional_id: None, ..Default::default() });
    try_transactions(&mut client, &served);
    try_all(&mut client, &served, &OffsetForLeaderEpochRequest::default());
    try_all(&mut client, &served, &DescribeConfigsRequest::default());
    try_all(&mut client, &served, &AlterConfigsRequest::default());
    try_all(&mut client, &served, &IncrementalAlterConfigsRequest::default());
    try_all(&mut client, &served, &ListConfigResourcesRequest::default());
    try_all(&mut client, &served, &ElectLeadersRequest::default());
    try_all(&mut client, &served, &AlterPartitionReassignmentsRequest::default());
    try_all(&mut client, &served, &ListPartitionReassignmentsRequest::default());
    try_all(&mut client, &served, &DescribeProducersRequest::default());
    try_all(&mut client, &served, &DescribeQuorumRequest::default());
    try_all(&mut client, &served, &UpdateFeaturesRequest::default());
    try_all(&mut client, &served, &CreatePartitionsRequest::default());
    try_all(&mut client, &served, &DescribeClusterRequest::default());
    try_all(&mut client, &served, &DescribeTopicPartitionsRequest::default());
    try_all(&mut client, &served, &DescribeLogDirsRequest::default());
    try_all(&mut client, &served, &CompactLogsRequest::default());
    try_all(&mut client, &served, &DescribeStorageRequest::default());
    try_all(&mut client, &served, &DescribeGroupLagRequest::default());
}

#[test]
fn a_newer_api_versions_is_answered_in_version_zero_and_the_connection_lives() {
    let bed = Bed::new();
    let mut client = bed.client();
    // Key 18 in version 9, correlation id 7, client id "x", no tags, and a body that nobody knows yet.
    client.stream_write(&[0, 18, 0, 9, 0, 0, 0, 7, 0, 1, b'x', 0, 0xff, 0xff, 0xff]);
    let frame = client.frame().unwrap();
    let (id, response) = decode_response::<ApiVersionsRequest>(&frame, 0).unwrap();
    assert_eq!((id, response.error_code), (7, ErrorCode::UnsupportedVersion.code()));
    assert!(response.api_keys.iter().any(|api| api.api_key == 18 && api.max_version == 4));
    assert_eq!(client.call(3, &asked()).error_code, 0);
}

#[test]
fn a_client_with_a_decorated_name_is_refused() {
    let bed = Bed::new();
    let request = ApiVersionsRequest { client_software_name: KStr::from_static("-x"), ..asked() };
    assert_eq!(bed.client().call(3, &request).error_code, ErrorCode::InvalidRequest.code());
    assert_eq!(bed.client().call(2, &request).error_code, 0, "older versions do not carry a name");
}

#[test]
fn an_api_or_a_version_that_is_not_served_closes_the_connection() {
    let bed = Bed::new();
    // AddPartitionsToTxn, Produce in version 2, Metadata in version 14.
    for (key, version) in [(24, 1), (0, 2), (3, 14)] {
        let mut client = bed.client();
        client.stream_write(&[0, key, 0, version, 0, 0, 0, 1, 0xff, 0xff, 0, 0, 0, 0]);
        assert!(client.is_closed(), "key {key} version {version}");
    }
}
