//! The new group protocol through sockets: both versions, commits under epochs, a topic that grows, and a restart.

use std::time::Duration;

use millstream_protocol::messages::consumer_group_describe_response::DescribedGroup;
use millstream_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};
use millstream_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use millstream_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopics,
};
use millstream_protocol::messages::update_features_request::FeatureUpdateKey;
use millstream_protocol::messages::{
    ApiVersionsRequest, ConsumerGroupDescribeRequest, ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatResponse, IncrementalAlterConfigsRequest, OffsetCommitRequest, OffsetFetchRequest,
    UpdateFeaturesRequest,
};
use millstream_protocol::{ErrorCode, KStr, Uuid};

use super::bed::{Bed, Client};

fn joining(member: &str) -> ConsumerGroupHeartbeatRequest {
    ConsumerGroupHeartbeatRequest {
        group_id: "g".into(),
        member_id: member.into(),
        rebalance_timeout_ms: 10_000,
        subscribed_topic_names: Some(vec!["t".into()]),
        topic_partitions: Some(Vec::new()),
        ..Default::default()
    }
}

fn staying(told: &ConsumerGroupHeartbeatResponse) -> ConsumerGroupHeartbeatRequest {
    ConsumerGroupHeartbeatRequest {
        group_id: "g".into(),
        member_id: told.member_id.clone().unwrap(),
        member_epoch: told.member_epoch,
        rebalance_timeout_ms: -1,
        ..Default::default()
    }
}

/// Sends a heartbeat until the group is loaded.
fn beat(
    client: &mut Client,
    version: i16,
    request: &ConsumerGroupHeartbeatRequest,
) -> ConsumerGroupHeartbeatResponse {
    loop {
        let reply = client.call(version, request);
        if reply.error_code != ErrorCode::CoordinatorLoadInProgress.code() {
            return reply;
        }
    }
}

fn partitions(reply: &ConsumerGroupHeartbeatResponse) -> Vec<i32> {
    let topics = reply.assignment.iter().flat_map(|assignment| &assignment.topic_partitions);
    topics.flat_map(|topic| topic.partitions.clone()).collect()
}

fn describe(client: &mut Client, group: &str) -> DescribedGroup {
    let request =
        ConsumerGroupDescribeRequest { group_ids: vec![group.into()], include_authorized_operations: true };
    client.call(1, &request).groups.swap_remove(0)
}

fn commit(client: &mut Client, member: &str, epoch: i32) -> i16 {
    let partition = OffsetCommitRequestPartition { committed_offset: 7, ..Default::default() };
    let request = OffsetCommitRequest {
        group_id: "g".into(),
        generation_id_or_member_epoch: epoch,
        member_id: member.into(),
        topics: vec![OffsetCommitRequestTopic {
            name: "t".into(),
            partitions: vec![partition],
            ..Default::default()
        }],
        ..Default::default()
    };
    client.call(9, &request).topics[0].partitions[0].error_code
}

fn fetch(client: &mut Client, member: Option<&str>, epoch: i32) -> (i16, Option<i64>) {
    let group = OffsetFetchRequestGroup {
        group_id: "g".into(),
        member_id: member.map(Into::into),
        member_epoch: epoch,
        topics: Some(vec![OffsetFetchRequestTopics {
            name: "t".into(),
            topic_id: Uuid::nil(),
            partition_indexes: vec![0],
        }]),
    };
    let reply = client.call(9, &OffsetFetchRequest { groups: vec![group], ..Default::default() });
    let group = &reply.groups[0];
    (group.error_code, group.topics.first().map(|topic| topic.partitions[0].committed_offset))
}

#[test]
fn a_member_joins_commits_and_leaves_in_both_versions() {
    let bed = Bed::new();
    let (mut client, _) = bed.with_topic("t");
    for version in 0..=1 {
        // Version 0 is given an id.
        let joined = beat(&mut client, version, &joining(if version == 0 { "" } else { "mine" }));
        assert_eq!(joined.error_code, 0, "{joined:?}");
        let member = joined.member_id.clone().unwrap();
        assert!(!member.is_empty() && joined.member_epoch > 0);
        assert_eq!(partitions(&joined), [0]);
        let group = describe(&mut client, "g");
        assert_eq!((&*group.group_state, &*group.assignor_name), ("Stable", "uniform"));
        assert_eq!(group.members[0].assignment, group.members[0].target_assignment);
        assert_eq!(&*group.members[0].client_host, "/127.0.0.1");

        assert_eq!(commit(&mut client, &member, joined.member_epoch), 0);
        let stale = ErrorCode::StaleMemberEpoch.code();
        assert_eq!(commit(&mut client, &member, joined.member_epoch + 1), stale);
        assert_eq!(fetch(&mut client, Some(&member), joined.member_epoch + 1), (stale, None));
        assert_eq!(fetch(&mut client, Some(&member), joined.member_epoch), (0, Some(7)));
        assert_eq!(fetch(&mut client, None, -1), (0, Some(7)));

        let leaving = ConsumerGroupHeartbeatRequest { member_epoch: -1, ..staying(&joined) };
        assert_eq!(client.call(version, &leaving).error_code, 0);
        assert_eq!(&*describe(&mut client, "g").group_state, "Empty");
    }
}

