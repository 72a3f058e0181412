//! Fetch, key 1, versions 4 to 18.
//!
//! 4: isolation level: a reader of committed records gets no more than is known to count or not to count, and is
//! told what does not. 7: fetch sessions. 9: the client's
//! leader epoch is checked. 12: flexible, and the last fetched epoch tells a diverging log. 13: topics by id.
//! 16: where the leader is now.
//!
//! Nothing is copied: a reply holds slices of segment files. What is not in memory, be it records or the index
//! that leads to them, is looked up and brought in on the control plane, so that a cold reader never stalls a
//! data worker. `fetch/long_poll.rs` has the requests that cannot be answered at once.

mod long_poll;

use std::ops::RangeInclusive;
use std::time::Instant;

use bytes::Bytes;
use millstream_log::{FirstBatch, Isolation, LeaderEpoch, Log, Offset, ReadError, ReadFrom, ReadSlice};
use millstream_protocol::messages::fetch_response::{
    AbortedTransaction, EpochEndOffset, FetchableTopicResponse, LeaderIdAndEpoch, NodeEndpoint, PartitionData,
};
use millstream_protocol::messages::{FetchRequest, FetchResponse};
use millstream_protocol::{Chunk, ErrorCode, KStr, Uuid};

use super::offset_for_leader_epoch::epoch_end;
use super::wire_errors::{code_for_not_led, code_for_read};
use super::{NONE, isolation};
use crate::dispatch::{Answer, Call, Handler};
use crate::fetch_session::{Context, Found, Wanted};
use crate::metadata::cluster_view::{Leadership, NotLed};
use crate::metadata::topics::Snapshot;

pub(crate) struct Fetch;

impl Handler for Fetch {
    type Request = FetchRequest;
    const VERSIONS: RangeInclusive<i16> = 4..=18;

    fn handle(call: Call, request: FetchRequest) -> Answer<FetchResponse> {
        let (context, wanted) = match call.node.fetch_sessions.begin(&request, call.version, now()) {
            Ok(begun) => begun,
            Err(code) => {
                let error_code = code.code();
                return Answer::Now(FetchResponse { error_code, ..Default::default() });
            }
        };
        let limits = Limits::new(&request, call.node.settings().fetch_bytes_max);
        let fetch = Fetching { call, context, wanted, limits };
        match fetch.try_look() {
            Some(look) if fetch.is_enough(&look) => Answer::Now(fetch.reply(look)),
            look => Answer::Later(Box::pin(long_poll::wait(fetch, look))),
        }
    }
}

/// How much is wanted, and how long it may take.
#[derive(Debug, Clone, Copy)]
struct Limits {
    max_bytes: usize,
    min_bytes: usize,
    /// `None`: answer with what there is.
    deadline: Option<Instant>,
    isolation: Isolation,
}

impl Limits {
    fn new(request: &FetchRequest, max_bytes: usize) -> Self {
        let max_bytes = usize::try_from(request.max_bytes).unwrap_or(0).min(max_bytes);
        let min_bytes = usize::try_from(request.min_bytes).unwrap_or(0).min(max_bytes);
        let wait = u64::try_from(request.max_wait_ms).ok().filter(|wait| *wait > 0);
        let deadline = wait.map(|wait| now() + std::time::Duration::from_millis(wait));
        Self { max_bytes, min_bytes, deadline, isolation: isolation(request.isolation_level) }
    }
}

/// One request while it is being answered.
struct Fetching {
    call: Call,
    context: Context,
    wanted: Vec<Wanted>,
    limits: Limits,
}

/// What was found for one partition.
struct Partition {
    wanted: Wanted,
    code: ErrorCode,
    high_watermark: i64,
    last_stable: i64,
    log_start: i64,
    /// Where the log of the client parts from ours.
    diverging: Option<(LeaderEpoch, Offset)>,
    slice: Option<ReadSlice>,
    /// Who leads it, if the client has to be told.
    leader: Option<Leadership>,
}

impl Partition {
    fn failed(wanted: Wanted, code: ErrorCode) -> Self {
        Self {
            wanted,
            code,
            high_watermark: NONE,
            last_stable: NONE,
            log_start: NONE,
            diverging: None,
            slice: None,
            leader: None,
        }
    }

    fn bytes(&self) -> usize {
        self.slice.as_ref().map_or(0, |slice| slice.bytes)
    }

    fn is_remarkable(&self) -> bool {
        self.code != ErrorCode::None || self.diverging.is_some()
    }

    /// What fetch sessions care about.
    fn found(&self) -> (&Wanted, Found) {
        let found = Found {
            high_watermark: self.high_watermark,
            log_start: self.log_start,
            has_records: self.bytes() > 0,
            is_remarkable: self.is_remarkable(),
        };
        (&self.wanted, found)
    }

