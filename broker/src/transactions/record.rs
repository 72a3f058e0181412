//! What the coordinator keeps in `__transaction_state`: Kafka's own formats.
//!
//! ```text
//! key    kind i16 = 0 | transactional id
//! value  version i16 | fields      null: the id has expired
//! ```
//! Both versions of the value are read. Version 1 has what a change of the producer id needs, and which protocol the
//! client spoke; it is written once `transaction.version` is 1 or higher, as by Kafka, or if there is something to say
//! that version 0 cannot.

use bytes::Bytes;
use millstream_log::ProducerId;
use millstream_protocol::messages::transaction_log_value::TransactionPartition;
use millstream_protocol::messages::{TransactionLogKey, TransactionLogValue};
use millstream_protocol::wire::{EncodeError, Reader};
use millstream_protocol::{KStr, Message};

use super::transaction::{Identity, Outcome, Partitions, Status, Stored, Version};
use crate::coordinator::format::{KEY_VERSION, RecordError, decoded, encoded};

/// The kind of the only key.
const TRANSACTION: i16 = 0;

/// The version without tagged fields, and the one with them.
const PLAIN: i16 = 0;
const TAGGED: i16 = 1;

/// No producer.
const NONE: i64 = -1;

/// From this level of `transaction.version` on a client has a new epoch after each transaction.
const LEVEL_TWO: i16 = 2;

/// One change of a transactional id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TransactionRecord {
    pub(crate) id: KStr,
    /// `None`: it has expired.
    pub(crate) value: Option<Stored>,
    pub(crate) form: Form,
}

/// How a value is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// As `transaction.version` 0 wants it, unless that cannot say all.
    Plain,
    Tagged,
}

impl TransactionRecord {
    /// The key and the value as they are stored.
    pub(crate) fn encode(&self) -> Result<(Bytes, Option<Bytes>), EncodeError> {
        let key = TransactionLogKey { transactional_id: self.id.clone() };
        let value = self.value.as_ref().map(|stored| (stored, written(stored)));
        let version = value.as_ref().map_or(PLAIN, |(stored, _)| match self.form {
            Form::Plain if is_plain(stored) => PLAIN,
            Form::Plain | Form::Tagged => TAGGED,
        });
        encoded(TRANSACTION, &key, version, value.as_ref().map(|(_, value)| value))
    }

    /// Reads a record; `None` for a kind that is not known here.
    pub(crate) fn decode(key: &Bytes, value: Option<&Bytes>) -> Result<Option<Self>, RecordError> {
        let mut reader = Reader::new(key);
        if reader.i16()? != TRANSACTION {
            return Ok(None);
        }
        let TransactionLogKey { transactional_id } = Message::decode(&mut reader, KEY_VERSION)?;
        let value: Option<TransactionLogValue> = decoded(value)?;
        let value = value.map(|value| read(&value)).transpose()?;
        Ok(Some(Self { id: transactional_id, value, form: Form::Tagged }))
    }
}

/// Whether version 0 can say all of it.
fn is_plain(stored: &Stored) -> bool {
    stored.previous.is_none() && stored.next.is_none() && stored.version == Version::One
}

fn written(stored: &Stored) -> TransactionLogValue {
    let partitions = stored.partitions.by_topic().map(|(topic, partitions)| TransactionPartition {
        topic: topic.clone(),
        partition_ids: partitions.iter().copied().collect(),
    });
    TransactionLogValue {
        producer_id: stored.identity.producer.get(),
        previous_producer_id: stored.previous.map_or(NONE, ProducerId::get),
        next_producer_id: stored.next.map_or(NONE, ProducerId::get),
        producer_epoch: stored.identity.epoch,
        transaction_timeout_ms: stored.timeout_ms,
        transaction_status: status_number(stored.status),
        // Kafka tells "none yet" from "none any more".
        transaction_partitions: (stored.status != Status::Empty).then(|| partitions.collect()),
        transaction_last_update_timestamp_ms: stored.updated_ms,
        transaction_start_timestamp_ms: stored.started_ms,
        client_transaction_version: match stored.version {
            Version::One => 0,
            Version::Two => LEVEL_TWO,
        },
    }
}

fn read(value: &TransactionLogValue) -> Result<Stored, RecordError> {
    let status = status(value.transaction_status)?;
    let mut partitions = Partitions::default();
    for topic in value.transaction_partitions.iter().flatten() {
        topic.partition_ids.iter().for_each(|partition| partitions.insert(&topic.topic, *partition));
    }
    let producer = |id: i64| (id >= 0).then(|| ProducerId::new(id));
    let check = |what, found| if found < 0 { Err(RecordError::Value { what, found }) } else { Ok(()) };
    check("a producer id", value.producer_id)?;
    check("a producer epoch", i64::from(value.producer_epoch))?;
    Ok(Stored {
        identity: Identity { producer: ProducerId::new(value.producer_id), epoch: value.producer_epoch },
        previous: producer(value.previous_producer_id),
        next: producer(value.next_producer_id),
        timeout_ms: value.transaction_timeout_ms,
        status,
        partitions,
        updated_ms: value.transaction_last_update_timestamp_ms,
        started_ms: value.transaction_start_timestamp_ms,
        version: if value.client_transaction_version >= LEVEL_TWO { Version::Two } else { Version::One },
    })
}

fn status_number(status: Status) -> i8 {
    match status {
        Status::Empty => 0,
        Status::Ongoing => 1,
        Status::Prepared(Outcome::Commit) => 2,
        Status::Prepared(Outcome::Abort) => 3,
        Status::Complete(Outcome::Commit) => 4,
        Status::Complete(Outcome::Abort) => 5,
    }
}

fn status(number: i8) -> Result<Status, RecordError> {
    Ok(match number {
        0 => Status::Empty,
        1 => Status::Ongoing,
        2 => Status::Prepared(Outcome::Commit),
        3 => Status::Prepared(Outcome::Abort),
        4 => Status::Complete(Outcome::Commit),
        5 => Status::Complete(Outcome::Abort),
        // Kafka's Dead and PrepareEpochFence are never stored.
        _ => return Err(RecordError::Value { what: "the state of a transaction", found: number.into() }),
    })
}
