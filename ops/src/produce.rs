//! `millstream produce`: standard input to a topic, one record per line.
//!
//! A thread reads blocks of whole lines (`produce/input.rs`); this side hands them to the producer, which
//! batches them. Memory is bounded by the blocks in between and the producer's buffer, not by the input.

mod input;
mod progress;

use std::cell::Cell;
use std::time::{Duration, Instant};

use anyhow::bail;
use bytes::Bytes;
use clap::{Args, ValueEnum};
use millstream_client::{Client, ClientError, Missing};
use millstream_producer::{Acks, Compression, Idempotence, Producer, Record};
use millstream_protocol::records::RecordHeader;
use serde_json::json;

use crate::connect::{BrokerArgs, block_on, interrupted, topic_exists, unknown_topic};
use crate::outcome::Outcome;
use crate::output;
use crate::text::{human_count, plural, unescape};
use crate::timestamp::parse_age;
use crate::topic::parse_pair;
use input::{Block, Separator};
use progress::{Progress, Summary};

/// What `produce` can be told.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  echo 'hello' | millstream produce greetings
  millstream produce orders --key-separator : --header source=shop < orders.txt
  millstream produce bulk --compression zstd --acks 1 < big.log")]
pub(crate) struct ProduceArgs {
    /// Topic to write to; made on the way if the broker allows it
    topic: String,
    /// Split each line at the first SEPARATOR: the key stands before it. A line without it has no key
    #[arg(short, long, value_name = "SEPARATOR", value_parser = parse_separator)]
    key_separator: Option<Separator>,
    /// Header of every record; may be repeated
    #[arg(short = 'H', long = "header", value_name = "NAME=VALUE", value_parser = parse_pair)]
    headers: Vec<(String, String)>,
    /// Write to this partition only [default: by key, or in turns without one]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(i32).range(0..))]
    partition: Option<i32>,
    /// When a record counts as sent: 0 no answer awaited, 1 written, all flushed to disk
    #[arg(long, value_enum, default_value_t = AcksArg::All)]
    acks: AcksArg,
    /// How batches are compressed
    #[arg(short = 'z', long, value_enum, default_value_t = CompressionArg::None)]
    compression: CompressionArg,
    /// How long a batch waits for more records, for example 5ms [default: only while others are on their way]
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    linger: Option<Duration>,
    /// How long a record may take to be acknowledged, with all attempts, for example 10s [default: 2m]
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    timeout: Option<Duration>,
    /// Largest batch, in bytes before compression
    #[arg(long, value_name = "BYTES")]
    batch_bytes: Option<usize>,
    /// Do not number batches; a retry may then write a record twice
    #[arg(long)]
    no_idempotence: bool,
    /// What ends a record
    #[arg(long, value_name = "SEPARATOR", default_value = "\\n", value_parser = parse_separator)]
    record_separator: Separator,
    /// Summary as one JSON object on standard output
    #[arg(long)]
    json: bool,
    /// No progress and no summary
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    broker: BrokerArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum AcksArg {
    #[value(name = "0")]
    None,
    #[value(name = "1")]
    Leader,
    #[value(name = "all", alias = "-1")]
    All,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum CompressionArg {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

/// Sends everything that standard input holds.
///
/// # Errors
/// When the topic cannot be had, the input cannot be read, or a record was not acknowledged.
pub(crate) fn run(args: ProduceArgs) -> anyhow::Result<Outcome> {
    block_on(async move {
        let client = args.broker.connect().await?;
        check_topic(&client, &args).await?;
        let producer = build(client, &args);
        let progress = Progress::start(&args.topic, args.quiet || args.json);
        let started = Instant::now();
        let sent = Sent::default();
        let end = tokio::select! {
            read = send_all(&producer, &args, &sent) => End::Input(read),
            () = first_failure(&producer, &progress, &sent) => End::Failure,
            () = interrupted() => End::Interrupt,
        };
        let flushed = match end {
            // A record that is refused leaves the others a chance; a broker that is gone has had its time.
            End::Failure => tokio::time::timeout(AFTER_FAILURE, producer.close()).await.ok(),
            End::Input(_) | End::Interrupt => Some(producer.close().await),
        };
        progress.finish();
        let records = producer.stats().delivered_records;
        report(&args, &Summary { records, bytes: sent.bytes.get(), elapsed: started.elapsed() })?;
        let lost = sent.records.get().saturating_sub(records);
        let lost =
            format!("{} {} not acknowledged", human_count(lost), plural(lost, "record was", "records were"));
        match (flushed, end) {
            (Some(Err(error)), _) => bail!("{lost}: {}", error.first),
            (None, _) => bail!("{lost}; the broker has stopped answering"),
            (Some(Ok(())), End::Input(read)) => read.map(|()| Outcome::Done),
            (Some(Ok(())), End::Interrupt) => Ok(Outcome::Interrupted),
            (Some(Ok(())), End::Failure) => bail!("{lost}"),
        }
    })
}

/// How long the rest may take once a record has failed.
const AFTER_FAILURE: Duration = Duration::from_secs(3);

/// Why sending ended.
enum End {
    Input(anyhow::Result<()>),
    Failure,
    Interrupt,
}

/// What was handed to the producer.
#[derive(Default)]
struct Sent {
    records: Cell<u64>,
    bytes: Cell<u64>,
}

fn report(args: &ProduceArgs, summary: &Summary) -> anyhow::Result<()> {
    if args.json {
        output::json(&json!({
            "topic": args.topic, "records": summary.records, "bytes": summary.bytes,
            "seconds": summary.elapsed.as_secs_f64(), "records_per_second": summary.records_per_second(),
        }))?;
    } else if !args.quiet {
        eprintln!("{summary}");
    }
    Ok(())
}

fn build(client: Client, args: &ProduceArgs) -> Producer {
    let acks = match args.acks {
        AcksArg::None => Acks::None,
        AcksArg::Leader => Acks::Leader,
        AcksArg::All => Acks::All,
    };
    // Numbered batches need acks=all: an acknowledgement that may be lost in a crash proves no order.
    let idempotence = match acks {
        Acks::All if !args.no_idempotence => Idempotence::On,
        _ => Idempotence::Off,
    };
    let compression = match args.compression {
        CompressionArg::None => Compression::None,
        CompressionArg::Gzip => Compression::Gzip,
        CompressionArg::Snappy => Compression::Snappy,
        CompressionArg::Lz4 => Compression::Lz4,
        CompressionArg::Zstd => Compression::Zstd,
    };
    let mut builder = Producer::builder(client)
        .acks(acks)
        .idempotence(idempotence)
        .compression(compression)
        .max_record_bytes(input::RECORD_BYTES_MAX);
    if let Some(linger) = args.linger {
        builder = builder.linger(linger);
    }
    if let Some(timeout) = args.timeout {
        builder = builder.delivery_timeout(timeout);
    }
    if let Some(bytes) = args.batch_bytes {
        builder = builder.batch_bytes(bytes);
    }
    builder.build()
}

/// Finds or makes the topic before anything is read, so that a wrong name costs no input.
async fn check_topic(client: &Client, args: &ProduceArgs) -> anyhow::Result<()> {
    let name = &args.topic;
    let exists = topic_exists(client, name).await?;
    let topic = match client.topic(name, Missing::Create).await {
        Err(ClientError::UnknownTopic { .. }) => bail!(unknown_topic(name)),
        topic => topic?,
    };
    let count = topic.partitions.len();
    if !exists && !args.quiet {
        eprintln!("created topic {name} with {count} {}", plural(count as u64, "partition", "partitions"));
    }
    match args.partition {
        Some(partition) if partition as usize >= count => {
            bail!("topic {name} has no partition {partition}; it has {count}, numbered from 0")
        }
        _ => Ok(()),
    }
}

/// Sends all of standard input.
async fn send_all(producer: &Producer, args: &ProduceArgs, sent: &Sent) -> anyhow::Result<()> {
    let mut blocks = input::read_stdin(args.record_separator.clone());
    let headers: Vec<RecordHeader> = args.headers.iter().map(header_of).collect();
    while let Some(block) = blocks.recv().await {
        let block = block?;
        send_block(producer, args, &headers, &block, sent).await?;
        sent.bytes.set(sent.bytes.get() + block.size());
    }
    Ok(())
}

/// Ends when a record has failed; shows the progress until then.
async fn first_failure(producer: &Producer, progress: &Progress, sent: &Sent) {
    let mut ticks = tokio::time::interval(Duration::from_millis(100));
    loop {
        ticks.tick().await;
        let stats = producer.stats();
        if stats.failed_records > 0 {
            return;
        }
        progress.show(&stats, sent.bytes.get());
    }
}

async fn send_block(
    producer: &Producer,
    args: &ProduceArgs,
    headers: &[RecordHeader],
    block: &Block,
    sent: &Sent,
) -> anyhow::Result<()> {
    for line in block.records(&args.record_separator) {
        let mut record = Record::to(&args.topic);
        match args.key_separator.as_ref().and_then(|separator| separator.split(line)) {
            Some((key, value)) => record = record.key(key).value(value),
            None => record = record.value(line),
        }
        if !headers.is_empty() {
            record = record.headers(headers.to_vec());
        }
        if let Some(partition) = args.partition {
            record = record.partition(partition);
        }
        // The delivery is not awaited here: `stats` and `close` tell of failures.
        let _delivery = producer.send(record).await?;
        sent.records.set(sent.records.get() + 1);
    }
    Ok(())
}

fn header_of((name, value): &(String, String)) -> RecordHeader {
    RecordHeader { key: name.as_str().into(), value: Some(Bytes::copy_from_slice(value.as_bytes())) }
}

fn parse_separator(text: &str) -> Result<Separator, String> {
    Separator::new(&unescape(text)?).ok_or_else(|| "a separator cannot be empty".to_owned())
}

fn parse_time(text: &str) -> Result<Duration, String> {
    parse_age(text).ok_or_else(|| format!("{text:?} is no time; give for example 5ms or 1s"))
}
