//! Readers of committed records, questions about the bounds, and the reading of everything at the end.

use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;

use millstream_protocol::messages::create_topics_request::CreatableTopic;
use millstream_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use millstream_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use millstream_protocol::messages::metadata_request::MetadataRequestTopic;
use millstream_protocol::messages::{CreateTopicsRequest, FetchRequest, ListOffsetsRequest, MetadataRequest};
use millstream_protocol::records::Record;
use millstream_protocol::{Chunk, ErrorCode, KStr};

use super::TIMEOUT;
use super::bed::{Bed, INPUT, INPUT_RECORDS, OUTPUT, PARTITIONS, WRITTEN, key_of, places};
use super::link::Link;
use crate::history::{Action, Isolation, Marker, Outcome, Polled, Process, crc_of};
use crate::simulation::chance::Chance;
use crate::transactional::reading::{Seen, read};
use crate::transactional::{Line, Of, Place, Unanswered, find_coordinator};

/// How long a transaction may hold others up, beyond its timeout, in milliseconds.
const GRACE_MS: i64 = 10_000;

/// Where a reader stands, and the leader epoch of what it read last: a power cut may take what was visible and not
/// durable, and other records then have its offsets under a later epoch.
#[derive(Clone, Copy, Debug)]
struct Stand {
    position: i64,
    epoch: i32,
}

impl Stand {
    const START: Self = Self { position: 0, epoch: -1 };

    fn after(self, seen: &Seen) -> Self {
        Self { position: seen.next, epoch: self.epoch.max(seen.epoch) }
    }
}

/// What was said to a fetch.
enum Fetched {
    Seen(Seen),
    OutOfRange,
    /// What was read last is not in the log any more.
    Diverged,
    NotNow(ErrorCode),
}

/// Makes the topics.
pub(super) async fn prepare(bed: &Rc<Bed>) -> Result<(), String> {
    let mut link = Link::new(bed, Chance::of(0));
    for name in [WRITTEN, INPUT, OUTPUT] {
        let topic = CreatableTopic {
            name: name.clone(),
            num_partitions: PARTITIONS,
            replication_factor: 1,
            ..Default::default()
        };
        let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 1000, ..Default::default() };
        for _ in 0..50 {
            let told = link.ask(7, &request).await.map(|answer| answer.topics[0].error_code);
            let exists = ErrorCode::TopicAlreadyExists.code();
            if told.is_ok_and(|code| code == 0 || code == exists) {
                break;
            }
            link.pause(5).await;
        }
    }
    Ok(())
}

/// From now on no sync of what the coordinator keeps makes anything durable.
pub(super) async fn lie_about_decisions(bed: &Rc<Bed>) -> Result<(), String> {
    let mut link = Link::new(bed, Chance::of(3));
    let topic =
        MetadataRequestTopic { name: Some(KStr::from_static("__transaction_state")), ..Default::default() };
    let request = MetadataRequest { topics: Some(vec![topic]), ..Default::default() };
    for _ in 0..100 {
        // Who asks for the coordinator makes the broker create its topic.
        let _ = find_coordinator(&mut link, Of::Transactions, &KStr::from_static("name-0")).await;
        let found = link.ask(12, &request).await.ok().and_then(|answer| answer.topics.into_iter().next());
        if let Some(topic) = found.filter(|topic| topic.error_code == 0) {
            bed.disk.make_syncs_lie_in(Path::new(&format!("/data/topics/{}", topic.topic_id)));
            return Ok(());
        }
        link.pause(5).await;
    }
    Err("the coordinator's topic was not made".to_owned())
}

/// Reads what is committed, from the start and on and on.
pub(super) async fn follow(bed: Rc<Bed>, mut chance: Chance) {
    while !bed.is_over() {
        let mut link = Link::new(&bed, chance.fork());
        let process = bed.process();
        let mut positions: BTreeMap<i32, (Place, Stand)> =
            (0..).zip(places()).map(|(at, place)| (at, (place, Stand::START))).collect();
        let mut polls = 20 + chance.below(100);
        while polls > 0 && !bed.is_over() {
            polls -= 1;
            link.pause(8).await;
            for (place, from) in positions.values_mut() {
                let began_us = bed.now_us();
                match fetch(&mut link, place, *from, Isolation::Committed).await {
                    Err(what) => bed.fail(what),
                    Ok(Some(Fetched::Seen(seen))) => {
                        *from = from.after(&seen);
                        note(&bed, process, began_us, place, Isolation::Committed, &seen);
                    }
                    // What a power cut took was not needed to tell what is committed, but its offsets are gone.
                    Ok(Some(Fetched::OutOfRange | Fetched::Diverged)) => polls = 0,
                    Ok(Some(Fetched::NotNow(_)) | None) => {}
                }
            }
        }
        bed.note(process, bed.now_us(), Outcome::Info, Action::Crash);
    }
}

