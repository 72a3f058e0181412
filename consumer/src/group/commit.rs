//! Committing offsets, and reading what is committed.
//!
//! A commit carries the generation or epoch of the member. When that has moved on meanwhile it is sent again under the
//! new one, but only as long as its partitions have been this member's without a break: what somebody else may have
//! committed since is not overwritten.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use millstream_client::{CallOptions, Client, ClientError, CommittedOffsetsError, Progress, Refusal, To};
use millstream_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use millstream_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use millstream_protocol::messages::{
    OffsetCommitRequest, OffsetCommitResponse, OffsetFetchRequest, OffsetFetchResponse,
};
use millstream_protocol::{ErrorCode, KStr};
use tokio::time::Instant;

use super::holdings::Serial;
use super::member::{Identity, known};
use super::rebalance::TopicPartition;
use super::shared::{Shared, View};
use crate::offsets::{Offsets, Position};

/// Later versions name topics by id; names are what we have.
const NAMED_TO: CallOptions = CallOptions { newest_version: Some(9), broker_may_take: Duration::ZERO };
/// From this version on several groups are asked about at once.
const GROUPS_FROM: i16 = 8;
/// The generation of who commits for a group without being a member of it.
const NO_GENERATION: i32 = -1;

/// Why offsets were not committed, or not all of them.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum CommitError {
    /// The consumer has no group.
    #[error("this consumer has no group to commit for: give it one with client.consumer(group)")]
    NoGroup,
    /// The partition is not this member's any more, or never was: whoever has it now goes on from what was committed
    /// before. Its records will be seen again.
    #[error("partition {partition} of topic {topic:?} is not this member's: nothing can be committed for it")]
    NotOwned {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// Whether an earlier attempt of the same call may have been carried out.
        progress: Progress,
    },
    /// The group went through a rebalance for too long.
    #[error("the group was rebalancing for {after:?}")]
    Rebalancing {
        /// For how long it was waited.
        after: Duration,
        /// Whether an earlier attempt of the same call may have been carried out.
        progress: Progress,
    },
    /// The coordinator refuses; what it took of several partitions stays.
    #[error("{refusal}")]
    Refused {
        /// What it said.
        refusal: Refusal,
        /// Whether something of the call was, or may have been, carried out.
        progress: Progress,
    },
    /// The request got no usable answer.
    #[error("{source}")]
    Request {
        /// Why not.
        source: ClientError,
        /// Whether something of the call was, or may have been, carried out.
        progress: Progress,
    },
}

impl CommitError {
    /// Whether the same call may succeed later without a change.
    #[must_use]
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::NoGroup | Self::NotOwned { .. } => false,
            Self::Rebalancing { .. } => true,
            Self::Refused { refusal, .. } => refusal.is_retriable(),
            Self::Request { source, .. } => source.is_retriable(),
        }
    }

    /// Whether it is certain that nothing was committed.
    #[must_use]
    pub fn had_no_effect(&self) -> bool {
        match self {
            Self::NoGroup => true,
            Self::NotOwned { progress, .. } | Self::Rebalancing { progress, .. } => {
                *progress == Progress::NotSent
            }
            Self::Refused { refusal, progress } => *progress == Progress::NotSent && refusal.had_no_effect(),
            Self::Request { source, progress } => *progress == Progress::NotSent && source.had_no_effect(),
        }
    }
}

/// Commits for a consumer's group. Clones are for the same consumer; it may be used from any task, also after the
/// consumer is gone.
///
/// ```no_run
/// # async fn example(mut consumer: millstream_consumer::Consumer) -> Result<(), Box<dyn std::error::Error>> {
/// let committer = consumer.committer();
/// while let Some(record) = consumer.recv().await? {
///     let committer = committer.clone();
///     tokio::spawn(async move {
///         println!("{}", record.offset);
///         committer.commit(&record).await
///     });
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Committer {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// Connections that nobody else uses.
    wire: Client,
    group: Option<KStr>,
    instance_id: Option<KStr>,
    /// None: partitions are assigned by hand, and the group has no members.
    membership: Option<Arc<Shared>>,
    /// Commits are sent one after the other, in the order of the calls: an older one that is sent again must not undo a
    /// newer one.
    turn: tokio::sync::Mutex<()>,
}

