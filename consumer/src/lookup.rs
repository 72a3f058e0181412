//! Finding out whom to ask for a partition, and where it is to be read: from metadata, from the partition itself, and
//! from what a group has committed.

use std::collections::BTreeMap;

use millstream_client::{BrokerId, Client, ClientError, CommittedOffsetsError, Missing, OffsetAt};
use millstream_protocol::{KStr, Uuid};

use crate::builder::{Isolation, StartAt};
use crate::error::ConsumeError;
use crate::group::{TopicPartition, committed};
use crate::partition::Sought;
use crate::session::Place;

/// What is to be known of a partition: always its leader, and the offset that is sought, if any.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Question {
    pub(crate) place: Place,
    pub(crate) generation: u64,
    pub(crate) partition: i32,
    pub(crate) sought: Option<Sought>,
}

/// Whom to ask for a partition, and where it is to be read if that had to be looked up.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Found {
    pub(crate) topic_id: Uuid,
    pub(crate) leader: Option<BrokerId>,
    pub(crate) leader_epoch: i32,
    pub(crate) offset: Option<i64>,
}

/// The answer to a question.
#[derive(Debug)]
pub(crate) struct LookedUp {
    pub(crate) place: Place,
    pub(crate) generation: u64,
    pub(crate) found: Result<Found, ConsumeError>,
}

/// Who looks up.
#[derive(Debug)]
pub(crate) struct Lookup {
    pub(crate) client: Client,
    pub(crate) isolation: Isolation,
    pub(crate) group: Option<KStr>,
    /// Where to start where the group has committed nothing.
    pub(crate) uncommitted: Option<StartAt>,
}

/// What has to be asked of the partition.
#[derive(Debug, Clone, Copy)]
enum Target {
    Known(Option<i64>),
    At(OffsetAt),
}

type Committed = Result<BTreeMap<TopicPartition, i64>, CommittedOffsetsError>;

impl Lookup {
    /// Answers every question.
    pub(crate) async fn run(self, topics: Vec<(KStr, Vec<Question>)>) -> Vec<LookedUp> {
        let committed = self.committed(&topics).await;
        let mut answers = Vec::new();
        for (topic, questions) in topics {
            let mut open = Vec::new();
            for question in questions {
                match self.target(&topic, question, &committed) {
                    Ok(target) => open.push((question, target)),
                    Err(error) => answers.push(question.answer(Err(error))),
                }
            }
            match self.look_up(&topic, &open).await {
                Ok(found) => {
                    answers
                        .extend(open.iter().zip(found).map(|((question, _), found)| question.answer(found)));
                }
                Err(error) => {
                    answers.extend(open.iter().map(|(question, _)| question.answer(Err(error.clone()))));
                }
            }
        }
        answers
    }

    /// What the group has committed for those partitions that start from there.
    async fn committed(&self, topics: &[(KStr, Vec<Question>)]) -> Committed {
        let mut wanted = Vec::new();
        for (topic, questions) in topics {
            let of_committed = questions.iter().filter(|question| question.sought == Some(Sought::Committed));
            wanted
                .extend(of_committed.map(|question| TopicPartition::new(topic.clone(), question.partition)));
        }
        match &self.group {
            Some(group) if !wanted.is_empty() => {
                let require_stable = self.isolation == Isolation::ReadCommitted;
                committed(&self.client, group, (&wanted, require_stable)).await
            }
            Some(_) | None => Ok(BTreeMap::new()),
        }
    }

    fn target(
        &self,
        topic: &KStr,
        question: Question,
        committed: &Committed,
    ) -> Result<Target, ConsumeError> {
        match question.sought {
            None => return Ok(Target::Known(None)),
            Some(Sought::At(at)) => return Ok(Target::At(self.isolation.bound(at))),
            Some(Sought::Committed) => {}
        }
        if self.group.is_none() {
            return Err(ConsumeError::NoGroup);
        }
        let committed = committed.as_ref().map_err(|error| ConsumeError::Committed(error.clone()))?;
        if let Some(offset) = committed.get(&TopicPartition::new(topic.clone(), question.partition)) {
            return Ok(Target::Known(Some(*offset)));
        }
        match self.uncommitted {
            Some(StartAt::Beginning) => Ok(Target::At(OffsetAt::Earliest)),
            Some(StartAt::End) => Ok(Target::At(self.isolation.bound(OffsetAt::Latest))),
            Some(StartAt::Timestamp(ms)) => Ok(Target::At(OffsetAt::Timestamp(ms))),
            Some(StartAt::Offset(offset)) => Ok(Target::Known(Some(offset))),
            Some(StartAt::Committed) | None => Err(ConsumeError::NoCommittedOffset {
                topic: topic.to_string(),
                partition: question.partition,
            }),
        }
    }

    /// Finds leaders and offsets of some partitions of a topic.
    async fn look_up(
        &self,
        topic: &KStr,
        questions: &[(Question, Target)],
    ) -> Result<Vec<Result<Found, ConsumeError>>, ConsumeError> {
        let wanted = questions.iter().filter_map(|(question, target)| match target {
            Target::At(at) => Some((question.partition, *at)),
            Target::Known(_) => None,
        });
        let mut listed = self.list(topic, &wanted.collect::<Vec<_>>()).await?.into_iter();
        let metadata = self.client.topic(topic, Missing::Fail).await?;
        let found = questions.iter().map(|(question, target)| {
            let offset = match target {
                Target::Known(offset) => *offset,
                Target::At(_) => listed.next().flatten(),
            };
            let unknown = || ClientError::UnknownPartition {
                topic: topic.to_string(),
                partition: question.partition,
                partitions: metadata.partitions.len(),
            };
            let partition = metadata.partition(question.partition).ok_or_else(unknown)?;
            let (leader, leader_epoch) = (partition.leader, partition.leader_epoch);
            Ok(Found { topic_id: metadata.id, leader, leader_epoch, offset })
        });
        Ok(found.collect())
    }

    /// The offsets of some partitions, in the order in which they were asked for.
    async fn list(&self, topic: &KStr, wanted: &[(i32, OffsetAt)]) -> Result<Vec<Option<i64>>, ConsumeError> {
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        let mut listed = self.client.admin().list_offsets(topic, wanted).await?;
        // A time after the last record means the end.
        let end = self.isolation.bound(OffsetAt::Latest);
        let late: Vec<_> = listed.iter().filter(|listed| listed.offset.is_none()).collect();
        let late: Vec<_> = late.into_iter().map(|listed| (listed.partition, end)).collect();
        let mut ends = self.client.admin().list_offsets(topic, &late).await?.into_iter();
        for listed in listed.iter_mut().filter(|listed| listed.offset.is_none()) {
            listed.offset = ends.next().and_then(|end| end.offset);
        }
        Ok(listed.into_iter().map(|listed| listed.offset).collect())
    }
}

impl Question {
    fn answer(self, found: Result<Found, ConsumeError>) -> LookedUp {
        LookedUp { place: self.place, generation: self.generation, found }
    }
}
