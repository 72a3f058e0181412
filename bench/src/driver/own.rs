//! Our own producer and consumer, with their defaults but for what the other driver has to do without:
//! idempotence, which the floor does not know.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use millstream_client::{Client, Missing};
use millstream_consumer::{Consumer, StartAt};
use millstream_producer::{Idempotence, Producer, Record};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::{
    ConsumeLoad, Distances, Driver, LINGER, PATIENCE, Payloads, Probe, ProduceLoad, Schedule, Target, stamp,
    stamped,
};
use crate::latency::Latencies;
use crate::options::{Acks, OpenLoop};

/// Records between two looks at the clock.
const STRIDE: u64 = 256;

/// The driver.
#[derive(Debug)]
pub(crate) struct Own;

impl Driver for Own {
    fn describe(&self) -> String {
        let version = env!("CARGO_PKG_VERSION");
        format!(
            "millstream-client {version}, linger {LINGER:?} under full load, adaptive for latency, no idempotence"
        )
    }

    fn producer(&self, target: &Target<'_>, acks: Acks) -> Result<Box<dyn ProduceLoad>> {
        let runtime = runtime()?;
        let producer = runtime.block_on(connect_producer(target, acks, Some(LINGER)))?;
        let payloads = Payloads::new(target.record_bytes);
        Ok(Box::new(Load { producer, runtime, topic: target.topic.to_owned(), payloads }))
    }

    fn consumer(&self, target: &Target<'_>) -> Result<Box<dyn ConsumeLoad>> {
        let runtime = runtime()?;
        let client = runtime.block_on(connect(target))?;
        Ok(Box::new(Drain { client, runtime, topic: target.topic.to_owned() }))
    }

    fn probe(&self, target: &Target<'_>, acks: Acks) -> Result<Box<dyn Probe>> {
        let runtime = runtime()?;
        let (producer, consumer) = runtime.block_on(async {
            let producer = connect_producer(target, acks, None).await?;
            let consumer = Consumer::builder(connect(target).await?);
            let consumer = consumer.assign(target.topic, 0, StartAt::Beginning).build().await;
            anyhow::Ok((producer, consumer.context("cannot assign the partition")?))
        })?;
        let payloads = Payloads::new(target.record_bytes.max(8));
        let epoch = Instant::now();
        Ok(Box::new(Pair { producer, consumer, runtime, topic: target.topic.to_owned(), payloads, epoch }))
    }
}

fn runtime() -> Result<Runtime> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.context("cannot start the client's threads")
}

async fn connect(target: &Target<'_>) -> Result<Client> {
    let client = Client::builder(target.address.to_string()).client_id("millstream-bench").connect().await;
    let client = client.with_context(|| format!("cannot connect to {}", target.address))?;
    let topic = client.topic(target.topic, Missing::Create).await;
    let found = topic.with_context(|| format!("no topic {}", target.topic))?.partitions.len();
    let wanted = target.partitions as usize;
    ensure!(found == wanted, "topic {} has {found} partitions instead of {wanted}", target.topic);
    Ok(client)
}

async fn connect_producer(target: &Target<'_>, acks: Acks, linger: Option<Duration>) -> Result<Producer> {
    let acks = match acks {
        Acks::Written => millstream_producer::Acks::Leader,
        Acks::Flushed => millstream_producer::Acks::All,
    };
    let producer = Producer::builder(connect(target).await?).acks(acks).idempotence(Idempotence::Off);
    Ok(match linger {
        Some(linger) => producer.linger(linger).build(),
        None => producer.build(),
    })
}

/// A producer at full load.
struct Load {
    producer: Producer,
    runtime: Runtime,
    topic: String,
    payloads: Payloads,
}

impl ProduceLoad for Load {
    fn run(&mut self, window: Duration) -> Result<u64> {
        let Self { producer, runtime, topic, payloads } = self;
        runtime.block_on(async {
            let deadline = Instant::now() + window;
            let mut sent = 0;
            while Instant::now() < deadline {
                for _ in 0..STRIDE {
                    let sending = producer.send(Record::to(topic).value(payloads.next()));
                    // Flush tells of failures.
                    drop(sending.await.context("a record is refused")?);
                }
                sent += STRIDE;
            }
            producer.flush().await.context("not everything was acknowledged")?;
            Ok(sent)
        })
    }
}

