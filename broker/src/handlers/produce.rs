//! Produce, key 0, versions 3 to 13; 0 is advertised (KAFKA-18659: librdkafka before 2.11 stops
//! compressing otherwise) and 0 to 2 are refused.
//!
//! 3: first version with record batches. 7: zstd. 8: errors by record. 9: flexible. 10: the current leader
//! comes with NOT_LEADER_OR_FOLLOWER. 13: topics by id.
//!
//! Each batch is judged on its own, before anything of it is written; the log assigns offsets in the order
//! of the connection. The reply waits until each batch is written (`acks` 1) or on disk (`acks` -1).
//!
//! Batches of a transaction are appended once its coordinator has let them in (`produce/transactional.rs`). 11: a client
//! knows TRANSACTION_ABORTABLE. 12: Produce itself adds partitions to the transaction (KIP-890).

use std::ops::RangeInclusive;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use millstream_log::{Acks, Append, AppendError, Appended, FlushHere, Leadership, Left, Log};
use millstream_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use millstream_protocol::messages::produce_response::{
    BatchIndexAndErrorMessage, LeaderIdAndEpoch, NodeEndpoint, PartitionProduceResponse, TopicProduceResponse,
};
use millstream_protocol::messages::{ProduceRequest, ProduceResponse};
use millstream_protocol::records::{self, BatchView, Compression, TimestampType, Validated};
use millstream_protocol::{ErrorCode, KStr, Uuid};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::oneshot;

use super::NONE;
use super::wire_errors::{code_for_append, code_for_batch, code_for_not_led};
use crate::dispatch::{Answer, Call, Handler, Meanwhile};
use crate::metadata::cluster_view::{Leadership as Leader, NotLed};
use crate::metadata::topic_name;
use crate::metadata::topics::{Snapshot, Topic};
use crate::settings::TopicSettings;
use crate::storage::directory::Home;
use crate::transactions::{Enlisted, TopicPartition};

mod transactional;

pub(crate) struct Produce;

impl Handler for Produce {
    type Request = ProduceRequest;
    const VERSIONS: RangeInclusive<i16> = 3..=13;
    const ADVERTISED_MIN: i16 = 0;

    fn handle(mut call: Call, request: ProduceRequest) -> Answer<ProduceResponse> {
        let acks = match request.acks {
            0 => None,
            1 => Some(Acks::Written),
            -1 => Some(Acks::Durable),
            _ => return Answer::Now(refuse_all(&request, ErrorCode::InvalidRequiredAcks)),
        };
        if request.transactional_id.is_none() && transactional::has_transactional(&request) {
            return refuse_request(&request, ErrorCode::TransactionalIdAuthorizationFailed);
        }
        let batches = request.topic_data.iter().map(|topic| topic.partition_data.len()).sum::<usize>();
        if batches > 1 {
            // The second does not wait for the first one's disk.
            call.meanwhile = Meanwhile::Sends;
        }
        let snapshot = call.node.topics.snapshot();
        let appending = Appending {
            call: &call,
            acks: acks.unwrap_or(Acks::Written),
            when: if request.transactional_id.is_some() { When::OnceAdmitted } else { When::Now },
        };
        let topic_data = request.topic_data.into_iter();
        let topics: Vec<PendingTopic> =
            topic_data.map(|topic| append_topic(&appending, &snapshot, topic)).collect();
        drop(snapshot);
        let mut pending = PendingReply { call, topics, enlisted: Vec::new() };
        if let Some(id) = &request.transactional_id {
            pending.admit(id);
        }
        match acks {
            None => pending.without_reply(),
            Some(_) if pending.is_settled() => Answer::Now(pending.reply()),
            Some(_) => {
                pending.let_go_of_the_frame();
                Answer::Later(Box::pin(async move {
                    pending.settle().await;
                    pending.reply()
                }))
            }
        }
    }
}

/// Why a batch is not appended: the code, and words for a person.
#[derive(Debug)]
struct Refused {
    code: ErrorCode,
    message: String,
    /// Records that are to blame, by their place in the batch.
    records: Vec<BatchIndexAndErrorMessage>,
    /// Who leads the partition, if another node does.
    moved_to: Option<Leader>,
}

impl Refused {
    fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), records: Vec::new(), moved_to: None }
    }
}

