//! Topics made, grown, described and deleted; settings and the cluster described.

use std::collections::BTreeMap;

use millstream_broker::settings::{Kind, REGISTRY};
use millstream_protocol::messages::create_partitions_request::{
    CreatePartitionsAssignment, CreatePartitionsTopic,
};
use millstream_protocol::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig,
};
use millstream_protocol::messages::create_topics_response::CreatableTopicResult;
use millstream_protocol::messages::delete_topics_request::DeleteTopicState;
use millstream_protocol::messages::describe_configs_request::DescribeConfigsResource;
use millstream_protocol::messages::describe_configs_response::DescribeConfigsResult;
use millstream_protocol::messages::describe_topic_partitions_request::{Cursor, TopicRequest};
use millstream_protocol::messages::metadata_request::MetadataRequestTopic;
use millstream_protocol::messages::metadata_response::MetadataResponseTopic;
use millstream_protocol::messages::*;
use millstream_protocol::{ErrorCode, KStr, Uuid};

use super::bed::{Bed, Client, batch};

fn text(text: &str) -> KStr {
    KStr::from(text)
}

fn new_topic(name: &str) -> CreatableTopic {
    CreatableTopic { name: text(name), num_partitions: 1, replication_factor: 1, ..Default::default() }
}

fn create(client: &mut Client, topic: CreatableTopic) -> CreatableTopicResult {
    client.call(7, &CreateTopicsRequest { topics: vec![topic], ..Default::default() }).topics[0].clone()
}

fn code(number: i16) -> ErrorCode {
    ErrorCode::from_code(number).unwrap()
}

fn metadata(client: &mut Client, version: i16, names: Option<&[&str]>, create: bool) -> MetadataResponse {
    let topics = names.map(|names| {
        let named = |name: &&str| MetadataRequestTopic { name: Some(text(name)), ..Default::default() };
        names.iter().map(named).collect()
    });
    let request = MetadataRequest { topics, allow_auto_topic_creation: create, ..Default::default() };
    client.call(version, &request)
}

fn names(response: &MetadataResponse) -> Vec<String> {
    response.topics.iter().map(|topic| topic.name.as_deref().unwrap().to_owned()).collect()
}

fn one(client: &mut Client, name: &str, create: bool) -> MetadataResponseTopic {
    metadata(client, 12, Some(&[name]), create).topics[0].clone()
}

#[test]
fn metadata_tells_all_none_or_some_topics() {
    let bed = Bed::new();
    let mut client = bed.client();
    for name in ["b", "a"] {
        client.create_topic(if name == "a" { "a" } else { "b" }, 2, &[]);
    }
    let all = metadata(&mut client, 12, None, true);
    assert_eq!(names(&all), ["a", "b"]);
    assert_eq!(names(&metadata(&mut client, 0, Some(&[]), true)), ["a", "b"], "version 0: empty means all");
    assert!(metadata(&mut client, 1, Some(&[]), true).topics.is_empty());
    let address = bed.broker().kafka_address();
    let broker = &all.brokers[0];
    assert_eq!((broker.node_id, broker.port), (1, i32::from(address.port())));
    assert_eq!(&*broker.host, "127.0.0.1");
    assert_eq!(all.controller_id, 1);
    assert!(all.cluster_id.as_ref().is_some_and(|id| !id.is_empty()));
    let partition = &all.topics[0].partitions[1];
    assert_eq!((partition.partition_index, partition.leader_id, partition.leader_epoch), (1, 1, 0));
    assert_eq!((&partition.replica_nodes[..], &partition.isr_nodes[..]), (&[1][..], &[1][..]));
    assert_eq!(names(&metadata(&mut client, 12, Some(&["a", "a"]), true)), ["a"]);
}

#[test]
fn metadata_finds_topics_by_id() {
    let bed = Bed::new();
    let (mut client, id) = bed.with_topic("t");
    let by_id = |topic_id| MetadataRequest {
        topics: Some(vec![MetadataRequestTopic { topic_id, name: None }]),
        ..Default::default()
    };
    let found = client.call(12, &by_id(id)).topics[0].clone();
    assert_eq!((found.error_code, found.name, found.topic_id), (0, Some(text("t")), id));
    let unknown = client.call(12, &by_id(Uuid::from_u128(1))).topics[0].clone();
    assert_eq!(code(unknown.error_code), ErrorCode::UnknownTopicId);
}

