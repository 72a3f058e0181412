//! Writers: transactions over some partitions, ended in all ways; each may die at any point, and some do not notice.

use std::rc::Rc;

use super::TIMEOUT;
use super::bed::{Bed, PARTITIONS, WRITTEN, key_of};
use super::link::{Link, insist};
use crate::history::{Action, Ending, Name, Outcome, Process, Sent, Transaction, Value, crc_of};
use crate::simulation::chance::Chance;
use crate::simulation::world::Phase;
use crate::transactional::{
    Attempt, KeyValue, Of, Place, Producer, Progress, Protocol, Told, Unanswered, find_coordinator,
};

/// How often a request is repeated before its client gives up.
const TRIES: u32 = 10;

/// One instance of a producer, as the history knows it.
pub(super) struct Instance {
    pub(super) link: Link,
    pub(super) process: Process,
    pub(super) name: Name,
    pub(super) producer: Producer,
}

/// What becomes of an instance after a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// It begins another.
    Another,
    /// It has no future.
    Die,
}

pub(super) async fn write(bed: Rc<Bed>, mut chance: Chance, name: Name, protocol: Protocol) {
    while bed.phase.get() == Phase::Working && !bed.has_failed() {
        let link = Link::new(&bed, chance.fork());
        let Some(mut writer) = Instance::claim(link, name, protocol).await else { continue };
        while bed.phase.get() == Phase::Working && writer.one_transaction().await == Next::Another {
            writer.link.pause(10).await;
        }
        if chance.one_in(4) {
            // Nobody takes its place for so long that its transaction times out.
            writer.link.pause(3 * TIMEOUT.as_millis() as u64).await;
        }
    }
}

impl Instance {
    /// A new instance, which fences the one before; none if it did not come about.
    pub(super) async fn claim(mut link: Link, name: Name, protocol: Protocol) -> Option<Self> {
        let bed = Rc::clone(&link.bed);
        let mut producer = Producer::new(&format!("name-{name}"), protocol, TIMEOUT);
        let process = bed.process();
        let began_us = bed.now_us();
        let id = producer.id().clone();
        let (found, _) =
            insist(&mut link, 40, async |link| find_coordinator(link, Of::Transactions, &id).await).await;
        if found != Ok(Told::Done) {
            return None;
        }
        let (told, attempts) = insist(&mut link, 40, async |link| producer.claim(link).await).await;
        if let Ok(Told::Fenced(code) | Told::Refused(code)) = told {
            bed.fail(format!("a claim of {id} was refused with {}", code.name()));
        }
        bed.note(process, began_us, attempts.outcome(), Action::Claim { name });
        if told != Ok(Told::Done) {
            return None;
        }
        bed.claims.borrow_mut()[name as usize] += 1;
        bed.trace(&format!("{process} is {:?} of {id} ({protocol:?})", producer.identity()));
        Some(Self { link, process, name, producer })
    }

    pub(super) fn begin(&mut self) -> Transaction {
        let bed = &self.link.bed;
        let transaction = bed.transaction();
        let timeout_ms = TIMEOUT.as_millis() as u64;
        let begin = Action::Begin { transaction, name: self.name, timeout_ms };
        bed.note(self.process, bed.now_us(), Outcome::Ok, begin);
        transaction
    }

    async fn one_transaction(&mut self) -> Next {
        let transaction = self.begin();
        for _ in 0..1 + self.link.chance.below(4) {
            let partition = i32::try_from(self.link.chance.below(PARTITIONS as u64)).expect("few");
            let place = Place { topic: WRITTEN, partition };
            let count = 1 + self.link.chance.below(3);
            let values: Vec<(Value, u64)> = (0..count).map(|n| (self.link.bed.value(), n)).collect();
            if self.send(transaction, &place, &values, TRIES).await != Ok(Told::Done) {
                return self.give_up(transaction).await;
            }
            if self.link.chance.one_in(30) {
                self.link.hang_up();
            }
            if self.link.chance.one_in(25) {
                return self.become_a_zombie(transaction, None);
            }
        }
        let ending = if self.link.chance.one_in(4) { Ending::Abort } else { Ending::Commit };
        self.finish(transaction, ending).await
    }

    /// Something went wrong before the end: some abort, some just die.
    pub(super) async fn give_up(&mut self, transaction: Transaction) -> Next {
        if self.link.chance.one_in(2) {
            self.finish(transaction, Ending::Abort).await;
        }
        self.die()
    }

    pub(super) fn die(&self) -> Next {
        let bed = &self.link.bed;
        bed.note(self.process, bed.now_us(), Outcome::Info, Action::Crash);
        Next::Die
    }

