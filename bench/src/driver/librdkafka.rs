//! librdkafka through `rdkafka`: the same client, with the same settings, for every broker.
//!
//! No idempotence, as the floor has no InitProducerId. Consumers are assigned their partitions; the group
//! name is only there because librdkafka wants one before it assigns.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message as _};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::{
    ConsumeLoad, Distances, Driver, LINGER, PATIENCE, Payloads, Probe, ProduceLoad, Schedule, Target, stamp,
    stamped,
};
use crate::latency::Latencies;
use crate::options::{Acks, OpenLoop};

/// Records between two looks at the clock and at the delivery reports.
const STRIDE: u64 = 256;

/// The driver.
#[derive(Debug)]
pub(crate) struct Librdkafka;

impl Driver for Librdkafka {
    fn describe(&self) -> String {
        let (_, version) = rdkafka::util::get_rdkafka_version();
        format!("librdkafka {version}, linger {LINGER:?} under full load, 0 for latency, no idempotence")
    }

    fn producer(&self, target: &Target<'_>, acks: Acks) -> Result<Box<dyn ProduceLoad>> {
        let producer = connect_producer(target, acks, LINGER)?;
        let payloads = Payloads::new(target.record_bytes);
        Ok(Box::new(Load { producer, topic: target.topic.to_owned(), payloads }))
    }

    fn consumer(&self, target: &Target<'_>) -> Result<Box<dyn ConsumeLoad>> {
        let consumer = connect_consumer(target)?;
        Ok(Box::new(Drain { consumer, topic: target.topic.to_owned(), partitions: target.partitions }))
    }

    fn probe(&self, target: &Target<'_>, acks: Acks) -> Result<Box<dyn Probe>> {
        let producer = Arc::new(connect_producer(target, acks, Duration::ZERO)?);
        let consumer = connect_consumer(target)?;
        consumer.assign(&partitions(target.topic, 1)?).context("cannot assign the partition")?;
        let poller = Poller::start(Arc::clone(&producer));
        let payloads = Payloads::new(target.record_bytes.max(8));
        Ok(Box::new(Pair { _poller: poller, producer, consumer, topic: target.topic.to_owned(), payloads }))
    }
}

fn config(target: &Target<'_>) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", target.address.to_string());
    config.set("socket.nagle.disable", "true");
    config.set_log_level(RDKafkaLogLevel::Error);
    config
}

fn connect_producer(target: &Target<'_>, acks: Acks, linger: Duration) -> Result<BaseProducer<Deliveries>> {
    let producer: BaseProducer<Deliveries> = config(target)
        .set("acks", acks.name())
        .set("linger.ms", linger.as_millis().to_string())
        .set("enable.idempotence", "false")
        .create_with_context(Deliveries::new())
        .context("librdkafka refuses the producer's settings")?;
    // Waits for the connection, and lets a broker that creates topics create this one.
    let deadline = Instant::now() + PATIENCE;
    loop {
        let metadata = producer.client().fetch_metadata(Some(target.topic), PATIENCE);
        let metadata = metadata.with_context(|| format!("no metadata from {}", target.address))?;
        let found = metadata.topics().first().map_or(0, |topic| topic.partitions().len());
        if found == target.partitions as usize {
            return Ok(producer);
        }
        if Instant::now() > deadline {
            bail!("topic {} has {found} partitions instead of {}", target.topic, target.partitions);
        }
        std::thread::park_timeout(Duration::from_millis(1));
    }
}

fn connect_consumer(target: &Target<'_>) -> Result<BaseConsumer> {
    let consumer: BaseConsumer = config(target)
        .set("group.id", "millstream-bench")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("fetch.wait.max.ms", "500")
        .set("fetch.queue.backoff.ms", "1")
        .set("fetch.error.backoff.ms", "1")
        .create()
        .context("librdkafka refuses the consumer's settings")?;
    let metadata = consumer.fetch_metadata(Some(target.topic), PATIENCE);
    metadata.with_context(|| format!("no metadata from {}", target.address))?;
    Ok(consumer)
}