#[test]
fn asking_creates_a_topic_only_if_client_and_broker_allow_it() {
    let bed = Bed::with(&[("num.partitions", "3")]);
    let mut client = bed.client();
    assert_eq!(code(one(&mut client, "t", false).error_code), ErrorCode::UnknownTopicOrPartition);
    let created = one(&mut client, "t", true);
    assert_eq!((created.error_code, created.partitions.len()), (0, 3));
    assert_eq!(client.produce("t", batch(&["v"]), -1).error_code, 0);
    for invalid in ["", ".", "..", "a/b", "a b", "größe", &"x".repeat(250)] {
        for allow in [true, false] {
            let told = one(&mut client, invalid, allow);
            assert_eq!(code(told.error_code), ErrorCode::InvalidTopicException, "{invalid:?}");
        }
    }
    let strict = Bed::with(&[("auto.create.topics.enable", "false")]);
    assert_eq!(code(one(&mut strict.client(), "t", true).error_code), ErrorCode::UnknownTopicOrPartition);
    assert!(metadata(&mut strict.client(), 12, None, true).topics.is_empty());
}

#[test]
fn clients_are_told_the_advertised_address() {
    let bed = Bed::with(&[("advertised.listeners", "PLAINTEXT://broker.example:19092")]);
    let told = metadata(&mut bed.client(), 12, Some(&[]), false);
    assert_eq!((&*told.brokers[0].host, told.brokers[0].port), ("broker.example", 19092));
}

#[test]
fn a_created_topic_tells_its_shape_and_a_second_one_of_its_name_is_refused() {
    let bed = Bed::new();
    let mut client = bed.client();
    let topic = client.create_topic("t", 4, &[("segment.bytes", "1000000")]);
    assert_eq!((topic.error_code, topic.num_partitions, topic.replication_factor), (0, 4, 1));
    let configs = topic.configs.unwrap();
    let segment = configs.iter().find(|config| &*config.name == "segment.bytes").unwrap();
    assert_eq!((segment.value.as_deref(), segment.config_source), (Some("1000000"), 1));
    let again = client.create_topic("t", 1, &[]);
    assert_eq!(code(again.error_code), ErrorCode::TopicAlreadyExists);
    assert_eq!(one(&mut client, "t", false).partitions.len(), 4);
    let defaults = CreatableTopic { num_partitions: -1, replication_factor: -1, ..new_topic("d") };
    assert_eq!(create(&mut client, defaults).num_partitions, 1);
}

#[test]
fn what_cannot_be_created_is_refused_with_a_reason() {
    let bed = Bed::new();
    let mut client = bed.client();
    client.create_topic("a.b", 1, &[]);
    let config = |name: &str, value: Option<&str>| CreatableTopic {
        configs: vec![CreatableTopicConfig { name: text(name), value: value.map(text) }],
        ..new_topic("t")
    };
    let assigned = |partitions: &[(i32, &[i32])]| CreatableTopic {
        num_partitions: -1,
        replication_factor: -1,
        assignments: partitions
            .iter()
            .map(|(index, brokers)| CreatableReplicaAssignment {
                partition_index: *index,
                broker_ids: brokers.to_vec(),
            })
            .collect(),
        ..new_topic("t")
    };
    let table = [
        (new_topic(".."), ErrorCode::InvalidTopicException),
        (new_topic("a_b"), ErrorCode::InvalidTopicException),
        (CreatableTopic { num_partitions: 0, ..new_topic("t") }, ErrorCode::InvalidPartitions),
        (CreatableTopic { num_partitions: 10_001, ..new_topic("t") }, ErrorCode::InvalidPartitions),
        (CreatableTopic { replication_factor: 3, ..new_topic("t") }, ErrorCode::InvalidReplicationFactor),
        (CreatableTopic { replication_factor: 0, ..new_topic("t") }, ErrorCode::InvalidReplicationFactor),
        (config("retention.ms", Some("-2")), ErrorCode::InvalidConfig),
        (config("cleanup.policy", Some("compact,compact")), ErrorCode::InvalidConfig),
        (config("segment.byte", Some("1000000")), ErrorCode::InvalidConfig),
        (config("segment.bytes", Some("many")), ErrorCode::InvalidConfig),
        (config("segment.bytes", None), ErrorCode::InvalidConfig),
        (assigned(&[(0, &[2])]), ErrorCode::InvalidReplicaAssignment),
        (assigned(&[(0, &[1, 1])]), ErrorCode::InvalidReplicaAssignment),
        (assigned(&[(1, &[1])]), ErrorCode::InvalidReplicaAssignment),
        (CreatableTopic { num_partitions: 1, ..assigned(&[(0, &[1])]) }, ErrorCode::InvalidRequest),
    ];
    for (topic, expected) in table {
        let told = create(&mut client, topic.clone());
        assert_eq!(code(told.error_code), expected, "{topic:?}: {:?}", told.error_message);
        assert!(told.error_message.is_some_and(|message| message.len() > 10), "{topic:?}");
    }
    assert_eq!(names(&metadata(&mut client, 12, None, false)), ["a.b"], "nothing was created");
    assert_eq!(create(&mut client, assigned(&[(1, &[1]), (0, &[1])])).num_partitions, 2);
}

