//! A test of a program that uses Kafka, with the real broker in the test's process: no Docker, no port, no folder, and no
//! waiting, because the broker goes by the test's clock, which stands still.
//!
//! In a project of your own this is a `#[tokio::test(start_paused = true)]`; here it is the program's `main`.
//!
//! `cargo run -p millstream-examples --example embedded_broker_in_test`

use std::time::Duration;

use anyhow::Result;
use millstream_broker::Broker;
use millstream_client::{Client, NewTopic, embedded};
use millstream_consumer::{Consumer, StartAt};
use millstream_producer::{Producer, Record};

/// The program under test: adds up the amounts in a topic until none has come for an hour.
async fn total(client: Client, topic: &str) -> Result<i64> {
    let mut consumer = Consumer::builder(client).assign_topic(topic, StartAt::Beginning).build().await?;
    let mut total = 0;
    while let Ok(next) = tokio::time::timeout(Duration::from_secs(3600), consumer.recv()).await {
        let Some(record) = next? else { break };
        total += std::str::from_utf8(&record.value.unwrap_or_default())?.parse::<i64>()?;
    }
    Ok(total)
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() -> Result<()> {
    let broker = Broker::builder().in_memory().no_listener().start_here()?;
    let client = embedded::client(&broker).connect().await?;
    client.admin().create_topic(NewTopic::new("payments").partitions(1)).await?;
    let counting = tokio::spawn({
        let client = client.clone();
        async move { total(client, "payments").await }
    });

    let producer = Producer::builder(client).build();
    for amount in ["100", "-30", "7"] {
        producer.send(Record::to("payments").value(amount)).await?.await?;
        // Half an hour, which takes no time.
        tokio::time::sleep(Duration::from_secs(1800)).await;
    }
    assert_eq!(counting.await??, 77);

    broker.shutdown().await;
    Ok(())
}