impl From<ErrorCode> for Refused {
    fn from(code: ErrorCode) -> Self {
        Self::new(code, code.message())
    }
}

/// An append on its way: settled at once, or when another connection or the flusher reports.
enum Pending {
    /// Not appended yet: its transaction is asked first.
    Checked(Box<Checked>),
    Settled(Result<Appended, Refused>),
    Waiting(oneshot::Receiver<Result<Appended, AppendError>>),
}

/// A batch that may be appended, for all that is known without its transaction.
struct Checked {
    log: Arc<Log>,
    append: Append,
    place: TopicPartition,
}

/// Whether batches are appended as soon as they were checked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum When {
    Now,
    OnceAdmitted,
}

/// What all batches of a request have in common.
struct Appending<'a> {
    call: &'a Call,
    acks: Acks,
    when: When,
}

struct PendingTopic {
    /// Name and id as the client gave them, one of the two.
    name: KStr,
    topic_id: Uuid,
    partitions: Vec<(i32, Pending)>,
}

struct PendingReply {
    call: Call,
    topics: Vec<PendingTopic>,
    /// What the transaction took in for this request, on its way to the disk.
    enlisted: Vec<Enlisted>,
}

fn append_topic(appending: &Appending<'_>, snapshot: &Snapshot, data: TopicProduceData) -> PendingTopic {
    let call = appending.call;
    let (topic, unknown) = match call.version {
        ..=12 => (snapshot.named(&data.name), ErrorCode::UnknownTopicOrPartition),
        _ => (snapshot.identified(data.topic_id), ErrorCode::UnknownTopicId),
    };
    let partitions = data
        .partition_data
        .into_iter()
        .map(|data| {
            let index = data.index;
            let pending = topic
                .ok_or_else(|| Refused::from(unknown))
                .and_then(|topic| append_partition(appending, topic, data))
                .unwrap_or_else(|refused| {
                    call.node.metrics.refused_batch();
                    Pending::Settled(Err(refused))
                });
            (index, pending)
        })
        .collect();
    PendingTopic { name: data.name, topic_id: data.topic_id, partitions }
}

fn append_partition(
    appending: &Appending<'_>,
    topic: &Topic,
    data: PartitionProduceData,
) -> Result<Pending, Refused> {
    let Appending { call, acks, when } = *appending;
    let partition = topic.partition(data.index).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    let view = &call.node.view;
    let led = view.lead(topic.id, partition, -1).map_err(|error| {
        let moved = error == NotLed::Elsewhere;
        let moved_to = moved.then(|| view.leadership(topic.id, partition));
        Refused { moved_to, ..Refused::new(code_for_not_led(&error), error.to_string()) }
    })?;
    let records = data.records.map(|records| records.into_bytes()).unwrap_or_default();
    if topic_name::is_internal(&topic.name) {
        let message = "only the broker itself writes to this topic";
        return Err(Refused::new(ErrorCode::InvalidTopicException, message));
    }
    let batch = admit(records, &topic.settings, call)?;
    if let Home::On(directory) = &partition.home {
        let room = directory.space.take(batch.len());
        room.map_err(|low| Refused::new(ErrorCode::KafkaStorageError, low.to_string()))?;
    }
    let header = BatchView::parse(&batch).map_err(|error| invalid(&error))?.header();
    let append = Append { batch, header, acks, transaction: None };
    Ok(match when {
        When::Now => submit(call, led.log, append),
        When::OnceAdmitted => {
            let place = TopicPartition { topic: topic.name.clone(), partition: data.index };
            Pending::Checked(Box::new(Checked { log: Arc::clone(led.log), append, place }))
        }
    })
}

/// Hands the batch to the log. Most often this connection leads and the answer is there on return.
fn submit(call: &Call, log: &Arc<Log>, append: Append) -> Pending {
    call.node.metrics.appended(append.header.record_count, append.batch.len());
    let (done, mut outcome) = oneshot::channel();
    let left = log.append(
        append,
        Box::new(move |result| {
            // Nobody listens when the connection is gone; the batch is appended all the same.
            let _ = done.send(result);
        }),
    );
    match left {
        Some(Left::Lead(leadership)) => lead_elsewhere(leadership),
        Some(Left::Flush(flush)) if call.meanwhile == Meanwhile::Waits => flush_here(flush),
        Some(Left::Flush(for_the_pool)) => drop(for_the_pool),
        None => {}
    }
    match outcome.try_recv() {
        Ok(result) => Pending::Settled(result.map_err(|error| refused_append(&error))),
        Err(_) => Pending::Waiting(outcome),
    }
}

