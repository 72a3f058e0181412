//! Reading the same committed transactions with `read_committed` and with `read_uncommitted`, in turn: what does the broker spend?

use anyhow::{Context as _, Result, ensure};
use millstream_protocol::messages::FetchRequest;
use millstream_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use millstream_protocol::records::{BatchView, batches};
use millstream_protocol::{Chunk, ErrorCode, KStr};

use super::writer::{Load, Writer};
use super::{RECORDS, Stage, median, verdict};
use crate::bars::Verdict;
use crate::meter::Meter;
use crate::peer::Running;
use crate::wire::Connection;

/// The last version that names topics.
const FETCH_VERSION: i16 = 12;
const FETCH_BYTES: i32 = 512 << 10;
const TRANSACTIONS: u32 = 1_000;
const VALUE_BYTES: usize = 256;
const AT_MOST: f64 = 1.05;
/// Pairs of readings for each round: one is over in a fraction of a second.
const PAIRS: u32 = 4;

/// What a reader asks for.
#[derive(Clone, Copy, Debug)]
enum Isolation {
    Uncommitted = 0,
    Committed = 1,
}

pub(super) fn measure(stage: &Stage) -> Result<Vec<Verdict>> {
    let broker = stage.start()?;
    Connection::open(broker.address)?.create_topic("read", 1, &[])?;
    let mut writer = Writer::transactional(broker.address, "written", "read", 0)?;
    for _ in 0..TRANSACTIONS / stage.divisor {
        writer.send(Load { records: RECORDS, value_bytes: VALUE_BYTES })?;
        writer.settle(0)?;
        writer.commit()?;
    }
    // Once before it counts: the first reading proves what is stored.
    read(&broker, Isolation::Committed)?;
    let (mut uncommitted, mut committed) = (Vec::new(), Vec::new());
    for pair in 0..stage.rounds * PAIRS {
        let mut kinds = [Isolation::Uncommitted, Isolation::Committed];
        if pair % 2 == 1 {
            kinds.reverse();
        }
        for kind in kinds {
            match kind {
                Isolation::Uncommitted => uncommitted.push(read(&broker, kind)?),
                Isolation::Committed => committed.push(read(&broker, kind)?),
            }
        }
    }
    let (ours, floor) = (median(committed), median(uncommitted));
    let met = (format!("<= {AT_MOST}x"), ours <= AT_MOST * floor);
    Ok(vec![verdict(
        "broker CPU s/GB, read_committed (floor: read_uncommitted)".to_owned(),
        ours,
        Some(floor),
        met,
    )])
}

/// Reads all there is; answers the broker's seconds of CPU for a gigabyte.
fn read(broker: &Running, isolation: Isolation) -> Result<f64> {
    let mut connection = Connection::open(broker.address)?;
    let meter = Meter::start(broker.pid())?;
    let (mut offset, mut bytes) = (0, 0);
    loop {
        let answer = connection.call(FETCH_VERSION, &request(offset, isolation))?;
        let partition = answer.responses.first().and_then(|topic| topic.partitions.first());
        let partition = partition.context("an answer without the partition")?;
        ensure!(partition.error_code == ErrorCode::None.code(), "a fetch failed: {}", partition.error_code);
        let aborted = partition.aborted_transactions.as_ref().map_or(0, Vec::len);
        ensure!(aborted == 0, "nothing was aborted, but {aborted} transactions are told");
        let records = partition.records.clone().map(Chunk::into_bytes).unwrap_or_default();
        let begun = offset;
        bytes += records.len();
        for batch in batches(records) {
            offset = BatchView::parse(&batch?)?.last_offset() + 1;
        }
        if offset == begun {
            ensure!(offset == partition.high_watermark, "{offset} is not the end");
            let spent = meter.stop()?.broker_cpu;
            return Ok(spent.as_secs_f64() * 1e9 / bytes as f64);
        }
    }
}

fn request(offset: i64, isolation: Isolation) -> FetchRequest {
    let partition = FetchPartition {
        partition: 0,
        fetch_offset: offset,
        partition_max_bytes: FETCH_BYTES,
        ..Default::default()
    };
    FetchRequest {
        max_wait_ms: 0,
        min_bytes: 0,
        max_bytes: FETCH_BYTES,
        isolation_level: isolation as i8,
        session_epoch: -1,
        topics: vec![FetchTopic {
            topic: KStr::from_static("read"),
            partitions: vec![partition],
            ..Default::default()
        }],
        ..Default::default()
    }
}
