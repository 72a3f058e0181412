//! Metadata, key 3, versions 0 to 13.
//!
//! 0: an empty list means all topics; from 1 a null list does, and an empty one means none. 4: the client
//! says whether asking may create a topic. 7: leader epochs. 8: authorized operations. 10: topic ids in the
//! reply, 12: in the request, too. 13: an error for the whole reply.
//!
//! This is the only request that creates topics by the way: Produce and Fetch never do.

use std::collections::HashSet;
use std::ops::RangeInclusive;
use std::sync::Arc;

use millstream_protocol::messages::metadata_request::MetadataRequestTopic;
use millstream_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use millstream_protocol::messages::{MetadataRequest, MetadataResponse};
use millstream_protocol::{ErrorCode, KStr, Uuid};

use super::authorized::{cluster_operations, topic_operations};
use super::leader_told::LeaderTold;
use super::wire_errors::code_for_topic;
use crate::dispatch::{Answer, Call, Handler};
use crate::metadata::topic_name;
use crate::metadata::topics::{Overrides, Snapshot, Topic, TopicError};

pub(crate) struct Metadata;

impl Handler for Metadata {
    type Request = MetadataRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=13;

    fn handle(call: Call, request: MetadataRequest) -> Answer<MetadataResponse> {
        match needs_new_topics(&call, &request) {
            true => Answer::blocking(&call.clone(), move || answer(&call, &request)),
            false => Answer::Now(answer(&call, &request)),
        }
    }
}

/// One topic that was asked for; `None` asks for all.
fn asked(request: &MetadataRequest, version: i16) -> Option<&[MetadataRequestTopic]> {
    match &request.topics {
        Some(topics) if version == 0 && topics.is_empty() => None,
        Some(topics) => Some(topics),
        None => None,
    }
}

fn may_create(call: &Call, request: &MetadataRequest) -> bool {
    call.node.settings().auto_create_topics && request.allow_auto_topic_creation
}

/// Creating a topic waits for the disk, so it happens elsewhere.
fn needs_new_topics(call: &Call, request: &MetadataRequest) -> bool {
    let snapshot = call.node.topics.snapshot();
    let mut topics = asked(request, call.version).into_iter().flatten();
    may_create(call, request)
        && topics.any(|topic| topic.name.as_ref().is_some_and(|name| snapshot.named(name).is_none()))
}

fn answer(call: &Call, request: &MetadataRequest) -> MetadataResponse {
    let topics = match asked(request, call.version) {
        None => {
            let snapshot = call.node.topics.snapshot();
            snapshot.sorted().into_iter().map(|topic| describe(call, request, topic)).collect()
        }
        Some(topics) => {
            let mut seen = HashSet::new();
            let first = topics.iter().filter(|topic| seen.insert((&topic.name, topic.topic_id)));
            first.map(|topic| find(call, request, topic)).collect()
        }
    };
    let view = &call.node.view;
    let brokers = view.brokers(call.peer.dialled).into_iter().map(|broker| MetadataResponseBroker {
        node_id: broker.node.0,
        host: KStr::from(broker.host),
        port: i32::from(broker.port),
        rack: None,
    });
    MetadataResponse {
        brokers: brokers.collect(),
        cluster_id: Some(KStr::from(view.cluster_id())),
        controller_id: view.controller().0,
        topics,
        cluster_authorized_operations: cluster_operations(request.include_cluster_authorized_operations),
        ..Default::default()
    }
}

fn find(call: &Call, request: &MetadataRequest, asked: &MetadataRequestTopic) -> MetadataResponseTopic {
    let refuse = |code: ErrorCode| MetadataResponseTopic {
        error_code: code.code(),
        name: asked.name.clone(),
        topic_id: asked.topic_id,
        ..Default::default()
    };
    if !asked.topic_id.is_nil() || asked.name.is_none() {
        return find_by_id(call, request, asked).unwrap_or_else(refuse);
    }
    let name = asked.name.clone().unwrap_or_default();
    match existing(&call.node.topics.snapshot(), &name) {
        Some(topic) => describe(call, request, &topic),
        None => match create(call, request, &name) {
            Ok(topic) => describe(call, request, &topic),
            Err(code) => refuse(code),
        },
    }
}

/// Versions 10 and 11 have room for an id in the request, but Kafka answers none before 12.
fn find_by_id(
    call: &Call,
    request: &MetadataRequest,
    asked: &MetadataRequestTopic,
) -> Result<MetadataResponseTopic, ErrorCode> {
    if call.version < 12 || asked.topic_id.is_nil() {
        return Err(ErrorCode::InvalidRequest);
    }
    let snapshot = call.node.topics.snapshot();
    let topic = snapshot.identified(asked.topic_id).ok_or(ErrorCode::UnknownTopicId)?;
    Ok(describe(call, request, topic))
}

fn existing(snapshot: &Snapshot, name: &str) -> Option<Arc<Topic>> {
    snapshot.named(name).map(Arc::clone)
}

fn create(call: &Call, request: &MetadataRequest, name: &KStr) -> Result<Arc<Topic>, ErrorCode> {
    let topics = &call.node.topics;
    let partitions = i64::from(call.node.settings().partitions);
    if !may_create(call, request) {
        return Err(match topics.check_new(name, partitions) {
            Err(error @ TopicError::Name(_)) => code_for_topic(&error),
            _ => ErrorCode::UnknownTopicOrPartition,
        });
    }
    match topics.create(name, partitions, Overrides::new()) {
        Ok(topic) => Ok(topic),
        // Another connection was faster.
        Err(TopicError::Exists(_)) => {
            existing(&topics.snapshot(), name).ok_or(ErrorCode::UnknownTopicOrPartition)
        }
        // It comes with the first group.
        Err(TopicError::Internal(_)) => Err(ErrorCode::UnknownTopicOrPartition),
        Err(error) => {
            tracing::warn!(peer = %call.peer.address, topic = &**name, %error, "a topic could not be created by the way");
            Err(code_for_topic(&error))
        }
    }
}

fn describe(call: &Call, request: &MetadataRequest, topic: &Topic) -> MetadataResponseTopic {
    let partitions = topic.partitions.iter().map(|partition| {
        let told = LeaderTold::of(call, topic, partition);
        MetadataResponsePartition {
            error_code: told.code.code(),
            partition_index: partition.index,
            leader_id: told.leader_id,
            leader_epoch: told.leader_epoch,
            replica_nodes: told.replicas.clone(),
            isr_nodes: told.replicas,
            offline_replicas: told.offline,
        }
    });
    MetadataResponseTopic {
        name: Some(topic.name.clone()),
        topic_id: topic_id(call.version, topic.id),
        is_internal: topic_name::is_internal(&topic.name),
        partitions: partitions.collect(),
        topic_authorized_operations: topic_operations(request.include_topic_authorized_operations),
        ..Default::default()
    }
}

fn topic_id(version: i16, id: Uuid) -> Uuid {
    if version >= 10 { id } else { Uuid::nil() }
}
