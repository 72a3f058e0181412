//! OffsetCommit, OffsetFetch and OffsetDelete, for members and for those who use no group.

use millstream_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use millstream_protocol::messages::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use millstream_protocol::messages::offset_delete_response::{
    OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use millstream_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopics,
};
use millstream_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartitions, OffsetFetchResponseTopics,
};
use millstream_protocol::messages::{
    OffsetCommitRequest, OffsetCommitResponse, OffsetDeleteRequest, OffsetDeleteResponse,
};
use millstream_protocol::{ErrorCode, KStr, Uuid};

use super::{Entry, Shard, removed};
use crate::groups::group::{Committer, Fetcher, Group};
use crate::groups::offsets::{Committed, Place, TopicOffsets};
use crate::groups::record::GroupRecord;
use crate::groups::turn::{Ticket, Turn};

/// Kafka's "no offset", "no leader epoch".
const NONE: i32 = -1;

/// Topics go by id from these versions on.
const COMMIT_BY_ID: i16 = 10;
const FETCH_BY_ID: i16 = 10;

/// A topic by both names.
type Found = (KStr, Uuid);

/// A request to commit.
#[derive(Debug)]
pub(crate) struct Commit {
    pub(crate) version: i16,
    pub(crate) request: OffsetCommitRequest,
}

/// Which offsets a client takes that may still change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stability {
    /// The last that counts, whatever comes.
    Any,
    /// None while a transaction that is open would replace it.
    Stable,
}

/// A request for the offsets of one group.
#[derive(Debug)]
pub(crate) struct Fetch {
    pub(crate) version: i16,
    pub(crate) wanted: Stability,
    pub(crate) request: OffsetFetchRequestGroup,
}

impl Shard {
    pub(crate) fn commit_offsets(&mut self, turn: &mut Turn<'_>, ticket: Ticket, commit: Commit) {
        let Commit { version, request } = commit;
        let by = Committer {
            member_id: request.member_id,
            instance_id: request.group_instance_id,
            generation_or_epoch: request.generation_id_or_member_epoch,
            version,
        };
        let found: Vec<Result<Found, ErrorCode>> = request
            .topics
            .iter()
            .map(|topic| match version {
                COMMIT_BY_ID.. => {
                    let name = turn.topics.identified(topic.topic_id).ok_or(ErrorCode::UnknownTopicId)?;
                    Ok((name.clone(), topic.topic_id))
                }
                _ => {
                    let facts = turn.topics.named(&topic.name).ok_or(ErrorCode::UnknownTopicOrPartition)?;
                    Ok((topic.name.clone(), facts.id))
                }
            })
            .collect();
        // As in Kafka, nobody asks who commits if nothing can be committed.
        let is_there = |(topic, found): (&OffsetCommitRequestTopic, &Result<Found, ErrorCode>)| {
            let facts = found.as_ref().ok().and_then(|(name, _)| turn.topics.named(name));
            facts.is_some_and(|facts| topic.partitions.iter().any(|one| facts.has(one.partition_index)))
        };
        let admitted = match request.topics.iter().zip(&found).any(is_there) {
            true => self.admit_commit(turn, &request.group_id, &by),
            false => Ok(()),
        };
        let mut topics = Vec::with_capacity(request.topics.len());
        for (topic, found) in request.topics.into_iter().zip(found) {
            let found = found.and_then(|found| admitted.map(|()| found));
            let mut partitions = Vec::with_capacity(topic.partitions.len());
            for partition in topic.partitions {
                let partition_index = partition.partition_index;
                let done = found.as_ref().map_err(|error| *error).and_then(|(name, topic_id)| {
                    let place = Place { topic: name, topic_id: *topic_id, partition: partition_index };
                    self.admit_commit_of(&request.group_id, &by, (*topic_id, partition_index))?;
                    self.commit_offset(turn, &request.group_id, place, partition)
                });
                let error_code = done.err().unwrap_or(ErrorCode::None).code();
                partitions.push(OffsetCommitResponsePartition { partition_index, error_code });
            }
            topics.push(OffsetCommitResponseTopic { name: topic.name, topic_id: topic.topic_id, partitions });
        }
        turn.fx.reply(ticket, OffsetCommitResponse { topics, ..Default::default() });
    }

    /// Whether `by` may commit for the group.
    fn admit_commit(&mut self, turn: &mut Turn<'_>, group: &KStr, by: &Committer) -> Result<(), ErrorCode> {
        match self.entries.get_mut(group.as_str()) {
            Some(entry) => match &mut entry.group {
                Some(group) => group.check_commit(turn, by),
                // Offsets without a group: whoever names a generation is no member. An id alone claims nothing, for
                // clients of the new protocol have one before they join, and also if they never do.
                None if by.generation_or_epoch >= 0 => Err(ErrorCode::UnknownMemberId),
                None => Ok(()),
            },
            None if by.generation_or_epoch < 0 => Ok(()),
            None if by.version >= 9 => Err(ErrorCode::GroupIdNotFound),
            None => Err(ErrorCode::IllegalGeneration),
        }
    }