/// What to do about a commit that was not taken.
enum Next {
    /// The same again, in a moment.
    Again,
    /// Again, once the rebalance is through.
    Settled,
    /// Again, under the generation or epoch that follows.
    Moved,
    /// Nothing.
    Fail,
}

impl Committer {
    pub(crate) fn new(
        client: &Client,
        (group, instance_id): (Option<KStr>, Option<KStr>),
        membership: Option<Arc<Shared>>,
    ) -> Self {
        let turn = tokio::sync::Mutex::default();
        Self { inner: Arc::new(Inner { wire: client.isolated(), group, instance_id, membership, turn }) }
    }

    /// Commits offsets: of a record, of records, or positions. Any subset of what the consumer reads, and nothing else.
    ///
    /// Calls are carried out in the order in which they are first awaited. Trouble that passes is waited out for the
    /// client's total timeout, a rebalance too. A call that is dropped may have been carried out, and one that fails for
    /// one of several partitions may have been carried out for others; to repeat it does no harm.
    ///
    /// # Errors
    /// [`CommitError`]; [`had_no_effect`](CommitError::had_no_effect) tells whether something may have been committed.
    pub async fn commit(&self, offsets: impl Into<Offsets> + Send) -> Result<(), CommitError> {
        let offsets = offsets.into();
        let inner = &*self.inner;
        let group = inner.group.as_ref().ok_or(CommitError::NoGroup)?;
        if offsets.is_empty() {
            return Ok(());
        }
        let serials = inner.serials(&offsets, Progress::NotSent)?;
        let _turn = inner.turn.lock().await;
        inner.commit(group, offsets, &serials).await
    }
}

impl Inner {
    /// Since when each partition has been held, or that it is not.
    fn serials(&self, offsets: &Offsets, progress: Progress) -> Result<Vec<Serial>, CommitError> {
        let Some(shared) = &self.membership else { return Ok(Vec::new()) };
        let view = shared.view();
        let serial = |partition: &TopicPartition| {
            let not_owned = || CommitError::NotOwned {
                topic: partition.topic.to_string(),
                partition: partition.partition,
                progress,
            };
            view.holdings.get(partition).map(|held| held.serial).ok_or_else(not_owned)
        };
        offsets.iter().map(|(partition, _)| serial(partition)).collect()
    }

    async fn commit(&self, group: &KStr, mut left: Offsets, serials: &[Serial]) -> Result<(), CommitError> {
        let started = Instant::now();
        let deadline = started + self.wire.total_timeout();
        let mut progress = Progress::NotSent;
        let mut failures = 0;
        let mut serials: BTreeMap<TopicPartition, Serial> =
            left.iter().map(|(partition, _)| partition.clone()).zip(serials.iter().copied()).collect();
        loop {
            let now_held = self.serials(&left, progress)?;
            if let Some((broken, _)) = serials.iter().zip(now_held).find(|((_, was), is)| **was != *is) {
                let TopicPartition { topic, partition } = broken.0;
                return Err(CommitError::NotOwned {
                    topic: topic.to_string(),
                    partition: *partition,
                    progress,
                });
            }
            let identity = match &self.membership {
                Some(shared) => shared.view().identity,
                None => Some(Identity { member_id: KStr::default(), generation: NO_GENERATION }),
            };
            let next = match identity {
                None => Err((Next::Settled, None)),
                Some(ref identity) => match self.send(group, identity, &left).await {
                    Ok(response) => self.judge(group, &mut left, &response, &mut progress),
                    Err(source) => {
                        self.wire.forget_coordinator(group);
                        let next = if source.is_retriable() { Next::Again } else { Next::Fail };
                        let effect = source.had_no_effect();
                        let error = CommitError::Request { source, progress };
                        if !effect {
                            progress = Progress::MaybeSent;
                        }
                        Err((next, Some(error)))
                    }
                },
            };
            let Err((next, error)) = next else { return Ok(()) };
            serials.retain(|partition, _| left.contains(partition));
            failures += 1;
            let wait = self.wire.backoff(failures);
            let after = started.elapsed();
            let error = error.unwrap_or(CommitError::Rebalancing { after, progress });
            if matches!(next, Next::Fail) || Instant::now() + wait > deadline {
                return Err(error);
            }
            tracing::debug!(%group, %error, ?wait, "a commit is sent again");
            tokio::time::sleep(wait).await;
            match next {
                Next::Settled => self.wait_for(deadline, |view| view.is_settled()).await,
                // Whatever is lost is seen at once by the next turn.
                Next::Moved => self.wait_for(deadline, |view| view.identity != identity).await,
                Next::Again | Next::Fail => {}
            }
        }
    }