/// A leader's turn is bounded, so that one connection does not append for all others for ever; the rest
/// of the queue is taken by a task of its own.
fn lead_elsewhere(leadership: Leadership) {
    tokio::spawn(async move {
        let mut leadership = Some(leadership);
        while let Some(turn) = leadership {
            leadership = turn.lead();
            tokio::task::yield_now().await;
        }
    });
}

/// Flushes in this thread: the peer waits for nothing else. What else the thread had to do is taken over by another.
fn flush_here(flush: FlushHere) {
    if Handle::try_current().is_ok_and(|runtime| runtime.runtime_flavor() == RuntimeFlavor::MultiThread) {
        // Finding a thread takes as long as the device takes for a page.
        flush.start();
        tokio::task::block_in_place(|| flush.run());
    }
}

fn refused_append(error: &AppendError) -> Refused {
    Refused::new(code_for_append(error), error.to_string())
}

fn invalid(error: &records::BatchError) -> Refused {
    Refused::new(code_for_batch(error), error.to_string())
}

/// Checks one partition's records against every rule that does not depend on the log, and brings them
/// into the form in which they are stored: as sent, unless the topic stamps or recompresses.
fn admit(records: Bytes, settings: &TopicSettings, call: &Call) -> Result<Bytes, Refused> {
    let batch = BatchView::parse(&records).map_err(|error| invalid(&error))?;
    if batch.size_in_bytes() != records.len() {
        let message = "the records of a partition must be exactly one batch";
        return Err(Refused::new(ErrorCode::InvalidRecord, message));
    }
    if records.len() > settings.max_message_bytes {
        let message = format!(
            "the batch has {} bytes; max.message.bytes of this topic is {}",
            records.len(),
            settings.max_message_bytes
        );
        return Err(Refused::new(ErrorCode::MessageTooLarge, message));
    }
    if !batch.crc_is_valid() {
        let message = "the batch's CRC-32C does not match its bytes: it was damaged on the way";
        return Err(Refused::new(ErrorCode::CorruptMessage, message));
    }
    check_header(&batch, call.version)?;
    let walked = check_records(&batch, call)?;
    if settings.cleanup().compacts() && walked.without_key > 0 {
        return Err(refuse_without_key(&batch, walked.without_key, call));
    }
    check_timestamps(&walked, settings, call.node.clock.now_ms())?;
    stored_form(records, &walked, settings, call)
}

fn check_header(batch: &BatchView<'_>, version: i16) -> Result<(), Refused> {
    if batch.is_control() {
        let message = "clients may not write control batches";
        return Err(Refused::new(ErrorCode::InvalidRecord, message));
    }
    if batch.is_transactional() && batch.producer_id() < 0 {
        let message = "a batch that belongs to a transaction needs a producer id";
        return Err(Refused::new(ErrorCode::InvalidRecord, message));
    }
    if batch.timestamp_type() == TimestampType::LogAppendTime {
        let message = "only the broker may say that a batch's timestamp is that of its append";
        return Err(Refused::new(ErrorCode::InvalidTimestamp, message));
    }
    if batch.base_offset() != 0 {
        let message = format!("the base offset of a new batch is 0, not {}", batch.base_offset());
        return Err(Refused::new(ErrorCode::InvalidRecord, message));
    }
    let (count, last) = (batch.record_count(), batch.last_offset_delta());
    if count <= 0 || last != count - 1 {
        let message = format!("the batch says {count} records with a last offset delta of {last}");
        return Err(Refused::new(ErrorCode::InvalidRecord, message));
    }
    if batch.producer_id() >= 0 && (batch.producer_epoch() < 0 || batch.base_sequence() < 0) {
        let message = "a batch with a producer id needs a producer epoch and a sequence";
        return Err(Refused::new(ErrorCode::InvalidRecord, message));
    }
    let compression = batch.compression().map_err(|error| invalid(&error))?;
    if compression == Compression::Zstd && version < 7 {
        let message = "zstd needs Produce version 7 or newer";
        return Err(Refused::new(ErrorCode::UnsupportedCompressionType, message));
    }
    Ok(())
}

