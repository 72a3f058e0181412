//! A transactional producer that hides nothing: each call is one request in one attempt, and says what is known of its
//! effect. What to do about it is the caller's business, which makes zombies, doubled requests and held-back ones easy.
//!
//! Both protocols: V1 tells the coordinator of each partition before its first batch and keeps one epoch; V2 (KIP-890) lets
//! Produce tell it, and gets a new epoch at the end of each transaction.

pub(crate) mod reading;

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use bytes::Bytes;
use millstream_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use millstream_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use millstream_protocol::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use millstream_protocol::messages::{
    AddOffsetsToTxnRequest, AddPartitionsToTxnRequest, EndTxnRequest, FindCoordinatorRequest,
    InitProducerIdRequest, ProduceRequest, TxnOffsetCommitRequest,
};
use millstream_protocol::records::{BatchBuilder, Compression, NewRecord};
use millstream_protocol::{Chunk, ErrorCode, KStr, Request};

use crate::history::{Ending, Outcome};

/// A way to a broker, for one request at a time.
pub(crate) trait Line {
    /// Asks once.
    async fn ask<R: Request>(&mut self, version: i16, request: &R) -> Result<R::Response, Unanswered>;
}

/// No answer came: nobody knows what became of the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unanswered;

/// How a producer speaks of its transactions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// Partitions are added by requests of their own.
    V1,
    /// Partitions are added by what is written to them (`transaction.version` 2).
    V2,
}

/// What was said about one attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told {
    /// It is done.
    Done,
    /// The same may be asked again. Whether it was done is not known.
    Again(ErrorCode),
    /// This producer has no say any more: this attempt had no effect.
    Fenced(ErrorCode),
    /// It was refused: this attempt had no effect.
    Refused(ErrorCode),
}

/// The answer to one attempt, if there was one.
pub(crate) type Attempt = Result<Told, Unanswered>;

impl Told {
    fn of(code: i16) -> Self {
        match ErrorCode::from_code(code).unwrap_or(ErrorCode::UnknownServerError) {
            ErrorCode::None => Self::Done,
            code @ (ErrorCode::ProducerFenced
            | ErrorCode::InvalidProducerEpoch
            | ErrorCode::InvalidProducerIdMapping) => Self::Fenced(code),
            // Nobody knows what an unknown error did.
            code if code.is_retriable() || code == ErrorCode::UnknownServerError => Self::Again(code),
            code => Self::Refused(code),
        }
    }
}

/// What all attempts at one thing say together.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Attempts {
    may_be_done: bool,
    is_done: bool,
}

impl Attempts {
    /// Takes the answer to one more attempt in.
    pub(crate) fn note(&mut self, attempt: Attempt) {
        match attempt {
            Ok(Told::Done) => self.is_done = true,
            Err(Unanswered) | Ok(Told::Again(_)) => self.may_be_done = true,
            Ok(Told::Fenced(_) | Told::Refused(_)) => {}
        }
    }

    /// What is known of the whole.
    pub(crate) fn outcome(self) -> Outcome {
        match (self.is_done, self.may_be_done) {
            (true, _) => Outcome::Ok,
            (false, true) => Outcome::Info,
            (false, false) => Outcome::Fail,
        }
    }
}

/// A partition by the name of its topic.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    pub(crate) topic: KStr,
    pub(crate) partition: i32,
}

/// Offsets that a group is to have once the transaction is committed.
#[derive(Debug, Clone)]
pub(crate) struct Progress {
    pub(crate) group: KStr,
    pub(crate) of: Place,
    pub(crate) offset: i64,
}

/// A key and a value.
pub(crate) type KeyValue = (Vec<u8>, Vec<u8>);

/// One instance of a transactional producer. After an error that is not resolved by asking again, it is of no more use for
/// that transaction; a clone is a second process that believes to be the same.
#[derive(Debug, Clone)]
pub(crate) struct Producer {
    id: KStr,
    protocol: Protocol,
    timeout: Duration,
    producer: i64,
    epoch: i16,
    sequences: HashMap<Place, i32>,
    added: HashSet<Place>,
    groups: HashSet<KStr>,
}

