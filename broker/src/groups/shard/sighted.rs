//! What is seen of groups from outside, for metrics and people.

use millstream_protocol::KStr;

use super::administered::EMPTY;
use super::{Entry, Shard};
use crate::groups::group::{Group, GroupKind};
use crate::groups::seen::{OFFSETS_SEEN_MAX, OffsetSighting, Sighting};
use crate::groups::turn::{Ticket, Turn};

impl Shard {
    /// Tells of one group, or of all. Those with members come first: when there are too many offsets, those of
    /// groups that are stopped are left out.
    pub(crate) fn sight(&self, turn: &mut Turn<'_>, ticket: Ticket, wanted: Option<&KStr>) {
        let mut wanted: Vec<(&KStr, &Entry)> = match wanted {
            Some(id) => self.entries.get_key_value(id.as_str()).into_iter().collect(),
            None => self.entries.iter().collect(),
        };
        wanted.sort_by_key(|(_, entry)| entry.members() == 0);
        let mut room = OFFSETS_SEEN_MAX;
        let sightings: Vec<Sighting> =
            wanted.into_iter().map(|(id, entry)| entry.sighting(id, &mut room)).collect();
        turn.fx.reply(ticket, sightings);
    }
}

impl Entry {
    fn members(&self) -> usize {
        self.group.as_ref().map_or(0, Group::member_count)
    }

    fn sighting(&self, id: &KStr, room: &mut usize) -> Sighting {
        let group = self.group.as_ref();
        let all = || {
            let topics = self.offsets.topics().iter();
            topics.flat_map(|topic| {
                topic.iter().map(|(partition, committed)| (&topic.name, partition, committed))
            })
        };
        let offsets: Vec<_> = all()
            .take(*room)
            .map(|(topic, partition, committed)| OffsetSighting {
                topic: topic.clone(),
                partition,
                committed: committed.offset,
                committed_ms: committed.committed_ms,
            })
            .collect();
        *room -= offsets.len();
        Sighting {
            id: id.clone(),
            kind: group.map_or(GroupKind::Classic, Group::kind).name(),
            state: group.map_or(EMPTY, Group::state),
            members: self.members(),
            left_out: all().count() - offsets.len(),
            offsets,
        }
    }
}