#[test]
fn a_member_goes_on_where_it_was_after_a_restart_and_its_session_begins_anew() {
    let mut bed = Bed::with(&[
        ("group.consumer.min.session.timeout.ms", "1000"),
        ("group.consumer.session.timeout.ms", "1000"),
        ("group.consumer.min.heartbeat.interval.ms", "100"),
        ("group.consumer.heartbeat.interval.ms", "100"),
    ]);
    let (mut client, _) = bed.with_topic("t");
    let joined = beat(&mut client, 1, &joining("mine"));
    bed.stop();
    bed.start();
    let mut client = bed.client();
    let heard = beat(&mut client, 1, &staying(&joined));
    assert_eq!((heard.error_code, heard.member_epoch), (0, joined.member_epoch));
    // Nobody comes any more: it is out, and the group empty.
    let deadline = std::time::Instant::now() + Duration::from_secs(120);
    while &*describe(&mut client, "g").group_state != "Empty" {
        assert!(std::time::Instant::now() < deadline, "the session does not end");
    }
    let gone = beat(&mut client, 1, &staying(&joined));
    assert_eq!(gone.error_code, ErrorCode::UnknownMemberId.code());
}

/// Sets and takes back settings of the group.
fn configure(client: &mut Client, edits: &[(&str, Option<&str>)]) {
    let configs = edits.iter().map(|(name, value)| AlterableConfig {
        name: KStr::from(*name),
        config_operation: i8::from(value.is_none()),
        value: value.map(KStr::from),
    });
    let resource =
        AlterConfigsResource { resource_type: 32, resource_name: "g".into(), configs: configs.collect() };
    let request = IncrementalAlterConfigsRequest { resources: vec![resource], validate_only: false };
    assert_eq!(client.call(1, &request).responses[0].error_code, 0, "{edits:?}");
}

#[test]
fn a_groups_own_times_hold_at_once_and_after_a_restart() {
    const HEARTBEAT: &str = "consumer.heartbeat.interval.ms";
    const SESSION: &str = "consumer.session.timeout.ms";
    let mut bed = Bed::with(&[
        ("group.consumer.min.session.timeout.ms", "1000"),
        ("group.consumer.min.heartbeat.interval.ms", "100"),
    ]);
    let (mut client, _) = bed.with_topic("t");
    let joined = beat(&mut client, 1, &joining("mine"));
    let usual = joined.heartbeat_interval_ms;
    configure(&mut client, &[(HEARTBEAT, Some("117")), (SESSION, Some("1000"))]);
    assert_eq!(beat(&mut client, 1, &staying(&joined)).heartbeat_interval_ms, 117);
    let other = ConsumerGroupHeartbeatRequest { group_id: "other".into(), ..joining("x") };
    assert_eq!(beat(&mut client, 1, &other).heartbeat_interval_ms, usual, "another group is not touched");
    bed.stop();
    bed.start();
    let mut client = bed.client();
    assert_eq!(beat(&mut client, 1, &staying(&joined)).heartbeat_interval_ms, 117, "after a restart");
    let deadline = std::time::Instant::now() + Duration::from_secs(120);
    while &*describe(&mut client, "g").group_state != "Empty" {
        assert!(std::time::Instant::now() < deadline, "the session of 45 s holds, not the group's of 1 s");
    }
    configure(&mut client, &[(HEARTBEAT, None), (SESSION, None)]);
    assert_ne!(beat(&mut client, 1, &joining("mine")).heartbeat_interval_ms, 117);
}

/// Turns `group.version` to a level; what is said, and by how many results.
fn turn(client: &mut Client, version: i16, level: i16, upgrade_type: i8) -> (ErrorCode, usize) {
    let update = FeatureUpdateKey {
        feature: "group.version".into(),
        max_version_level: level,
        allow_downgrade: version == 0,
        upgrade_type,
    };
    let request = UpdateFeaturesRequest { feature_updates: vec![update], ..Default::default() };
    let told = client.call(version, &request);
    (ErrorCode::from_code(told.error_code).unwrap(), told.results.len())
}

