//! A way to a broker that comes and goes, for clients of transactions: one request at a time, and connections as needed.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use millstream_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use millstream_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use millstream_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopics,
};
use millstream_protocol::messages::{FetchRequest, ListOffsetsRequest, OffsetFetchRequest};
use millstream_protocol::{Chunk, ErrorCode, KStr, Request};

use super::broker::pause;
use super::wire::{Wire, known};
use crate::history::Isolation;
use crate::transactional::reading::{Seen, read};
use crate::transactional::{Attempt, Attempts, Line, Place, Told, Unanswered};

/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long is waited before the next try.
const MOMENT: Duration = Duration::from_millis(10);

/// The way.
#[derive(Debug)]
pub(in crate::proof) struct Way {
    address: SocketAddr,
    wire: Option<Wire>,
}

impl Line for Way {
    async fn ask<R: Request>(&mut self, version: i16, request: &R) -> Result<R::Response, Unanswered> {
        if self.wire.is_none() {
            self.wire = Wire::connect(self.address).ok();
            if let Some(wire) = &self.wire {
                // An error means that the connection is gone, which the request will notice.
                let _ = wire.wait_at_most(PATIENCE);
            }
        }
        let answer = self.wire.as_mut().and_then(|wire| wire.call(version, request).ok());
        if answer.is_none() {
            self.wire = None;
        }
        answer.ok_or(Unanswered)
    }
}

/// Runs what never waits but on a socket that blocks.
pub(in crate::proof) fn at_once<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => unreachable!("a blocking connection is never waited for"),
    }
}

/// Goes on asking while that may help and `is_enough` does not say otherwise. The last answer, and what all say together.
pub(in crate::proof) fn insist(
    way: &mut Way,
    is_enough: impl Fn() -> bool,
    mut attempt: impl AsyncFnMut(&mut Way) -> Attempt,
) -> (Attempt, Attempts) {
    let mut attempts = Attempts::default();
    loop {
        let last = at_once(attempt(way));
        attempts.note(last);
        match last {
            Ok(Told::Done | Told::Fenced(_) | Told::Refused(_)) => return (last, attempts),
            Ok(Told::Again(_)) | Err(Unanswered) if is_enough() => return (last, attempts),
            Ok(Told::Again(_)) | Err(Unanswered) => pause(MOMENT),
        }
    }
}

/// What was said to a question that may be asked again.
pub(in crate::proof) type Asked<T> = Result<Result<T, ErrorCode>, Unanswered>;

impl Way {
    pub(in crate::proof) fn to(address: SocketAddr) -> Self {
        Self { address, wire: None }
    }

    /// Reads from an offset on what is there; bad bytes are told in words.
    pub(in crate::proof) fn fetch(
        &mut self,
        place: &Place,
        offset: i64,
        isolation: Isolation,
    ) -> Asked<Result<Seen, String>> {
        let partition = FetchPartition {
            partition: place.partition,
            fetch_offset: offset,
            current_leader_epoch: -1,
            last_fetched_epoch: -1,
            log_start_offset: -1,
            partition_max_bytes: 1 << 20,
            ..Default::default()
        };
        let topic =
            FetchTopic { topic: place.topic.clone(), partitions: vec![partition], ..Default::default() };
        let request = FetchRequest {
            max_wait_ms: 0,
            min_bytes: 1,
            max_bytes: 1 << 20,
            isolation_level: i8::from(isolation == Isolation::Committed),
            session_epoch: -1,
            topics: vec![topic],
            ..Default::default()
        };
        let answer = at_once(self.ask(12, &request))?;
        let data =
            answer.responses.into_iter().flat_map(|topic| topic.partitions).next().ok_or(Unanswered)?;
        Ok(match known(data.error_code) {
            ErrorCode::None => {
                let aborted = data.aborted_transactions.unwrap_or_default();
                let aborted = (isolation == Isolation::Committed).then_some(&aborted[..]);
                Ok(read(data.records.map(Chunk::into_bytes).unwrap_or_default(), offset, aborted))
            }
            code => Err(code),
        })
    }

    /// The end of a partition for a kind of reader, and the leader epoch.
    pub(in crate::proof) fn end_of(&mut self, place: &Place, isolation: Isolation) -> Asked<(i64, i32)> {
        let partition = ListOffsetsPartition {
            partition_index: place.partition,
            timestamp: -1,
            current_leader_epoch: -1,
        };
        let topic = ListOffsetsTopic { name: place.topic.clone(), partitions: vec![partition] };
        let request = ListOffsetsRequest {
            replica_id: -1,
            isolation_level: i8::from(isolation == Isolation::Committed),
            topics: vec![topic],
            ..Default::default()
        };
        let answer = at_once(self.ask(7, &request))?;
        let told = answer.topics.into_iter().flat_map(|topic| topic.partitions).next().ok_or(Unanswered)?;
        Ok(match known(told.error_code) {
            ErrorCode::None => Ok((told.offset, told.leader_epoch)),
            code => Err(code),
        })
    }

    /// The committed offset of a group, which no open transaction may change; -1 if it has none.
    pub(in crate::proof) fn stable_progress(&mut self, group: &KStr, of: &Place) -> Asked<i64> {
        let topic = OffsetFetchRequestTopics {
            name: of.topic.clone(),
            partition_indexes: vec![of.partition],
            ..Default::default()
        };
        let group = OffsetFetchRequestGroup {
            group_id: group.clone(),
            member_epoch: -1,
            topics: Some(vec![topic]),
            ..Default::default()
        };
        let request = OffsetFetchRequest { groups: vec![group], require_stable: true, ..Default::default() };
        let answer = at_once(self.ask(9, &request))?;
        let group = answer.groups.into_iter().next().ok_or(Unanswered)?;
        let partition = group.topics.into_iter().flat_map(|topic| topic.partitions).next();
        Ok(match (known(group.error_code), partition) {
            (ErrorCode::None, Some(partition)) => match known(partition.error_code) {
                ErrorCode::None => Ok(partition.committed_offset),
                code => Err(code),
            },
            (ErrorCode::None, None) => return Err(Unanswered),
            (code, _) => Err(code),
        })
    }
}
