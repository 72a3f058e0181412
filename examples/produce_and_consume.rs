//! Writes records, waits until they are acknowledged, and reads them again.
//!
//! `cargo run -p millstream-examples --example produce_and_consume [HOST:PORT]`

use anyhow::Result;
use millstream_client::NewTopic;
use millstream_consumer::{Consumer, StartAt, StopAt};
use millstream_examples::{Place, unique};
use millstream_producer::{Producer, Record};

#[tokio::main]
async fn main() -> Result<()> {
    let place = Place::from_arguments().await?;
    let topic = unique("greetings");
    place.client.admin().create_topic(NewTopic::new(topic.as_str()).partitions(3)).await?;

    // Sending waits for room in the buffer only; the delivery that it returns is the acknowledgement.
    let producer = Producer::builder(place.client.clone()).build();
    let mut deliveries = Vec::new();
    for name in ["Ada", "Grace", "Barbara", "Radia"] {
        let value = format!("hello {name}");
        deliveries.push(producer.send(Record::to(&topic).key(name).value(&value)).await?);
    }
    for delivery in deliveries {
        let written = delivery.await?;
        assert!(written.offset.is_some(), "acknowledged, and on disk if the broker has one");
    }
    producer.close().await?;

    // Records own their bytes: they can be kept, and sent to other tasks.
    let builder = Consumer::builder(place.client.clone()).assign_topic(topic.as_str(), StartAt::Beginning);
    let mut consumer = builder.stop(StopAt::CurrentEnd).build().await?;
    let mut read = Vec::new();
    while let Some(record) = consumer.recv().await? {
        read.push(String::from_utf8(record.value.unwrap_or_default().to_vec())?);
    }
    read.sort();
    assert_eq!(read, ["hello Ada", "hello Barbara", "hello Grace", "hello Radia"]);

    place.client.admin().delete_topic(&topic).await?;
    place.leave().await;
    Ok(())
}
