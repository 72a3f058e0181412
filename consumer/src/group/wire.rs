//! What members of a classic group tell each other, in Kafka's formats: ConsumerProtocolSubscription and
//! ConsumerProtocolAssignment. The broker passes them on and does not look.
//!
//! ```text
//! subscription: version i16, topics [string], user data, from 1: owned [topic, [i32]], from 2: generation i32,
//!               from 3: rack
//! assignment:   version i16, [topic, [i32]], user data
//! ```
//! Newer versions only add at the end, so what comes after the fields that are known is skipped.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use millstream_protocol::KStr;
use millstream_protocol::wire::{DecodeError, EncodeError, Form, Reader, Writer};

use super::rebalance::TopicPartition;

/// The version that is written.
pub(super) const VERSION: i16 = 3;
/// From this version on a subscription says what its member has.
const OWNED_FROM: i16 = 1;
/// From this version on it says since which generation.
const GENERATION_FROM: i16 = 2;
/// From this version on it says where the member stands.
const RACK_FROM: i16 = 3;
/// A member that has no generation.
pub(super) const NO_GENERATION: i32 = -1;

const FORM: Form = Form::Classic;

/// What a member wants, and what it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MemberSubscription {
    pub(crate) topics: BTreeSet<KStr>,
    pub(crate) owned: BTreeSet<TopicPartition>,
    /// In which generation it got what it has; -1 if it does not say.
    pub(crate) generation: i32,
    pub(crate) rack: Option<KStr>,
}

impl MemberSubscription {
    pub(super) fn encode(&self) -> Result<Bytes, EncodeError> {
        let mut writer = Writer::new();
        writer.i16(VERSION);
        let topics: Vec<_> = self.topics.iter().collect();
        writer.array(FORM, &topics, |writer, topic| writer.string(FORM, topic))?;
        // Older leaders look for the generation here.
        writer.bytes(FORM, &self.generation.to_be_bytes())?;
        write_partitions(&mut writer, &self.owned)?;
        writer.i32(self.generation);
        writer.nullable_string(FORM, self.rack.as_deref())?;
        Ok(bytes_of(writer))
    }

    pub(super) fn decode(bytes: &Bytes) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let version = reader.i16()?;
        let topics = reader.array(FORM, |reader| Ok(reader.string(FORM)?.detach()))?;
        let user_data = reader.nullable_bytes(FORM)?.unwrap_or_default();
        let owned = if version >= OWNED_FROM { read_partitions(&mut reader)? } else { BTreeSet::new() };
        let told = match version >= GENERATION_FROM {
            true => reader.i32()?,
            false => NO_GENERATION,
        };
        let generation = match (told, <[u8; 4]>::try_from(&*user_data)) {
            (NO_GENERATION, Ok(noted)) => i32::from_be_bytes(noted),
            (told, _) => told,
        };
        let rack = match version >= RACK_FROM {
            true => reader.nullable_string(FORM)?.map(|rack| rack.detach()),
            false => None,
        };
        Ok(Self { topics: topics.into_iter().collect(), owned, generation, rack })
    }
}

pub(super) fn encode_assignment(partitions: &BTreeSet<TopicPartition>) -> Result<Bytes, EncodeError> {
    let mut writer = Writer::new();
    writer.i16(VERSION);
    write_partitions(&mut writer, partitions)?;
    writer.nullable_bytes(FORM, None)?;
    Ok(bytes_of(writer))
}

/// Empty bytes are an assignment of nothing.
pub(super) fn decode_assignment(bytes: &Bytes) -> Result<BTreeSet<TopicPartition>, DecodeError> {
    if bytes.is_empty() {
        return Ok(BTreeSet::new());
    }
    let mut reader = Reader::new(bytes);
    let _version = reader.i16()?;
    read_partitions(&mut reader)
}

fn write_partitions(writer: &mut Writer, partitions: &BTreeSet<TopicPartition>) -> Result<(), EncodeError> {
    let mut by_topic: BTreeMap<&KStr, Vec<i32>> = BTreeMap::new();
    for TopicPartition { topic, partition } in partitions {
        by_topic.entry(topic).or_default().push(*partition);
    }
    let by_topic: Vec<_> = by_topic.into_iter().collect();
    writer.array(FORM, &by_topic, |writer, (topic, partitions)| {
        writer.string(FORM, topic)?;
        writer.array(FORM, partitions, |writer, partition| {
            writer.i32(*partition);
            Ok(())
        })
    })
}

fn read_partitions(reader: &mut Reader<'_>) -> Result<BTreeSet<TopicPartition>, DecodeError> {
    let by_topic = reader.array(FORM, |reader| {
        let topic = reader.string(FORM)?.detach();
        Ok((topic, reader.array(FORM, Reader::i32)?))
    })?;
    let of_topic = |(topic, partitions): (KStr, Vec<i32>)| {
        partitions.into_iter().map(move |partition| TopicPartition { topic: topic.clone(), partition })
    };
    Ok(by_topic.into_iter().flat_map(of_topic).collect())
}

fn bytes_of(writer: Writer) -> Bytes {
    let chunks = writer.into_chunks();
    chunks.into_iter().flat_map(|chunk| chunk.into_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subscription() -> MemberSubscription {
        MemberSubscription {
            topics: [KStr::from("a"), KStr::from("b")].into(),
            owned: [TopicPartition::new("a", 1), TopicPartition::new("b", 0)].into(),
            generation: 7,
            rack: Some(KStr::from("r")),
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let subscription = subscription();
        assert_eq!(MemberSubscription::decode(&subscription.encode().unwrap()).unwrap(), subscription);
        let assigned = subscription.owned;
        assert_eq!(decode_assignment(&encode_assignment(&assigned).unwrap()).unwrap(), assigned);
        assert_eq!(decode_assignment(&Bytes::new()).unwrap(), BTreeSet::new());
    }

    #[test]
    fn the_bytes_of_a_subscription_are_those_of_kafkas_clients() {
        // Version 3, one topic, the generation as user data, one owned partition, generation 1, no rack.
        let kafkas = b"\0\x03\0\0\0\x01\0\x01t\0\0\0\x04\0\0\0\x01\0\0\0\x01\0\x01t\0\0\0\x01\0\0\0\x02\0\0\0\x01\xff\xff";
        let ours = MemberSubscription {
            topics: [KStr::from("t")].into(),
            owned: [TopicPartition::new("t", 2)].into(),
            generation: 1,
            rack: None,
        };
        assert_eq!(&*ours.encode().unwrap(), kafkas);
    }

    #[test]
    fn older_and_newer_members_are_understood() {
        // Version 1 of a cooperative member keeps its generation in the user data.
        let older = Bytes::from_static(b"\0\x01\0\0\0\x01\0\x01t\0\0\0\x04\0\0\0\x05\0\0\0\0");
        let read = MemberSubscription::decode(&older).unwrap();
        assert_eq!((read.generation, read.topics), (5, [KStr::from("t")].into()));
        let mut newer = subscription().encode().unwrap().to_vec();
        newer[1] = 9;
        newer.extend_from_slice(b"something new");
        assert_eq!(MemberSubscription::decode(&newer.into()).unwrap(), subscription());
    }

    #[test]
    fn bytes_that_are_none_of_it_are_an_error_whatever_their_length() {
        let whole = subscription().encode().unwrap();
        for length in 0..whole.len() {
            MemberSubscription::decode(&whole.slice(..length)).unwrap_err();
        }
        decode_assignment(&Bytes::from_static(&[0, 1, 127, 255, 255, 255])).unwrap_err();
    }
}