/// Whose coordinator is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Of {
    Group,
    Transactions,
}

/// Makes the broker bring a coordinator up, if need be.
pub(crate) async fn find_coordinator(line: &mut impl Line, of: Of, id: &KStr) -> Attempt {
    let key_type = match of {
        Of::Group => 0,
        Of::Transactions => 1,
    };
    let request = FindCoordinatorRequest { key: id.clone(), key_type, ..Default::default() };
    Ok(Told::of(line.ask(2, &request).await?.error_code))
}

/// An EndTxn as it is on its way, for those who hold it back.
#[derive(Debug, Clone)]
pub(crate) struct Closing {
    request: EndTxnRequest,
    version: i16,
}

impl Closing {
    /// Lets it arrive.
    pub(crate) async fn arrive(&self, line: &mut impl Line) -> Attempt {
        Ok(Told::of(line.ask(self.version, &self.request).await?.error_code))
    }
}

impl Producer {
    pub(crate) fn new(id: &str, protocol: Protocol, timeout: Duration) -> Self {
        Self {
            id: KStr::from(id),
            protocol,
            timeout,
            producer: -1,
            epoch: -1,
            sequences: HashMap::new(),
            added: HashSet::new(),
            groups: HashSet::new(),
        }
    }

    pub(crate) fn id(&self) -> &KStr {
        &self.id
    }

    pub(crate) fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Producer id and epoch, for a trace.
    pub(crate) fn identity(&self) -> (i64, i16) {
        (self.producer, self.epoch)
    }

    fn is_v1(&self) -> bool {
        self.protocol == Protocol::V1
    }

    /// Claims the transactional id: who had it is fenced, and what it had open is aborted.
    pub(crate) async fn claim(&mut self, line: &mut impl Line) -> Attempt {
        let request = InitProducerIdRequest {
            transactional_id: Some(self.id.clone()),
            transaction_timeout_ms: i32::try_from(self.timeout.as_millis()).expect("a short timeout"),
            producer_id: -1,
            producer_epoch: -1,
        };
        let answer = line.ask(if self.is_v1() { 4 } else { 5 }, &request).await?;
        let told = Told::of(answer.error_code);
        if told == Told::Done {
            (self.producer, self.epoch) = (answer.producer_id, answer.producer_epoch);
            self.sequences.clear();
            self.ended();
        }
        Ok(told)
    }

    fn ended(&mut self) {
        self.added.clear();
        self.groups.clear();
    }

    /// Writes one batch. Only the same records may follow, until they are done. Tells the offset of the first.
    pub(crate) async fn write(
        &mut self,
        line: &mut impl Line,
        to: &Place,
        records: &[KeyValue],
    ) -> Result<(Told, i64), Unanswered> {
        if self.is_v1() && !self.added.contains(to) {
            match self.add(line, to).await? {
                Told::Done => {}
                told => return Ok((told, -1)),
            }
        }
        let sequence = self.sequences.get(to).copied().unwrap_or(0);
        let data = PartitionProduceData {
            index: to.partition,
            records: Some(Chunk::Bytes(self.batch(sequence, records))),
        };
        let topic =
            TopicProduceData { name: to.topic.clone(), partition_data: vec![data], ..Default::default() };
        let request = ProduceRequest {
            transactional_id: Some(self.id.clone()),
            acks: -1,
            timeout_ms: 10_000,
            topic_data: vec![topic],
        };
        let answer = line.ask(if self.is_v1() { 11 } else { 12 }, &request).await?;
        let answer = answer.responses.first().and_then(|topic| topic.partition_responses.first());
        let (code, offset) = answer
            .map_or((ErrorCode::UnknownServerError.code(), -1), |one| (one.error_code, one.base_offset));
        let told = Told::of(code);
        if told == Told::Done {
            let count = i32::try_from(records.len()).expect("a small batch");
            self.sequences.insert(to.clone(), sequence + count);
            self.added.insert(to.clone());
        }
        Ok((told, offset))
    }