    /// Whether `by`, who may commit for the group, may do so for this partition.
    fn admit_commit_of(
        &self,
        group: &KStr,
        by: &Committer,
        (topic, partition): (Uuid, i32),
    ) -> Result<(), ErrorCode> {
        match self.group(group) {
            Some(group) => group.check_commit_of(by, topic, partition),
            None => Ok(()),
        }
    }

    fn commit_offset(
        &mut self,
        turn: &mut Turn<'_>,
        group: &KStr,
        place: Place<'_>,
        asked: OffsetCommitRequestPartition,
    ) -> Result<(), ErrorCode> {
        let committed = admit_offset(
            turn,
            place,
            Committed {
                offset: asked.committed_offset,
                leader_epoch: asked.committed_leader_epoch,
                metadata: asked.committed_metadata.unwrap_or_default(),
                committed_ms: turn.now.wall_ms,
            },
        )?;
        let (topic, partition) = (place.topic.clone(), place.partition);
        let value = Some(committed.value(place.topic_id));
        turn.fx.records.push(GroupRecord::Offset { group: group.clone(), topic, partition, value });
        self.set_offset(group, place, committed);
        Ok(())
    }

    /// An offset counts from now on, whatever was committed for its partition before.
    pub(super) fn set_offset(&mut self, group: &KStr, place: Place<'_>, committed: Committed) {
        let order = self.next_order();
        let entry = self.entry(group);
        entry.offsets.set(place, committed);
        entry.pending.supersede(place.topic, place.partition, order);
    }

    pub(crate) fn fetch_offsets(&self, turn: &mut Turn<'_>, ticket: Ticket, fetch: Fetch) {
        let Fetch { version, wanted, request } = fetch;
        let OffsetFetchRequestGroup { group_id, member_id, member_epoch, topics } = request;
        let entry = self.entries.get(group_id.as_str());
        let by = Fetcher { member_id, member_epoch };
        let admitted =
            entry.and_then(|entry| entry.group.as_ref()).map_or(Ok(()), |group| group.check_fetch(&by));
        let mut reply = OffsetFetchResponseGroup { group_id, ..Default::default() };
        let answering = Answering { turn, version, wanted, entry };
        match (admitted, topics) {
            (Err(error), _) => reply.error_code = error.code(),
            (Ok(()), Some(topics)) => {
                reply.topics = topics.into_iter().map(|topic| answering.topic(topic)).collect();
            }
            (Ok(()), None) => {
                let held = entry.map(|entry| entry.offsets.topics()).unwrap_or_default();
                reply.topics = held.iter().filter_map(|topic| answering.whole_topic(topic)).collect();
            }
        }
        turn.fx.reply(ticket, reply);
    }

    pub(crate) fn delete_offsets(
        &mut self,
        turn: &mut Turn<'_>,
        ticket: Ticket,
        request: OffsetDeleteRequest,
    ) {
        let id = request.group_id;
        let checked = match self.entries.get(id.as_str()) {
            // Kafka lets such a group commit, and be deleted as a whole.
            _ if id.is_empty() => Err(ErrorCode::InvalidGroupId),
            Some(entry) => entry.group.as_ref().map_or(Ok(()), Group::check_offset_delete),
            None => Err(ErrorCode::GroupIdNotFound),
        };
        let mut reply = OffsetDeleteResponse::default();
        if let Err(error) = checked {
            reply.error_code = error.code();
            turn.fx.reply(ticket, reply);
            return;
        }
        for topic in request.topics {
            let is_subscribed = self.group(&id).is_some_and(|group| group.is_subscribed(&topic.name));
            let code = match turn.topics.named(&topic.name) {
                None => ErrorCode::UnknownTopicOrPartition,
                Some(_) if is_subscribed => ErrorCode::GroupSubscribedToTopic,
                Some(_) => ErrorCode::None,
            };
            let mut partitions = Vec::with_capacity(topic.partitions.len());
            for partition in topic.partitions {
                let partition_index = partition.partition_index;
                if code == ErrorCode::None && self.remove_offset(&id, &topic.name, partition_index) {
                    turn.fx.records.push(removed(&id, &topic.name, partition_index));
                }
                partitions.push(OffsetDeleteResponsePartition { partition_index, error_code: code.code() });
            }
            reply.topics.push(OffsetDeleteResponseTopic { name: topic.name, partitions });
        }
        self.forget_if_empty(&id);
        turn.fx.reply(ticket, reply);
    }

