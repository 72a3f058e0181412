//! What a Produce answer, or its absence, means for one batch.

use std::time::Duration;

use millstream_client::ClientError;
use millstream_protocol::ErrorCode;
use millstream_protocol::messages::produce_response::PartitionProduceResponse;

use super::lane::Verdict;
use crate::delivery::{Outcome, Written};
use crate::error::{Fate, ProduceError};

/// Whether what we know of the partition's leader is in doubt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leader {
    Stands,
    Doubtful,
}

/// Topic and partition of a batch, for messages.
#[derive(Debug, Clone, Copy)]
pub(super) struct Target<'a> {
    pub(super) topic: &'a str,
    pub(super) partition: i32,
}

impl<'a> From<&'a Outcome> for Target<'a> {
    fn from(outcome: &'a Outcome) -> Self {
        Self { topic: &outcome.topic, partition: outcome.partition }
    }
}

/// Reads the answer for one partition.
pub(super) fn judge(target: Target<'_>, answer: Option<&PartitionProduceResponse>) -> (Verdict, Leader) {
    let Some(answer) = answer else {
        let message = "the broker's answer does not mention the partition".to_owned();
        let error = refused(target, ErrorCode::UnknownServerError, message, Fate::PossiblyWritten);
        return (Verdict::Again(error), Leader::Stands);
    };
    let code = ErrorCode::from_code(answer.error_code).unwrap_or(ErrorCode::UnknownServerError);
    let error = |fate| refused(target, code, words(code, answer), fate);
    match code {
        ErrorCode::None => (Verdict::Written(written(answer)), Leader::Stands),
        // Written so long ago that the broker does not know where any more.
        ErrorCode::DuplicateSequenceNumber => {
            let written = Written { base_offset: None, append_time: None };
            (Verdict::Written(written), Leader::Stands)
        }
        ErrorCode::OutOfOrderSequenceNumber
        | ErrorCode::UnknownProducerId
        | ErrorCode::InvalidProducerEpoch
        | ErrorCode::ProducerFenced
        | ErrorCode::InvalidProducerIdMapping => (Verdict::Broken(code), Leader::Stands),
        ErrorCode::NotLeaderOrFollower
        | ErrorCode::LeaderNotAvailable
        | ErrorCode::UnknownTopicOrPartition
        | ErrorCode::UnknownTopicId
        | ErrorCode::InconsistentTopicId
        | ErrorCode::FencedLeaderEpoch
        | ErrorCode::UnknownLeaderEpoch => (Verdict::Again(error(Fate::NotWritten)), Leader::Doubtful),
        // The log failed somewhere between writing and flushing, or the time was up in between.
        ErrorCode::KafkaStorageError => (Verdict::Again(error(Fate::PossiblyWritten)), Leader::Doubtful),
        ErrorCode::RequestTimedOut
        | ErrorCode::NotEnoughReplicasAfterAppend
        | ErrorCode::NetworkException => (Verdict::Again(error(Fate::PossiblyWritten)), Leader::Stands),
        ErrorCode::MessageTooLarge | ErrorCode::RecordListTooLarge => {
            (Verdict::TooLarge(error(Fate::NotWritten)), Leader::Stands)
        }
        ErrorCode::UnknownServerError => (Verdict::Refused(error(Fate::PossiblyWritten)), Leader::Stands),
        code if code.is_retriable() => (Verdict::Again(error(Fate::NotWritten)), Leader::Stands),
        _ => (Verdict::Refused(error(Fate::NotWritten)), Leader::Stands),
    }
}

/// The request as a whole got no usable answer.
pub(super) fn judge_failure(target: Target<'_>, source: &ClientError) -> Verdict {
    let fate = if source.had_no_effect() { Fate::NotWritten } else { Fate::PossiblyWritten };
    let error = request_failed(target, source.clone(), fate);
    if source.is_retriable() { Verdict::Again(error) } else { Verdict::Refused(error) }
}

pub(super) fn request_failed(target: Target<'_>, source: ClientError, fate: Fate) -> ProduceError {
    ProduceError::Request { topic: target.topic.to_owned(), partition: target.partition, source, fate }
}

/// A batch that never left the buffer within its time.
pub(super) fn never_sent(target: Target<'_>, after: Duration, trouble: Option<&str>) -> ProduceError {
    ProduceError::TimedOut {
        topic: target.topic.to_owned(),
        partition: target.partition,
        after,
        last: trouble.map(str::to_owned),
        fate: Fate::NotWritten,
    }
}

pub(super) fn refused(target: Target<'_>, code: ErrorCode, message: String, fate: Fate) -> ProduceError {
    ProduceError::Refused { topic: target.topic.to_owned(), partition: target.partition, code, message, fate }
}

fn written(answer: &PartitionProduceResponse) -> Written {
    Written {
        base_offset: (answer.base_offset >= 0).then_some(answer.base_offset),
        append_time: (answer.log_append_time_ms >= 0).then_some(answer.log_append_time_ms),
    }
}

/// The broker's words; the first record that it blames; what to do where we know.
fn words(code: ErrorCode, answer: &PartitionProduceResponse) -> String {
    let mut words = answer.error_message.as_deref().unwrap_or(code.message()).to_owned();
    if let Some(record) = answer.record_errors.first() {
        let why = record.batch_index_error_message.as_deref().unwrap_or("no reason given");
        words.push_str(&format!("; record {} of the batch: {why}", record.batch_index));
    }
    if code == ErrorCode::MessageTooLarge {
        words.push_str("; the record alone is too large for it: raise the topic's max.message.bytes");
    }
    words
}