    /// A reader of this isolation sees what lies below it.
    fn visible_to(&self, isolation: Isolation) -> i64 {
        match isolation {
            Isolation::ReadUncommitted => self.high_watermark,
            Isolation::ReadCommitted => self.last_stable,
        }
    }

    /// Records lie there that did not fit: waiting would not bring more into the reply.
    fn is_full(&self, isolation: Isolation) -> bool {
        self.bytes() == 0 && self.wanted.fetch_offset < self.visible_to(isolation)
    }
}

/// What one look at all wanted partitions found, in the order of the request.
struct Look {
    partitions: Vec<Partition>,
}

/// Why a partition gives nothing.
enum Miss {
    Refused(ErrorCode),
    /// The client has to be told who leads.
    Moved(ErrorCode, Leadership),
    /// The device would have to be waited for.
    Cold,
}

impl From<ErrorCode> for Miss {
    fn from(code: ErrorCode) -> Self {
        Self::Refused(code)
    }
}

/// How a log is asked: with or without waiting for the device.
type Ask = fn(&Log, ReadFrom) -> Result<Option<ReadSlice>, ReadError>;

impl Fetching {
    /// Looks at each wanted partition once. `None` if the device would have to be waited for.
    fn try_look(&self) -> Option<Look> {
        let look = self.look_with(Log::try_read)?;
        let mut slices = look.partitions.iter().filter_map(|partition| partition.slice.as_ref());
        slices.all(ReadSlice::is_resident).then_some(look)
    }

    /// The same, but waits for the device, and brings into memory what was found. Blocks.
    fn look(&self) -> Look {
        let look = self.look_with(|log, from| log.read(from).map(Some));
        let mut look = look.expect("who waits is never told that it is cold");
        for partition in &mut look.partitions {
            let cold = partition.slice.as_ref().filter(|slice| !slice.is_resident());
            if let Some(Err(error)) = cold.map(ReadSlice::bring_in) {
                let index = partition.wanted.key.partition;
                tracing::error!(partition = index, %error, "records cannot be read from the disk");
                *partition = Partition::failed(partition.wanted.clone(), ErrorCode::KafkaStorageError);
            }
        }
        look
    }

    /// The first partition that has anything gives its first batch whole.
    fn look_with(&self, ask: Ask) -> Option<Look> {
        let snapshot = self.call.node.topics.snapshot();
        let mut room = self.limits.max_bytes;
        let mut first_batch = FirstBatch::Whole;
        let mut partitions = Vec::with_capacity(self.wanted.len());
        for wanted in &self.wanted {
            let offset = Offset::new(wanted.fetch_offset);
            let max_bytes = usize::try_from(wanted.max_bytes).unwrap_or(0).min(room);
            let from = ReadFrom { offset, max_bytes, first_batch, isolation: self.limits.isolation };
            let partition = match self.look_at(&snapshot, wanted, from, ask) {
                Ok(partition) => partition,
                Err(Miss::Refused(code)) => Partition::failed(wanted.clone(), code),
                Err(Miss::Moved(code, leader)) => {
                    Partition { leader: Some(leader), ..Partition::failed(wanted.clone(), code) }
                }
                Err(Miss::Cold) => return None,
            };
            if partition.bytes() > 0 {
                room = room.saturating_sub(partition.bytes());
                first_batch = FirstBatch::IfItFits;
            }
            partitions.push(partition);
        }
        Some(Look { partitions })
    }

    fn look_at(
        &self,
        snapshot: &Snapshot,
        wanted: &Wanted,
        from: ReadFrom,
        ask: Ask,
    ) -> Result<Partition, Miss> {
        let key = &wanted.key;
        let topic = match self.call.version {
            ..=12 => snapshot.named(&key.topic).ok_or(ErrorCode::UnknownTopicOrPartition)?,
            _ => snapshot.identified(key.topic_id).ok_or(ErrorCode::UnknownTopicId)?,
        };
        let partition = topic.partition(key.partition).ok_or(ErrorCode::UnknownTopicOrPartition)?;
        let view = &self.call.node.view;
        let led = view.lead(topic.id, partition, wanted.leader_epoch).map_err(|error| {
            let code = code_for_not_led(&error);
            match error {
                NotLed::FencedEpoch { .. } | NotLed::Elsewhere => {
                    Miss::Moved(code, view.leadership(topic.id, partition))
                }
                NotLed::UnknownEpoch { .. } | NotLed::Unavailable(_) => Miss::Refused(code),
            }
        })?;
        let log = led.log;
        let diverging = diverging(log, wanted, led.epoch)?;
        // Before the read: whoever finds nothing waits for what comes after this.
        let mut offsets = log.offsets();
        let slice = match diverging {
            Some(_) => None,
            None => {
                let found = ask(log, from).map_err(|error| {
                    tracing::debug!(topic = &*topic.name, partition = key.partition, %error, "a Fetch failed");
                    match error {
                        // The log was reopened since it was asked for its epoch, and its end is gone.
                        ReadError::OutOfRange { .. } if log.leader_epoch() != led.epoch => Miss::Moved(
                            ErrorCode::FencedLeaderEpoch,
                            view.leadership(topic.id, partition),
                        ),
                        error => Miss::Refused(code_for_read(&error)),
                    }
                })?;
                Some(found.ok_or(Miss::Cold)?)
            }
        };
        if slice.as_ref().is_some_and(|slice| slice.bytes > 0) {
            // A reply never names a high watermark that is older than its records.
            offsets = log.offsets();
        }
        Ok(Partition {
            wanted: wanted.clone(),
            code: ErrorCode::None,
            high_watermark: offsets.high_watermark.get(),
            last_stable: offsets.last_stable.get(),
            log_start: offsets.log_start.get(),
            diverging,
            slice,
            leader: None,
        })
    }

