//! Readers: one kind follows, one wanders, one reads everything at the end; and questions about the bounds.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result};
use millstream_client::{Client, OffsetAt};
use millstream_consumer::{ConsumeError, Consumer, ConsumerBuilder, ConsumerRecord, StartAt, StopAt};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::Load;
use crate::history::{Action, Key, Outcome, Process};
use crate::proof::bed::wire::polled;

/// How often bounds are asked for, and how long a poll waits before the end of the load is looked for.
const MOMENT: Duration = Duration::from_millis(100);

fn builder(client: Client) -> ConsumerBuilder {
    Consumer::builder(client).max_wait(MOMENT)
}

/// Notes what one poll handed out.
fn note(load: &Load, process: Process, began_us: u64, records: &[ConsumerRecord]) {
    let polled = records.iter().map(|record| {
        let (key, value) = (record.key.as_deref(), record.value.as_deref());
        let (key, value) = (key.unwrap_or_default(), value.unwrap_or_default());
        polled(record.partition as Key, record.offset, key, value)
    });
    load.recorder.note(process, began_us, Outcome::Ok, Action::polled(polled.collect()));
}

/// An error that no absence of the broker explains.
fn judge(load: &Load, reader: &str, error: &ConsumeError) {
    match error {
        ConsumeError::Unavailable { .. } | ConsumeError::Topic(_) | ConsumeError::Offsets(_) => {}
        error => load.wrong(format!("the {reader} was told: {error}")),
    }
}

/// Reads everything from the beginning, as it comes.
pub(in crate::proof) async fn follow(load: Load) -> Result<()> {
    let mut consumer = loop {
        let Some(client) = load.patient_client().await else { return Ok(()) };
        let wanted = builder(client).assign_topic(&*load.topic, StartAt::Beginning);
        if let Ok(consumer) = wanted.build().await {
            break consumer;
        }
    };
    let process = load.recorder.process();
    while !load.is_enough() {
        let began_us = load.recorder.now_us();
        match tokio::time::timeout(MOMENT, consumer.recv_batch()).await {
            Ok(Ok(records)) => note(&load, process, began_us, &records),
            Ok(Err(error)) => judge(&load, "follower", &error),
            Err(_) => {}
        }
    }
    Ok(())
}

/// Reads some partitions from some place for a while, ends, and begins anew as another.
pub(in crate::proof) async fn wander(load: Load, seed: u64) -> Result<()> {
    let mut chance = StdRng::seed_from_u64(seed);
    while !load.is_enough() {
        let Some(client) = load.patient_client().await else { break };
        let process = load.recorder.process();
        let mut wanted = builder(client);
        let mut keys = Vec::new();
        for key in 0..load.partitions {
            let start = match chance.random_range(0..4) {
                0 => StartAt::Beginning,
                1 => StartAt::End,
                2 => StartAt::Timestamp(0),
                _ => continue,
            };
            wanted = wanted.assign(&*load.topic, key as i32, start);
            keys.push(key);
        }
        // Who is assigned nothing is told so, and rightly.
        if keys.is_empty() {
            continue;
        }
        // Those who look up where to begin while the broker is away wait for it.
        let Ok(mut consumer) = wanted.build().await else { continue };
        let now_us = load.recorder.now_us();
        load.recorder.note(process, now_us, Outcome::Ok, Action::Assign { keys });
        for _ in 0..chance.random_range(1..20) {
            let began_us = load.recorder.now_us();
            match tokio::time::timeout(MOMENT, consumer.recv_batch()).await {
                Ok(Ok(records)) => note(&load, process, began_us, &records),
                Ok(Err(error)) => judge(&load, "wanderer", &error),
                Err(_) => {}
            }
        }
        let now_us = load.recorder.now_us();
        load.recorder.note(process, now_us, Outcome::Info, Action::Crash);
    }
    Ok(())
}

/// Reads all there is, as a new client.
pub(in crate::proof) async fn read_all(load: &Load) -> Result<()> {
    let process = load.recorder.process();
    let all = builder(load.client().await?).assign_topic(&*load.topic, StartAt::Beginning);
    let mut consumer = all.stop(StopAt::CurrentEnd).build().await?;
    loop {
        let began_us = load.recorder.now_us();
        let records = consumer.recv_batch().await.context("reading all at the end")?;
        if records.is_empty() {
            return Ok(());
        }
        note(load, process, began_us, &records);
    }
}

/// Asks for the bounds of every partition again and again until it is enough, at least once.
pub(in crate::proof) async fn marks(load: Load) -> Result<()> {
    let admin = match load.patient_client().await {
        Some(client) => client.admin(),
        None => load.client().await?.admin(),
    };
    let wanted: Vec<_> = (0..load.partitions as i32)
        .flat_map(|key| [(key, OffsetAt::Earliest), (key, OffsetAt::Latest)])
        .collect();
    let mut pace = tokio::time::interval(MOMENT);
    loop {
        pace.tick().await;
        let began_us = load.recorder.now_us();
        if let Ok(listed) = admin.list_offsets(&load.topic, &wanted).await {
            let mut starts = BTreeMap::new();
            for (listed, (key, at)) in listed.iter().zip(&wanted) {
                let offset = listed.offset.unwrap_or_default();
                if *at == OffsetAt::Earliest {
                    starts.insert(*key, offset);
                    continue;
                }
                let mark = Action::Mark {
                    key: *key as Key,
                    log_start: starts[key],
                    high_watermark: offset,
                    last_stable: None,
                    leader_epoch: listed.leader_epoch.unwrap_or(-1),
                };
                load.recorder.note(load.recorder.process(), began_us, Outcome::Ok, mark);
            }
        }
        if load.is_enough() {
            return Ok(());
        }
    }
}