fn note(bed: &Bed, process: Process, began_us: u64, place: &Place, isolation: Isolation, seen: &Seen) {
    if seen.records.is_empty() && seen.markers.is_empty() {
        return;
    }
    let key = key_of(place);
    let records = seen.records.iter().map(|record| {
        let (name, value) = parts(record);
        let said = value.try_into().ok().map(u64::from_be_bytes);
        Polled { key, offset: record.offset, value: said, crc: crc_of(name, value) }
    });
    let markers = seen.markers.iter().map(|offset| Marker { key, offset: *offset });
    let action = Action::Poll { records: records.collect(), isolation, markers: markers.collect() };
    bed.note(process, began_us, Outcome::Ok, action);
}

fn parts(record: &Record) -> (&[u8], &[u8]) {
    (record.key.as_deref().unwrap_or_default(), record.value.as_deref().unwrap_or_default())
}

/// One fetch; none without an answer.
async fn fetch(
    link: &mut Link,
    place: &Place,
    from: Stand,
    isolation: Isolation,
) -> Result<Option<Fetched>, String> {
    let Stand { position, epoch } = from;
    let partition = FetchPartition {
        partition: place.partition,
        fetch_offset: position,
        current_leader_epoch: -1,
        last_fetched_epoch: epoch,
        log_start_offset: -1,
        partition_max_bytes: 2000,
        ..Default::default()
    };
    let topic = FetchTopic { topic: place.topic.clone(), partitions: vec![partition], ..Default::default() };
    let request = FetchRequest {
        max_wait_ms: 0,
        min_bytes: 1,
        max_bytes: 1 << 20,
        isolation_level: i8::from(isolation == Isolation::Committed),
        session_epoch: -1,
        topics: vec![topic],
        ..Default::default()
    };
    let Ok(answer) = link.ask(12, &request).await else { return Ok(None) };
    let Some(data) = answer.responses.into_iter().flat_map(|topic| topic.partitions).next() else {
        return Ok(None);
    };
    match ErrorCode::from_code(data.error_code).unwrap_or(ErrorCode::UnknownServerError) {
        ErrorCode::None => {}
        ErrorCode::OffsetOutOfRange => return Ok(Some(Fetched::OutOfRange)),
        code if code.is_retriable() => return Ok(Some(Fetched::NotNow(code))),
        code => return Err(format!("a Fetch of {place:?} at {position} was answered with {}", code.name())),
    }
    if data.diverging_epoch.end_offset >= 0 {
        return Ok(Some(Fetched::Diverged));
    }
    let aborted = data.aborted_transactions.unwrap_or_default();
    let aborted = (isolation == Isolation::Committed).then_some(&aborted[..]);
    let seen = read(data.records.map(Chunk::into_bytes).unwrap_or_default(), position, aborted);
    seen.map(|seen| Some(Fetched::Seen(seen))).map_err(|what| format!("{place:?} {what}"))
}

/// The end of a partition for a kind of reader, and the leader epoch.
async fn end_of(
    link: &mut Link,
    place: &Place,
    isolation: Isolation,
) -> Result<Option<(i64, i32)>, Unanswered> {
    let partition =
        ListOffsetsPartition { partition_index: place.partition, timestamp: -1, current_leader_epoch: -1 };
    let topic = ListOffsetsTopic { name: place.topic.clone(), partitions: vec![partition] };
    let request = ListOffsetsRequest {
        replica_id: -1,
        isolation_level: i8::from(isolation == Isolation::Committed),
        topics: vec![topic],
        ..Default::default()
    };
    let answer = link.ask(7, &request).await?;
    let told = answer.topics.into_iter().flat_map(|topic| topic.partitions).next();
    Ok(told.filter(|told| told.error_code == 0).map(|told| (told.offset, told.leader_epoch)))
}