/// Walks the records: a batch whose count or offsets lie would stop every consumer behind it.
fn check_records(batch: &BatchView<'_>, call: &Call) -> Result<Validated, Refused> {
    records::validate(batch, call.node.settings().decompressed_bytes_max).map_err(|error| {
        let message = error.to_string();
        let records = error.record().map(|index| BatchIndexAndErrorMessage {
            batch_index: index,
            batch_index_error_message: Some(KStr::from(message.clone())),
        });
        Refused { records: records.into_iter().collect(), ..Refused::new(code_for_batch(&error), message) }
    })
}

/// Records that are named in one refusal; of more it is said how many there are.
const NAMED_RECORDS_MAX: usize = 100;

/// Compaction keeps the last record of each key: what has none could not be kept.
fn refuse_without_key(batch: &BatchView<'_>, count: usize, call: &Call) -> Refused {
    let blame = KStr::from_static("a compacted topic takes no record without a key");
    let mut spans = Vec::new();
    let limit = call.node.settings().decompressed_bytes_max;
    let records = records::with_spans(batch, limit, &mut spans, |body, spans| {
        let without_key = spans.iter().filter(|span| span.key(body).is_none());
        let named = without_key.take(NAMED_RECORDS_MAX).map(|span| BatchIndexAndErrorMessage {
            batch_index: span.offset_delta,
            batch_index_error_message: Some(blame.clone()),
        });
        named.collect()
    });
    let message = format!(
        "{count} of the batch's {} records have no key, and this topic is compacted (cleanup.policy)",
        batch.record_count()
    );
    // The batch was walked a moment ago.
    let records = records.unwrap_or_default();
    Refused { code: ErrorCode::InvalidRecord, message, records, moved_to: None }
}

/// A record without a timestamp (-1) is exempt, as in Kafka.
fn check_timestamps(walked: &Validated, settings: &TopicSettings, now: i64) -> Result<(), Refused> {
    if settings.timestamp_type == TimestampType::LogAppendTime {
        return Ok(());
    }
    let latest = now.saturating_add(settings.timestamp_after_max_ms);
    let earliest = now.saturating_sub(settings.timestamp_before_max_ms);
    let (first, last) = (walked.min_timestamp, walked.max_timestamp);
    if last > latest || (first != NONE && first < earliest) {
        let message = format!(
            "the batch's timestamps, {first} to {last}, are not between {earliest} and {latest} \
             (message.timestamp.before.max.ms, message.timestamp.after.max.ms)"
        );
        return Err(Refused::new(ErrorCode::InvalidTimestamp, message));
    }
    Ok(())
}

/// The bytes to store. The CRC does not cover offsets, so as a rule these are the bytes that came.
fn stored_form(
    batch: Bytes,
    walked: &Validated,
    settings: &TopicSettings,
    call: &Call,
) -> Result<Bytes, Refused> {
    let header = BatchView::parse(&batch).map_err(|error| invalid(&error))?.header();
    let mut batch = match settings.compression {
        Some(codec) if header.compression().ok() != Some(codec) => {
            let limit = call.node.settings().decompressed_bytes_max;
            records::recompress(&batch, codec, limit).map_err(|error| invalid(&error))?
        }
        _ => batch,
    };
    if settings.timestamp_type == TimestampType::LogAppendTime {
        let mut stamped = BytesMut::from(&batch[..]);
        records::set_log_append_time(&mut stamped, call.node.clock.now_ms());
        batch = stamped.freeze();
    } else if header.max_timestamp != walked.max_timestamp {
        // The time index believes the header, and Kafka repairs it, too.
        let mut repaired = BytesMut::from(&batch[..]);
        records::set_max_timestamp(&mut repaired, walked.max_timestamp);
        batch = repaired.freeze();
    }
    Ok(batch)
}

impl PendingReply {
    fn is_settled(&self) -> bool {
        let mut all = self.topics.iter().flat_map(|topic| &topic.partitions);
        self.enlisted.is_empty() && all.all(|(_, pending)| matches!(pending, Pending::Settled(_)))
    }

