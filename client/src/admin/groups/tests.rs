//! Groups against a broker that plays a script: who is asked, what is asked again, how answers are told apart.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use millstream_protocol::messages::consumer_group_describe_response::{self as modern};
use millstream_protocol::messages::delete_groups_response::DeletableGroupResult;
use millstream_protocol::messages::describe_groups_response::DescribedGroup;
use millstream_protocol::messages::find_coordinator_response::Coordinator;
use millstream_protocol::messages::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use millstream_protocol::messages::*;
use millstream_protocol::{ApiKey, ErrorCode, KStr};

use super::*;
use crate::client::Client;
use crate::fake::{self, Answer, Call, FakeBroker};

async fn admin(script: impl FnMut(&Call) -> Answer + Send + 'static) -> Admin {
    let broker = FakeBroker::start(2, script);
    Client::builder("fake:1").transport(broker).connect().await.unwrap().admin()
}

fn found_coordinator(call: &Call) -> Answer {
    let request: FindCoordinatorRequest = call.decode();
    let coordinator =
        Coordinator { key: request.coordinator_keys[0].clone(), node_id: fake::NODE, ..Default::default() };
    call.answer::<FindCoordinatorRequest>(&FindCoordinatorResponse {
        coordinators: vec![coordinator],
        ..Default::default()
    })
}

fn deleted(call: &Call, code: ErrorCode) -> Answer {
    let request: DeleteGroupsRequest = call.decode();
    let result = DeletableGroupResult { group_id: request.groups_names[0].clone(), error_code: code.code() };
    call.answer::<DeleteGroupsRequest>(&DeleteGroupsResponse { results: vec![result], ..Default::default() })
}

