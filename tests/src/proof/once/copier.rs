//! One copier, a process of its own: takes records of one partition to another in transactions, with its progress in them. It
//! says what it does on standard output, a word a line, and ends as soon as something cannot be resolved by asking again.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use clap::Args;
use millstream_protocol::KStr;

use crate::history::{Ending, Isolation};
use crate::proof::bed::broker::pause;
use crate::proof::bed::way::{Way, insist};
use crate::proof::{Failure, say};
use crate::transactional::{
    Attempt, KeyValue, Of, Place, Producer, Progress, Protocol, Told, Unanswered, find_coordinator,
};

/// Records that one transaction takes over.
pub(super) const RECORDS: usize = 750;
const BATCH_RECORDS: usize = 150;
/// Batches of one transaction.
pub(super) const BATCHES: u64 = (RECORDS / BATCH_RECORDS) as u64;
/// How long a transaction of a copier may be open.
pub(super) const TIMEOUT: Duration = Duration::from_secs(10);
/// How long one step may take while the broker comes and goes.
const PATIENCE: Duration = Duration::from_secs(120);

/// Topics of the proof.
pub(super) const INPUT: KStr = KStr::from_static("seeds");
pub(super) const OUTPUT: KStr = KStr::from_static("copies");

/// What a copier is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Args)]
pub struct Copying {
    /// The broker.
    #[arg(long)]
    address: SocketAddr,
    /// The partition to copy.
    #[arg(long)]
    partition: i32,
    /// How many records it has.
    #[arg(long)]
    records: i64,
    /// The oldest way to speak of transactions, instead of the newest.
    #[arg(long)]
    old: bool,
    /// Milliseconds between two batches.
    #[arg(long)]
    pace_ms: u64,
}

impl Copying {
    /// The words that start a copier like this one.
    pub(super) fn words(address: SocketAddr, partition: i32, records: i64, pace: Duration) -> Vec<String> {
        let mut words = vec!["copier".to_owned()];
        for (name, value) in [
            ("--address", address.to_string()),
            ("--partition", partition.to_string()),
            ("--records", records.to_string()),
            ("--pace-ms", pace.as_millis().to_string()),
        ] {
            words.extend([name.to_owned(), value]);
        }
        // One of them speaks as older clients do.
        words.extend((partition == 0).then(|| "--old".to_owned()));
        words
    }
}

/// How a copier ends.
enum Ended {
    Finished,
    Fenced,
    Lost(String),
}

pub(in crate::proof) fn run(copying: &Copying) -> Result<(), Failure> {
    match copy(copying)? {
        Ended::Finished => say("finished"),
        Ended::Fenced => say("fenced"),
        Ended::Lost(what) => say(&format!("lost {what}")),
    }
    Ok(())
}

fn soon() -> impl Fn() -> bool {
    let deadline = Instant::now() + PATIENCE;
    move || Instant::now() > deadline
}

/// None if it is done; how the copier ends otherwise.
fn unless_done(step: &str, attempt: Attempt) -> Option<Ended> {
    match attempt {
        Ok(Told::Done) => None,
        Ok(Told::Fenced(_)) => Some(Ended::Fenced),
        Ok(Told::Refused(code) | Told::Again(code)) => Some(Ended::Lost(format!("{step} {}", code.name()))),
        Err(Unanswered) => Some(Ended::Lost(format!("{step} unanswered"))),
    }
}

fn copy(copying: &Copying) -> Result<Ended, Failure> {
    let partition = copying.partition;
    let mut way = Way::to(copying.address);
    let protocol = if copying.old { Protocol::V1 } else { Protocol::V2 };
    let mut producer = Producer::new(&format!("copier-{partition}"), protocol, TIMEOUT);
    let id = producer.id().clone();
    let group = KStr::from(format!("copiers-{partition}"));
    for (of, name) in [(Of::Transactions, &id), (Of::Group, &group)] {
        let (found, _) = insist(&mut way, soon(), async |way| find_coordinator(way, of, name).await);
        if let Some(ended) = unless_done("find", found) {
            return Ok(ended);
        }
    }
    let (claimed, _) = insist(&mut way, soon(), async |way| producer.claim(way).await);
    if let Some(ended) = unless_done("claim", claimed) {
        return Ok(ended);
    }
    say("claimed");
    let of = Place { topic: INPUT, partition };
    let mut position = progress(&mut way, &group, &of)?.max(0);
    while position < copying.records {
        let records = read(&mut way, &of, position)?;
        let to = Place { topic: OUTPUT, partition };
        for batch in records.chunks(BATCH_RECORDS) {
            let work = async |way: &mut Way| producer.write(way, &to, batch).await.map(|(told, _)| told);
            if let Some(ended) = unless_done("write", insist(&mut way, soon(), work).0) {
                return Ok(ended);
            }
            pause(Duration::from_millis(copying.pace_ms));
        }
        position += records.len() as i64;
        let noted = Progress { group: group.clone(), of: of.clone(), offset: position };
        let work = async |way: &mut Way| producer.note_progress(way, &noted).await;
        if let Some(ended) = unless_done("progress", insist(&mut way, soon(), work).0) {
            return Ok(ended);
        }
        let work = async |way: &mut Way| producer.end(way, Ending::Commit).await;
        if let Some(ended) = unless_done("commit", insist(&mut way, soon(), work).0) {
            return Ok(ended);
        }
        say(&format!("committed {position}"));
    }
    Ok(Ended::Finished)
}

/// How far the group is, once that is certain.
fn progress(way: &mut Way, group: &KStr, of: &Place) -> Result<i64, Failure> {
    let is_enough = soon();
    loop {
        match way.stable_progress(group, of) {
            Ok(Ok(offset)) => return Ok(offset),
            Ok(Err(code)) if !code.is_retriable() => {
                return Err(Failure::Harness(anyhow!("progress cannot be read: {}", code.name())));
            }
            Ok(Err(_)) | Err(Unanswered) if is_enough() => {
                return Err(Failure::Harness(anyhow!("progress cannot be read within {PATIENCE:?}")));
            }
            Ok(Err(_)) | Err(Unanswered) => pause(Duration::from_millis(10)),
        }
    }
}

/// The records of one transaction: keys are the offsets that they come from.
fn read(way: &mut Way, of: &Place, from: i64) -> Result<Vec<KeyValue>, Failure> {
    let is_enough = soon();
    let mut records = Vec::new();
    let mut position = from;
    while records.len() < RECORDS {
        match way.fetch(of, position, Isolation::Committed) {
            Ok(Ok(Ok(seen))) if seen.records.is_empty() && !records.is_empty() => break,
            Ok(Ok(Ok(seen))) => {
                position = seen.next;
                records.extend(seen.records.into_iter().map(|record| {
                    let value = record.value.as_deref().unwrap_or_default().to_vec();
                    (record.offset.to_be_bytes().to_vec(), value)
                }));
            }
            Ok(Ok(Err(what))) => return Err(Failure::Broken(what)),
            Ok(Err(_)) | Err(Unanswered) if is_enough() => {
                return Err(Failure::Harness(anyhow!("the input cannot be read within {PATIENCE:?}")));
            }
            Ok(Err(_)) | Err(Unanswered) => pause(Duration::from_millis(10)),
        }
    }
    records.truncate(RECORDS);
    Ok(records)
}
