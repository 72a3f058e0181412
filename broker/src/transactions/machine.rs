//! The transactional ids of a partition as a coordinator has them.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use bytes::Bytes;
use millstream_log::{ProducerId, TransactionOutcome};
use millstream_protocol::wire::EncodeError;

use super::record::TransactionRecord;
use super::shard::Shard;
use super::transaction::Outcome;
use super::turn::{Effects, Finish, Note, Reply, Turn};
use super::{Counts, level};
use crate::coordinator::format::RecordError;
use crate::coordinator::{Author, Coordinators, Layout, Millis, Moment, Now, StateMachine};
use crate::metadata::topic_name::TRANSACTION_STATE;
use crate::node::Node;
use crate::settings::BrokerSettings;

impl StateMachine for Shard {
    type Record = TransactionRecord;
    type Reply = Reply;
    type Deed = Finish;
    type Note = Note;
    type Turn<'a> = Turn<'a>;

    const TOPIC: &'static str = TRANSACTION_STATE;

    fn coordinators(node: &Node) -> &Coordinators<Self> {
        &node.transactions.coordinators
    }

    fn layout(settings: &BrokerSettings) -> Layout {
        let transactions = &settings.transactions;
        Layout { partitions: transactions.partitions, segment_bytes: transactions.segment_bytes }
    }

    fn run(&mut self, node: &Node, moment: Moment, event: impl FnOnce(&mut Self, &mut Turn<'_>)) -> Effects {
        let mut fx = Effects::default();
        let settings = node.settings();
        let (settings, jobs) = (&settings.transactions, &node.transactions.jobs);
        event(self, &mut Turn { moment, settings, level: level(node), jobs, fx: &mut fx });
        fx
    }

    fn tell(node: &Node, note: &Note, _: Now) {
        note.tell();
        node.transactions.counts.note(note);
    }

    fn encode(record: &TransactionRecord) -> Result<(Bytes, Option<Bytes>), EncodeError> {
        record.encode()
    }

    fn decode(key: &Bytes, value: Option<&Bytes>) -> Result<Option<TransactionRecord>, RecordError> {
        TransactionRecord::decode(key, value)
    }

    /// What it keeps belongs to no transaction.
    fn replay(&mut self, record: &TransactionRecord, _: Option<Author>) {
        self.replay(record);
    }

    fn on_transaction_ended(&mut self, _: ProducerId, _: TransactionOutcome) {}

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

impl Counts {
    fn note(&self, note: &Note) {
        let count = |counter: &AtomicU64| _ = counter.fetch_add(1, Relaxed);
        match note {
            Note::Initialized { .. } | Note::Expired { .. } => {}
            Note::TimedOut { .. } => count(&self.timed_out),
            Note::Fenced { .. } => count(&self.fenced),
            Note::Ended { outcome: Outcome::Commit, .. } => count(&self.committed),
            Note::Ended { outcome: Outcome::Abort, .. } => count(&self.aborted),
        }
    }
}
