//! Settings changed while the broker runs: what is refused, what takes effect at once, and what is left after a
//! restart.

use millstream_protocol::messages::describe_configs_request::DescribeConfigsResource;
use millstream_protocol::messages::describe_configs_response::DescribeConfigsResourceResult;
use millstream_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};
use millstream_protocol::messages::metadata_request::MetadataRequestTopic;
use millstream_protocol::messages::*;
use millstream_protocol::{ErrorCode, KStr};

use super::bed::{Bed, Client, batch};

const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const GROUP: i8 = 32;

const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

type Edit<'a> = (&'a str, i8, Option<&'a str>);

fn resource(kind: i8, name: &str, edits: &[Edit<'_>]) -> AlterConfigsResource {
    let configs = edits.iter().map(|(name, config_operation, value)| AlterableConfig {
        name: KStr::from(*name),
        config_operation: *config_operation,
        value: value.map(KStr::from),
    });
    AlterConfigsResource { resource_type: kind, resource_name: KStr::from(name), configs: configs.collect() }
}

fn code(number: i16) -> ErrorCode {
    ErrorCode::from_code(number).unwrap()
}

/// What is said about each resource.
fn ask(
    client: &mut Client,
    resources: Vec<AlterConfigsResource>,
    validate_only: bool,
) -> Vec<(ErrorCode, String)> {
    let request = IncrementalAlterConfigsRequest { resources, validate_only };
    let told = client.call(1, &request).responses;
    told.into_iter()
        .map(|told| (code(told.error_code), told.error_message.as_deref().unwrap_or_default().to_owned()))
        .collect()
}

fn alter(client: &mut Client, kind: i8, name: &str, edits: &[Edit<'_>]) -> (ErrorCode, String) {
    ask(client, vec![resource(kind, name, edits)], false).remove(0)
}

fn set(client: &mut Client, kind: i8, name: &str, key: &str, value: &str) {
    let told = alter(client, kind, name, &[(key, SET, Some(value))]);
    assert_eq!(told, (ErrorCode::None, String::new()), "{key}={value}");
}

fn describe(client: &mut Client, kind: i8, name: &str, key: &str) -> Option<DescribeConfigsResourceResult> {
    let resource = DescribeConfigsResource {
        resource_type: kind,
        resource_name: KStr::from(name),
        configuration_keys: Some(vec![KStr::from(key)]),
    };
    let request = DescribeConfigsRequest {
        resources: vec![resource],
        include_synonyms: true,
        include_documentation: false,
    };
    client.call(4, &request).results[0].configs.first().cloned()
}

/// Value, source, and the sources of all values.
fn told(client: &mut Client, kind: i8, name: &str, key: &str) -> (String, i8, Vec<i8>) {
    let config = describe(client, kind, name, key).unwrap();
    let sources = config.synonyms.iter().map(|synonym| synonym.source).collect();
    (config.value.unwrap().to_string(), config.config_source, sources)
}

#[test]
fn each_place_of_a_setting_wins_over_the_weaker_ones_and_is_named() {
    let mut bed = Bed::with(&[("log.segment.bytes", "1000000")]);
    let (mut client, _) = bed.with_topic("t");
    let of_topic = |client: &mut Client| told(client, TOPIC, "t", "segment.bytes");
    assert_eq!(of_topic(&mut client), ("1000000".into(), 4, vec![4, 5]));
    set(&mut client, BROKER, "", "log.segment.bytes", "2000000");
    assert_eq!(of_topic(&mut client), ("2000000".into(), 3, vec![3, 4, 5]));
    set(&mut client, BROKER, "1", "log.segment.bytes", "3000000");
    assert_eq!(of_topic(&mut client), ("3000000".into(), 2, vec![2, 3, 4, 5]));
    set(&mut client, TOPIC, "t", "segment.bytes", "4000000");
    let all = ("4000000".into(), 1, vec![1, 2, 3, 4, 5]);
    assert_eq!(of_topic(&mut client), all);
    assert_eq!(told(&mut client, BROKER, "1", "log.segment.bytes"), ("3000000".into(), 2, vec![2, 3, 4, 5]));
    assert_eq!(told(&mut client, BROKER, "", "log.segment.bytes"), ("2000000".into(), 3, vec![3]));
    bed.stop();
    bed.start();
    let mut client = bed.client();
    assert_eq!(of_topic(&mut client), all, "after a restart");
    for (kind, name, key) in
        [(TOPIC, "t", "segment.bytes"), (BROKER, "1", "log.segment.bytes"), (BROKER, "", "log.segment.bytes")]
    {
        assert_eq!(alter(&mut client, kind, name, &[(key, DELETE, None)]).0, ErrorCode::None);
    }
    assert_eq!(of_topic(&mut client), ("1000000".into(), 4, vec![4, 5]));
    assert!(describe(&mut client, BROKER, "", "log.segment.bytes").is_none());
}

#[test]
fn what_makes_no_sense_is_refused_with_kafkas_code_and_a_reason() {
    let bed = Bed::new();
    let (mut client, _) = bed.with_topic("t");
    let (config, request) = (ErrorCode::InvalidConfig, ErrorCode::InvalidRequest);
    let table: &[(i8, &str, &[Edit<'_>], ErrorCode, &str)] = &[
        (TOPIC, "no", &[("flush.ms", SET, Some("1"))], ErrorCode::UnknownTopicOrPartition, "does not exist"),
        (TOPIC, "a/b", &[("flush.ms", SET, Some("1"))], ErrorCode::InvalidTopicException, "'/'"),
        (TOPIC, "t", &[("flush.m", SET, Some("1"))], config, "did you mean 'flush.ms'?"),
        (TOPIC, "t", &[("flush.ms", SET, Some("soon"))], config, "not a whole number"),
        (TOPIC, "t", &[("flush.ms", SET, None)], request, "has no value"),
        (TOPIC, "t", &[("flush.ms", APPEND, Some("1"))], config, "not a list"),
        (TOPIC, "t", &[("cleanup.policy", APPEND, Some("shred"))], config, "compact, delete"),
        (TOPIC, "t", &[("flush.ms", 4, Some("1"))], request, "operation 4"),
        (TOPIC, "t", &[("flush.ms", SET, Some("1")), ("flush.ms", DELETE, None)], request, "more than once"),
        (TOPIC, "t", &[("log.flush.interval.ms", SET, Some("1"))], config, "'flush.ms'"),
        (TOPIC, "t", &[("num.partitions", SET, Some("1"))], config, "of the broker"),
        (BROKER, "2", &[("num.partitions", SET, Some("1"))], request, "this is broker 1"),
        (BROKER, "x", &[("num.partitions", SET, Some("1"))], request, "not the number"),
        (BROKER, "1", &[("num.partitions", SET, Some("0"))], request, "between 1 and"),
        (BROKER, "", &[("num.network.threads", SET, Some("2"))], request, "restart"),
        (BROKER, "", &[("num.partitions", APPEND, Some("2"))], config, "not a list"),
        (
            BROKER,
            "",
            &[("group.consumer.assignors", SUBTRACT, Some("uniform,range"))],
            request,
            "one or more",
        ),
        (BROKER, "1", &[("num.partition", SET, Some("2"))], request, "did you mean 'num.partitions'?"),
        (BROKER, "1", &[("message.max.bytes", SET, Some("104857600"))], request, "socket.request.max.bytes"),
        (8, "1", &[("root", SET, Some("DEBUG"))], request, "--log"),
        (16, "m", &[("interval.ms", SET, Some("1"))], request, "not collected"),
        (GROUP, "", &[("consumer.session.timeout.ms", SET, Some("50000"))], request, "need its id"),
        (
            GROUP,
            "g",
            &[("consumer.session.timeout.ms", SET, Some("1"))],
            config,
            "group.consumer.min.session",
        ),
        (GROUP, "g", &[("consumer.session.timeout.ms", APPEND, Some("1"))], config, "not a list"),
        (GROUP, "g", &[("consumer.session", SET, Some("1"))], config, "no setting"),
        (GROUP, "g", &[("share.session.timeout.ms", SET, Some("50000"))], config, "no share groups"),
        (3, "x", &[], request, "no resource type 3"),
    ];
    for (kind, name, edits, expected, reason) in table {
        let (code, message) = alter(&mut client, *kind, name, edits);
        assert_eq!(code, *expected, "{kind} {name} {edits:?}: {message}");
        assert!(message.contains(reason), "{kind} {name} {edits:?}: {message}");
    }
    assert_eq!(told(&mut client, TOPIC, "t", "flush.ms").1, 5, "nothing was set");
}

#[test]
fn each_resource_has_its_own_result_and_one_named_twice_has_none() {
    let bed = Bed::new();
    let (mut client, _) = bed.with_topic("t");
    client.create_topic("u", 1, &[]);
    let edit: &[Edit<'_>] = &[("flush.ms", SET, Some("7"))];
    let asked = ["t", "no", "u", "u"].map(|name| resource(TOPIC, name, edit)).to_vec();
    let codes: Vec<ErrorCode> = ask(&mut client, asked, false).into_iter().map(|told| told.0).collect();
    let twice = ErrorCode::InvalidRequest;
    assert_eq!(codes, [ErrorCode::None, ErrorCode::UnknownTopicOrPartition, twice, twice]);
    assert_eq!(told(&mut client, TOPIC, "t", "flush.ms").0, "7");
    assert_eq!(told(&mut client, TOPIC, "u", "flush.ms").1, 5);
    let checked = ask(&mut client, vec![resource(TOPIC, "u", edit)], true);
    assert_eq!(checked[0].0, ErrorCode::None);
    assert_eq!(told(&mut client, TOPIC, "u", "flush.ms").1, 5, "it was only checked");
    let checked = ask(&mut client, vec![resource(BROKER, "", &[("num.partitions", SET, Some("7"))])], true);
    assert_eq!(checked[0].0, ErrorCode::None);
    assert!(describe(&mut client, BROKER, "", "num.partitions").is_none(), "it was only checked");
}

#[test]
fn a_replacement_forgets_what_it_does_not_name_in_every_version() {
    use alter_configs_request::{AlterConfigsResource, AlterableConfig};
    let bed = Bed::new();
    let mut client = bed.client();
    client.create_topic("t", 1, &[("flush.ms", "5"), ("segment.ms", "6")]);
    set(&mut client, BROKER, "1", "fetch.max.bytes", "5000");
    for version in 0..=2 {
        let replace = |kind, name: &str, key: &str, value: Option<String>| AlterConfigsResource {
            resource_type: kind,
            resource_name: KStr::from(name),
            configs: vec![AlterableConfig { name: KStr::from(key), value: value.map(KStr::from) }],
        };
        let value = (100 + version).to_string();
        let resources = vec![
            replace(TOPIC, "t", "flush.ms", Some(value.clone())),
            replace(BROKER, "1", "num.partitions", Some(value.clone())),
            replace(TOPIC, "u", "flush.ms", None),
        ];
        let replies = client.call(version, &AlterConfigsRequest { resources, validate_only: false });
        let codes: Vec<_> = replies.responses.iter().map(|told| code(told.error_code)).collect();
        assert_eq!(codes, [ErrorCode::None, ErrorCode::None, ErrorCode::InvalidRequest]);
        assert_eq!(told(&mut client, TOPIC, "t", "flush.ms"), (value.clone(), 1, vec![1, 5]));
        assert_eq!(told(&mut client, TOPIC, "t", "segment.ms").1, 5);
        assert_eq!(told(&mut client, BROKER, "1", "num.partitions"), (value, 2, vec![2, 5]));
        assert_eq!(told(&mut client, BROKER, "1", "fetch.max.bytes").1, 5);
    }
}

fn metadata(client: &mut Client, name: &'static str) -> metadata_response::MetadataResponseTopic {
    let topics = vec![MetadataRequestTopic { name: Some(KStr::from_static(name)), ..Default::default() }];
    let request =
        MetadataRequest { topics: Some(topics), allow_auto_topic_creation: true, ..Default::default() };
    client.call(12, &request).topics[0].clone()
}

#[test]
fn what_is_set_holds_at_once() {
    let bed = Bed::new();
    let (mut client, _) = bed.with_topic("t");
    let large = "x".repeat(2000);
    assert_eq!(client.produce("t", batch(&[&large]), -1).error_code, 0);
    set(&mut client, TOPIC, "t", "max.message.bytes", "1000");
    assert_eq!(code(client.produce("t", batch(&[&large]), -1).error_code), ErrorCode::MessageTooLarge);
    set(&mut client, TOPIC, "t", "max.message.bytes", "3000");
    assert_eq!(client.produce("t", batch(&[&large]), -1).error_code, 0);
    set(&mut client, BROKER, "", "message.max.bytes", "1000");
    assert_eq!(client.produce("t", batch(&[&large]), -1).error_code, 0, "the topic has its own");
    assert_eq!(alter(&mut client, TOPIC, "t", &[("max.message.bytes", DELETE, None)]).0, ErrorCode::None);
    assert_eq!(code(client.produce("t", batch(&[&large]), -1).error_code), ErrorCode::MessageTooLarge);
    // A topic that is made now has it, too.
    client.create_topic("u", 1, &[]);
    assert_eq!(code(client.produce("u", batch(&[&large]), -1).error_code), ErrorCode::MessageTooLarge);

    set(&mut client, BROKER, "1", "num.partitions", "3");
    assert_eq!(metadata(&mut client, "three").partitions.len(), 3);
    set(&mut client, BROKER, "1", "auto.create.topics.enable", "false");
    assert_eq!(code(metadata(&mut client, "none").error_code), ErrorCode::UnknownTopicOrPartition);
    set(&mut client, BROKER, "1", "delete.topic.enable", "false");
    assert!(!client.delete_topic("three"));
}

#[test]
fn other_segments_begin_and_old_ones_go_as_soon_as_it_is_set() {
    let bed = Bed::with(&[("log.retention.check.interval.ms", "100")]);
    let (mut client, id) = bed.with_topic("t");
    let folder = bed.folder.path().join("data/topics").join(id.to_string()).join("0");
    let segments = || {
        let names = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name());
        names.filter(|name| name.to_str().unwrap().ends_with(".log")).count()
    };
    client.produce("t", batch(&["a"]), -1);
    client.produce("t", batch(&["b"]), -1);
    assert_eq!(segments(), 1);
    set(&mut client, TOPIC, "t", "segment.bytes", "1024");
    let large = "x".repeat(1000);
    client.produce("t", batch(&[&large[..900]]), -1);
    client.produce("t", batch(&[&large[..900]]), -1);
    assert_eq!(segments(), 2 + 1, "the first one was too large for a third batch");
    assert_eq!(client.offset_at("t", -2), 0);
    set(&mut client, TOPIC, "t", "retention.bytes", "1000");
    let begun = std::time::Instant::now();
    while client.offset_at("t", -2) == 0 {
        assert!(begun.elapsed().as_secs() < 120, "nothing was deleted");
    }
}

#[test]
fn a_default_that_contradicts_a_topic_is_refused_and_so_is_the_reverse() {
    let bed = Bed::new();
    let mut client = bed.client();
    client.create_topic("t", 1, &[("min.compaction.lag.ms", "100")]);
    let edit: &[Edit<'_>] = &[("log.cleaner.max.compaction.lag.ms", SET, Some("50"))];
    let (refused, message) = alter(&mut client, BROKER, "", edit);
    assert_eq!(refused, ErrorCode::InvalidRequest);
    assert!(message.contains("topic 't'"), "{message}");
    let (refused, _) = alter(&mut client, TOPIC, "t", &[("max.compaction.lag.ms", SET, Some("50"))]);
    assert_eq!(refused, ErrorCode::InvalidConfig);
}

#[test]
fn resources_with_settings_are_listed_by_kind() {
    let bed = Bed::new();
    let (mut client, _) = bed.with_topic("t");
    let mut list = |version, kinds: &[i8]| {
        let told = client.call(version, &ListConfigResourcesRequest { resource_types: kinds.to_vec() });
        let of = |one: &list_config_resources_response::ConfigResource| {
            (one.resource_type, one.resource_name.to_string())
        };
        (code(told.error_code), told.config_resources.iter().map(of).collect::<Vec<_>>())
    };
    let (topic, broker) = ((TOPIC, "t".to_owned()), (BROKER, "1".to_owned()));
    assert_eq!(list(0, &[]), (ErrorCode::None, vec![]), "version 0 lists metrics of clients only");
    assert_eq!(list(1, &[]), (ErrorCode::None, vec![topic.clone(), broker.clone()]));
    assert_eq!(list(1, &[TOPIC]), (ErrorCode::None, vec![topic]));
    assert_eq!(list(1, &[BROKER, 8, 16, GROUP]), (ErrorCode::None, vec![broker]));
    assert_eq!(list(1, &[TOPIC, 3]), (ErrorCode::UnsupportedVersion, vec![]));
}

#[test]
fn a_groups_settings_are_told_with_the_brokers_behind_them_and_listed() {
    const SESSION: &str = "consumer.session.timeout.ms";
    let mut bed = Bed::with(&[("group.consumer.session.timeout.ms", "50000")]);
    let mut client = bed.client();
    let of_group = |client: &mut Client| told(client, GROUP, "g", SESSION);
    assert_eq!(of_group(&mut client), ("50000".into(), 4, vec![4, 5]));
    set(&mut client, GROUP, "g", SESSION, "60000");
    set(&mut client, GROUP, "a b:\u{fc}", SESSION, "55000");
    assert_eq!(of_group(&mut client), ("60000".into(), 8, vec![8, 4, 5]));
    let config = describe(&mut client, GROUP, "g", SESSION).unwrap();
    let synonyms: Vec<_> = config.synonyms.iter().map(|synonym| &*synonym.name).collect();
    assert_eq!(synonyms, [SESSION, "group.consumer.session.timeout.ms", "group.consumer.session.timeout.ms"]);
    assert_eq!((config.config_type, config.read_only), (3, false));
    let list = |client: &mut Client| {
        let told = client.call(1, &ListConfigResourcesRequest { resource_types: vec![GROUP] });
        let names =
            told.config_resources.iter().map(|one| (one.resource_type, one.resource_name.to_string()));
        names.collect::<Vec<_>>()
    };
    assert_eq!(list(&mut client), [(GROUP, "a b:\u{fc}".to_owned()), (GROUP, "g".to_owned())]);
    set(&mut client, BROKER, "", "group.consumer.session.timeout.ms", "45000");
    bed.stop();
    bed.start();
    let mut client = bed.client();
    assert_eq!(of_group(&mut client), ("60000".into(), 8, vec![8, 3, 4, 5]), "after a restart");
    let alter = AlterConfigsRequest {
        resources: vec![alter_configs_request::AlterConfigsResource {
            resource_type: GROUP,
            resource_name: KStr::from("g"),
            configs: Vec::new(),
        }],
        validate_only: false,
    };
    assert_eq!(client.call(2, &alter).responses[0].error_code, 0, "a replacement by nothing takes all back");
    assert_eq!(of_group(&mut client), ("45000".into(), 3, vec![3, 4, 5]));
    assert_eq!(list(&mut client), [(GROUP, "a b:\u{fc}".to_owned())]);
}

#[test]
fn connections_are_refused_beyond_a_limit_that_is_set_while_they_are_open() {
    let bed = Bed::new();
    let mut first = bed.client();
    set(&mut first, BROKER, "1", "max.connections", "1");
    assert!(bed.client().is_closed());
    set(&mut first, BROKER, "1", "max.connections", "2");
    bed.client().create_topic("t", 1, &[]);
}

#[test]
fn the_mark_of_a_full_disk_is_moved_while_the_broker_runs() {
    let bed = Bed::new();
    let (mut client, _) = bed.with_topic("t");
    let mut until = |mark: &str, expected| {
        set(&mut client, BROKER, "", "log.disk.free.min.bytes", mark);
        let begun = std::time::Instant::now();
        while code(client.produce("t", batch(&["v"]), -1).error_code) != expected {
            assert!(begun.elapsed().as_secs() < 120, "{mark} has no effect");
        }
    };
    until("9000000000000000000", ErrorCode::KafkaStorageError);
    until("0", ErrorCode::None);
}

#[test]
fn what_was_set_while_it_ran_never_keeps_a_broker_from_starting() {
    let mut bed = Bed::new();
    set(&mut bed.client(), BROKER, "", "message.max.bytes", "2000000");
    bed.stop();
    let smaller = bed.builder().set("socket.request.max.bytes", "1500000").start().unwrap();
    let mut client = Client::connect(smaller.kafka_address());
    assert_eq!(told(&mut client, BROKER, "1", "message.max.bytes").0, "1048588", "it is left out");
    drop(smaller);
    bed.start();
    assert_eq!(
        told(&mut bed.client(), BROKER, "1", "message.max.bytes").0,
        "2000000",
        "it was not forgotten"
    );
}

#[test]
fn names_and_values_of_any_length_are_refused_in_every_version() {
    let bed = Bed::new();
    let (mut client, _) = bed.with_topic("t");
    let long = "0".repeat(30_000) + "5";
    for version in 0..=1 {
        for (name, value) in [("flush.ms", long.as_str()), (long.as_str(), "5"), ("flush.ms", "-5")] {
            let resources = vec![resource(TOPIC, "t", &[(name, SET, Some(value))])];
            let request = IncrementalAlterConfigsRequest { resources, validate_only: false };
            let told = client.call(version, &request).responses.remove(0);
            assert_eq!(code(told.error_code), ErrorCode::InvalidConfig);
            assert!(told.error_message.unwrap().len() < 500);
        }
        for name in [long.as_str(), "a/b"] {
            let resources = vec![resource(TOPIC, name, &[])];
            let request = IncrementalAlterConfigsRequest { resources, validate_only: false };
            let told = client.call(version, &request).responses.remove(0);
            assert_eq!(code(told.error_code), ErrorCode::InvalidTopicException);
        }
    }
}

#[test]
fn a_resource_that_is_named_again_is_not_told_again() {
    let bed = Bed::new();
    let resource = DescribeConfigsResource {
        resource_type: BROKER,
        resource_name: KStr::from_static("1"),
        configuration_keys: None,
    };
    let request = DescribeConfigsRequest { resources: vec![resource; 3], ..Default::default() };
    let results = bed.client().call(4, &request).results;
    let codes: Vec<i16> = results.iter().map(|result| result.error_code).collect();
    let twice = ErrorCode::InvalidRequest.code();
    assert_eq!(codes, [0, twice, twice]);
    assert!(!results[0].configs.is_empty() && results[1].configs.is_empty());
}
