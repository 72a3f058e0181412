//! The shell around [`Machine`]: takes what callers want from the desk, asks coordinators, and tells who waits.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use millstream_client::{CallOptions, Client, ClientError, Connection, To};
use millstream_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use millstream_protocol::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use millstream_protocol::messages::{
    AddOffsetsToTxnRequest, AddPartitionsToTxnRequest, EndTxnRequest, InitProducerIdRequest, ProduceRequest,
    TxnOffsetCommitRequest,
};
use millstream_protocol::{ErrorCode, KStr, Request};
use tokio::time::Instant;

use super::Sender;
use super::lane::Identity;
use super::outside::Event;
use super::transaction::{Answer, Ask, Machine, Note, Number, Offsets, Version};
use crate::buffer::Place;
use crate::delivery::Outcome;
use crate::error::{Fate, ProduceError};
use crate::transaction::{Command, Desk, Ending, Reply, TransactionError};

/// The feature by which a cluster says that what is written to joins by itself.
const FEATURE: &str = "transaction.version";
/// From these versions on requests are of the second protocol.
const PRODUCE_FROM: i16 = 12;
const END_FROM: i16 = 5;
const OFFSETS_FROM: i16 = 5;
/// Brokers ask each other with newer ones.
const JOIN_NEWEST: i16 = 3;
/// From this version on a producer can ask for its next epoch.
const EPOCH_FROM: i16 = 3;

/// A transactional id at work.
pub(crate) struct Transactor {
    id: KStr,
    timeout: Duration,
    desk: Arc<Desk>,
    pub(super) machine: Machine,
    resting: Vec<Reply>,
    beginning: HashMap<Number, Reply>,
    ending: HashMap<Number, Reply>,
    aborting: HashMap<Number, Reply>,
    offsets: HashMap<u64, Reply>,
    next_ticket: u64,
    /// The broker ends by itself what nobody has ended by then.
    gives_up_at: Option<Instant>,
}

impl Transactor {
    pub(crate) fn new(id: KStr, timeout: Duration, desk: Arc<Desk>) -> Self {
        Self {
            machine: Machine::new(&id),
            id,
            timeout,
            desk,
            resting: Vec::new(),
            beginning: HashMap::new(),
            ending: HashMap::new(),
            aborting: HashMap::new(),
            offsets: HashMap::new(),
            next_ticket: 0,
            gives_up_at: None,
        }
    }

    pub(super) fn id(&self) -> KStr {
        self.id.clone()
    }

    /// The newest Produce that belongs to the protocol of the open transaction.
    pub(super) fn newest_produce(&self) -> Option<i16> {
        (self.machine.version() == Version::One).then_some(PRODUCE_FROM - 1)
    }

    /// Whether nothing is left to be done once nobody holds the producer any more.
    pub(super) fn is_finished(&mut self, now: Instant) -> bool {
        let gives_up_at = *self.gives_up_at.get_or_insert(now + self.timeout);
        self.machine.rests() || self.machine.is_unclaimed() || now >= gives_up_at
    }

    fn take_commands(&mut self) {
        for command in self.desk.take_commands() {
            self.take_command(command);
        }
    }

    fn take_command(&mut self, command: Command) {
        let machine = &mut self.machine;
        match command {
            Command::Rest { reply } if machine.rests() => tell(reply, self.fate()),
            Command::Rest { reply } => self.resting.push(reply),
            Command::Begin { number, reply } => {
                self.beginning.insert(number, reply);
                machine.begin(number);
            }
            Command::Offsets { number, group, offsets, reply } => {
                if !machine.is_open(number) {
                    return tell(reply, Err(self.not_open(number)));
                }
                self.next_ticket += 1;
                let ticket = self.next_ticket;
                self.offsets.insert(ticket, reply);
                machine.add_offsets(Offsets { ticket, group, offsets });
            }
            Command::Commit { number, reply } => {
                if !machine.is_open(number) {
                    return tell(reply, Err(self.not_open(number)));
                }
                self.ending.insert(number, reply);
                machine.commit(number);
            }
            Command::Abort { number, reply } => {
                if machine.is_current(number) {
                    self.aborting.insert(number, reply);
                } else {
                    tell(reply, self.fate());
                }
            }
            Command::Close { number } => {
                self.beginning.remove(&number);
                machine.abandon(number);
            }
        }
    }

    fn not_open(&self, number: Number) -> TransactionError {
        self.desk.check(number).err().unwrap_or(TransactionError::Closed)
    }

    fn fate(&self) -> Result<(), TransactionError> {
        self.desk.check(0)
    }