#[test]
fn a_topic_named_twice_or_only_checked_is_not_created() {
    let bed = Bed::new();
    let mut client = bed.client();
    let twice = CreateTopicsRequest {
        topics: vec![new_topic("t"), new_topic("t"), new_topic("u")],
        ..Default::default()
    };
    let told = client.call(5, &twice).topics;
    assert_eq!(told.len(), 2);
    assert_eq!((code(told[0].error_code), told[1].error_code), (ErrorCode::InvalidRequest, 0));
    let checked =
        CreateTopicsRequest { topics: vec![new_topic("v")], validate_only: true, ..Default::default() };
    assert_eq!(client.call(5, &checked).topics[0].error_code, 0);
    assert_eq!(names(&metadata(&mut client, 12, None, false)), ["u"]);
}

#[test]
fn any_replication_factor_is_virtual_if_the_broker_is_told_so() {
    let bed = Bed::with(&[("replication.factor.policy", "virtual")]);
    let told = create(&mut bed.client(), CreatableTopic { replication_factor: 3, ..new_topic("t") });
    assert_eq!((told.error_code, told.replication_factor), (0, 1));
}

#[test]
fn topics_are_deleted_by_name_and_by_id_and_come_back_as_others() {
    let bed = Bed::new();
    let (mut client, first) = bed.with_topic("t");
    client.produce("t", batch(&["v"]), -1);
    let by_name = DeleteTopicsRequest { topic_names: vec![text("t"), text("missing")], ..Default::default() };
    let told = client.call(5, &by_name).responses;
    assert_eq!((told[0].error_code, code(told[1].error_code)), (0, ErrorCode::UnknownTopicOrPartition));
    assert!(!bed.folder.path().join("data/topics").join(first.to_string()).exists());
    let second = client.create_topic("t", 1, &[]).topic_id;
    assert_ne!(first, second);
    assert_eq!(client.log_end("t"), 0);
    let ask = |name: Option<&str>, topic_id| DeleteTopicState { name: name.map(text), topic_id };
    let topics = vec![ask(None, second), ask(None, first), ask(None, Uuid::nil()), ask(Some("x"), first)];
    let told = client.call(6, &DeleteTopicsRequest { topics, ..Default::default() }).responses;
    let codes: Vec<ErrorCode> = told.iter().map(|told| code(told.error_code)).collect();
    let invalid = ErrorCode::InvalidRequest;
    assert_eq!(codes, [ErrorCode::None, ErrorCode::UnknownTopicId, invalid, invalid]);
    assert_eq!(told[0].name, Some(text("t")));
    assert!(metadata(&mut client, 12, None, false).topics.is_empty());
}

#[test]
fn topics_stay_where_deletion_is_off() {
    let bed = Bed::with(&[("delete.topic.enable", "false")]);
    let (mut client, _) = bed.with_topic("t");
    let request = DeleteTopicsRequest { topic_names: vec![text("t")], ..Default::default() };
    assert_eq!(code(client.call(5, &request).responses[0].error_code), ErrorCode::TopicDeletionDisabled);
    assert_eq!(one(&mut client, "t", false).error_code, 0);
}