/// What ApiVersions tells of features: supported, finalized, and the epoch.
fn features(client: &mut Client, version: i16) -> (Vec<(i16, i16)>, Vec<i16>, i64) {
    let request =
        ApiVersionsRequest { client_software_name: "test".into(), client_software_version: "1".into() };
    let told = client.call(version, &request);
    let is_ours = |name: &KStr| &**name == "group.version";
    let supported = told.supported_features.iter().filter(|feature| is_ours(&feature.name));
    let finalized = told.finalized_features.iter().filter(|feature| is_ours(&feature.name));
    (
        supported.map(|feature| (feature.min_version, feature.max_version)).collect(),
        finalized.map(|feature| feature.max_version_level).collect(),
        told.finalized_features_epoch,
    )
}

#[test]
fn the_new_protocol_is_turned_off_and_on_again_while_groups_stay() {
    let (up, down) = (1, 2);
    let mut bed = Bed::new();
    let (mut client, _) = bed.with_topic("t");
    let joined = beat(&mut client, 1, &joining("mine"));
    assert_eq!(features(&mut client, 4), (vec![(0, 1)], vec![1], 0));
    assert_eq!(features(&mut client, 3), (vec![], vec![1], 0), "older clients do not read of levels from 0");
    for version in 0..=2 {
        assert_eq!(turn(&mut client, version, 0, up), (ErrorCode::InvalidUpdateVersion, 0));
        assert_eq!(turn(&mut client, version, 1, up), (ErrorCode::None, usize::from(version < 2)));
    }
    assert_eq!(turn(&mut client, 2, 0, down).0, ErrorCode::None);
    let unsupported = ErrorCode::UnsupportedVersion.code();
    bed.stop();
    bed.start();
    let mut client = bed.client();
    let (supported, finalized, epoch) = features(&mut client, 4);
    assert_eq!((supported, finalized), (vec![(0, 1)], vec![]), "after a restart");
    assert!(epoch > 0);
    let heard = beat(&mut client, 1, &staying(&joined));
    assert_eq!((heard.error_code, heard.error_message), (unsupported, None));
    assert_eq!(describe(&mut client, "g").error_code, unsupported);
    assert_eq!(turn(&mut client, 2, 1, down).0, ErrorCode::InvalidUpdateVersion);
    assert_eq!(turn(&mut client, 2, 1, up).0, ErrorCode::None);
    assert!(features(&mut client, 4).2 > epoch);
    let heard = beat(&mut client, 1, &staying(&joined));
    assert_eq!((heard.error_code, heard.member_epoch), (0, joined.member_epoch), "it is still a member");
}

#[test]
fn what_makes_no_sense_is_refused_with_a_reason_and_disturbs_nobody() {
    let bed = Bed::new();
    let (mut client, _) = bed.with_topic("t");
    let joined = beat(&mut client, 1, &joining("mine"));
    let bad = [
        (ConsumerGroupHeartbeatRequest { group_id: "".into(), ..joining("x") }, ErrorCode::InvalidRequest),
        (ConsumerGroupHeartbeatRequest { member_id: "".into(), ..joining("x") }, ErrorCode::InvalidRequest),
        (ConsumerGroupHeartbeatRequest { member_epoch: 5, ..joining("x") }, ErrorCode::UnknownMemberId),
        (
            ConsumerGroupHeartbeatRequest { server_assignor: Some("mine".into()), ..joining("x") },
            ErrorCode::UnsupportedAssignor,
        ),
        (
            ConsumerGroupHeartbeatRequest { subscribed_topic_regex: Some("(".into()), ..joining("x") },
            ErrorCode::InvalidRegularExpression,
        ),
        (
            ConsumerGroupHeartbeatRequest { group_id: "other".into(), member_epoch: 1, ..joining("x") },
            ErrorCode::GroupIdNotFound,
        ),
    ];
    for (request, code) in bad {
        let reply = beat(&mut client, 1, &request);
        assert_eq!(reply.error_code, code.code(), "{request:?}");
        assert!(reply.error_message.is_some_and(|message| !message.is_empty()), "{request:?}");
    }
    let described = describe(&mut client, "other");
    assert_eq!(described.error_code, ErrorCode::GroupIdNotFound.code());
    assert_eq!(describe(&mut client, "").error_code, ErrorCode::InvalidGroupId.code());
    let heard = beat(&mut client, 1, &staying(&joined));
    assert_eq!((heard.error_code, heard.member_epoch), (0, joined.member_epoch));
    assert_eq!(describe(&mut client, "g").members.len(), 1);
}
