//! What consumers of the classic protocol tell each other inside JoinGroup and SyncGroup. In a group that both
//! protocols share the broker reads the one and writes the other.
//!
//! ```text
//! subscription  version i16, topics [string], user data bytes?, owned [topic, [i32]] 1+, generation i32 2+, rack string? 3+
//! assignment    version i16, [topic, [i32]], user data bytes?
//! ```

use bytes::Bytes;
use millstream_protocol::KStr;
use millstream_protocol::wire::{Chunk, DecodeError, Form, Reader, Writer};

use super::partitions::{Held, Partitions};
use crate::groups::topic_view::TopicView;

/// None of it is in the flexible form.
const FORM: Form = Form::Classic;
/// The highest version there is. A higher one starts with the same fields.
const VERSION_MAX: i16 = 3;

/// What a member wants, and what it owns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Subscription {
    pub(super) version: i16,
    pub(super) topics: Vec<KStr>,
    pub(super) owned: Vec<(KStr, Vec<i32>)>,
    pub(super) rack: Option<KStr>,
}

impl Subscription {
    pub(super) fn read(metadata: &Bytes) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(metadata);
        let version = reader.i16()?;
        let topics = reader.array(FORM, |reader| reader.string(FORM))?;
        let _user_data = reader.nullable_bytes(FORM)?;
        let owned = if version >= 1 { partitions(&mut reader)? } else { Vec::new() };
        let _generation = if version >= 2 { reader.i32()? } else { -1 };
        let rack = if version >= 3 { reader.nullable_string(FORM)? } else { None };
        let rack = rack.filter(|rack| !rack.is_empty());
        Ok(Self { version, topics, owned, rack })
    }

    /// What it owns, as far as the topics exist.
    pub(super) fn owned_partitions(&self, topics: &TopicView) -> Partitions {
        by_id(&self.owned, topics)
    }
}

/// What the leader of a classic group gave to a member.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Given {
    partitions: Vec<(KStr, Vec<i32>)>,
    /// An assignor of the client's own told its members more than partitions.
    pub(super) has_user_data: bool,
}

impl Given {
    pub(super) fn read(assignment: &Bytes) -> Result<Self, DecodeError> {
        if assignment.is_empty() {
            return Ok(Self::default());
        }
        let mut reader = Reader::new(assignment);
        let _version = reader.i16()?;
        let partitions = partitions(&mut reader)?;
        let user_data = reader.nullable_bytes(FORM)?;
        Ok(Self { partitions, has_user_data: user_data.is_some_and(|data| !data.is_empty()) })
    }

    pub(super) fn partitions(&self, topics: &TopicView) -> Partitions {
        by_id(&self.partitions, topics)
    }
}

/// An assignment in the version that a member speaks.
pub(super) fn assignment(partitions: &Partitions, version: i16, topics: &TopicView) -> Bytes {
    let named = |(id, partitions)| Some((topics.identified(id)?, partitions));
    let named: Vec<_> = partitions.topics().filter_map(named).collect();
    let mut writer = Writer::new();
    writer.i16(version.clamp(0, VERSION_MAX));
    let written = writer.array(FORM, &named, |writer, (name, partitions)| {
        writer.string(FORM, name)?;
        let partitions: Vec<i32> = partitions.iter().copied().collect();
        writer.array(FORM, &partitions, |writer, partition| {
            writer.i32(*partition);
            Ok(())
        })
    });
    written.expect("a topic's name is short, and there are not 2^31 partitions");
    writer.i32(-1); // no user data
    let mut chunks = writer.into_chunks();
    Chunk::into_bytes(chunks.swap_remove(0))
}

/// As above, of what a member holds.
pub(super) fn assignment_of(held: &Held, version: i16, topics: &TopicView) -> Bytes {
    assignment(&held.partitions(), version, topics)
}

fn partitions(reader: &mut Reader<'_>) -> Result<Vec<(KStr, Vec<i32>)>, DecodeError> {
    reader.array(FORM, |reader| Ok((reader.string(FORM)?, reader.array(FORM, Reader::i32)?)))
}

fn by_id(named: &[(KStr, Vec<i32>)], topics: &TopicView) -> Partitions {
    let of_topic = |(name, partitions): &(KStr, Vec<i32>)| {
        let id = topics.named(name).map(|topic| topic.id);
        id.into_iter()
            .flat_map(|id| partitions.iter().map(move |partition| (id, *partition)))
            .collect::<Vec<_>>()
    };
    named.iter().flat_map(of_topic).collect()
}