#[test]
fn a_topic_grows_but_does_not_shrink() {
    let bed = Bed::new();
    let (mut client, _) = bed.with_topic("t");
    let grow = |client: &mut Client, count, assignments: Option<Vec<Vec<i32>>>, validate_only| {
        let assignments = assignments
            .map(|all| all.into_iter().map(|broker_ids| CreatePartitionsAssignment { broker_ids }).collect());
        let topics = vec![CreatePartitionsTopic { name: text("t"), count, assignments }];
        let request = CreatePartitionsRequest { topics, validate_only, ..Default::default() };
        code(client.call(3, &request).results[0].error_code)
    };
    let partitions = |client: &mut Client| one(client, "t", false).partitions.len();
    assert_eq!(grow(&mut client, 1, None, false), ErrorCode::InvalidPartitions);
    assert_eq!(grow(&mut client, 3, None, true), ErrorCode::None);
    assert_eq!(grow(&mut client, 3, Some(vec![vec![1]]), false), ErrorCode::InvalidReplicaAssignment);
    assert_eq!(
        grow(&mut client, 3, Some(vec![vec![1], vec![2]]), false),
        ErrorCode::InvalidReplicaAssignment
    );
    assert_eq!(partitions(&mut client), 1);
    assert_eq!(grow(&mut client, 3, Some(vec![vec![1], vec![1]]), false), ErrorCode::None);
    assert_eq!(partitions(&mut client), 3);
    let told = client.call(9, &super::bed::produce("t", 2, batch(&["v"]), -1));
    assert_eq!(told.responses[0].partition_responses[0].error_code, 0);
}

fn describe(client: &mut Client, kind: i8, name: &str, keys: Option<&[&str]>) -> DescribeConfigsResult {
    let resource = DescribeConfigsResource {
        resource_type: kind,
        resource_name: text(name),
        configuration_keys: keys.map(|keys| keys.iter().map(|key| text(key)).collect()),
    };
    let request = DescribeConfigsRequest {
        resources: vec![resource],
        include_synonyms: true,
        include_documentation: true,
    };
    client.call(4, &request).results[0].clone()
}

#[test]
fn every_setting_is_described_with_its_source() {
    let bed = Bed::with(&[("message.max.bytes", "5000")]);
    let mut client = bed.client();
    client.create_topic("t", 1, &[("segment.ms", "1000")]);
    let topic = describe(&mut client, 2, "t", None);
    let by_name: BTreeMap<&str, _> = topic.configs.iter().map(|config| (&*config.name, config)).collect();
    let told = |name| {
        let config = by_name[name];
        let synonyms: Vec<_> = config.synonyms.iter().map(|s| (s.name.to_string(), s.source)).collect();
        (config.value.as_deref().unwrap().to_owned(), config.config_source, synonyms)
    };
    let names =
        |all: &[(&str, i8)]| all.iter().map(|(name, at)| ((*name).to_owned(), *at)).collect::<Vec<_>>();
    assert_eq!(told("segment.ms"), ("1000".into(), 1, names(&[("segment.ms", 1), ("log.roll.ms", 5)])));
    let expected = names(&[("message.max.bytes", 4), ("message.max.bytes", 5)]);
    assert_eq!(told("max.message.bytes"), ("5000".into(), 4, expected));
    assert_eq!(told("segment.bytes"), ("1073741824".into(), 5, names(&[("log.segment.bytes", 5)])));
    assert!(by_name.values().all(|config| config.documentation.as_ref().is_some_and(|doc| !doc.is_empty())));
    let all = describe(&mut client, 4, "1", Some(&[]));
    assert_eq!(all.configs.len(), millstream_broker::settings::REGISTRY.len());
    let some = describe(&mut client, 4, "1", Some(&["num.partitions", "unknown"]));
    assert_eq!(some.configs.len(), 1);
    assert_eq!((some.configs[0].config_type, some.configs[0].read_only), (3, false));
    assert_eq!(code(describe(&mut client, 4, "2", None).error_code), ErrorCode::InvalidRequest);
    assert_eq!(code(describe(&mut client, 2, "no", None).error_code), ErrorCode::UnknownTopicOrPartition);
    assert_eq!(code(describe(&mut client, 2, "a/b", None).error_code), ErrorCode::InvalidTopicException);
    assert_eq!(code(describe(&mut client, 8, "1", None).error_code), ErrorCode::InvalidRequest);
}

#[test]
fn the_cluster_is_described_by_endpoint_type() {
    let bed = Bed::new();
    let mut client = bed.client();
    let ask = |endpoint_type| DescribeClusterRequest { endpoint_type, ..Default::default() };
    let told = client.call(2, &ask(1));
    assert_eq!((told.error_code, told.controller_id, told.brokers.len()), (0, 1, 1));
    assert_eq!(told.brokers[0].port, i32::from(bed.broker().kafka_address().port()));
    assert_eq!(told.cluster_authorized_operations, i32::MIN);
    assert_eq!(code(client.call(1, &ask(2)).error_code), ErrorCode::MismatchedEndpointType);
    assert_eq!(code(client.call(1, &ask(9)).error_code), ErrorCode::UnsupportedEndpointType);
}