    /// Tells everybody what has happened.
    fn tell_notes(&mut self) {
        for note in self.machine.take_notes() {
            match note {
                Note::Rests => self.resting.drain(..).for_each(|reply| tell(reply, Ok(()))),
                Note::Begun(number) => tell_if(self.beginning.remove(&number), Ok(())),
                Note::Taken { ticket } => {
                    tell_if(self.offsets.remove(&ticket), Ok(()));
                }
                Note::Broken(number, error) => {
                    tracing::debug!(%error, id = %self.id, "the transaction is aborted");
                    self.desk.break_off(number, error.clone());
                    tell_if(self.ending.remove(&number), Err(error.clone()));
                    self.fail_offsets(&error);
                }
                Note::Ended(number, ending) => {
                    self.desk.ended(ending);
                    tell_if(self.aborting.remove(&number), Ok(()));
                    let ended = match ending {
                        Ending::Commit => Ok(()),
                        Ending::Abort => Err(TransactionError::Closed),
                    };
                    tell_if(self.ending.remove(&number), ended);
                    self.offsets.clear();
                }
                Note::Dead(error) => self.die(&error),
            }
        }
    }

    fn fail_offsets(&mut self, error: &TransactionError) {
        self.offsets.drain().for_each(|(_, reply)| tell(reply, Err(error.clone())));
    }

    fn die(&mut self, error: &TransactionError) {
        tracing::warn!(%error, id = %self.id, "the transactional producer is of no more use");
        self.desk.die(error.clone());
        self.fail_offsets(error);
        let begun = self.beginning.drain().chain(self.ending.drain()).chain(self.aborting.drain());
        let waiting = begun.map(|(_, reply)| reply).chain(self.resting.drain(..));
        waiting.for_each(|reply| tell(reply, Err(error.clone())));
    }
}

impl Drop for Transactor {
    fn drop(&mut self) {
        self.desk.abandon();
    }
}

fn tell(reply: Reply, result: Result<(), TransactionError>) {
    // Whoever asked may have gone.
    drop(reply.send(result));
}

fn tell_if(reply: Option<Reply>, result: Result<(), TransactionError>) {
    if let Some(reply) = reply {
        tell(reply, result);
    }
}

impl Sender {
    /// Does what can be done for transactions now. Says when to look again if nothing happens before.
    pub(super) fn transact(&mut self, now: Instant) -> Option<Instant> {
        self.transactor.as_mut()?.take_commands();
        if self.transactor.as_ref().is_some_and(|transactor| transactor.machine.drops_batches()) {
            self.fail_unsent();
        }
        let transactor = self.transactor.as_mut()?;
        if self.buffer.is_quiet() {
            if let Some(number) = transactor.machine.ready_to_commit() {
                match transactor.desk.decide(number) {
                    true => transactor.machine.decide(),
                    false => transactor.machine.abandon(number),
                }
            }
            transactor.machine.on_quiet();
        }
        let asked = transactor.machine.next(now);
        transactor.desk.trouble(transactor.machine.trouble());
        transactor.tell_notes();
        match asked {
            Err(at) => at,
            Ok(ask) => {
                self.ask(ask);
                None
            }
        }
    }

    fn ask(&mut self, ask: Ask) {
        let Some(transactor) = &self.transactor else { return };
        let asking = Asking {
            wire: self.wire.clone(),
            id: transactor.id.clone(),
            timeout: transactor.timeout,
            version: transactor.machine.version(),
            identity: transactor.machine.identity(),
            names: match &ask {
                Ask::Join(places) => {
                    places.iter().map(|place| (place.0, self.buffer.topic_name(place.0))).collect()
                }
                _ => HashMap::new(),
            },
        };
        self.events.push(Box::pin(async move {
            let (answer, version) = asking.ask(&ask).await;
            Event::Coordinated { ask, answer, version }
        }));
    }

    pub(super) fn on_coordinated(&mut self, ask: &Ask, answer: Answer, version: Option<Version>) {
        let retry_at = |failures| Instant::now() + self.client.backoff(failures);
        let Some(transactor) = &mut self.transactor else { return };
        let retry_at = retry_at(transactor.machine.failures() + 1);
        if let Some(version) = version {
            transactor.machine.learn(version);
        }
        transactor.machine.on_answer(ask, answer, retry_at);
        transactor.tell_notes();
    }

    /// The identity with which the partition's batches can be sent now, if the producer is transactional.
    pub(super) fn enter_transaction(&mut self, place: Place) -> Option<bool> {
        let transactor = self.transactor.as_mut()?;
        let Some(identity) = transactor.machine.admit(place) else { return Some(false) };
        let is_second = transactor.machine.version() == Version::Two;
        let lane = self.lanes.get_mut(&place).expect("the caller looked it up");
        lane.enter(identity, is_second);
        transactor.machine.on_sent();
        Some(true)
    }