/// Asks for the bounds again and again.
pub(super) async fn mark(bed: Rc<Bed>, chance: Chance) {
    let mut link = Link::new(&bed, chance);
    while !bed.is_over() {
        link.pause(15).await;
        for place in places() {
            mark_one(&mut link, &place).await;
        }
    }
}

/// Notes both ends; tells whether they are the same.
async fn mark_one(link: &mut Link, place: &Place) -> bool {
    let bed = Rc::clone(&link.bed);
    let began_us = bed.now_us();
    let Ok(Some((high_watermark, epoch))) = end_of(link, place, Isolation::Uncommitted).await else {
        return false;
    };
    let Ok(Some((stable, leader_epoch))) = end_of(link, place, Isolation::Committed).await else {
        return false;
    };
    if epoch != leader_epoch {
        return false;
    }
    let (key, last_stable) = (key_of(place), Some(stable));
    let mark = Action::Mark { key, log_start: 0, high_watermark, last_stable, leader_epoch };
    bed.note(bed.process(), began_us, Outcome::Ok, mark);
    stable >= high_watermark
}

/// Waits until no transaction is open any more.
pub(super) async fn settle(bed: &Rc<Bed>) -> Result<(), String> {
    let mut link = Link::new(bed, Chance::of(1));
    let until = bed.now_ms() + GRACE_MS + i64::try_from(TIMEOUT.as_millis()).expect("short");
    loop {
        let mut open = Vec::new();
        for place in places() {
            if !mark_one(&mut link, &place).await {
                open.push(place);
            }
        }
        if open.is_empty() {
            return Ok(());
        }
        if bed.now_ms() > until {
            return Err(format!("in {open:?} the last stable offset does not come to the end"));
        }
        link.pause(10).await;
    }
}

/// Reads everything that there is, as both kinds of reader, and holds what was copied against the input.
pub(super) async fn read_all(bed: &Rc<Bed>) -> Result<(), String> {
    let mut link = Link::new(bed, Chance::of(2));
    for isolation in [Isolation::Committed, Isolation::Uncommitted] {
        let process = bed.process();
        for place in places() {
            let records = read_one(&mut link, process, &place, isolation).await?;
            if isolation == Isolation::Committed && place.topic == OUTPUT {
                judge_copy(&place, &records)?;
            }
        }
    }
    for place in places() {
        mark_one(&mut link, &place).await;
    }
    Ok(())
}

pub(super) async fn read_one(
    link: &mut Link,
    process: Process,
    place: &Place,
    isolation: Isolation,
) -> Result<Vec<Record>, String> {
    let bed = Rc::clone(&link.bed);
    let (mut records, mut from, mut patience) = (Vec::new(), Stand::START, 200);
    loop {
        let began_us = bed.now_us();
        match fetch(link, place, from, isolation).await? {
            Some(Fetched::Seen(seen)) if seen.next == from.position => return Ok(records),
            Some(Fetched::Seen(seen)) => {
                note(&bed, process, began_us, place, isolation, &seen);
                from = from.after(&seen);
                records.extend(seen.records);
            }
            Some(Fetched::OutOfRange | Fetched::Diverged) => {
                let position = from.position;
                return Err(format!("{place:?} has no offset {position}, though it was read up to there"));
            }
            Some(Fetched::NotNow(_)) | None if patience > 0 => {
                patience -= 1;
                link.pause(10).await;
            }
            Some(Fetched::NotNow(code)) => return Err(format!("{place:?} cannot be read: {}", code.name())),
            None => return Err(format!("{place:?} is not answered for")),
        }
    }
}

/// Each record of the input once, in order.
fn judge_copy(place: &Place, records: &[Record]) -> Result<(), String> {
    let about = |record: &Record| parts(record).0.try_into().map(u64::from_be_bytes).unwrap_or(u64::MAX);
    let copied: Vec<u64> = records.iter().map(about).collect();
    let expected: Vec<u64> = (0..INPUT_RECORDS.unsigned_abs()).collect();
    if copied == expected {
        return Ok(());
    }
    let at = copied.iter().zip(&expected).position(|(is, should)| is != should);
    let at = at.unwrap_or_else(|| copied.len().min(expected.len()));
    Err(format!(
        "the copy {place:?} is wrong from record {at} on: {:?} of {} records",
        &copied[at..copied.len().min(at + 5)],
        copied.len()
    ))
}
