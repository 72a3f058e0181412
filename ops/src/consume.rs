//! `millstream consume`: the records of a topic on standard output.

mod format;

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;

use anyhow::{Context, anyhow, bail};
use clap::Args;
use millstream_client::{Client, Missing};
use millstream_consumer::{ConsumeError, Consumer, ConsumerRecord, Isolation, StopAt};
use millstream_log::SystemClock;

use crate::begin::{self, Begin};
use crate::connect::{BrokerArgs, block_on, interrupted, topic_exists, unknown_topic};
use crate::outcome::Outcome;
use format::Template;
pub(crate) use format::{HeadersAsJson, serialize_bytes};

/// What `consume` can be told.
#[derive(Debug, Args)]
#[command(after_help = format!("{}

--json prints topic, partition, offset, timestamp, key, value and headers. Bytes that are
not UTF-8 come as base64, under key_base64 or value_base64 instead.

Examples:
  millstream consume orders --exit-at-end
  millstream consume orders --from 5m --partition 0 --format '%o %k=%v\\n'
  millstream consume orders --from end --json | jq .value", format::HELP))]
pub(crate) struct ConsumeArgs {
    /// Topic to read
    topic: String,
    /// Where to begin: start, end, an offset, a date, ms since 1970, or an age such as 5m
    #[arg(long, value_name = "WHERE", default_value = "start", value_parser = Begin::parse,
          long_help = format!("Where to begin: {}", begin::HELP))]
    from: Begin,
    /// Read this partition; may be repeated [default: all that the topic has now]
    #[arg(short, long = "partition", value_name = "N", value_parser = clap::value_parser!(i32).range(0..))]
    partitions: Vec<i32>,
    /// Stop after so many records
    #[arg(short = 'n', long, value_name = "N")]
    count: Option<u64>,
    /// Stop at what is the end now, instead of waiting for more
    #[arg(short, long)]
    exit_at_end: bool,
    /// Only what counts: nothing of transactions that were aborted, nothing behind one that is open (read_committed)
    #[arg(long)]
    committed: bool,
    /// How a record is printed; the list of directives is below
    #[arg(short, long, value_name = "TEMPLATE", default_value = "%v\\n", value_parser = Template::parse,
          conflicts_with = "json")]
    format: Template,
    /// One JSON object per record
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    broker: BrokerArgs,
}

/// Prints records until there is a reason to stop.
///
/// # Errors
/// When the topic cannot be read or nobody takes the output.
pub(crate) fn run(args: ConsumeArgs) -> anyhow::Result<Outcome> {
    block_on(async move {
        let client = args.broker.connect().await?;
        let mut consumer = assign(client, &args).await?;
        let stdout = io::stdout().as_fd().try_clone_to_owned().context("there is no standard output")?;
        let mut printer = Printer::new(File::from(stdout), &args);
        if io::stderr().is_terminal() && io::stdout().is_terminal() && !args.exit_at_end {
            eprintln!("reading {}; Ctrl-C ends", args.topic);
        }
        let mut interrupted = std::pin::pin!(interrupted());
        while !printer.is_done() {
            let records = tokio::select! {
                records = consumer.recv_batch() => records.map_err(explain)?,
                // The usual end of a command that waits for more.
                _ = &mut interrupted => break,
            };
            if records.is_empty() {
                break;
            }
            printer.print(&records).context("standard output cannot be written")?;
        }
        Ok(Outcome::Done)
    })
}

async fn assign(client: Client, args: &ConsumeArgs) -> anyhow::Result<Consumer> {
    let name = &args.topic;
    if !topic_exists(&client, name).await? {
        bail!(unknown_topic(name));
    }
    let topic = client.topic(name, Missing::Fail).await?;
    let count = topic.partitions.len();
    let start = args.from.start_at(&SystemClock);
    let mut builder = Consumer::builder(client);
    for partition in &args.partitions {
        if *partition as usize >= count {
            bail!("topic {name} has no partition {partition}; it has {count}, numbered from 0");
        }
        builder = builder.assign(name.as_str(), *partition, start);
    }
    if args.partitions.is_empty() {
        builder = builder.assign_topic(name.as_str(), start);
    }
    if args.committed {
        builder = builder.isolation(Isolation::ReadCommitted);
    }
    if args.exit_at_end {
        builder = builder.stop(StopAt::CurrentEnd);
    }
    builder.build().await.map_err(explain)
}

fn explain(error: ConsumeError) -> anyhow::Error {
    match &error {
        ConsumeError::OutOfRange { topic, partition, offset } => anyhow!(
            "partition {partition} of topic {topic} does not hold offset {offset}; `millstream topic describe {topic}` \
             shows what it holds"
        ),
        _ => error.into(),
    }
}

/// Formats records into a buffer that is written when it is full, and whenever the reader has caught up.
struct Printer<'a, W> {
    out: W,
    buffer: Vec<u8>,
    args: &'a ConsumeArgs,
    left: u64,
}

/// Formatted bytes that are written at once: enough that the system call is a small part of the cost.
const WRITE_BYTES: usize = 128 << 10;

impl<'a, W: Write> Printer<'a, W> {
    fn new(out: W, args: &'a ConsumeArgs) -> Self {
        Self { out, buffer: Vec::with_capacity(WRITE_BYTES * 2), args, left: args.count.unwrap_or(u64::MAX) }
    }

    fn is_done(&self) -> bool {
        self.left == 0
    }

    fn print(&mut self, records: &[ConsumerRecord]) -> io::Result<()> {
        for record in records {
            if self.left == 0 {
                break;
            }
            self.left -= 1;
            match self.args.json {
                true => format::write_json(record, &mut self.buffer)?,
                false => self.args.format.write(record, &mut self.buffer)?,
            }
            if self.buffer.len() >= WRITE_BYTES {
                self.flush()?;
            }
        }
        self.flush()
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.write_all(&self.buffer)?;
        self.buffer.clear();
        Ok(())
    }
}