    /// Forgets an offset, and what open transactions have committed in its place; tells whether there was any.
    pub(super) fn remove_offset(&mut self, group: &str, topic: &str, partition: i32) -> bool {
        self.entries.get_mut(group).is_some_and(|entry| {
            let is_pending = entry.pending.remove(topic, partition);
            entry.offsets.remove(topic, partition) || is_pending
        })
    }
}

/// An offset as it is stored, if it may be.
pub(super) fn admit_offset(
    turn: &Turn<'_>,
    place: Place<'_>,
    asked: Committed,
) -> Result<Committed, ErrorCode> {
    if !turn.topics.named(place.topic).is_some_and(|facts| facts.has(place.partition)) {
        return Err(ErrorCode::UnknownTopicOrPartition);
    }
    let Committed { offset, leader_epoch, metadata, committed_ms } = asked;
    let most = turn.settings.offset_metadata_max;
    // Kafka counts as Java does. No string has more UTF-16 units than bytes.
    if metadata.len() > most && metadata.encode_utf16().count() > most {
        return Err(ErrorCode::OffsetMetadataTooLarge);
    }
    let metadata = if metadata.is_empty() { KStr::default() } else { metadata.detach() };
    Ok(Committed { offset, leader_epoch, metadata, committed_ms })
}

/// What the answers to one OffsetFetch have in common.
struct Answering<'a> {
    turn: &'a Turn<'a>,
    version: i16,
    wanted: Stability,
    entry: Option<&'a Entry>,
}

impl Answering<'_> {
    fn topic(&self, asked: OffsetFetchRequestTopics) -> OffsetFetchResponseTopics {
        let OffsetFetchRequestTopics { name, topic_id, partition_indexes } = asked;
        let (known, error) = match self.version {
            FETCH_BY_ID.. => match self.turn.topics.identified(topic_id) {
                Some(name) => (Some(name), ErrorCode::None),
                None => (None, ErrorCode::UnknownTopicId),
            },
            _ => (Some(&name), ErrorCode::None),
        };
        let offsets = known.zip(self.entry).and_then(|(name, entry)| entry.offsets.topic(name));
        let offsets = offsets.filter(|topic| topic.is_current(self.turn.topics));
        let answer = |index| match known {
            Some(name) if self.is_unstable(name, index) => unstable(index),
            Some(_) => answer_partition(index, offsets.and_then(|topic| topic.get(index))),
            None => {
                OffsetFetchResponsePartitions { error_code: error.code(), ..answer_partition(index, None) }
            }
        };
        let partitions = partition_indexes.into_iter().map(answer).collect();
        OffsetFetchResponseTopics { name, topic_id, partitions }
    }

    /// Every offset in a topic, for those who ask for all.
    fn whole_topic(&self, topic: &TopicOffsets) -> Option<OffsetFetchResponseTopics> {
        let topics = self.turn.topics;
        let facts = topics.named(&topic.name).filter(|_| topic.is_current(topics))?;
        let (name, topic_id) = match self.version {
            FETCH_BY_ID.. => (KStr::default(), facts.id),
            _ => (topic.name.clone(), Uuid::nil()),
        };
        let partitions = topic.iter().map(|(index, committed)| match self.is_unstable(&topic.name, index) {
            true => unstable(index),
            false => answer_partition(index, Some(committed)),
        });
        Some(OffsetFetchResponseTopics { name, topic_id, partitions: partitions.collect() })
    }

    /// Whether what is asked for is about to be replaced, and the client would rather wait.
    fn is_unstable(&self, topic: &str, partition: i32) -> bool {
        self.wanted == Stability::Stable
            && self.entry.is_some_and(|entry| entry.pending.holds(topic, partition))
    }
}

fn unstable(partition_index: i32) -> OffsetFetchResponsePartitions {
    let error_code = ErrorCode::UnstableOffsetCommit.code();
    OffsetFetchResponsePartitions { error_code, ..answer_partition(partition_index, None) }
}

fn answer_partition(partition_index: i32, committed: Option<&Committed>) -> OffsetFetchResponsePartitions {
    OffsetFetchResponsePartitions {
        partition_index,
        committed_offset: committed.map_or(i64::from(NONE), |committed| committed.offset),
        committed_leader_epoch: committed.map_or(NONE, |committed| committed.leader_epoch),
        metadata: Some(committed.map(|committed| committed.metadata.clone()).unwrap_or_default()),
        error_code: ErrorCode::None.code(),
    }
}
