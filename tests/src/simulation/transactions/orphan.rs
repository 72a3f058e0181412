//! A transaction of which only the data outlived a power cut: what its own producer, its successor and nobody at all meet.

use std::rc::Rc;

use tokio::task::LocalSet;

use super::bed::{Bed, WRITTEN};
use super::link::{Link, insist};
use super::writer::record;
use super::{Chance, Driver, PATIENCE_MS, TIMEOUT, TransactionPlan, reader};
use crate::history::{Ending, Isolation};
use crate::simulation::Failure;
use crate::simulation::world::Phase;
use crate::transactional::{
    Attempt, KeyValue, Of, Place, Producer, Progress, Protocol, Told, find_coordinator,
};

/// Answers that say "not now" before there is one that says more.
const TRIES: u32 = 500;

/// Who comes to a partition that holds an orphan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comes {
    /// Nobody.
    Nobody,
    /// The producer itself, which believes that its transaction is open, and commits.
    Itself,
    /// The producer itself, which goes on writing before it commits.
    ItselfWithMore,
    /// Another instance, which lets Produce add the partition.
    Successor,
    /// Another instance, which adds the partition first, as older clients do.
    OldSuccessor,
    /// Another instance of an older client, to the group whose offsets were in the transaction.
    OldSuccessorWithOffsets,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OrphanReport {
    /// Until nothing was open any more, or until the first write was through, in simulated milliseconds.
    pub lasted_ms: i64,
    /// Records that a reader of committed records sees.
    pub visible: usize,
}

/// Writes in a transaction, has a power cut take what the coordinator knows of it, and lets somebody come.
///
/// # Errors
/// Readers are held up for ever, or somebody is told what is not so.
pub fn orphan(comes: Comes) -> Result<OrphanReport, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without threads needs nothing");
    LocalSet::new().block_on(&runtime, async {
        let bed = Bed::new(TransactionPlan::short(0));
        bed.phase.set(Phase::Finishing);
        let mut driver = Driver { bed: Rc::clone(&bed), chance: Chance::of(0), end: None };
        let met = driver.make_orphan().await;
        let report = match met {
            Some(producer) => driver.meet(producer, comes).await,
            None => None,
        };
        if report.is_none() {
            bed.fail("it did not come to an end".to_owned());
        }
        bed.outcome().map(|_| report.expect("it is there, or the run has failed"))
    })
}

fn place() -> Place {
    Place { topic: WRITTEN, partition: 0 }
}

fn progress() -> Progress {
    Progress { group: "copiers".into(), of: place(), offset: 7 }
}

impl Driver {
    /// A producer whose transaction only the logs know.
    async fn make_orphan(&mut self) -> Option<Producer> {
        let bed = Rc::clone(&self.bed);
        self.start();
        let mut producer = Producer::new("name", Protocol::V2, TIMEOUT * 1000);
        let mut link = Link::new(&bed, Chance::of(4));
        let claim = async {
            reader::prepare(&bed).await?;
            for (of, name) in [(Of::Transactions, "name"), (Of::Group, "copiers")] {
                let found =
                    insist(&mut link, TRIES, async |link| find_coordinator(link, of, &name.into()).await);
                done("find", found.await.0)?;
            }
            done("claim", insist(&mut link, TRIES, async |link| producer.claim(link).await).await.0)?;
            reader::lie_about_decisions(&bed).await?;
            let (written, _) =
                insist(&mut link, TRIES, async |link| write(&mut producer, link, 1).await).await;
            done("write", written)?;
            let noted =
                insist(&mut link, TRIES, async |link| producer.note_progress(link, &progress()).await);
            done("progress", noted.await.0)
        };
        if !self.drive(claim).await {
            return None;
        }
        let broker = { bed.broker.borrow_mut().take() }?;
        broker.crash(millstream_log::PowerCut::LosesUnsynced).await;
        bed.disk.heal();
        self.start();
        Some(producer)
    }

    async fn meet(&mut self, producer: Producer, comes: Comes) -> Option<OrphanReport> {
        let bed = Rc::clone(&self.bed);
        let began_ms = bed.now_ms();
        let mut link = Link::new(&bed, Chance::of(5));
        let mut came_through_ms = None;
        let visit = async {
            match comes {
                Comes::Nobody => {}
                Comes::Itself => believe(&mut link, producer, 0).await?,
                Comes::ItselfWithMore => believe(&mut link, producer, 1).await?,
                Comes::Successor => {
                    succeed(&mut link, Protocol::V2, async |producer, link| write(producer, link, 2).await)
                        .await?;
                }
                Comes::OldSuccessor => {
                    succeed(&mut link, Protocol::V1, async |producer, link| write(producer, link, 2).await)
                        .await?;
                }
                Comes::OldSuccessorWithOffsets => {
                    let work = async |producer: &mut Producer, link: &mut Link| {
                        producer.note_progress(link, &progress()).await
                    };
                    succeed(&mut link, Protocol::V1, work).await?;
                }
            }
            came_through_ms = (comes != Comes::Nobody).then(|| bed.now_ms() - began_ms);
            reader::settle(&bed).await
        };
        if !self.drive(visit).await {
            return None;
        }
        let lasted_ms = came_through_ms.unwrap_or_else(|| bed.now_ms() - began_ms);
        let mut visible = 0;
        let read = async {
            let process = bed.process();
            visible = reader::read_one(&mut link, process, &place(), Isolation::Committed).await?.len();
            Ok(())
        };
        let is_read = self.drive(read).await;
        (is_read && lasted_ms < PATIENCE_MS).then_some(OrphanReport { lasted_ms, visible })
    }
}

async fn write(producer: &mut Producer, link: &mut Link, value: u64) -> Attempt {
    let records: [KeyValue; 1] = [record(value, 0)];
    Ok(producer.write(link, &place(), &records).await?.0)
}

fn done(what: &str, told: Attempt) -> Result<(), String> {
    if told == Ok(Told::Done) { Ok(()) } else { Err(format!("{what}: {told:?}")) }
}

/// The producer goes on as if nothing had happened; nobody tells it that it has committed.
async fn believe(link: &mut Link, mut producer: Producer, more: u32) -> Result<(), String> {
    for _ in 0..more {
        let (written, _) = insist(link, TRIES, async |link| write(&mut producer, link, 2).await).await;
        if !matches!(written, Ok(Told::Fenced(_) | Told::Refused(_))) {
            return Err(format!("a write beside the orphan: {written:?}"));
        }
    }
    let (ended, _) = insist(link, TRIES, async |link| producer.end(link, Ending::Commit).await).await;
    if matches!(ended, Ok(Told::Fenced(_) | Told::Refused(_))) {
        Ok(())
    } else {
        Err(format!("a commit of what is lost: {ended:?}"))
    }
}

/// Another instance takes over and does its work, if need be in its second transaction.
async fn succeed(
    link: &mut Link,
    protocol: Protocol,
    mut work: impl AsyncFnMut(&mut Producer, &mut Link) -> Attempt,
) -> Result<(), String> {
    let mut producer = Producer::new("name", protocol, TIMEOUT * 1000);
    done("claim", insist(link, TRIES, async |link| producer.claim(link).await).await.0)?;
    for _ in 0..3 {
        let (told, _) = insist(link, TRIES, async |link| work(&mut producer, link).await).await;
        let ending = if told == Ok(Told::Done) { Ending::Commit } else { Ending::Abort };
        done("end", insist(link, TRIES, async |link| producer.end(link, ending).await).await.0)?;
        if ending == Ending::Commit {
            return Ok(());
        }
    }
    Err("the successor does not come through".to_owned())
}