    /// Fails what was not sent, because its transaction will not be committed.
    fn fail_unsent(&mut self) {
        self.take_news();
        let now = Instant::now();
        let places: Vec<_> = self.active.iter().copied().collect();
        let aborted = |outcome: &Outcome| ProduceError::Aborted {
            topic: outcome.topic.to_string(),
            partition: outcome.partition,
            fate: Fate::NotWritten,
        };
        for place in places {
            self.fail_place(place, now, &aborted);
        }
        self.tell_settled();
    }
}

/// What a request to a coordinator needs.
struct Asking {
    wire: Client,
    id: KStr,
    timeout: Duration,
    version: Version,
    identity: Option<Identity>,
    names: HashMap<usize, KStr>,
}

impl Asking {
    async fn ask(&self, ask: &Ask) -> (Answer, Option<Version>) {
        let to = match ask {
            Ask::Offsets(offsets) => To::Coordinator(&offsets.group.group),
            _ => To::TransactionCoordinator(&self.id),
        };
        let mut version = None;
        let answer = match self.wire.connection(to).await {
            Ok(connection) => {
                version = Some(spoken(&connection));
                self.ask_over(&connection, ask).await
            }
            Err(error) => Err(error),
        };
        let is_elsewhere = match &answer {
            Err(_) => true,
            Ok(Answer::Refused(code)) | Ok(Answer::Joined { failed: Some(code), .. }) => {
                matches!(code, ErrorCode::NotCoordinator | ErrorCode::CoordinatorNotAvailable)
            }
            Ok(_) => false,
        };
        if is_elsewhere {
            match ask {
                Ask::Offsets(offsets) => self.wire.forget_coordinator(&offsets.group.group),
                _ => self.wire.forget_transaction_coordinator(&self.id),
            }
        }
        (answer.unwrap_or_else(Answer::Failed), version)
    }

    async fn ask_over(&self, connection: &Connection, ask: &Ask) -> Result<Answer, ClientError> {
        match ask {
            Ask::Claim { current } => self.claim(connection, *current).await,
            Ask::Join(places) => self.join(connection, places).await,
            Ask::JoinGroup(group) => {
                let Identity { id, epoch } = self.who();
                let request = AddOffsetsToTxnRequest {
                    transactional_id: self.id.clone(),
                    producer_id: id,
                    producer_epoch: epoch,
                    group_id: KStr::from(group.as_str()),
                };
                let response = send(connection, &request, None).await?;
                Ok(answered(response.error_code))
            }
            Ask::Offsets(offsets) => self.offsets(connection, offsets).await,
            Ask::End(ending) => self.end(connection, *ending).await,
        }
    }

    fn who(&self) -> Identity {
        self.identity.unwrap_or(Identity { id: -1, epoch: -1 })
    }

    async fn claim(&self, connection: &Connection, current: Option<Identity>) -> Result<Answer, ClientError> {
        let Identity { id, epoch } = current.unwrap_or(Identity { id: -1, epoch: -1 });
        let request = InitProducerIdRequest {
            transactional_id: Some(self.id.clone()),
            transaction_timeout_ms: i32::try_from(self.timeout.as_millis()).unwrap_or(i32::MAX),
            producer_id: id,
            producer_epoch: epoch,
        };
        if current.is_some()
            && connection.version_of::<InitProducerIdRequest>(CallOptions::default())? < EPOCH_FROM
        {
            return Ok(Answer::Refused(ErrorCode::UnsupportedVersion));
        }
        let response = send(connection, &request, None).await?;
        let identity = Identity { id: response.producer_id, epoch: response.producer_epoch };
        Ok(match answered(response.error_code) {
            Answer::Done => Answer::Identified(identity),
            refused => refused,
        })
    }

