//! Reads one topic, writes another, and each record takes effect exactly once: what is written and how far was read are
//! committed together, or not at all.
//!
//! `cargo run -p millstream-examples --example transactional_copy [HOST:PORT]`

use anyhow::{Result, bail};
use millstream_client::{Client, NewTopic};
use millstream_consumer::{Consumer, ConsumerExt, Isolation, StartAt};
use millstream_examples::{Place, unique};
use millstream_producer::{Producer, Record, TransactionError};

const LINES: i64 = 100;

/// Copies for as long as it is awaited, in capitals.
async fn copy(client: Client, from: &str, to: &str, group: &str) -> Result<()> {
    let builder = client.consumer(group).subscribe([from]).start_at(StartAt::Beginning);
    let mut input = builder.isolation(Isolation::ReadCommitted).build().await?;
    // Whoever else has this id is fenced: there is one copier, also while another one's process hangs.
    let producer = Producer::builder(client).transactional_id(group).build().await?;
    producer
        .run(&mut input, async |transaction, records| {
            for record in records {
                let text = String::from_utf8_lossy(&record.value.unwrap_or_default()).to_uppercase();
                drop(transaction.send(Record::to(to).value(&text)).await?);
            }
            Ok::<_, TransactionError>(())
        })
        .await?;
    Ok(())
}

/// Reads what is committed until all lines are there.
async fn check(client: Client, topic: &str) -> Result<()> {
    let builder = Consumer::builder(client).assign_topic(topic, StartAt::Beginning);
    let mut output = builder.isolation(Isolation::ReadCommitted).build().await?;
    for n in 0..LINES {
        let Some(record) = output.recv().await? else { bail!("there is no end without a stop") };
        assert_eq!(record.value.as_deref(), Some(format!("LINE {n}").as_bytes()), "in order, and once");
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Result<()> {
    let place = Place::from_arguments().await?;
    let (from, to, group) = (unique("lines"), unique("shouts"), unique("shouters"));
    for topic in [&from, &to] {
        place.client.admin().create_topic(NewTopic::new(topic.as_str()).partitions(1)).await?;
    }
    let producer = Producer::builder(place.client.clone()).build();
    for n in 0..LINES {
        let line = format!("line {n}");
        drop(producer.send(Record::to(&from).value(&line)).await?);
    }
    producer.close().await?;

    tokio::select! {
        copied = copy(place.client.clone(), &from, &to, &group) => {
            copied?;
            bail!("the input has no end");
        }
        checked = check(place.client.clone(), &to) => checked?,
    }
    place.leave().await;
    Ok(())
}