fn partitions(topic: &str, count: u32) -> Result<TopicPartitionList> {
    let mut list = TopicPartitionList::new();
    for partition in 0..count.cast_signed() {
        list.add_partition_offset(topic, partition, Offset::Offset(0))
            .context("cannot list the partitions")?;
    }
    Ok(list)
}

/// What delivery reports leave behind.
///
/// The opaque of a record is its intended time, in nanoseconds after `epoch`; 0 for one that is not timed.
#[derive(Debug)]
struct Deliveries {
    epoch: Instant,
    acknowledged: AtomicU64,
    failure: Mutex<Option<KafkaError>>,
    latencies: Mutex<Latencies>,
}

impl Deliveries {
    fn new() -> Self {
        Self {
            epoch: Instant::now(),
            acknowledged: AtomicU64::new(0),
            failure: Mutex::new(None),
            latencies: Mutex::new(Latencies::new()),
        }
    }

    fn nanos(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.epoch).as_nanos() as u64
    }

    /// Fails once any record has failed.
    fn check(&self) -> Result<()> {
        match self.failure.lock().unwrap_or_else(PoisonError::into_inner).take() {
            None => Ok(()),
            Some(error) => Err(anyhow!(error).context("a record was not delivered")),
        }
    }

    /// The latencies so far, leaving none.
    fn take_latencies(&self) -> Latencies {
        std::mem::replace(
            &mut self.latencies.lock().unwrap_or_else(PoisonError::into_inner),
            Latencies::new(),
        )
    }
}

impl ClientContext for Deliveries {
    fn log(&self, _: RDKafkaLogLevel, _: &str, _: &str) {}

    fn error(&self, _: KafkaError, _: &str) {}
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, intended: usize) {
        if intended != 0 {
            let now = self.nanos(Instant::now());
            let latency = Duration::from_nanos(now.saturating_sub(intended as u64));
            self.latencies.lock().unwrap_or_else(PoisonError::into_inner).record(latency);
        }
        if let Err((error, _)) = result {
            self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| error.clone());
        }
        self.acknowledged.fetch_add(1, Ordering::Release);
    }
}

/// A producer at full load, one thread that sends and takes reports, as in librdkafka's own benchmark.
struct Load {
    producer: BaseProducer<Deliveries>,
    topic: String,
    payloads: Payloads,
}

impl ProduceLoad for Load {
    fn run(&mut self, window: Duration) -> Result<u64> {
        let deadline = Instant::now() + window;
        let mut sent = 0u64;
        while Instant::now() < deadline {
            for _ in 0..STRIDE {
                self.send()?;
            }
            sent += STRIDE;
            self.producer.poll(Duration::ZERO);
        }
        self.producer.flush(PATIENCE).context("not everything was acknowledged")?;
        self.producer.context().check()?;
        Ok(sent)
    }
}

impl Load {
    fn send(&mut self) -> Result<()> {
        let mut record =
            BaseRecord::with_opaque_to(&self.topic, 0usize).payload(self.payloads.next()).key(&());
        record.key = None;
        loop {
            match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    record = back;
                    // Serves reports meanwhile, which is what makes room.
                    self.producer.poll(Duration::from_millis(1));
                    self.producer.context().check()?;
                }
                Err((error, _)) => return Err(anyhow!(error).context("librdkafka refuses a record")),
            }
        }
    }
}

/// A consumer at full load.
struct Drain {
    consumer: BaseConsumer,
    topic: String,
    partitions: u32,
}

impl ConsumeLoad for Drain {
    fn run(&mut self, records: u64) -> Result<()> {
        let list = partitions(&self.topic, self.partitions)?;
        self.consumer.assign(&list).context("cannot assign the partitions")?;
        for seen in 0..records {
            match self.consumer.poll(PATIENCE) {
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(anyhow!(error).context("consuming failed")),
                None => bail!("{seen} of {records} records came, then none for {PATIENCE:?}"),
            }
        }
        Ok(())
    }
}