    /// Whether this may be answered without waiting for more.
    fn is_enough(&self, look: &Look) -> bool {
        let Some(deadline) = self.limits.deadline else { return true };
        let partitions = &look.partitions;
        let bytes: usize = partitions.iter().map(Partition::bytes).sum();
        partitions.is_empty()
            || bytes >= self.limits.min_bytes
            || partitions.iter().any(Partition::is_remarkable)
            || partitions.iter().any(|partition| partition.is_full(self.limits.isolation))
            || now() >= deadline
    }

    fn reply(self, look: Look) -> FetchResponse {
        let Self { call, context, limits, .. } = self;
        let mut partitions = look.partitions;
        let sessions = &call.node.fetch_sessions;
        let session_id = sessions.finish(context, &mut partitions, now(), Partition::found);
        let mut response = FetchResponse { session_id, ..Default::default() };
        let mut led_elsewhere = false;
        for partition in partitions {
            let moved_to = partition.leader;
            let (topic, topic_id) = (partition.wanted.key.topic.clone(), partition.wanted.key.topic_id);
            let mut data = partition_data(partition, limits.isolation);
            if let Some(now) = moved_to.filter(|_| call.version >= 16) {
                led_elsewhere = true;
                data.current_leader =
                    LeaderIdAndEpoch { leader_id: now.leader.0, leader_epoch: now.epoch.get() };
            }
            push(&mut response.responses, topic, topic_id, data);
        }
        if led_elsewhere {
            response.node_endpoints = endpoints(&call);
        }
        response
    }
}

/// A client that names the epoch of its last batch is told if our log has none such (KIP-595).
fn diverging(
    log: &Log,
    wanted: &Wanted,
    now: LeaderEpoch,
) -> Result<Option<(LeaderEpoch, Offset)>, ErrorCode> {
    if wanted.last_fetched_epoch < 0 {
        return Ok(None);
    }
    let last = LeaderEpoch::new(wanted.last_fetched_epoch);
    let (epoch, end) = epoch_end(log, last, now).ok_or(ErrorCode::OffsetOutOfRange)?;
    let parts = epoch < last || end.get() < wanted.fetch_offset;
    Ok(parts.then_some((epoch, end)))
}

fn partition_data(mut partition: Partition, isolation: Isolation) -> PartitionData {
    let records = partition.slice.as_mut().and_then(|slice| slice.records.take());
    let aborted = partition.slice.as_ref().map_or(&[][..], ReadSlice::aborted);
    let aborted = aborted.iter().map(|one| AbortedTransaction {
        producer_id: one.producer.get(),
        first_offset: one.first_offset.get(),
    });
    let aborted = (isolation == Isolation::ReadCommitted).then(|| aborted.collect());
    PartitionData {
        partition_index: partition.wanted.key.partition,
        error_code: partition.code.code(),
        high_watermark: partition.high_watermark,
        last_stable_offset: partition.last_stable,
        log_start_offset: partition.log_start,
        diverging_epoch: partition.diverging.map_or_else(EpochEndOffset::default, |(epoch, end)| {
            EpochEndOffset { epoch: epoch.get(), end_offset: end.get() }
        }),
        aborted_transactions: aborted,
        records: Some(records.unwrap_or(Chunk::Bytes(Bytes::new()))),
        ..Default::default()
    }
}

/// Adds a partition to its topic; partitions of one topic follow each other, as they were asked for.
fn push(topics: &mut Vec<FetchableTopicResponse>, topic: KStr, topic_id: Uuid, data: PartitionData) {
    match topics.last_mut() {
        Some(last) if last.topic == topic && last.topic_id == topic_id => last.partitions.push(data),
        _ => topics.push(FetchableTopicResponse { topic, topic_id, partitions: vec![data] }),
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

/// The runtime's time, which simulation owns.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
