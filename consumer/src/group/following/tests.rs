//! A consumer in a group against a broker that plays a script, on a paused clock.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use millstream_client::Client;
use millstream_client::fake::{self, Answer, Call, FakeBroker, NODE};
use millstream_client::protocol::messages::consumer_group_heartbeat_response::{Assignment, TopicPartitions};
use millstream_client::protocol::messages::fetch_response::{FetchableTopicResponse, PartitionData};
use millstream_client::protocol::messages::find_coordinator_response::Coordinator;
use millstream_client::protocol::messages::join_group_response::JoinGroupResponseMember;
use millstream_client::protocol::messages::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use millstream_client::protocol::messages::{
    ApiVersionsRequest, ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, FetchRequest,
    FetchResponse, FindCoordinatorRequest, FindCoordinatorResponse, HeartbeatRequest, HeartbeatResponse,
    JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, LeaveGroupResponse, MetadataRequest,
    OffsetCommitRequest, OffsetCommitResponse, OffsetFetchRequest, OffsetFetchResponse, SyncGroupRequest,
    SyncGroupResponse,
};
use millstream_client::protocol::records::{BatchBuilder, Compression, NewRecord};
use millstream_client::protocol::{ApiKey, Chunk, ErrorCode, KStr};

use super::*;
use crate::builder::{ConsumerExt, Isolation, StopAt};
use crate::error::SettingsError;
use crate::group::{GroupError, GroupProtocol, MemberState};

/// A broker with one topic of one partition that holds one record; what is said of the group is scripted.
async fn start(mut script: impl FnMut(&Call) -> Option<Answer> + Send + 'static) -> Client {
    let broker = FakeBroker::start(1, move |call| script(call).unwrap_or_else(|| usual(call)));
    Client::builder("fake").transport(broker).total_timeout(Duration::from_secs(20)).connect().await.unwrap()
}

fn usual(call: &Call) -> Answer {
    match call.api {
        // By name or by id, it is the same topic.
        ApiKey::Metadata => {
            call.answer::<MetadataRequest>(&fake::metadata([KStr::from("t")].into_iter(), 1, |_| NODE))
        }
        ApiKey::FindCoordinator => {
            let found = Coordinator { node_id: NODE, ..Default::default() };
            call.answer::<FindCoordinatorRequest>(&FindCoordinatorResponse {
                coordinators: vec![found],
                ..Default::default()
            })
        }
        ApiKey::ConsumerGroupHeartbeat => beat(call, 1),
        ApiKey::OffsetFetch => call.answer::<OffsetFetchRequest>(&OffsetFetchResponse::default()),
        ApiKey::OffsetCommit => commit(call, ErrorCode::None),
        ApiKey::LeaveGroup => call.answer::<LeaveGroupRequest>(&LeaveGroupResponse::default()),
        ApiKey::Fetch => {
            let request: FetchRequest = call.decode();
            let wants =
                request.topics.iter().flat_map(|topic| &topic.partitions).any(|p| p.fetch_offset == 0);
            if !wants {
                // There will be no more.
                return Answer::Never;
            }
            let mut builder = BatchBuilder::new(Compression::None);
            builder.append(&NewRecord { value: Some(b"v"), ..Default::default() });
            let records = builder.build().to_vec();
            let data = PartitionData { records: Some(Chunk::Bytes(records.into())), ..Default::default() };
            let topic = FetchableTopicResponse {
                topic_id: fake::topic_id("t"),
                partitions: vec![data],
                ..Default::default()
            };
            call.answer::<FetchRequest>(&FetchResponse { responses: vec![topic], ..Default::default() })
        }
        _ => Answer::Usual,
    }
}

/// The member has the partition, in this epoch.
fn beat(call: &Call, epoch: i32) -> Answer {
    let request: ConsumerGroupHeartbeatRequest = call.decode();
    let all = TopicPartitions { topic_id: fake::topic_id("t"), partitions: vec![0] };
    call.answer::<ConsumerGroupHeartbeatRequest>(&ConsumerGroupHeartbeatResponse {
        member_id: Some(request.member_id),
        member_epoch: if request.member_epoch < 0 { request.member_epoch } else { epoch },
        heartbeat_interval_ms: 1000,
        assignment: Some(Assignment { topic_partitions: vec![all] }),
        ..Default::default()
    })
}

fn refuse(call: &Call, code: ErrorCode) -> Answer {
    let error_code = code.code();
    let response = ConsumerGroupHeartbeatResponse { error_code, ..Default::default() };
    call.answer::<ConsumerGroupHeartbeatRequest>(&response)
}

