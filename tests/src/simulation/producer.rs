//! Producers: idempotent ones that try again until they know, and plain ones that send once.

use std::collections::VecDeque;
use std::time::Duration;

use millstream_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use millstream_protocol::messages::{InitProducerIdRequest, ProduceRequest, ProduceResponse};
use millstream_protocol::records::Compression;
use millstream_protocol::{Chunk, ErrorCode, Uuid};

use super::chance::Chance;
use super::oracle::{Level, PartitionId, Placed};
use super::records::{Sent, Sequenced, batch};
use super::wire::Lost;
use super::world::{Connected, Phase, Shared, Topic};

/// Keys of records that have one.
const KEYS: u64 = 12;

/// Batches that one producer has on the way at most.
const WINDOW: u64 = 4;

/// How a producer works.
#[derive(Clone, Copy, Debug)]
pub(super) struct Style {
    pub(super) topic: usize,
    pub(super) partition: i32,
    pub(super) acks: i16,
    pub(super) is_idempotent: bool,
}

/// A batch that was not answered yet.
#[derive(Clone, Debug)]
struct Pending {
    records: Vec<Sent>,
    compression: Compression,
    sequence: i32,
}

struct Producer {
    world: Shared,
    chance: Chance,
    style: Style,
    /// The topic that `pending` is for.
    topic: Option<Uuid>,
    /// Producer id and epoch, once there is one.
    identity: Option<(i64, i16)>,
    /// Tells one identity from the next.
    session: u64,
    sent_in_session: u64,
    next_sequence: i32,
    pending: VecDeque<Pending>,
}

/// What became of a request.
enum Answer {
    Acked,
    /// Try again later.
    Again,
    /// This producer, or what it has on the way, has no future.
    GiveUp,
}

pub(super) async fn produce(world: Shared, chance: Chance, style: Style) {
    let mut producer = Producer {
        world,
        chance,
        style,
        topic: None,
        identity: None,
        session: 0,
        sent_in_session: 0,
        next_sequence: 0,
        pending: VecDeque::new(),
    };
    producer.run().await;
}

impl Producer {
    async fn run(&mut self) {
        while let Some(mut connected) = self.world.connected().await {
            if self.is_finished() {
                return;
            }
            // A lost connection is made anew; what is pending is sent again.
            while self.turn(&mut connected).await.is_ok() {
                if self.is_finished() {
                    return;
                }
                self.pause(15).await;
            }
            if !self.style.is_idempotent {
                self.pending.clear();
            }
            self.pause(5).await;
        }
    }

    fn is_finished(&self) -> bool {
        match self.world.phase.get() {
            Phase::Working => self.world.has_failed(),
            Phase::Finishing => self.pending.is_empty(),
            Phase::Over => true,
        }
    }

    async fn pause(&mut self, max_ms: u64) {
        let ms = 1 + self.chance.below(max_ms);
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }

    /// Sends what there is and takes the answers.
    async fn turn(&mut self, connected: &mut Connected) -> Result<(), Lost> {
        let topic = self.world.topics.borrow()[self.style.topic].clone();
        let Some(id) = topic.id else {
            self.give_up();
            return Ok(());
        };
        if self.topic != Some(id) {
            self.give_up();
            self.topic = Some(id);
        }
        if self.style.is_idempotent && self.identity.is_none() && !self.identify(connected).await? {
            return Ok(());
        }
        let window = if self.style.is_idempotent { 1 + self.chance.below(WINDOW) } else { 1 };
        while self.world.phase.get() == Phase::Working && (self.pending.len() as u64) < window {
            let pending = self.make_batch(&topic, id);
            self.pending.push_back(pending);
        }
        let version = if topic.churns { 13 } else { 9 + i16::try_from(self.chance.below(5)).expect("small") };
        let mut ids = Vec::new();
        for pending in &self.pending {
            let request = self.request(&topic, id, pending);
            let numbers: Vec<u64> = pending.records.iter().map(|sent| sent.number).collect();
            self.world.note(&format!("send {} {numbers:?} acks {}", topic.name, self.style.acks));
            ids.push(connected.wire.send(version, &request).await?);
            if self.chance.one_in(200) {
                // The connection breaks with requests on the way.
                self.world.report.borrow_mut().dropped += 1;
                return Err(Lost);
            }
        }
        if self.style.acks == 0 {
            self.pending.clear();
            return Ok(());
        }
        if self.chance.one_in(60) {
            self.pause(10).await;
            self.world.report.borrow_mut().dropped += 1;
            return Err(Lost);
        }
        self.take_answers(connected, version, &ids).await
    }

    async fn take_answers(
        &mut self,
        connected: &mut Connected,
        version: i16,
        ids: &[i32],
    ) -> Result<(), Lost> {
        let mut all_before_acked = true;
        for id in ids {
            let response = connected.wire.receive::<ProduceRequest>(version, *id).await?;
            if self.pending.is_empty() {
                continue;
            }
            let answer = self.answered(&response, all_before_acked, connected.losses);
            match answer {
                Answer::Acked => drop(self.pending.pop_front()),
                Answer::Again if self.style.is_idempotent => all_before_acked = false,
                Answer::Again | Answer::GiveUp => self.give_up(),
            }
        }
        Ok(())
    }