    async fn send(
        &self,
        group: &KStr,
        identity: &Identity,
        offsets: &Offsets,
    ) -> Result<OffsetCommitResponse, ClientError> {
        let mut topics: BTreeMap<&KStr, Vec<OffsetCommitRequestPartition>> = BTreeMap::new();
        for (TopicPartition { topic, partition }, Position { offset, leader_epoch, metadata }) in
            offsets.iter()
        {
            topics.entry(topic).or_default().push(OffsetCommitRequestPartition {
                partition_index: *partition,
                committed_offset: *offset,
                committed_leader_epoch: leader_epoch.unwrap_or(-1),
                committed_metadata: Some(metadata.clone()),
            });
        }
        let topics = topics.into_iter().map(|(name, partitions)| OffsetCommitRequestTopic {
            name: name.clone(),
            partitions,
            ..Default::default()
        });
        let request = OffsetCommitRequest {
            group_id: group.clone(),
            generation_id_or_member_epoch: identity.generation,
            member_id: identity.member_id.clone(),
            // A stranger has no name either.
            group_instance_id: self.instance_id.clone().filter(|_| self.membership.is_some()),
            topics: topics.collect(),
            ..Default::default()
        };
        let connection = self.wire.connection(To::Coordinator(group)).await?;
        connection.send(&request, NAMED_TO).await?.await
    }

    /// Takes out what was committed. Of what was not: what to do.
    fn judge(
        &self,
        group: &KStr,
        left: &mut Offsets,
        response: &OffsetCommitResponse,
        progress: &mut Progress,
    ) -> Result<(), (Next, Option<CommitError>)> {
        let mut codes = BTreeMap::new();
        for topic in &response.topics {
            for partition in &topic.partitions {
                let of = TopicPartition { topic: topic.name.clone(), partition: partition.partition_index };
                codes.insert(of, known(partition.error_code));
            }
        }
        let before = left.len();
        left.retain(|partition| codes.get(partition) != Some(&ErrorCode::None));
        if left.len() < before {
            *progress = Progress::MaybeSent;
        }
        let Some((partition, _)) = left.iter().next() else { return Ok(()) };
        let code = codes.get(partition).copied().unwrap_or(ErrorCode::UnknownServerError);
        let next = match code {
            ErrorCode::NotCoordinator | ErrorCode::CoordinatorNotAvailable => {
                self.wire.forget_coordinator(group);
                Next::Again
            }
            ErrorCode::RebalanceInProgress if self.membership.is_some() => Next::Settled,
            ErrorCode::IllegalGeneration | ErrorCode::StaleMemberEpoch | ErrorCode::UnknownMemberId
                if self.membership.is_some() =>
            {
                Next::Moved
            }
            // Retriable by Kafka's table, but a topic that was there and is gone does not come back in time.
            ErrorCode::UnknownTopicOrPartition => Next::Fail,
            code if code.is_retriable() => Next::Again,
            _ => Next::Fail,
        };
        let subject = format!("committing {partition} for group {group:?}");
        let refusal = Refusal { subject, code, message: None };
        Err((next, Some(CommitError::Refused { refusal, progress: *progress })))
    }