fn commit(call: &Call, code: ErrorCode) -> Answer {
    let partition = OffsetCommitResponsePartition { partition_index: 0, error_code: code.code() };
    let topic = OffsetCommitResponseTopic {
        name: KStr::from("t"),
        partitions: vec![partition],
        ..Default::default()
    };
    call.answer::<OffsetCommitRequest>(&OffsetCommitResponse { topics: vec![topic], ..Default::default() })
}

async fn member(client: &Client) -> Consumer {
    client.consumer("g").subscribe(["t"]).start_at(StartAt::Offset(0)).build().await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_broker_without_the_new_protocol_is_joined_in_the_classic_one() {
    let client = start(|call| match call.api {
        ApiKey::ApiVersions => {
            let mut served = fake::all_versions();
            served.api_keys.retain(|api| api.api_key != ApiKey::ConsumerGroupHeartbeat.code());
            Some(call.answer::<ApiVersionsRequest>(&served))
        }
        ApiKey::JoinGroup => {
            let request: JoinGroupRequest = call.decode();
            let id = KStr::from("made-by-the-broker");
            let response = match request.member_id.is_empty() {
                true => JoinGroupResponse {
                    error_code: ErrorCode::MemberIdRequired.code(),
                    member_id: id,
                    ..Default::default()
                },
                false => JoinGroupResponse {
                    generation_id: 1,
                    protocol_name: Some(request.protocols[0].name.clone()),
                    leader: id.clone(),
                    members: vec![JoinGroupResponseMember {
                        member_id: id.clone(),
                        metadata: request.protocols[0].metadata.clone(),
                        ..Default::default()
                    }],
                    member_id: id,
                    ..Default::default()
                },
            };
            Some(call.answer::<JoinGroupRequest>(&response))
        }
        ApiKey::SyncGroup => {
            let request: SyncGroupRequest = call.decode();
            let assignment = request.assignments[0].assignment.clone();
            Some(call.answer::<SyncGroupRequest>(&SyncGroupResponse { assignment, ..Default::default() }))
        }
        ApiKey::Heartbeat => Some(call.answer::<HeartbeatRequest>(&HeartbeatResponse::default())),
        _ => None,
    })
    .await;
    let mut consumer = member(&client).await;
    assert_eq!(consumer.recv().await.unwrap().unwrap().offset, 0);
    let status = consumer.status().unwrap();
    assert_eq!((status.protocol, status.generation), (GroupProtocol::Classic, Some(1)));
    consumer.close().await.unwrap();
}

/// Refuses the first commit, and from then on answers heartbeats as it is told. The epochs of the commits.
async fn with_stale_epoch(
    after: impl Fn(&Call) -> Answer + Send + 'static,
) -> (Client, Arc<Mutex<Vec<i32>>>) {
    let epochs: Arc<Mutex<Vec<i32>>> = Arc::default();
    let seen = epochs.clone();
    let client = start(move |call| match call.api {
        ApiKey::OffsetCommit => {
            let mut seen = seen.lock().unwrap();
            seen.push(call.decode::<OffsetCommitRequest>().generation_id_or_member_epoch);
            let code = if seen.len() == 1 { ErrorCode::StaleMemberEpoch } else { ErrorCode::None };
            Some(commit(call, code))
        }
        ApiKey::ConsumerGroupHeartbeat if !seen.lock().unwrap().is_empty() => Some(after(call)),
        _ => None,
    })
    .await;
    (client, epochs)
}

#[tokio::test(start_paused = true)]
async fn a_commit_under_an_epoch_that_has_passed_is_sent_again_under_the_next() {
    let (client, epochs) = with_stale_epoch(|call| beat(call, 2)).await;
    let mut consumer = member(&client).await;
    let record = consumer.recv().await.unwrap().unwrap();
    consumer.commit(&record).await.unwrap();
    assert_eq!(*epochs.lock().unwrap(), [1, 2]);
}

#[tokio::test(start_paused = true)]
async fn what_was_lost_meanwhile_is_not_committed() {
    let (client, epochs) = with_stale_epoch(|call| refuse(call, ErrorCode::FencedMemberEpoch)).await;
    let mut consumer = member(&client).await;
    let record = consumer.recv().await.unwrap().unwrap();
    let error = consumer.commit(&record).await.unwrap_err();
    assert!(matches!(error, CommitError::NotOwned { partition: 0, .. }) && error.had_no_effect(), "{error}");
    assert_eq!(*epochs.lock().unwrap(), [1]);
    let lost = consumer.recv().await.unwrap_err();
    assert!(matches!(lost, ConsumeError::PartitionsLost { reason: LossReason::Expelled(_), .. }), "{lost}");
}

#[tokio::test(start_paused = true)]
async fn a_coordinator_that_moved_is_looked_up_again() {
    let asked = Arc::new(Mutex::new(0));
    let count = asked.clone();
    let client = start(move |call| match call.api {
        ApiKey::FindCoordinator => {
            *count.lock().unwrap() += 1;
            None
        }
        ApiKey::ConsumerGroupHeartbeat if *count.lock().unwrap() == 1 => {
            Some(refuse(call, ErrorCode::NotCoordinator))
        }
        ApiKey::OffsetCommit if *count.lock().unwrap() == 2 => Some(commit(call, ErrorCode::NotCoordinator)),
        _ => None,
    })
    .await;
    let mut consumer = member(&client).await;
    let record = consumer.recv().await.unwrap().unwrap();
    assert_eq!(*asked.lock().unwrap(), 2);
    consumer.commit(&record).await.unwrap();
    assert_eq!(*asked.lock().unwrap(), 3);
}

#[tokio::test(start_paused = true)]
async fn where_the_broker_does_not_take_patterns_they_are_matched_here() {
    let client = start(|call| match call.api {
        ApiKey::ApiVersions => {
            let mut served = fake::all_versions();
            let heartbeats = |code: i16| code == ApiKey::ConsumerGroupHeartbeat.code();
            served
                .api_keys
                .iter_mut()
                .filter(|api| heartbeats(api.api_key))
                .for_each(|api| api.max_version = 0);
            Some(call.answer::<ApiVersionsRequest>(&served))
        }
        ApiKey::ConsumerGroupHeartbeat => {
            let request: ConsumerGroupHeartbeatRequest = call.decode();
            if request.member_epoch == 0 {
                assert_eq!(request.subscribed_topic_names, Some(vec![KStr::from("t")]));
            }
            None
        }
        _ => None,
    })
    .await;
    let builder = client.consumer("g").subscribe_pattern("[a-z]").start_at(StartAt::Offset(0));
    let mut consumer = builder.build().await.unwrap();
    assert_eq!(consumer.recv().await.unwrap().unwrap().offset, 0);
    assert_eq!(consumer.status().unwrap().protocol, GroupProtocol::Consumer);
}

#[tokio::test(start_paused = true)]
async fn who_reads_committed_records_asks_for_offsets_that_no_transaction_may_change() {
    for isolation in [Isolation::ReadCommitted, Isolation::ReadUncommitted] {
        let client = start(move |call| {
            if call.api == ApiKey::OffsetFetch {
                let request: OffsetFetchRequest = call.decode();
                assert_eq!(request.require_stable, isolation == Isolation::ReadCommitted);
            }
            None
        })
        .await;
        let builder = client.consumer("g").subscribe(["t"]).start_at(StartAt::Offset(0)).isolation(isolation);
        let mut consumer = builder.build().await.unwrap();
        assert_eq!(consumer.recv().await.unwrap().unwrap().offset, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_handed_out_is_the_input_of_transactions_until_it_is_done() {
    use millstream_client::Source;
    let client = start(|_| None).await;
    let mut consumer = member(&client).await;
    for _ in 0..2 {
        let records = consumer.next_batch().await.unwrap().unwrap();
        assert_eq!(records.len(), 1);
        assert_eq!(consumer.offsets()[0].offset, 1);
        let group = consumer.group().unwrap();
        assert_eq!((group.group.as_str(), group.generation), ("g", 1));
        // What is not done comes again.
        consumer.rewind();
        assert!(consumer.offsets().is_empty());
    }
    consumer.next_batch().await.unwrap().unwrap();
    consumer.done();
    assert_eq!(consumer.position("t", 0), Some(1));
}

#[tokio::test]
async fn settings_that_do_not_go_together_are_refused() {
    let client = start(|_| None).await;
    let assigned = || client.consumer("g").assign("t", 0, StartAt::Offset(0));
    let subscribed = || client.consumer("g").subscribe(["t"]);
    let zero = Duration::ZERO;
    let wrong = [
        (Consumer::builder(client.clone()).subscribe(["t"]), SettingsError::SubscribesWithoutGroup),
        (assigned().subscribe(["t"]), SettingsError::AssignsAndSubscribes),
        (assigned().auto_commit(zero), SettingsError::MemberWithoutSubscription),
        (subscribed().stop(StopAt::CurrentEnd), SettingsError::StopsAndSubscribes),
        (subscribed().assignors([]), SettingsError::NoAssignor),
        (
            subscribed().heartbeat_interval(zero),
            SettingsError::Heartbeat { heartbeat: zero, session: Duration::from_secs(45) },
        ),
    ];
    for (builder, error) in wrong {
        match builder.build().await {
            Err(ConsumeError::Settings(told)) => assert_eq!(told, error),
            built => panic!("{error}: {built:?}"),
        }
    }
    assert!(assigned().build().await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn to_be_out_of_the_group_for_good_is_said_by_every_call() {
    let client = start(|call| match call.api {
        ApiKey::ConsumerGroupHeartbeat => Some(refuse(call, ErrorCode::GroupAuthorizationFailed)),
        _ => None,
    })
    .await;
    let mut consumer = member(&client).await;
    for _ in 0..3 {
        let error = consumer.recv().await.unwrap_err();
        let code = ErrorCode::GroupAuthorizationFailed;
        assert!(
            matches!(&error, ConsumeError::Group(GroupError::Refused { code: told, .. }) if *told == code)
        );
        assert!(!error.is_retriable());
    }
    assert_eq!(consumer.status().unwrap().state, MemberState::Failed);
}

#[tokio::test(start_paused = true)]
async fn a_group_that_stays_out_of_reach_is_told_of_and_why() {
    let client = start(|call| match call.api {
        ApiKey::ConsumerGroupHeartbeat => Some(refuse(call, ErrorCode::CoordinatorLoadInProgress)),
        _ => None,
    })
    .await;
    let mut consumer = member(&client).await;
    for _ in 0..2 {
        let error = consumer.recv().await.unwrap_err();
        assert!(matches!(&error, ConsumeError::Group(GroupError::Unavailable { .. })), "{error}");
        assert!(
            error.is_retriable() && error.to_string().contains("COORDINATOR_LOAD_IN_PROGRESS"),
            "{error}"
        );
    }
    assert_eq!(consumer.status().unwrap().state, MemberState::Joining);
}

#[tokio::test(start_paused = true)]
async fn a_hook_says_where_to_start_and_is_told_of_everything_at_the_close() {
    let client = start(|_| None).await;
    let told: Arc<Mutex<Vec<String>>> = Arc::default();
    let log = told.clone();
    let builder = client.consumer("g").subscribe(["t"]).on_rebalance(move |rebalance| {
        let log = log.clone();
        async move {
            let line = match &rebalance {
                Rebalance::Assigned(assigned) => {
                    assigned.start(&TopicPartition::new("t", 0), StartAt::Offset(0));
                    format!("assigned {}", assigned.partitions()[0])
                }
                Rebalance::Revoked(revoked) => format!("revoked {}", revoked.partitions()[0]),
                Rebalance::Lost(lost) => format!("lost {}", lost.partitions()[0]),
            };
            // Whatever waits may be dropped meanwhile.
            tokio::task::yield_now().await;
            log.lock().unwrap().push(line);
        }
    });
    let mut consumer = builder.build().await.unwrap();
    // Nothing is committed and nobody said where to start but the hook.
    assert_eq!(consumer.recv().await.unwrap().unwrap().offset, 0);
    consumer.close().await.unwrap();
    assert_eq!(*told.lock().unwrap(), ["assigned t-0", "revoked t-0"]);
}

#[tokio::test(start_paused = true)]
async fn what_is_committed_from_time_to_time_is_what_was_handed_out_before_the_latest_call() {
    let offsets: Arc<Mutex<Vec<i64>>> = Arc::default();
    let seen = offsets.clone();
    let client = start(move |call| {
        if call.api == ApiKey::OffsetCommit {
            let request: OffsetCommitRequest = call.decode();
            seen.lock().unwrap().push(request.topics[0].partitions[0].committed_offset);
        }
        None
    })
    .await;
    let builder = client.consumer("g").subscribe(["t"]).start_at(StartAt::Offset(0));
    let mut consumer = builder.auto_commit(Duration::from_millis(100)).build().await.unwrap();
    consumer.recv().await.unwrap().unwrap();
    assert_eq!(*offsets.lock().unwrap(), [0; 0], "the program is not done with it");
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(tokio::time::timeout(Duration::from_secs(1), consumer.recv()).await.is_err());
    assert_eq!(*offsets.lock().unwrap(), [1]);
    consumer.close().await.unwrap();
}
