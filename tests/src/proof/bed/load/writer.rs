//! A writer through `millstream-producer`.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Result;
use millstream_producer::{Acks, Compression, Delivery, Idempotence, Producer, Record};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::{Load, Progress};
use crate::history::{Action, Outcome, Process, Sent, crc_of};
use crate::proof::bed::payload;

/// Sends that are under way at a time; the oldest is awaited before another begins.
const IN_FLIGHT: usize = 8;
/// Time between two sends, so that a run's history stays small.
const PACE: Duration = Duration::from_millis(8);

/// One kind of writer.
#[derive(Debug, Clone)]
pub(in crate::proof) struct Writer {
    pub(in crate::proof) acks: Acks,
    pub(in crate::proof) idempotence: Idempotence,
    pub(in crate::proof) compression: Compression,
    pub(in crate::proof) seed: u64,
}

/// A send whose answers are awaited.
struct Pending {
    began_us: u64,
    records: Vec<(Sent, Option<Delivery>)>,
}

/// Writes until it is enough, and waits for the last answer.
pub(in crate::proof) async fn write(load: Load, kind: Writer, progress: Arc<Progress>) -> Result<()> {
    let Some(client) = load.patient_client().await else { return Ok(()) };
    let builder = Producer::builder(client).acks(kind.acks).idempotence(kind.idempotence);
    let producer = builder.compression(kind.compression).batch_bytes(4_000).build();
    let process = load.recorder.process();
    let mut chance = StdRng::seed_from_u64(kind.seed);
    let mut pace = tokio::time::interval(PACE);
    pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut pending = VecDeque::new();
    let mut sent = 0;
    while !load.is_enough() {
        pace.tick().await;
        if pending.len() == IN_FLIGHT
            && let Some(oldest) = pending.pop_front()
        {
            settle(&load, &kind, process, oldest, &progress).await;
        }
        let count = chance.random_range(1..20);
        let mut send = Pending { began_us: load.recorder.now_us(), records: Vec::new() };
        for _ in 0..count {
            let key = chance.random_range(0..load.partitions);
            let value = payload::value(process, sent);
            let (name, bytes) = payload::record(value);
            let record = Record::to(&load.topic).partition(key as i32).key(&name).value(&bytes);
            let delivery = producer.send(record).await.ok();
            sent += 1;
            send.records.push((Sent { key, value, crc: crc_of(&name, &bytes), offset: None }, delivery));
        }
        progress.in_flight.fetch_add(count, Ordering::Relaxed);
        pending.push_back(send);
    }
    for rest in pending {
        settle(&load, &kind, process, rest, &progress).await;
    }
    Ok(())
}

/// Awaits the answers of a send and notes them: one operation for each run of records that fared alike, so that their order is
/// kept.
async fn settle(load: &Load, kind: &Writer, process: Process, send: Pending, progress: &Progress) {
    let count = send.records.len();
    let mut runs: Vec<(Outcome, Vec<Sent>)> = Vec::new();
    for (mut record, delivery) in send.records {
        let outcome = match delivery {
            // It was not accepted.
            None => Outcome::Fail,
            Some(delivery) => match delivery.await {
                Ok(written) => {
                    record.offset = written.offset;
                    progress.acknowledged.fetch_add(1, Ordering::Relaxed);
                    Outcome::Ok
                }
                Err(error) => {
                    if kind.idempotence == Idempotence::On {
                        load.wrong(format!("an idempotent producer gave up {:#x}: {error}", record.value));
                    }
                    if error.had_no_effect() { Outcome::Fail } else { Outcome::Info }
                }
            },
        };
        match runs.last_mut() {
            Some((last, records)) if *last == outcome => records.push(record),
            Some(_) | None => runs.push((outcome, vec![record])),
        }
    }
    for (outcome, records) in runs {
        load.recorder.note(process, send.began_us, outcome, Action::sent(records));
    }
    progress.in_flight.fetch_sub(count, Ordering::Relaxed);
}