    /// Sends records that are `(what they say, what they are about)`.
    pub(super) async fn send(
        &mut self,
        transaction: Transaction,
        place: &Place,
        values: &[(Value, u64)],
        tries: u32,
    ) -> Attempt {
        let bed = Rc::clone(&self.link.bed);
        let records: Vec<KeyValue> = values.iter().map(|(value, about)| record(*value, *about)).collect();
        let began_us = bed.now_us();
        let producer = &mut self.producer;
        let mut base = -1;
        let (told, attempts) = insist(&mut self.link, tries, async |link| {
            let (told, offset) = producer.write(link, place, &records).await?;
            base = offset;
            Ok(told)
        })
        .await;
        let outcome = attempts.outcome();
        let sent = values.iter().zip(&records).zip(0..).map(|(((value, _), (key, bytes)), n)| Sent {
            key: key_of(place),
            value: *value,
            crc: crc_of(key, bytes),
            offset: Some(base + n).filter(|_| outcome == Outcome::Ok),
        });
        let records = sent.collect();
        bed.trace(&format!("{} was told {told:?}", self.process));
        bed.note(self.process, began_us, outcome, Action::Send { records, transaction: Some(transaction) });
        told
    }

    /// Ends a transaction, and tells how its client goes on.
    pub(super) async fn finish(&mut self, transaction: Transaction, ending: Ending) -> Next {
        let bed = Rc::clone(&self.link.bed);
        let began_us = bed.now_us();
        let is_working = bed.phase.get() == Phase::Working;
        // With one epoch for all transactions nothing protects from one that comes late; that is what V2 is for.
        let is_held_back =
            is_working && self.producer.protocol() == Protocol::V2 && self.link.chance.one_in(8);
        if is_held_back {
            self.hold_back(ending);
        }
        let producer = &mut self.producer;
        let (told, mut attempts) =
            insist(&mut self.link, 2 * TRIES, async |link| producer.end(link, ending).await).await;
        if is_held_back {
            attempts.note(Err(Unanswered));
        }
        bed.trace(&format!("{} was told {told:?}", self.process));
        bed.note(self.process, began_us, attempts.outcome(), Action::End { transaction, ending });
        match told {
            Ok(Told::Done) => Next::Another,
            Ok(Told::Fenced(_) | Told::Refused(_) | Told::Again(_)) | Err(Unanswered) => self.die(),
        }
    }

    /// A first EndTxn stays in the network for a while; its client loses patience and sends another.
    fn hold_back(&mut self, ending: Ending) {
        let closing = self.producer.closing(ending);
        let mut link = Link::new(&self.link.bed, self.link.chance.fork());
        let process = self.process;
        tokio::task::spawn_local(async move {
            link.pause(80).await;
            let told = closing.arrive(&mut link).await;
            link.bed.trace(&format!("a late end of {process} was told {told:?}"));
            link.bed.report.borrow_mut().held_back += 1;
        });
    }

    /// Dies, as far as others can tell, and goes on once another has taken its place.
    pub(super) fn become_a_zombie(&mut self, transaction: Transaction, progress: Option<Progress>) -> Next {
        let bed = Rc::clone(&self.link.bed);
        let mut zombie = Self {
            link: Link::new(&bed, self.link.chance.fork()),
            process: self.process,
            name: self.name,
            producer: self.producer.clone(),
        };
        let name = self.name as usize;
        let claims = bed.claims.borrow()[name];
        bed.trace(&format!("{} is a zombie from now on", self.process));
        tokio::task::spawn_local(async move {
            while bed.claims.borrow()[name] == claims {
                if bed.phase.get() != Phase::Working || bed.has_failed() {
                    return;
                }
                zombie.link.pause(10).await;
            }
            zombie.haunt(transaction, progress).await;
        });
        Next::Die
    }

    async fn haunt(&mut self, transaction: Transaction, progress: Option<Progress>) {
        let mut told = Vec::new();
        if self.link.chance.one_in(2) {
            let place = Place { topic: WRITTEN, partition: 0 };
            let values = [(self.link.bed.value(), 0)];
            told.push(self.send(transaction, &place, &values, TRIES).await);
        }
        if let Some(progress) = progress {
            let producer = &mut self.producer;
            let work = async |link: &mut Link| producer.note_progress(link, &progress).await;
            told.push(insist(&mut self.link, TRIES, work).await.0);
        }
        let bed = Rc::clone(&self.link.bed);
        let began_us = bed.now_us();
        let producer = &mut self.producer;
        let (end, attempts) =
            insist(&mut self.link, TRIES, async |link| producer.end(link, Ending::Commit).await).await;
        let action = Action::End { transaction, ending: Ending::Commit };
        bed.note(self.process, began_us, attempts.outcome(), action);
        told.push(end);
        for told in told {
            match told {
                Ok(Told::Done) => {
                    bed.fail(format!("process {}, whose name was claimed, was acknowledged", self.process));
                }
                Ok(Told::Fenced(_)) => bed.report.borrow_mut().fenced += 1,
                // Not fenced, but it has not got through either.
                Ok(Told::Refused(code)) => bed.trace(&format!("a zombie was refused with {}", code.name())),
                Ok(Told::Again(_)) | Err(Unanswered) => {}
            }
        }
    }
}

/// A record that says something and is about something.
pub(super) fn record(value: Value, about: u64) -> KeyValue {
    (about.to_be_bytes().to_vec(), value.to_be_bytes().to_vec())
}