#[test]
fn partitions_are_described_in_pages() {
    let bed = Bed::new();
    let mut client = bed.client();
    client.create_topic("a", 3, &[]);
    client.create_topic("b", 2, &[]);
    let mut cursor = None;
    let mut seen = Vec::new();
    for _ in 0..3 {
        let request =
            DescribeTopicPartitionsRequest { response_partition_limit: 2, cursor, ..Default::default() };
        let page = client.call(0, &request);
        for topic in &page.topics {
            let name = topic.name.as_deref().unwrap().to_owned();
            let has_lists =
                |p: &describe_topic_partitions_response::DescribeTopicPartitionsResponsePartition| {
                    p.eligible_leader_replicas.is_some() && p.last_known_elr.is_some()
                };
            assert!(topic.partitions.iter().all(has_lists), "Kafka's Java client cannot bear a null");
            seen.extend(topic.partitions.iter().map(|partition| (name.clone(), partition.partition_index)));
        }
        cursor = page
            .next_cursor
            .map(|next| Cursor { topic_name: next.topic_name, partition_index: next.partition_index });
    }
    assert_eq!(cursor, None);
    let expected = [("a", 0), ("a", 1), ("a", 2), ("b", 0), ("b", 1)];
    assert_eq!(seen, expected.map(|(name, index)| (name.to_owned(), index)));
    let ask = |name: &str| DescribeTopicPartitionsRequest {
        topics: vec![TopicRequest { name: text(name) }],
        ..Default::default()
    };
    let unknown = client.call(0, &ask("c")).topics[0].error_code;
    assert_eq!(code(unknown), ErrorCode::UnknownTopicOrPartition);
    assert_eq!(code(client.call(0, &ask("a/b")).topics[0].error_code), ErrorCode::InvalidTopicException);
}

#[test]
fn every_setting_of_a_topic_can_be_set_and_is_shown() {
    let bed = Bed::new();
    let mut client = bed.client();
    for knob in REGISTRY.iter() {
        let Some(name) = knob.topic_name() else { continue };
        let topic: &'static str = format!("with-{name}").leak();
        let created = client.create_topic(topic, 1, &[(name, knob.default)]);
        assert_eq!(created.error_code, 0, "{name}={}: {:?}", knob.default, created.error_message);
        let told = created.configs.unwrap();
        let shown = told.iter().find(|config| &*config.name == name).unwrap();
        assert_eq!((shown.value.as_deref(), shown.config_source), (Some(knob.default), 1), "{name}");
        let resource = DescribeConfigsResource {
            resource_type: 2,
            resource_name: KStr::from_static(topic),
            ..Default::default()
        };
        let request = DescribeConfigsRequest { resources: vec![resource], ..Default::default() };
        let described = client.call(4, &request).results[0].configs.clone();
        let shown = described.iter().find(|config| &*config.name == name).unwrap();
        assert_eq!((shown.value.as_deref(), shown.config_source), (Some(knob.default), 1), "{name}");
    }
}

#[test]
fn a_value_out_of_bounds_is_refused_with_the_bound() {
    let bed = Bed::new();
    let mut client = bed.client();
    for knob in REGISTRY.iter() {
        let Some(name) = knob.topic_name() else { continue };
        let least = match knob.kind {
            Kind::Int { min, .. } => i64::from(min),
            Kind::Long { min, .. } => min,
            Kind::Boolean
            | Kind::Never
            | Kind::Choice(_)
            | Kind::Address
            | Kind::Text
            | Kind::List(_)
            | Kind::Subset(_)
            | Kind::Ratio => {
                continue;
            }
        };
        let below: &'static str = (least - 1).to_string().leak();
        let refused = client.create_topic("t", 1, &[(name, below)]);
        assert_eq!(refused.error_code, ErrorCode::InvalidConfig.code(), "{name}={below}");
        let message = refused.error_message.unwrap();
        let bound = [format!("between {least} and"), format!("can only be {least}")];
        assert!(bound.iter().any(|bound| message.contains(bound)), "{name}={below}: {message}");
    }
}
