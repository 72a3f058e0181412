//! Copiers: each takes one partition of the input to the output, with its progress in the same transaction.

use std::rc::Rc;

use millstream_protocol::messages::OffsetFetchRequest;
use millstream_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopics,
};
use millstream_protocol::{ErrorCode, KStr};

use super::WRITERS;
use super::bed::{Bed, INPUT, INPUT_RECORDS, OUTPUT};
use super::link::{Link, insist};
use super::writer::{Instance, Next};
use crate::history::{Ending, Name, Transaction, Value};
use crate::simulation::chance::Chance;
use crate::transactional::{Line, Of, Place, Progress, Protocol, Told, Unanswered, find_coordinator};

const TRIES: u32 = 10;

pub(super) async fn copy(bed: Rc<Bed>, mut chance: Chance, name: Name, protocol: Protocol) {
    let partition = i32::try_from(name - WRITERS).expect("few copiers");
    while !bed.is_over() {
        let link = Link::new(&bed, chance.fork());
        let Some(mut copier) = Instance::claim(link, name, protocol).await else { continue };
        let group = group(partition);
        let work = async |link: &mut Link| find_coordinator(link, Of::Group, &group).await;
        let _ = insist(&mut copier.link, TRIES, work).await;
        loop {
            // Nobody but this instance may move it from here on.
            let Some(from) = committed(&mut copier.link, partition).await else { break };
            if from >= INPUT_RECORDS {
                return;
            }
            if one_transaction(&mut copier, partition, from).await == Next::Die || bed.is_over() {
                break;
            }
        }
    }
}

/// How far the group is; none if that could not be learnt.
async fn committed(link: &mut Link, partition: i32) -> Option<i64> {
    for _ in 0..40 {
        if link.bed.is_over() {
            return None;
        }
        match ask_committed(link, partition).await {
            Ok(Ok(offset)) => return Some(offset.max(0)),
            Ok(Err(code)) if !code.is_retriable() => {
                link.bed
                    .fail(format!("the progress of partition {partition} cannot be read: {}", code.name()));
                return None;
            }
            Ok(Err(_)) | Err(Unanswered) => link.pause(8).await,
        }
    }
    None
}

async fn ask_committed(link: &mut Link, partition: i32) -> Result<Result<i64, ErrorCode>, Unanswered> {
    let topic =
        OffsetFetchRequestTopics { name: INPUT, partition_indexes: vec![partition], ..Default::default() };
    let group = OffsetFetchRequestGroup {
        group_id: group(partition),
        member_epoch: -1,
        topics: Some(vec![topic]),
        ..Default::default()
    };
    let request = OffsetFetchRequest { groups: vec![group], require_stable: true, ..Default::default() };
    let answer = link.ask(9, &request).await?;
    let group = &answer.groups[0];
    let known = |code| ErrorCode::from_code(code).unwrap_or(ErrorCode::UnknownServerError);
    if group.error_code != 0 {
        return Ok(Err(known(group.error_code)));
    }
    let partition = &group.topics[0].partitions[0];
    Ok(match known(partition.error_code) {
        ErrorCode::None => Ok(partition.committed_offset),
        code => Err(code),
    })
}

fn group(partition: i32) -> KStr {
    KStr::from(format!("copiers-{partition}"))
}

/// Copies a few records and says so.
async fn one_transaction(copier: &mut Instance, partition: i32, from: i64) -> Next {
    let transaction = copier.begin();
    let next = INPUT_RECORDS.min(from + 1 + i64::try_from(copier.link.chance.below(4)).expect("few"));
    let of = Place { topic: INPUT, partition };
    let progress = Progress { group: group(partition), of, offset: next };
    // The order of the two is nobody's business.
    let is_progress_first = copier.link.chance.one_in(3);
    if is_progress_first && !note_progress(copier, &progress).await {
        return copier.give_up(transaction).await;
    }
    if !write(copier, transaction, partition, from..next).await {
        return copier.give_up(transaction).await;
    }
    if !is_progress_first && !note_progress(copier, &progress).await {
        return copier.give_up(transaction).await;
    }
    if copier.link.chance.one_in(20) {
        return copier.become_a_zombie(transaction, Some(progress));
    }
    if copier.link.chance.one_in(20) {
        return copier.die();
    }
    let ending = if copier.link.chance.one_in(8) { Ending::Abort } else { Ending::Commit };
    let outcome = copier.finish(transaction, ending).await;
    if outcome == Next::Another && ending == Ending::Commit {
        copier.link.bed.report.borrow_mut().copied += (next - from).unsigned_abs();
    }
    outcome
}

async fn write(
    copier: &mut Instance,
    transaction: Transaction,
    partition: i32,
    offsets: std::ops::Range<i64>,
) -> bool {
    let place = Place { topic: OUTPUT, partition };
    for offset in offsets {
        let values: [(Value, u64); 1] = [(copier.link.bed.value(), offset.unsigned_abs())];
        if copier.send(transaction, &place, &values, TRIES).await != Ok(Told::Done) {
            return false;
        }
    }
    true
}

async fn note_progress(copier: &mut Instance, progress: &Progress) -> bool {
    let producer = &mut copier.producer;
    let work = async |link: &mut Link| producer.note_progress(link, progress).await;
    let (told, _) = insist(&mut copier.link, TRIES, work).await;
    copier.link.bed.trace(&format!("{} progress {} was told {told:?}", copier.process, progress.offset));
    told == Ok(Told::Done)
}
