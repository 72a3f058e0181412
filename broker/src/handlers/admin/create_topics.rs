//! CreateTopics, key 19, versions 2 to 7.
//!
//! 5: the reply tells the topic's size and settings. 7: its id. Waits for the disk, so it runs on the
//! control plane; a topic is durable and can be written to when the reply leaves.

use std::collections::HashMap;
use std::ops::RangeInclusive;

use millstream_protocol::messages::create_topics_request::CreatableTopic;
use millstream_protocol::messages::create_topics_response::{CreatableTopicConfigs, CreatableTopicResult};
use millstream_protocol::messages::{CreateTopicsRequest, CreateTopicsResponse};
use millstream_protocol::{ErrorCode, KStr, Uuid};

use super::configs::describe;
use super::refused::Refused;
use super::replicas::{DEFAULT_FACTOR, check_assignment, check_factor};
use crate::dispatch::{Answer, Call, Handler};
use crate::metadata::topics::Overrides;

/// "As many as the broker thinks right."
const DEFAULT_PARTITIONS: i32 = -1;

pub(crate) struct CreateTopics;

impl Handler for CreateTopics {
    type Request = CreateTopicsRequest;
    const VERSIONS: RangeInclusive<i16> = 2..=7;

    fn handle(call: Call, request: CreateTopicsRequest) -> Answer<CreateTopicsResponse> {
        Answer::blocking(&call.clone(), move || answer(&call, &request))
    }
}

fn answer(call: &Call, request: &CreateTopicsRequest) -> CreateTopicsResponse {
    let mut times: HashMap<&KStr, usize> = HashMap::new();
    for topic in &request.topics {
        *times.entry(&topic.name).or_default() += 1;
    }
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        let created = match times.get_mut(&topic.name) {
            // Told already, the first time that the name came up.
            Some(0) => continue,
            Some(1) => create(call, topic, request.validate_only),
            Some(more) => {
                *more = 0;
                Err(Refused::new(ErrorCode::InvalidRequest, "the request names this topic more than once"))
            }
            None => unreachable!("every name was counted"),
        };
        topics.push(created.unwrap_or_else(|refused| refuse(topic, refused)));
    }
    CreateTopicsResponse { topics, ..Default::default() }
}

fn create(call: &Call, topic: &CreatableTopic, validate_only: bool) -> Result<CreatableTopicResult, Refused> {
    let partitions = partition_count(call, topic)?;
    let topics = &call.node.topics;
    let partitions = i64::from(partitions);
    topics.check_new(&topic.name, partitions)?;
    let configs = configs(call, topic)?;
    let described = describe_new(call, &configs);
    let id = match validate_only {
        true => Uuid::nil(),
        false => topics.create(&topic.name, partitions, configs)?.id,
    };
    Ok(CreatableTopicResult {
        name: topic.name.clone(),
        topic_id: id,
        error_message: None,
        num_partitions: i32::try_from(partitions).expect("came from an i32"),
        replication_factor: 1,
        configs: Some(described),
        ..Default::default()
    })
}

/// Counts partitions: as asked, the default, or one for each hand-made assignment.
fn partition_count(call: &Call, topic: &CreatableTopic) -> Result<i32, Refused> {
    if topic.assignments.is_empty() {
        check_factor(call, topic.replication_factor)?;
        return Ok(match topic.num_partitions {
            DEFAULT_PARTITIONS => call.node.settings().partitions,
            asked => asked,
        });
    }
    if topic.num_partitions != DEFAULT_PARTITIONS || topic.replication_factor != DEFAULT_FACTOR {
        let message =
            "with an assignment by hand, the number of partitions and the replication factor must be -1";
        return Err(Refused::new(ErrorCode::InvalidRequest, message));
    }
    let mut indexes: Vec<i32> = topic.assignments.iter().map(|one| one.partition_index).collect();
    indexes.sort_unstable();
    if !indexes.iter().zip(0..).all(|(index, at)| *index == at) {
        let message = "an assignment by hand must name each partition from 0 on once";
        return Err(Refused::new(ErrorCode::InvalidReplicaAssignment, message));
    }
    for assignment in &topic.assignments {
        check_assignment(call, &assignment.broker_ids)?;
    }
    i32::try_from(indexes.len()).map_err(|_| Refused::from(ErrorCode::InvalidPartitions))
}

fn configs(call: &Call, topic: &CreatableTopic) -> Result<Overrides, Refused> {
    let mut configs = Overrides::new();
    for config in &topic.configs {
        let Some(value) = &config.value else {
            let message = format!("'{}' has no value; leave it out to get the default", config.name);
            return Err(Refused::new(ErrorCode::InvalidConfig, message));
        };
        configs.insert(config.name.to_string(), value.to_string());
    }
    call.node.settings().topic_defaults.with_overrides(&configs)?;
    Ok(configs)
}

fn describe_new(call: &Call, configs: &Overrides) -> Vec<CreatableTopicConfigs> {
    let entries = describe::topic_entries(&call.node.settings(), configs);
    let told = entries.into_iter().map(|entry| CreatableTopicConfigs {
        name: KStr::from_static(entry.name),
        value: Some(entry.value),
        read_only: false,
        config_source: entry.source,
        is_sensitive: false,
    });
    told.collect()
}

fn refuse(topic: &CreatableTopic, refused: Refused) -> CreatableTopicResult {
    CreatableTopicResult {
        name: topic.name.clone(),
        error_code: refused.code.code(),
        error_message: refused.message(),
        // As in Kafka: a topic that was not created has no settings.
        configs: Some(Vec::new()),
        ..Default::default()
    }
}
