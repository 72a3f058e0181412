//! Offsets inside transactions: TxnOffsetCommit, and what becomes of them when the transaction ends.
//!
//! The records are written at once, in batches that belong to the transaction. They count, here and after a replay, from
//! its marker on: the last commit for a partition holds, whether it was in a transaction or not, by the order in the log.

use millstream_log::ProducerId;
use millstream_protocol::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use millstream_protocol::messages::txn_offset_commit_response::{
    TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
};
use millstream_protocol::messages::{TxnOffsetCommitRequest, TxnOffsetCommitResponse};
use millstream_protocol::records::TransactionOutcome;
use millstream_protocol::{ErrorCode, KStr, Uuid};

use super::Shard;
use super::committed::admit_offset;
use crate::coordinator::Author;
use crate::groups::group::{Committer, Group};
use crate::groups::offsets::{Committed, Place};
use crate::groups::record::GroupRecord;
use crate::groups::turn::{Ticket, Turn};

/// A partition that is there, and what is committed for it.
struct Wanted {
    topic_id: Uuid,
    asked: TxnOffsetCommitRequestPartition,
}

impl Shard {
    /// TxnOffsetCommit. `admit` is asked, once, whether there is such a transaction, if anything can be committed at all;
    /// as in Kafka that is asked before anything about the group.
    pub(crate) fn commit_in_transaction(
        &mut self,
        turn: &mut Turn<'_>,
        ticket: Ticket,
        request: TxnOffsetCommitRequest,
        admit: impl FnOnce() -> Result<(), ErrorCode>,
    ) {
        let by = Committer {
            member_id: request.member_id,
            instance_id: request.group_instance_id,
            generation_or_epoch: request.generation_id,
            version: i16::MAX,
        };
        let author = Author { producer: ProducerId::new(request.producer_id), epoch: request.producer_epoch };
        let group = request.group_id;
        let is_there = |topic: &TxnOffsetCommitRequestTopic| {
            let facts = turn.topics.named(&topic.name);
            facts.is_some_and(|facts| topic.partitions.iter().any(|one| facts.has(one.partition_index)))
        };
        let admitted = match request.topics.iter().any(is_there) {
            true if group.is_empty() => Err(ErrorCode::InvalidGroupId),
            true => {
                admit().and_then(|()| self.admit_transactional_commit(turn, (&group, &by), &request.topics))
            }
            false => Ok(()),
        };
        let mut topics = Vec::with_capacity(request.topics.len());
        for TxnOffsetCommitRequestTopic { name, partitions } in request.topics {
            let facts = turn.topics.named(&name);
            let mut answers = Vec::with_capacity(partitions.len());
            for asked in partitions {
                let partition_index = asked.partition_index;
                let known = facts.filter(|facts| facts.has(partition_index));
                let wanted = known.ok_or(ErrorCode::UnknownTopicOrPartition);
                let wanted = wanted.and_then(|facts| admitted.map(|()| Wanted { topic_id: facts.id, asked }));
                let done =
                    wanted.and_then(|wanted| self.commit_pending(turn, (&group, author), &name, wanted));
                let error_code = done.err().unwrap_or(ErrorCode::None).code();
                answers.push(TxnOffsetCommitResponsePartition { partition_index, error_code });
            }
            topics.push(TxnOffsetCommitResponseTopic { name, partitions: answers });
        }
        turn.fx.reply(ticket, TxnOffsetCommitResponse { topics, ..Default::default() });
    }

    /// Whether `by` may commit all this for the group. The new protocol has no code of its own here.
    fn admit_transactional_commit(
        &self,
        turn: &mut Turn<'_>,
        (id, by): (&KStr, &Committer),
        topics: &[TxnOffsetCommitRequestTopic],
    ) -> Result<(), ErrorCode> {
        let Some(entry) = self.entries.get(id.as_str()) else {
            let is_simple = by.generation_or_epoch < 0;
            return if is_simple { Ok(()) } else { Err(ErrorCode::IllegalGeneration) };
        };
        let checked = match &entry.group {
            Some(Group::Classic(group)) => group.check_transactional_commit(turn, by),
            Some(Group::Consumer(group)) => group.check_transactional_commit(by).and_then(|()| {
                let places = topics.iter().filter_map(|topic| Some((turn.topics.named(&topic.name)?, topic)));
                let mut places = places.flat_map(|(facts, topic)| {
                    topic.partitions.iter().map(move |one| (facts.id, one.partition_index))
                });
                places.try_for_each(|(topic, partition)| group.check_commit_of(by, topic, partition))
            }),
            // Offsets without a group: whoever claims to be of a generation is none of its members.
            None if by.generation_or_epoch >= 0 => Err(ErrorCode::UnknownMemberId),
            None => Ok(()),
        };
        checked.map_err(|error| match error {
            ErrorCode::StaleMemberEpoch => ErrorCode::IllegalGeneration,
            other => other,
        })
    }

    fn commit_pending(
        &mut self,
        turn: &mut Turn<'_>,
        (group, author): (&KStr, Author),
        topic: &KStr,
        wanted: Wanted,
    ) -> Result<(), ErrorCode> {
        let Wanted { topic_id, asked } = wanted;
        let place = Place { topic, topic_id, partition: asked.partition_index };
        let committed = Committed {
            offset: asked.committed_offset,
            leader_epoch: asked.committed_leader_epoch,
            metadata: asked.committed_metadata.unwrap_or_default(),
            committed_ms: turn.now.wall_ms,
        };
        let committed = admit_offset(turn, place, committed)?;
        let value = Some(committed.value(topic_id));
        let (partition, topic) = (place.partition, topic.clone());
        turn.fx.records.push(GroupRecord::Offset { group: group.clone(), topic, partition, value });
        turn.fx.author = Some(author);
        self.set_pending(author.producer, group, place, committed);
        Ok(())
    }

    /// An offset counts once the transaction of this producer is committed.
    fn set_pending(&mut self, producer: ProducerId, group: &KStr, place: Place<'_>, committed: Committed) {
        let order = self.next_order();
        self.entry(group).pending.set(producer, place, (committed, order));
        let groups = self.open.entry(producer).or_default();
        if !groups.contains(group.as_str()) {
            groups.insert(group.detach());
        }
    }

    pub(super) fn next_order(&mut self) -> u64 {
        self.orders += 1;
        self.orders
    }

    /// Takes over one record of a batch that belongs to a transaction. Only offsets do.
    pub(crate) fn replay_in_transaction(&mut self, author: Author, record: &GroupRecord) {
        if let GroupRecord::Offset { group, topic, partition, value: Some(value) } = record {
            let place = Place { topic, topic_id: value.topic_id, partition: *partition };
            self.set_pending(author.producer, group, place, Committed::of(value));
        }
    }

    /// The transaction of a producer has ended, in the order of the log.
    pub(crate) fn on_transaction_ended(&mut self, producer: ProducerId, outcome: TransactionOutcome) {
        for id in self.open.remove(&producer).unwrap_or_default() {
            let Some(entry) = self.entries.get_mut(id.as_str()) else { continue };
            let pending = entry.pending.take(producer);
            if outcome == TransactionOutcome::Commit {
                for topic in pending.topics() {
                    for (partition, offset) in topic.iter().filter(|(_, offset)| !offset.is_superseded) {
                        let place = Place { topic: &topic.name, topic_id: topic.id(), partition };
                        entry.offsets.set(place, offset.committed.clone());
                        entry.pending.supersede(&topic.name, partition, offset.order);
                    }
                }
            }
            self.forget_if_empty(&id);
        }
    }
}