    /// `is_first`: every batch before it is acknowledged.
    fn answered(&self, response: &ProduceResponse, is_first: bool, losses: u64) -> Answer {
        let told = &response.responses[0].partition_responses[0];
        let code = ErrorCode::from_code(told.error_code);
        let partition = PartitionId { topic: self.topic.expect("set"), index: self.style.partition };
        match code {
            // An answer to a later batch cannot be right if an earlier one was refused.
            Some(ErrorCode::None) if is_first => {
                let pending = self.pending.front().expect("an answer belongs to a batch");
                self.acked(partition, pending, told.base_offset, losses);
                Answer::Acked
            }
            Some(ErrorCode::None) => {
                self.world.fail(format!(
                    "a batch was acknowledged at {} although the one before it was refused",
                    told.base_offset
                ));
                Answer::GiveUp
            }
            Some(ErrorCode::OutOfOrderSequenceNumber) if !is_first => Answer::Again,
            Some(
                code @ (ErrorCode::OutOfOrderSequenceNumber
                | ErrorCode::InvalidTimestamp
                | ErrorCode::UnknownTopicOrPartition
                | ErrorCode::UnknownTopicId),
            ) => {
                self.world.note(&format!("refused {partition:?} {code:?}"));
                self.check_refusal(partition, code);
                Answer::GiveUp
            }
            Some(code) if code.is_retriable() => {
                self.world.note(&format!("again {partition:?} {code:?}"));
                Answer::Again
            }
            code => {
                self.world.fail(format!(
                    "{code:?} ({}) for a batch of {partition:?}: {:?}",
                    told.error_code, told.error_message
                ));
                Answer::GiveUp
            }
        }
    }

    /// A sequence may be missing only where batches may have been lost.
    fn check_refusal(&self, partition: PartitionId, code: ErrorCode) {
        let oracle = self.world.oracle.borrow();
        let policy = oracle.policy(partition.topic).expect("known");
        let nothing_was_lost = oracle.losses() == 0 || (policy.is_durable && self.style.acks == -1);
        drop(oracle);
        if code == ErrorCode::OutOfOrderSequenceNumber && nothing_was_lost {
            let pending = self.pending.front();
            self.world.fail(format!("the broker has forgotten what it acknowledged to a producer of {partition:?}, which sends {pending:?} next"));
        }
    }

    fn acked(&self, partition: PartitionId, pending: &Pending, base: i64, losses: u64) {
        let mut oracle = self.world.oracle.borrow_mut();
        let is_durable = oracle.policy(partition.topic).expect("known").is_durable && self.style.acks == -1;
        let level = if is_durable { Level::Durable } else { Level::Written };
        let is_late = oracle.losses() != losses;
        self.world.note(&format!("acked {base} {:?}", pending.records[0].number));
        for (at, sent) in pending.records.iter().enumerate() {
            let placed = Placed { number: sent.number, offset: base + at as i64 };
            let verdict = oracle.acked(placed, level, is_late, self.world.now_ms());
            self.world.check(verdict);
        }
        self.world.report.borrow_mut().acked += pending.records.len() as u64;
    }

    async fn identify(&mut self, connected: &mut Connected) -> Result<bool, Lost> {
        let request = InitProducerIdRequest {
            transactional_id: None,
            producer_id: -1,
            producer_epoch: -1,
            ..Default::default()
        };
        let response = connected.wire.call(4, &request).await?;
        if response.error_code != 0 {
            self.world.note(&format!("no producer id: {}", response.error_code));
            return Ok(false);
        }
        self.identity = Some((response.producer_id, response.producer_epoch));
        self.session = self.world.fresh_number();
        (self.sent_in_session, self.next_sequence) = (0, 0);
        Ok(true)
    }

    fn make_batch(&mut self, topic: &Topic, id: Uuid) -> Pending {
        let partition = PartitionId { topic: id, index: self.style.partition };
        let count = 1 + self.chance.below(4);
        let mut records = Vec::new();
        for _ in 0..count {
            let is_keyed = topic.policy.compacts || self.chance.one_in(3);
            let is_tombstone = is_keyed && self.chance.one_in(8);
            let sent = Sent {
                number: self.world.fresh_number(),
                key: is_keyed.then(|| self.chance.below(KEYS)),
                value_bytes: (!is_tombstone).then(|| usize::try_from(self.chance.below(200)).expect("small")),
                timestamp: self.world.true_time_ms(),
            };
            let order = self.style.is_idempotent.then_some((self.session, self.sent_in_session));
            self.sent_in_session += 1;
            self.world.oracle.borrow_mut().sent(partition, sent, self.world.now_ms(), order);
            records.push(sent);
        }
        let compression =
            *self.chance.pick(&[Compression::None, Compression::None, Compression::None, Compression::Lz4]);
        let sequence = self.next_sequence;
        self.next_sequence += i32::try_from(count).expect("small");
        Pending { records, compression, sequence }
    }

    fn request(&self, topic: &Topic, id: Uuid, pending: &Pending) -> ProduceRequest {
        let by =
            self.identity.map(|(producer, epoch)| Sequenced { producer, epoch, sequence: pending.sequence });
        let records = batch(&pending.records, pending.compression, by);
        let data = PartitionProduceData { index: self.style.partition, records: Some(Chunk::Bytes(records)) };
        let topic_data =
            TopicProduceData { name: topic.name.clone(), topic_id: id, partition_data: vec![data] };
        let acks = self.style.acks;
        ProduceRequest { acks, timeout_ms: 3000, topic_data: vec![topic_data], ..Default::default() }
    }

    /// What is pending may be there or not; the next batch is another producer's.
    fn give_up(&mut self) {
        self.pending.clear();
        self.identity = None;
    }
}
