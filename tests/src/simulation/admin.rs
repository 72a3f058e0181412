//! Creates, trims and deletes.

use std::time::Duration;

use millstream_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use millstream_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use millstream_protocol::messages::delete_topics_request::DeleteTopicState;
use millstream_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use millstream_protocol::messages::metadata_request::MetadataRequestTopic;
use millstream_protocol::messages::{
    CreateTopicsRequest, DeleteRecordsRequest, DeleteTopicsRequest, ListOffsetsRequest, MetadataRequest,
};
use millstream_protocol::{ErrorCode, KStr, Uuid};

use super::chance::Chance;
use super::oracle::PartitionId;
use super::wire::{Lost, Wire};
use super::world::{Connected, Phase, Shared, World};

/// Timestamps with which ListOffsets asks for an end.
pub(super) const EARLIEST: i64 = -2;
pub(super) const LATEST: i64 = -1;

pub(super) async fn administrate(world: Shared, mut chance: Chance) {
    while let Some(mut connected) = world.connected().await {
        while world.phase.get() == Phase::Working && !world.has_failed() {
            if turn(&world, &mut chance, &mut connected).await.is_err() {
                break;
            }
            let ms = 1 + chance.below(40);
            tokio::time::sleep(Duration::from_millis(ms)).await;
        }
        if world.phase.get() != Phase::Working {
            return;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn turn(world: &Shared, chance: &mut Chance, connected: &mut Connected) -> Result<(), Lost> {
    let count = world.topics.borrow().len();
    for at in 0..count {
        if world.topics.borrow()[at].id.is_none() {
            create(world, at, &mut connected.wire).await?;
        }
    }
    let at = usize::try_from(chance.below(count as u64)).expect("small");
    let topic = world.topics.borrow()[at].clone();
    let Some(id) = topic.id else { return Ok(()) };
    let index =
        i32::try_from(chance.below(u64::try_from(topic.partitions).expect("positive"))).expect("small");
    match chance.below(8) {
        0 if topic.churns => delete(world, at, id, &mut connected.wire).await,
        1 | 2 if !topic.policy.compacts || topic.policy.retention_ms.is_some() => {
            trim(world, chance, &topic.name, PartitionId { topic: id, index }, connected).await
        }
        _ => Ok(()),
    }
}

/// Creates a topic, or finds out that an attempt whose answer was lost has created it.
async fn create(world: &World, at: usize, wire: &mut Wire) -> Result<(), Lost> {
    let topic = world.topics.borrow()[at].clone();
    let configs = topic.configs.iter().map(|(name, value)| CreatableTopicConfig {
        name: KStr::from_static(name),
        value: Some(KStr::from_static(value)),
    });
    let wanted = CreatableTopic {
        name: topic.name.clone(),
        num_partitions: topic.partitions,
        replication_factor: 1,
        configs: configs.collect(),
        ..Default::default()
    };
    let request = CreateTopicsRequest { topics: vec![wanted], timeout_ms: 3000, ..Default::default() };
    let response = wire.call(7, &request).await?;
    let told = &response.topics[0];
    let id = match ErrorCode::from_code(told.error_code) {
        Some(ErrorCode::None) => told.topic_id,
        Some(ErrorCode::TopicAlreadyExists) => match lookup(wire, &topic.name).await? {
            Some(id) => id,
            None => return Ok(()),
        },
        Some(ErrorCode::KafkaStorageError | ErrorCode::UnknownServerError) => {
            world.note(&format!("create {} {:?}", topic.name, told.error_message));
            return Ok(());
        }
        code => {
            world.fail(format!(
                "the creation of {} was answered with {code:?}: {:?}",
                topic.name, told.error_message
            ));
            return Ok(());
        }
    };
    world.note(&format!("created {} {id}", topic.name));
    world.oracle.borrow_mut().topic(id, topic.policy);
    world.topics.borrow_mut()[at].id = Some(id);
    Ok(())
}

pub(super) async fn lookup(wire: &mut Wire, name: &KStr) -> Result<Option<Uuid>, Lost> {
    let topics = vec![MetadataRequestTopic { name: Some(name.clone()), ..Default::default() }];
    let response = wire.call(12, &MetadataRequest { topics: Some(topics), ..Default::default() }).await?;
    Ok(response.topics.iter().find(|topic| topic.error_code == 0).map(|topic| topic.topic_id))
}

async fn delete(world: &World, at: usize, id: Uuid, wire: &mut Wire) -> Result<(), Lost> {
    // Whatever the answer: whoever uses it from now on uses another.
    world.topics.borrow_mut()[at].id = None;
    let name = world.topics.borrow()[at].name.clone();
    world.note(&format!("delete {name} {id}"));
    let topics = vec![DeleteTopicState { name: None, topic_id: id }];
    let response =
        wire.call(6, &DeleteTopicsRequest { topics, timeout_ms: 3000, ..Default::default() }).await?;
    let told = &response.responses[0];
    if told.error_code == 0 && lookup(wire, &name).await?.is_some() {
        world.fail(format!("topic {name} was deleted and is still there"));
    }
    Ok(())
}

async fn trim(
    world: &World,
    chance: &mut Chance,
    name: &KStr,
    id: PartitionId,
    connected: &mut Connected,
) -> Result<(), Lost> {
    let start = offset_of(&mut connected.wire, name, id.index, EARLIEST).await?;
    let end = offset_of(&mut connected.wire, name, id.index, LATEST).await?;
    let (Some((start, _)), Some((end, _))) = (start, end) else { return Ok(()) };
    if start > end {
        world.fail(format!("{id:?} starts at {start} and ends at {end}"));
        return Ok(());
    }
    let before = start + i64::try_from(chance.below(1 + (end - start) as u64 / 3)).expect("small");
    world.oracle.borrow_mut().trim_asked(id, before);
    let partitions = vec![DeleteRecordsPartition { partition_index: id.index, offset: before }];
    let topics = vec![DeleteRecordsTopic { name: name.clone(), partitions }];
    let response = connected.wire.call(2, &DeleteRecordsRequest { topics, timeout_ms: 3000 }).await?;
    let told = &response.topics[0].partitions[0];
    world.note(&format!("trim {id:?} {before}: {} {}", told.error_code, told.low_watermark));
    match ErrorCode::from_code(told.error_code) {
        Some(ErrorCode::None) => world.oracle.borrow_mut().trimmed(id, told.low_watermark),
        Some(ErrorCode::OffsetOutOfRange) if world.oracle.borrow().losses() != connected.losses => {}
        Some(code) if code.is_retriable() => {}
        code => world.fail(format!("DeleteRecords of {id:?} before {before} was answered with {code:?}")),
    }
    Ok(())
}

/// Offset and leader epoch of an end of a partition; `None` if it cannot be told now.
pub(super) async fn offset_of(
    wire: &mut Wire,
    name: &KStr,
    index: i32,
    which: i64,
) -> Result<Option<(i64, i32)>, Lost> {
    let partition =
        ListOffsetsPartition { partition_index: index, current_leader_epoch: -1, timestamp: which };
    let topics = vec![ListOffsetsTopic { name: name.clone(), partitions: vec![partition] }];
    let response = wire.call(7, &ListOffsetsRequest { replica_id: -1, topics, ..Default::default() }).await?;
    let told = &response.topics[0].partitions[0];
    Ok((told.error_code == 0).then_some((told.offset, told.leader_epoch)))
}