/// A thread that takes delivery reports as they come, so that the sender can wait for something else.
struct Poller {
    // Sending or dropping ends the thread.
    stop: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Poller {
    fn start(producer: Arc<BaseProducer<Deliveries>>) -> Self {
        let stop = Arc::new(AtomicU64::new(0));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            while stopped.load(Ordering::Acquire) == 0 {
                producer.poll(Duration::from_millis(20));
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Poller {
    fn drop(&mut self) {
        self.stop.store(1, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            // A panic there has been printed already.
            let _ = thread.join();
        }
    }
}

/// A producer and a consumer of one partition in the same process, so that one clock times both.
struct Pair {
    _poller: Poller,
    producer: Arc<BaseProducer<Deliveries>>,
    consumer: BaseConsumer,
    topic: String,
    payloads: Payloads,
}

impl Probe for Pair {
    fn closed_loop(&mut self, records: u32) -> Result<Distances> {
        let mut end_to_end = Latencies::new();
        self.producer.context().take_latencies();
        for _ in 0..records {
            let acknowledged = self.producer.context().acknowledged.load(Ordering::Acquire);
            let sent = Instant::now();
            send_timed(&self.producer, &self.topic, self.payloads.next(), sent)?;
            receive(&self.consumer)?;
            end_to_end.record(sent.elapsed());
            await_report(self.producer.context(), acknowledged + 1)?;
        }
        self.producer.context().check()?;
        let ack = self.producer.context().take_latencies().percentiles();
        Ok(Distances { ack, end_to_end: end_to_end.percentiles() })
    }

    fn open_loop(&mut self, load: OpenLoop) -> Result<Distances> {
        let Self { producer, consumer, topic, payloads, .. } = self;
        let deliveries = producer.context();
        deliveries.take_latencies();
        let before = deliveries.acknowledged.load(Ordering::Acquire);
        let end_to_end = std::thread::scope(|scope| {
            let receiver = scope.spawn(|| -> Result<Latencies> {
                let mut latencies = Latencies::new();
                for _ in 0..load.records {
                    let intended = receive(consumer)?;
                    latencies.record(deliveries.epoch.elapsed().saturating_sub(intended));
                }
                Ok(latencies)
            });
            let mut schedule = Schedule::start(load);
            while let Some(intended) = schedule.next() {
                send_timed(producer, topic, payloads.next(), intended)?;
            }
            receiver.join().map_err(|_| anyhow!("the receiving thread panicked"))?
        })?;
        await_report(deliveries, before + u64::from(load.records))?;
        deliveries.check()?;
        Ok(Distances { ack: deliveries.take_latencies().percentiles(), end_to_end: end_to_end.percentiles() })
    }
}

/// Sends `payload` with its intended time in front and in the opaque.
fn send_timed(
    producer: &BaseProducer<Deliveries>,
    topic: &str,
    payload: &[u8],
    intended: Instant,
) -> Result<()> {
    let value = stamp(payload, producer.context().epoch, intended);
    let nanos = producer.context().nanos(intended).max(1) as usize;
    let record: BaseRecord<'_, (), Vec<u8>, usize> = BaseRecord::with_opaque_to(topic, nanos);
    let sent = producer.send(record.partition(0).payload(&value));
    sent.map_err(|(error, _)| anyhow!(error).context("librdkafka refuses a record"))
}

/// Receives one record and returns the intended time in its front.
fn receive(consumer: &BaseConsumer) -> Result<Duration> {
    let message =
        consumer.poll(PATIENCE).with_context(|| format!("nothing was received for {PATIENCE:?}"))?;
    stamped(message.context("consuming failed")?.payload())
}

/// Waits until `count` reports have come; they are as good as there when this is called.
fn await_report(deliveries: &Deliveries, count: u64) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while deliveries.acknowledged.load(Ordering::Acquire) < count {
        if Instant::now() > deadline {
            bail!("an acknowledgement did not come for {PATIENCE:?}");
        }
        std::thread::park_timeout(Duration::from_micros(20));
    }
    Ok(())
}