    async fn join(&self, connection: &Connection, places: &[Place]) -> Result<Answer, ClientError> {
        let Identity { id, epoch } = self.who();
        let mut topics: Vec<AddPartitionsToTxnTopic> = Vec::new();
        for (topic, partition) in places {
            let name = self.names.get(topic).cloned().unwrap_or_default();
            match topics.last_mut().filter(|last| last.name == name) {
                Some(last) => last.partitions.push(*partition),
                None => topics.push(AddPartitionsToTxnTopic { name, partitions: vec![*partition] }),
            }
        }
        let request = AddPartitionsToTxnRequest {
            v3_and_below_transactional_id: self.id.clone(),
            v3_and_below_producer_id: id,
            v3_and_below_producer_epoch: epoch,
            v3_and_below_topics: topics,
            ..Default::default()
        };
        let response = send(connection, &request, Some(JOIN_NEWEST)).await?;
        let results = response.results_by_topic_v3_and_below;
        let code_of = |place: &Place| {
            let name = self.names.get(&place.0)?;
            let topic = results.iter().find(|topic| topic.name == *name)?;
            let mut partitions = topic.results_by_partition.iter();
            let found = partitions.find(|partition| partition.partition_index == place.1)?;
            ErrorCode::from_code(found.partition_error_code)
        };
        let codes =
            places.iter().map(|place| (*place, code_of(place).unwrap_or(ErrorCode::UnknownServerError)));
        let (joined, failed): (Vec<_>, Vec<_>) = codes.partition(|(_, code)| *code == ErrorCode::None);
        // One that was not attempted says nothing about why.
        let gravest = failed
            .iter()
            .map(|(_, code)| *code)
            .min_by_key(|code| (*code == ErrorCode::OperationNotAttempted, code.is_retriable()));
        Ok(Answer::Joined { joined: joined.into_iter().map(|(place, _)| place).collect(), failed: gravest })
    }

    async fn offsets(&self, connection: &Connection, wanted: &Offsets) -> Result<Answer, ClientError> {
        let Identity { id, epoch } = self.who();
        let group = &wanted.group;
        let mut topics: Vec<TxnOffsetCommitRequestTopic> = Vec::new();
        let mut sorted: Vec<_> = wanted.offsets.iter().collect();
        sorted.sort_by(|a, b| (&a.topic, a.partition).cmp(&(&b.topic, b.partition)));
        for offset in sorted {
            let partition = TxnOffsetCommitRequestPartition {
                partition_index: offset.partition,
                committed_offset: offset.offset,
                committed_metadata: Some(KStr::from(offset.metadata.as_str())),
                ..Default::default()
            };
            match topics.last_mut().filter(|last| *last.name == *offset.topic) {
                Some(last) => last.partitions.push(partition),
                None => {
                    let name = KStr::from(offset.topic.as_str());
                    topics.push(TxnOffsetCommitRequestTopic { name, partitions: vec![partition] });
                }
            }
        }
        let request = TxnOffsetCommitRequest {
            transactional_id: self.id.clone(),
            group_id: KStr::from(group.group.as_str()),
            producer_id: id,
            producer_epoch: epoch,
            generation_id: group.generation,
            member_id: KStr::from(group.member_id.as_str()),
            group_instance_id: group.instance_id.as_deref().map(KStr::from),
            topics,
        };
        let response = send(connection, &request, self.newest(OFFSETS_FROM)).await?;
        let codes = response.topics.iter().flat_map(|topic| &topic.partitions).map(|p| p.error_code);
        Ok(answered({ codes }.find(|code| *code != 0).unwrap_or(0)))
    }

    async fn end(&self, connection: &Connection, ending: Ending) -> Result<Answer, ClientError> {
        let Identity { id, epoch } = self.who();
        let request = EndTxnRequest {
            transactional_id: self.id.clone(),
            producer_id: id,
            producer_epoch: epoch,
            committed: ending == Ending::Commit,
        };
        let response = send(connection, &request, self.newest(END_FROM)).await?;
        let identity = Identity { id: response.producer_id, epoch: response.producer_epoch };
        Ok(match answered(response.error_code) {
            Answer::Done if identity.id >= 0 => Answer::Identified(identity),
            answer => answer,
        })
    }

    /// The first protocol must not use the versions that mean the second.
    fn newest(&self, second_from: i16) -> Option<i16> {
        (self.version == Version::One).then_some(second_from - 1)
    }
}

async fn send<R: Request>(
    connection: &Connection,
    request: &R,
    newest_version: Option<i16>,
) -> Result<R::Response, ClientError> {
    let options = CallOptions { newest_version, ..CallOptions::default() };
    connection.send(request, options).await?.await
}

fn answered(code: i16) -> Answer {
    match ErrorCode::from_code(code).unwrap_or(ErrorCode::UnknownServerError) {
        ErrorCode::None => Answer::Done,
        code => Answer::Refused(code),
    }
}

/// The protocol that the cluster has agreed on, if this broker also serves what belongs to it.
fn spoken(connection: &Connection) -> Version {
    let newest = |version: Result<i16, ClientError>, from| version.is_ok_and(|version| version >= from);
    let options = CallOptions::default();
    let is_second = connection.feature(FEATURE).is_some_and(|level| level >= 2)
        && newest(connection.version_of::<ProduceRequest>(options), PRODUCE_FROM)
        && newest(connection.version_of::<EndTxnRequest>(options), END_FROM)
        && newest(connection.version_of::<TxnOffsetCommitRequest>(options), OFFSETS_FROM);
    if is_second { Version::Two } else { Version::One }
}