    /// Waits until the member knows where it stands; it is asked to find out now.
    async fn wait_for(&self, deadline: Instant, is_so: impl Fn(&View) -> bool) {
        let Some(shared) = &self.membership else { return };
        let mut changes = shared.changes();
        shared.suspect();
        let wait = async {
            // The sender is in what we hold, so it does not go away.
            while !is_so(&shared.view()) && changes.changed().await.is_ok() {}
        };
        // Whether it came to that is seen by the next attempt.
        let _ = tokio::time::timeout_at(deadline, wait).await;
    }
}

/// What a group has committed for partitions; those for which it has not are left out. One attempt.
pub(crate) async fn committed(
    client: &Client,
    group: &KStr,
    (partitions, require_stable): (&[TopicPartition], bool),
) -> Result<BTreeMap<TopicPartition, i64>, CommittedOffsetsError> {
    let found = fetch(client, group, (partitions, require_stable)).await;
    if found.as_ref().is_err_and(CommittedOffsetsError::is_retriable) {
        client.forget_coordinator(group);
    }
    found
}

async fn fetch(
    client: &Client,
    group: &KStr,
    (partitions, require_stable): (&[TopicPartition], bool),
) -> Result<BTreeMap<TopicPartition, i64>, CommittedOffsetsError> {
    let mut topics: BTreeMap<&KStr, Vec<i32>> = BTreeMap::new();
    for TopicPartition { topic, partition } in partitions {
        topics.entry(topic).or_default().push(*partition);
    }
    let connection = client.connection(To::Coordinator(group)).await?;
    let of_group = |(name, partition_indexes): (&KStr, Vec<i32>)| OffsetFetchRequestTopics {
        name: name.clone(),
        partition_indexes,
        ..Default::default()
    };
    let alone = |(name, partition_indexes): (&KStr, Vec<i32>)| OffsetFetchRequestTopic {
        name: name.clone(),
        partition_indexes,
    };
    let request = match connection.version_of::<OffsetFetchRequest>(NAMED_TO)? >= GROUPS_FROM {
        true => {
            let topics = Some(topics.into_iter().map(of_group).collect());
            let groups =
                vec![OffsetFetchRequestGroup { group_id: group.clone(), topics, ..Default::default() }];
            OffsetFetchRequest { groups, require_stable, ..Default::default() }
        }
        false => {
            let topics = Some(topics.into_iter().map(alone).collect());
            OffsetFetchRequest { group_id: group.clone(), topics, require_stable, ..Default::default() }
        }
    };
    let answer = connection.send(&request, NAMED_TO).await?.await?;
    read(group, &answer)
}

fn read(
    group: &KStr,
    answer: &OffsetFetchResponse,
) -> Result<BTreeMap<TopicPartition, i64>, CommittedOffsetsError> {
    let judge = |code: i16, subject: String| match known(code) {
        ErrorCode::None => Ok(()),
        code => Err(CommittedOffsetsError::Refused(Refusal { subject, code, message: None })),
    };
    let of_group = || format!("offsets of group {group:?}");
    judge(answer.error_code, of_group())?;
    let mut told = Vec::new();
    for of in &answer.groups {
        judge(of.error_code, of_group())?;
        for topic in &of.topics {
            let one =
                |p: &millstream_protocol::messages::offset_fetch_response::OffsetFetchResponsePartitions| {
                    (topic.name.detach(), p.partition_index, p.committed_offset, p.error_code)
                };
            told.extend(topic.partitions.iter().map(one));
        }
    }
    for topic in &answer.topics {
        let one = |p: &millstream_protocol::messages::offset_fetch_response::OffsetFetchResponsePartition| {
            (topic.name.detach(), p.partition_index, p.committed_offset, p.error_code)
        };
        told.extend(topic.partitions.iter().map(one));
    }
    let mut found = BTreeMap::new();
    for (topic, partition, offset, code) in told {
        let partition = TopicPartition { topic, partition };
        judge(code, format!("the committed offset of {partition} in group {group:?}"))?;
        if offset >= 0 {
            found.insert(partition, offset);
        }
    }
    Ok(found)
}
