//! The broker in the client's own process: how long one acknowledgement takes a lone caller, and how fast records are
//! read again. With data on disk, in the page cache, and with data in memory.
//!
//! All of it goes through the producer and the consumer, as a program's records do, on one thread.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use millstream_broker::Broker;
use millstream_client::{Client, NewTopic, embedded};
use millstream_consumer::{Consumer, StartAt, StopAt};
use millstream_producer::{Acks, Producer, Record};
use millstream_protocol::messages::ProduceRequest;
use millstream_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use millstream_protocol::records::{BatchBuilder, Compression, NewRecord};

use crate::bars::Verdict;
use crate::environment::Environment;
use crate::latency::Latencies;
use crate::options::EmbeddedOptions;
use crate::report::{Report, Setting};
use crate::sample::Summary;

const RECORD_BYTES: usize = 200;
const TOPIC: &str = "embedded";

/// The bars, for 200 bytes.
const ACK_P50_US: f64 = 10.0;
const REPLAY_PER_SECOND: f64 = 3e6;

/// How much is measured.
#[derive(Debug, Clone, Copy)]
struct Plan {
    rounds: u32,
    appends: u32,
    replayed: u32,
}

/// Runs both and tells where we stand.
pub(crate) fn run(options: &EmbeddedOptions) -> Result<()> {
    let plan = match (options.smoke, options.quick) {
        (true, _) => Plan { rounds: 1, appends: 100, replayed: 10_000 },
        (_, true) => Plan { rounds: 3, appends: 20_000, replayed: 1_000_000 },
        _ => Plan { rounds: 5, appends: 100_000, replayed: 3_000_000 },
    };
    let parent = options.dir.clone().unwrap_or_else(std::env::temp_dir);
    let mut report = Report::new(options.json);
    report.begin(&Setting {
        environment: Environment::read(),
        driver: "producer and consumer in the broker's process, one thread".to_owned(),
        peers: vec![("millstream", "in this process".to_owned())],
        folder: parent.display().to_string(),
        partitions: 1,
        rounds: plan.rounds,
        seconds: 0.0,
    })?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let verdicts = runtime.block_on(measure(plan, &parent))?;
    report.end(&Summary::default(), &verdicts)
}

async fn measure(plan: Plan, parent: &Path) -> Result<Vec<Verdict>> {
    let mut verdicts = Vec::new();
    for place in ["on disk", "in memory"] {
        let (mut acks, mut direct, mut replays) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..plan.rounds {
            let folder = tempfile::tempdir_in(parent)?;
            let builder = Broker::builder().no_listener();
            let broker = match place {
                "on disk" => builder.data_dir(folder.path()),
                _ => builder.in_memory(),
            };
            let broker = broker.start().context("the broker does not start")?;
            let client = embedded::client(&broker).connect().await?;
            client.admin().create_topic(NewTopic::new(TOPIC).partitions(1)).await?;
            acks.push(append_alone(&client, plan.appends).await.context("append")?);
            direct.push(append_direct(&broker, plan.appends).await.context("append without a producer")?);
            fill(&client, plan.replayed).await.context("fill")?;
            replays.push(replay(&client, 2 * plan.appends + plan.replayed).await.context("replay")?);
            broker.shutdown().await;
        }
        let (ack, direct, replay) = (median(acks), median(direct), median(replays));
        verdicts.push(verdict(
            format!("append, acks=1, {place}: ack p50 us"),
            ack,
            (format!("<= {ACK_P50_US}"), ack <= ACK_P50_US),
        ));
        let bar = format!("append, acks=1, {place}, no producer: ack p50 us");
        verdicts.push(verdict(bar, direct, (format!("<= {ACK_P50_US}"), direct <= ACK_P50_US)));
        let bar = format!("replay of {RECORD_BYTES} B, {place}: records/s");
        verdicts.push(verdict(bar, replay, (format!(">= {REPLAY_PER_SECOND}"), replay >= REPLAY_PER_SECOND)));
    }
    Ok(verdicts)
}

/// Waits for each record's acknowledgement before it sends the next; the median in microseconds.
async fn append_alone(client: &Client, records: u32) -> Result<f64> {
    let producer = Producer::builder(client.clone()).acks(Acks::Leader).build();
    let value = [b'm'; RECORD_BYTES];
    let mut latencies = Latencies::new();
    for _ in 0..records {
        let began = Instant::now();
        producer.send(Record::to(TOPIC).partition(0).value(&value)).await?.await?;
        latencies.record(began.elapsed());
    }
    producer.close().await?;
    latencies.percentiles().map(|told| told.p50_us).context("nothing was measured")
}

/// The same with batches of its own making, which are handed to the broker as they are.
async fn append_direct(broker: &Broker, records: u32) -> Result<f64> {
    let in_process = broker.in_process();
    let value = [b'm'; RECORD_BYTES];
    let mut latencies = Latencies::new();
    for _ in 0..records {
        let began = Instant::now();
        let mut batch = BatchBuilder::new(Compression::None);
        batch.append(&NewRecord { timestamp: -1, value: Some(&value), ..Default::default() });
        let data = PartitionProduceData { index: 0, records: Some(batch.build().into()) };
        let topic = TopicProduceData { name: TOPIC.into(), partition_data: vec![data], ..Default::default() };
        let request = ProduceRequest { acks: 1, topic_data: vec![topic], ..Default::default() };
        let response = in_process.produce(request).await?;
        latencies.record(began.elapsed());
        let code = response.responses[0].partition_responses[0].error_code;
        ensure!(code == 0, "refused with error code {code}");
    }
    latencies.percentiles().map(|told| told.p50_us).context("nothing was measured")
}

async fn fill(client: &Client, records: u32) -> Result<()> {
    let producer =
        Producer::builder(client.clone()).acks(Acks::Leader).linger(Duration::from_millis(5)).build();
    let value = [b'm'; RECORD_BYTES];
    for _ in 0..records {
        drop(producer.send(Record::to(TOPIC).partition(0).value(&value)).await?);
    }
    Ok(producer.close().await?)
}

/// Reads everything; records per second.
async fn replay(client: &Client, records: u32) -> Result<f64> {
    let began = Instant::now();
    let builder =
        Consumer::builder(client.clone()).assign_topic(TOPIC, StartAt::Beginning).stop(StopAt::CurrentEnd);
    let mut consumer = builder.build().await?;
    let (mut read, mut bytes) = (0, 0);
    loop {
        let polled = consumer.recv_batch().await?;
        if polled.is_empty() {
            break;
        }
        read += polled.len();
        bytes +=
            polled.iter().filter_map(|record| record.value.as_ref()).map(|value| value.len()).sum::<usize>();
    }
    let took = began.elapsed().as_secs_f64();
    ensure!(read == records as usize, "{read} of {records} records were read");
    ensure!(bytes == read * RECORD_BYTES, "{bytes} bytes in {read} records");
    Ok(read as f64 / took)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn verdict(bar: String, ours: f64, (limit, met): (String, bool)) -> Verdict {
    Verdict { bar, ours, floor: None, ratio: None, limit, met }
}