/// A consumer at full load.
struct Drain {
    client: Client,
    runtime: Runtime,
    topic: String,
}

impl ConsumeLoad for Drain {
    fn run(&mut self, records: u64) -> Result<()> {
        let Self { client, runtime, topic } = self;
        runtime.block_on(async {
            let consumer = Consumer::builder(client.clone()).assign_topic(topic.as_str(), StartAt::Beginning);
            let mut consumer = consumer.build().await.context("cannot assign the partitions")?;
            let mut seen = 0;
            while seen < records {
                let polled = timeout(PATIENCE, consumer.recv_batch()).await;
                let polled = polled.with_context(|| format!("{seen} of {records} records came"))?;
                seen += polled.context("consuming failed")?.len() as u64;
            }
            Ok(())
        })
    }
}

/// A producer and a consumer of one partition in the same process, so that one clock times both.
struct Pair {
    producer: Producer,
    consumer: Consumer,
    runtime: Runtime,
    topic: String,
    payloads: Payloads,
    epoch: Instant,
}

impl Probe for Pair {
    fn closed_loop(&mut self, records: u32) -> Result<Distances> {
        let Self { producer, consumer, runtime, topic, payloads, epoch } = self;
        let (mut acks, mut ends) = (Latencies::new(), Latencies::new());
        runtime.block_on(async {
            for _ in 0..records {
                let sent = Instant::now();
                let value = stamp(payloads.next(), *epoch, sent);
                let record = Record::to(topic).partition(0).value(&value);
                let delivery = producer.send(record).await.context("a record is refused")?;
                let (acknowledged, received) = tokio::join!(
                    async {
                        delivery.await.context("a record was not delivered")?;
                        anyhow::Ok(sent.elapsed())
                    },
                    async {
                        receive(consumer).await?;
                        anyhow::Ok(sent.elapsed())
                    },
                );
                acks.record(acknowledged?);
                ends.record(received?);
            }
            anyhow::Ok(())
        })?;
        Ok(Distances { ack: acks.percentiles(), end_to_end: ends.percentiles() })
    }

    fn open_loop(&mut self, load: OpenLoop) -> Result<Distances> {
        let Self { producer, consumer, runtime, topic, payloads, epoch } = self;
        let (epoch, handle) = (*epoch, runtime.handle());
        std::thread::scope(|scope| {
            let receiver = scope.spawn(|| {
                handle.block_on(async {
                    let mut latencies = Latencies::new();
                    for _ in 0..load.records {
                        let intended = receive(consumer).await?;
                        latencies.record(epoch.elapsed().saturating_sub(intended));
                    }
                    anyhow::Ok(latencies)
                })
            });
            // The sender is a thread of its own: a timer of the runtime counts in milliseconds.
            let mut deliveries = JoinSet::new();
            let mut schedule = Schedule::start(load);
            while let Some(intended) = schedule.next() {
                let value = stamp(payloads.next(), epoch, intended);
                let record = Record::to(topic).partition(0).value(&value);
                let delivery = handle.block_on(producer.send(record)).context("a record is refused")?;
                deliveries.spawn_on(async move { delivery.await.map(|_| intended.elapsed()) }, handle);
            }
            let mut acks = Latencies::new();
            while let Some(delivered) = handle.block_on(deliveries.join_next()) {
                acks.record(
                    delivered.context("waiting for a delivery")?.context("a record was not delivered")?,
                );
            }
            let ends = receiver.join().map_err(|_| anyhow::anyhow!("the receiving thread panicked"))??;
            Ok(Distances { ack: acks.percentiles(), end_to_end: ends.percentiles() })
        })
    }
}

/// Receives one record and returns the intended time in its front.
async fn receive(consumer: &mut Consumer) -> Result<Duration> {
    let record = timeout(PATIENCE, consumer.recv()).await;
    let record = record.with_context(|| format!("nothing was received for {PATIENCE:?}"))?;
    let record = record.context("consuming failed")?.context("the partition has an end")?;
    stamped(record.value.as_deref())
}