#[tokio::test(start_paused = true)]
async fn a_coordinator_is_looked_up_once_and_again_when_it_is_another() {
    let lookups = Arc::new(AtomicUsize::new(0));
    let codes = Arc::new(Mutex::new(vec![
        ErrorCode::None,
        ErrorCode::None,
        ErrorCode::NotCoordinator,
        ErrorCode::None,
    ]));
    let (count, left) = (lookups.clone(), codes.clone());
    let admin = admin(move |call| match call.api {
        ApiKey::FindCoordinator => {
            count.fetch_add(1, Ordering::Relaxed);
            found_coordinator(call)
        }
        ApiKey::DeleteGroups => deleted(call, left.lock().unwrap().pop().unwrap()),
        _ => Answer::Usual,
    })
    .await;
    admin.delete_group("g").await.unwrap();
    assert_eq!(lookups.load(Ordering::Relaxed), 1);
    admin.delete_group("g").await.unwrap();
    assert_eq!(lookups.load(Ordering::Relaxed), 2, "the first coordinator said that it is none");
    admin.delete_group("g").await.unwrap();
    assert_eq!((lookups.load(Ordering::Relaxed), codes.lock().unwrap().len()), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn a_coordinator_that_loads_is_waited_for_and_one_that_refuses_is_not() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let admin = admin(move |call| match call.api {
        ApiKey::FindCoordinator => found_coordinator(call),
        ApiKey::DeleteGroups => match count.fetch_add(1, Ordering::Relaxed) {
            0 | 1 => deleted(call, ErrorCode::CoordinatorLoadInProgress),
            2 => deleted(call, ErrorCode::NonEmptyGroup),
            _ => deleted(call, ErrorCode::GroupIdNotFound),
        },
        _ => Answer::Usual,
    })
    .await;
    let error = admin.delete_group("g").await.unwrap_err();
    assert!(matches!(error, DeleteGroupError::NotEmpty { .. }) && error.had_no_effect(), "{error}");
    let error = admin.delete_group("g").await.unwrap_err();
    assert!(matches!(error, DeleteGroupError::UnknownGroup { .. }), "{error}");
    assert_eq!(asked.load(Ordering::Relaxed), 4);
}

#[tokio::test(start_paused = true)]
async fn a_group_without_a_coordinator_is_told_with_the_reason() {
    let admin = admin(|call| match call.api {
        ApiKey::FindCoordinator => {
            let refused = Coordinator {
                node_id: -1,
                error_code: ErrorCode::GroupAuthorizationFailed.code(),
                error_message: Some(KStr::from_static("not yours")),
                ..Default::default()
            };
            call.answer::<FindCoordinatorRequest>(&FindCoordinatorResponse {
                coordinators: vec![refused],
                ..Default::default()
            })
        }
        _ => Answer::Usual,
    })
    .await;
    let error = admin.delete_group("g").await.unwrap_err();
    assert!(error.to_string().contains("not yours") && !error.is_retriable(), "{error}");
}

/// The state of the group if it is a consumer group, or else that of the classic one.
fn described(consumer: ErrorCode, classic: &'static str) -> impl FnMut(&Call) -> Answer + Send + 'static {
    move |call| match call.api {
        ApiKey::FindCoordinator => found_coordinator(call),
        ApiKey::ConsumerGroupDescribe => {
            let request: ConsumerGroupDescribeRequest = call.decode();
            let group = modern::DescribedGroup {
                error_code: consumer.code(),
                group_id: request.group_ids[0].clone(),
                group_state: KStr::from_static("Assigning"),
                ..Default::default()
            };
            let groups = vec![group];
            call.answer::<ConsumerGroupDescribeRequest>(&ConsumerGroupDescribeResponse {
                groups,
                ..Default::default()
            })
        }
        ApiKey::DescribeGroups => {
            let request: DescribeGroupsRequest = call.decode();
            let group = DescribedGroup {
                group_id: request.groups[0].clone(),
                group_state: KStr::from_static(classic),
                ..Default::default()
            };
            call.answer::<DescribeGroupsRequest>(&DescribeGroupsResponse {
                groups: vec![group],
                ..Default::default()
            })
        }
        _ => Answer::Usual,
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_no_consumer_group_is_described_as_a_classic_one() {
    let group = admin(described(ErrorCode::None, "Stable")).await.describe_group("g").await.unwrap();
    assert_eq!((group.kind, &*group.state), (GroupKind::Consumer, "Assigning"));
    for code in [ErrorCode::GroupIdNotFound, ErrorCode::UnsupportedVersion] {
        let group = admin(described(code, "Stable")).await.describe_group("g").await.unwrap();
        assert_eq!((group.kind, &*group.state), (GroupKind::Classic, "Stable"));
    }
    let gone = admin(described(ErrorCode::GroupIdNotFound, "Dead")).await.describe_group("g").await;
    assert!(matches!(gone, Err(DescribeGroupError::UnknownGroup { .. })), "{gone:?}");
}

#[tokio::test(start_paused = true)]
async fn a_stranger_who_commits_to_a_live_group_is_told_that_it_is_live() {
    let admin = admin(|call| match call.api {
        ApiKey::FindCoordinator => found_coordinator(call),
        ApiKey::OffsetCommit => {
            assert!(call.version <= 9, "topics are named, not numbered");
            let request: OffsetCommitRequest = call.decode();
            assert_eq!(request.generation_id_or_member_epoch, -1);
            let partition = OffsetCommitResponsePartition {
                partition_index: 0,
                error_code: ErrorCode::UnknownMemberId.code(),
            };
            let topic = OffsetCommitResponseTopic {
                name: request.topics[0].name.clone(),
                partitions: vec![partition],
                ..Default::default()
            };
            call.answer::<OffsetCommitRequest>(&OffsetCommitResponse {
                topics: vec![topic],
                ..Default::default()
            })
        }
        _ => Answer::Usual,
    })
    .await;
    let new = NewOffset { topic: "t".to_owned(), partition: 0, offset: 5, metadata: String::new() };
    let error = admin.commit_offsets("g", &[new]).await.unwrap_err();
    assert!(matches!(error, CommitOffsetsError::NotEmpty { .. }) && error.had_no_effect(), "{error}");
}
