//! The groups of a partition as a coordinator has them.

use std::convert::Infallible;

use bytes::Bytes;
use millstream_log::{ProducerId, TransactionOutcome};
use millstream_protocol::wire::EncodeError;

use super::record::GroupRecord;
use super::shard::Shard;
use super::turn::{Effects, Millis, Note, Now, Reply, Turn};
use crate::coordinator::format::RecordError;
use crate::coordinator::{Author, Coordinators, Layout, Moment, StateMachine};
use crate::metadata::topic_name::CONSUMER_OFFSETS;
use crate::node::Node;
use crate::settings::BrokerSettings;

impl StateMachine for Shard {
    type Record = GroupRecord;
    type Reply = Reply;
    /// Nothing.
    type Deed = Infallible;
    type Note = Note;
    type Turn<'a> = Turn<'a>;

    const TOPIC: &'static str = CONSUMER_OFFSETS;

    fn coordinators(node: &Node) -> &Coordinators<Self> {
        &node.groups.coordinators
    }

    fn layout(settings: &BrokerSettings) -> Layout {
        let groups = &settings.groups;
        Layout { partitions: groups.partitions, segment_bytes: groups.segment_bytes }
    }

    fn run(&mut self, node: &Node, moment: Moment, event: impl FnOnce(&mut Self, &mut Turn<'_>)) -> Effects {
        let mut fx = Effects::default();
        let now = moment.now;
        let topics = node.groups.topics(node);
        let settings = node.settings();
        self.begin_turn(moment.next_batch);
        let mut turn = Turn { now, settings: &settings.groups, topics: &topics.view, fx: &mut fx };
        event(self, &mut turn);
        self.end_turn(moment.next_batch, &fx.records);
        fx
    }

    fn tell(node: &Node, note: &Note, now: Now) {
        note.tell();
        node.groups.seen().note(note, now);
    }

    fn encode(record: &GroupRecord) -> Result<(Bytes, Option<Bytes>), EncodeError> {
        record.encode()
    }

    fn decode(key: &Bytes, value: Option<&Bytes>) -> Result<Option<GroupRecord>, RecordError> {
        Ok(GroupRecord::decode(key, value)?)
    }

    fn replay(&mut self, record: &GroupRecord, author: Option<Author>) {
        match author {
            Some(author) => self.replay_in_transaction(author, record),
            None => self.replay(record),
        }
    }

    fn on_transaction_ended(&mut self, producer: ProducerId, outcome: TransactionOutcome) {
        self.on_transaction_ended(producer, outcome);
    }

    fn on_loaded(&mut self, turn: &mut Turn<'_>) {
        self.on_loaded(turn);
    }

    fn next_due(&self) -> Option<Millis> {
        self.next_due()
    }

    fn tick(&mut self, turn: &mut Turn<'_>) {
        self.tick(turn);
    }
}