    fn batch(&self, sequence: i32, records: &[KeyValue]) -> Bytes {
        let mut builder = BatchBuilder::new(Compression::None);
        builder.producer(self.producer, self.epoch, sequence).transactional();
        for (key, value) in records {
            let timestamp = -1;
            builder.append(&NewRecord { timestamp, key: Some(key), value: Some(value), headers: &[] });
        }
        builder.build()
    }

    async fn add(&mut self, line: &mut impl Line, place: &Place) -> Attempt {
        let topic = AddPartitionsToTxnTopic { name: place.topic.clone(), partitions: vec![place.partition] };
        let request = AddPartitionsToTxnRequest {
            v3_and_below_transactional_id: self.id.clone(),
            v3_and_below_producer_id: self.producer,
            v3_and_below_producer_epoch: self.epoch,
            v3_and_below_topics: vec![topic],
            ..Default::default()
        };
        let answer = line.ask(3, &request).await?;
        let results = answer.results_by_topic_v3_and_below.into_iter();
        let result = results.flat_map(|topic| topic.results_by_partition).next();
        let told =
            Told::of(result.map_or(ErrorCode::UnknownServerError.code(), |one| one.partition_error_code));
        if told == Told::Done {
            self.added.insert(place.clone());
        }
        Ok(told)
    }

    /// Has the group's progress belong to the transaction.
    pub(crate) async fn note_progress(&mut self, line: &mut impl Line, progress: &Progress) -> Attempt {
        if self.is_v1() && !self.groups.contains(&progress.group) {
            let request = AddOffsetsToTxnRequest {
                transactional_id: self.id.clone(),
                producer_id: self.producer,
                producer_epoch: self.epoch,
                group_id: progress.group.clone(),
            };
            match Told::of(line.ask(3, &request).await?.error_code) {
                Told::Done => drop(self.groups.insert(progress.group.clone())),
                told => return Ok(told),
            }
        }
        let partition = TxnOffsetCommitRequestPartition {
            partition_index: progress.of.partition,
            committed_offset: progress.offset,
            ..Default::default()
        };
        let topic =
            TxnOffsetCommitRequestTopic { name: progress.of.topic.clone(), partitions: vec![partition] };
        let request = TxnOffsetCommitRequest {
            transactional_id: self.id.clone(),
            group_id: progress.group.clone(),
            producer_id: self.producer,
            producer_epoch: self.epoch,
            topics: vec![topic],
            ..Default::default()
        };
        let answer = line.ask(if self.is_v1() { 4 } else { 5 }, &request).await?;
        let result = answer.topics.into_iter().flat_map(|topic| topic.partitions).next();
        let told = Told::of(result.map_or(ErrorCode::UnknownServerError.code(), |one| one.error_code));
        if told == Told::Done {
            self.groups.insert(progress.group.clone());
        }
        Ok(told)
    }

    /// The request that ends the transaction, to be sent whenever somebody likes.
    pub(crate) fn closing(&self, ending: Ending) -> Closing {
        let request = EndTxnRequest {
            transactional_id: self.id.clone(),
            producer_id: self.producer,
            producer_epoch: self.epoch,
            committed: ending == Ending::Commit,
        };
        Closing { request, version: if self.is_v1() { 4 } else { 5 } }
    }

    /// Ends the transaction. Not to be called for one in which nothing was asked for.
    pub(crate) async fn end(&mut self, line: &mut impl Line, ending: Ending) -> Attempt {
        let closing = self.closing(ending);
        let answer = line.ask(closing.version, &closing.request).await?;
        let told = Told::of(answer.error_code);
        if told == Told::Done {
            self.ended();
            let next = (answer.producer_id, answer.producer_epoch);
            if !self.is_v1() && next != (self.producer, self.epoch) {
                (self.producer, self.epoch) = next;
                self.sequences.clear();
            }
        }
        Ok(told)
    }
}
