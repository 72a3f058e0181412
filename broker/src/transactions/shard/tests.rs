//! One event at a time: what it is answered, and what it leaves.

mod beginning;
mod ending;
mod lasting;
mod simulation;

use std::time::Duration;

use millstream_log::ProducerId;
use millstream_protocol::KStr;

use super::*;
use crate::coordinator::{BatchNumber, Moment, Now, Ticket};
use crate::settings::TransactionSettings;
use crate::transactions::record::TransactionRecord;
use crate::transactions::transaction::{Identity, LAST_EPOCH, Outcome, Version};
use crate::transactions::turn::{Effects, JobNumbers, Level, Note, Refused, Reply, Stopped};
use crate::transactions::{Adds, EnlistPartition};

const ID: KStr = KStr::from_static("tx");
const TIMEOUT_MS: i32 = 60_000;

/// A shard, its log, and a clock.
struct Bed {
    shard: Shard,
    log: Vec<TransactionRecord>,
    now_ms: i64,
    level: Level,
    jobs: JobNumbers,
    tickets: u64,
    fresh: i64,
    /// Of all events since it was looked at last.
    fx: Effects,
}

fn partition(topic: &'static str, partition: i32) -> TopicPartition {
    TopicPartition { topic: KStr::from_static(topic), partition }
}

fn enlisted(one: TopicPartition) -> EnlistPartition {
    EnlistPartition { partition: one, is_open: false }
}

impl Bed {
    fn new(level: i16) -> Self {
        Self {
            shard: Shard::default(),
            log: Vec::new(),
            now_ms: 1_000_000,
            level: Level(level),
            jobs: JobNumbers::default(),
            tickets: 0,
            fresh: 1000,
            fx: Effects::default(),
        }
    }

    fn turn<R>(&mut self, event: impl FnOnce(&mut Shard, &mut Turn<'_>) -> R) -> R {
        let settings = TransactionSettings::for_tests();
        let moment = Moment {
            now: Now { steady: Millis(self.now_ms), wall_ms: self.now_ms },
            next_batch: BatchNumber(u64::try_from(self.log.len()).unwrap() + 1),
        };
        let (level, jobs) = (self.level, &self.jobs);
        let before = self.fx.records.len();
        let said =
            event(&mut self.shard, &mut Turn { moment, settings: &settings, level, jobs, fx: &mut self.fx });
        self.log.extend_from_slice(&self.fx.records[before..]);
        said
    }

    fn ticket(&mut self) -> Ticket {
        self.tickets += 1;
        Ticket(self.tickets)
    }

    /// The answer, if there is one yet.
    fn answer(&mut self, ticket: Ticket) -> Option<Reply> {
        let replies = self.fx.replies.iter().chain(&self.fx.safe_replies);
        let mut found = replies.filter(|(to, _)| *to == ticket).map(|(_, reply)| reply.clone());
        let answer = found.next();
        assert!(found.next().is_none(), "nobody is answered twice");
        answer
    }

    fn producer(&mut self, ticket: Ticket) -> Option<Result<Identity, Stopped>> {
        self.answer(ticket).map(|reply| reply.try_into().unwrap())
    }

    fn begin(&mut self, expected: Option<Identity>) -> Result<Identity, Refused> {
        let mut begin = Begin { id: ID, timeout_ms: TIMEOUT_MS, expected, fresh: None };
        loop {
            let ticket = self.ticket();
            self.turn(|shard, turn| shard.begin(turn, ticket, &begin));
            match self.producer(ticket).unwrap() {
                Ok(identity) => return Ok(identity),
                Err(Stopped::Refused(refused)) => return Err(refused),
                Err(Stopped::NeedsProducerId) => begin.fresh = Some(self.fresh()),
            }
        }
    }

    fn fresh(&mut self) -> ProducerId {
        self.fresh += 1;
        ProducerId::new(self.fresh)
    }

    fn add(&mut self, by: Identity, one: TopicPartition) -> Result<(), Refused> {
        let ticket = self.ticket();
        self.turn(|shard, turn| shard.add(turn, ticket, (&ID, by), &[enlisted(one)], Version::One));
        self.answer(ticket).unwrap().try_into().unwrap()
    }

    fn enlist(&mut self, by: Identity, one: EnlistPartition, adds: Adds) -> Result<(), Refused> {
        self.turn(|shard, turn| shard.enlist(turn, (&ID, by), &[one], adds).0)
    }

    fn end(&mut self, by: Identity, outcome: Outcome, version: Version) -> Ticket {
        let mut end = End { id: ID, by, outcome, version, fresh: None };
        loop {
            let ticket = self.ticket();
            self.turn(|shard, turn| shard.end(turn, ticket, &end));
            match self.producer(ticket) {
                Some(Err(Stopped::NeedsProducerId)) => end.fresh = Some(self.fresh()),
                Some(_) | None => return ticket,
            }
        }
    }

    /// What is answered at once.
    fn ended(
        &mut self,
        by: Identity,
        outcome: Outcome,
        version: Version,
    ) -> Option<Result<Identity, Refused>> {
        let ticket = self.end(by, outcome, version);
        self.producer(ticket).map(|told| {
            told.map_err(|stopped| match stopped {
                Stopped::Refused(refused) => refused,
                Stopped::NeedsProducerId => unreachable!("asked again with one"),
            })
        })
    }

    /// Ends it, and writes the markers.
    fn end_fully(&mut self, by: Identity, outcome: Outcome, version: Version) -> Identity {
        let ticket = self.end(by, outcome, version);
        assert_eq!(self.producer(ticket), None, "it waits for the markers");
        self.finish();
        self.producer(ticket).unwrap().unwrap()
    }

    /// Writes all markers that are due.
    fn finish(&mut self) -> Vec<Finish> {
        let due = std::mem::take(&mut self.fx.deeds);
        for Finish { id, job, .. } in &due {
            self.turn(|shard, turn| shard.on_finished(turn, (id, *job)));
        }
        due
    }

    fn pass(&mut self, time: Duration) {
        self.now_ms += i64::try_from(time.as_millis()).unwrap();
        self.turn(Shard::tick);
    }

    fn stored(&self) -> &Stored {
        &self.shard.transactions[ID.as_str()].stored
    }

    /// Throws the shard away and reads its log.
    fn restart(&mut self) {
        self.shard = Shard::default();
        for record in &self.log {
            let (key, value) = record.encode().unwrap();
            let read = TransactionRecord::decode(&key, value.as_ref()).unwrap().unwrap();
            assert_eq!((&read.id, &read.value), (&record.id, &record.value), "a record says all of it");
            self.shard.replay(&read);
        }
        self.fx = Effects::default();
        self.turn(Shard::on_loaded);
    }
}