    /// A topic's name is a slice of the frame; once the batches are written, nothing else needs that memory.
    fn let_go_of_the_frame(&mut self) {
        for topic in &mut self.topics {
            topic.name = topic.name.detach();
        }
    }

    async fn settle(&mut self) {
        for (_, pending) in self.topics.iter_mut().flat_map(|topic| &mut topic.partitions) {
            if let Pending::Waiting(outcome) = pending {
                let result = outcome.await.unwrap_or(Err(AppendError::Closed));
                *pending = Pending::Settled(result.map_err(|error| refused_append(&error)));
            }
        }
        self.settle_enlisted().await;
    }

    /// `acks=0`: there is no reply to carry an error, so an error closes the connection, as in Kafka.
    fn without_reply(&self) -> Answer<ProduceResponse> {
        let settled = self.topics.iter().flat_map(|topic| &topic.partitions);
        let refused = settled.filter_map(|(index, pending)| match pending {
            Pending::Settled(Err(refused)) => Some((index, refused)),
            Pending::Settled(Ok(_)) | Pending::Waiting(_) | Pending::Checked(_) => None,
        });
        match { refused }.next() {
            None => Answer::Silent,
            Some((index, refused)) => Answer::Close(format!(
                "a Produce with acks=0 to partition {index} failed ({}): {}",
                refused.code.name(),
                refused.message
            )),
        }
    }

    fn reply(self) -> ProduceResponse {
        let Self { call, topics, enlisted: _ } = self;
        let mut led_elsewhere = false;
        let responses = topics
            .into_iter()
            .map(|topic| {
                let partition_responses = topic.partitions.into_iter().map(|(index, pending)| {
                    let Pending::Settled(result) = pending else { unreachable!("settled before the reply") };
                    let moved_to = result.as_ref().err().and_then(|refused| refused.moved_to);
                    let mut response = partition_response(index, result);
                    if let Some(now) = moved_to.filter(|_| call.version >= 10) {
                        led_elsewhere = true;
                        response.current_leader =
                            LeaderIdAndEpoch { leader_id: now.leader.0, leader_epoch: now.epoch.get() };
                    }
                    response
                });
                TopicProduceResponse {
                    partition_responses: partition_responses.collect(),
                    name: topic.name.clone(),
                    topic_id: topic.topic_id,
                }
            })
            .collect();
        let node_endpoints = if led_elsewhere { endpoints(&call) } else { Vec::new() };
        ProduceResponse { responses, node_endpoints, ..Default::default() }
    }
}

fn endpoints(call: &Call) -> Vec<NodeEndpoint> {
    let brokers = call.node.view.brokers(call.peer.dialled).into_iter();
    let endpoint = brokers.map(|broker| NodeEndpoint {
        node_id: broker.node.0,
        host: KStr::from(broker.host),
        port: i32::from(broker.port),
        rack: None,
    });
    endpoint.collect()
}

fn partition_response(index: i32, result: Result<Appended, Refused>) -> PartitionProduceResponse {
    match result {
        Ok(appended) => PartitionProduceResponse {
            index,
            base_offset: appended.base_offset.get(),
            log_append_time_ms: appended.timestamp,
            log_start_offset: appended.log_start.get(),
            ..Default::default()
        },
        Err(refused) => PartitionProduceResponse {
            index,
            error_code: refused.code.code(),
            base_offset: NONE,
            record_errors: refused.records,
            error_message: Some(KStr::from(refused.message)),
            ..Default::default()
        },
    }
}

/// The whole request is refused: without a reply, if there is none to carry an error.
fn refuse_request(request: &ProduceRequest, code: ErrorCode) -> Answer<ProduceResponse> {
    match request.acks {
        0 => Answer::Close(format!("a Produce with acks=0 failed ({}): {}", code.name(), code.message())),
        _ => Answer::Now(refuse_all(request, code)),
    }
}

pub(crate) fn refuse_all(request: &ProduceRequest, code: ErrorCode) -> ProduceResponse {
    let refuse = |topic: &TopicProduceData| TopicProduceResponse {
        name: topic.name.clone(),
        topic_id: topic.topic_id,
        partition_responses: topic
            .partition_data
            .iter()
            .map(|data| partition_response(data.index, Err(code.into())))
            .collect(),
    };
    ProduceResponse { responses: request.topic_data.iter().map(refuse).collect(), ..Default::default() }
}
