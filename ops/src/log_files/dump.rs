//! `millstream log dump`: one file, entry by entry.

mod beside;

use std::io::{self, BufWriter, Write};
use std::path::Path;

use anyhow::{Context, bail};
use millstream_protocol::records::{
    self, BatchHeader, BatchView, EndMarker, Record, TimestampType, TransactionOutcome,
};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::{Value, json};

use super::DumpArgs;
use super::folder::{Kind, kind_of};
use super::index_file::{TxnEntry, read_offset_index, read_time_index, read_txn_index};
use super::meta_file;
use super::segment_file::{Broken, Located, SegmentFile, base_offset_of};
use super::snapshot_file::read_small;
use crate::consume::{HeadersAsJson, serialize_bytes};
use crate::outcome::Outcome;
use crate::text::{human_count, plural};
use crate::timestamp::Timestamp;

/// The largest size to which one batch is unpacked for printing.
pub(super) const DECOMPRESSED_BYTES_MAX: usize = 1 << 30;

pub(super) fn run(args: &DumpArgs) -> anyhow::Result<Outcome> {
    let mut out = BufWriter::new(io::stdout().lock());
    let file = &args.file;
    let outcome = match kind_of(file).0 {
        Kind::Segment | Kind::Cleaned | Kind::Torn => dump_segment(args, &mut out)?,
        Kind::OffsetIndex => dump_offset_index(file, args.json, &mut out)?,
        Kind::TimeIndex => dump_time_index(file, args.json, &mut out)?,
        Kind::TxnIndex => dump_txn_index(file, args.json, &mut out)?,
        Kind::Snapshot => beside::dump_snapshot(file, args.json, &mut out)?,
        Kind::Swap => beside::dump_swap(file, args.json, &mut out)?,
        kind @ (Kind::Start | Kind::Gaps | Kind::Doubted) => {
            beside::dump_mark(file, kind, args.json, &mut out)?
        }
        Kind::Unfinished | Kind::Foreign => dump_by_content(args, &mut out)?,
    };
    out.flush()?;
    Ok(outcome)
}

/// Files whose names are not an offset: told by how they begin, or by what a broker calls them.
fn dump_by_content(args: &DumpArgs, out: &mut impl Write) -> anyhow::Result<Outcome> {
    let file = &args.file;
    let bytes = read_small(file)?;
    let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    match name {
        _ if bytes.starts_with(meta_file::MARK.as_bytes()) => beside::dump_meta(&bytes, args.json, out),
        _ if bytes.starts_with(b"MSsn") => beside::dump_snapshot(file, args.json, out),
        _ if bytes.starts_with(b"MSsw") => beside::dump_swap(file, args.json, out),
        "lock" | "format" | "clean" => beside::dump_text(name, &bytes, args.json, out),
        _ => bail!(
            "{} is no file of a data folder: its name is no offset, and nothing it begins with is known",
            file.display()
        ),
    }
}

fn dump_segment(args: &DumpArgs, out: &mut impl Write) -> anyhow::Result<Outcome> {
    let mut segment = SegmentFile::open(&args.file)?;
    let mut outcome = Outcome::Done;
    let (mut batches, mut record_count) = (0, 0);
    while let Some(next) = segment.next()? {
        let located = match next {
            Ok(located) => located,
            // Room that was set aside is no fault.
            Err(Broken::Zeros { left }) => {
                if !args.json {
                    writeln!(out, "{left} bytes of zeros from byte {}", segment.position())?;
                }
                break;
            }
            Err(broken) => {
                out.flush()?;
                bail!("{} at byte {}: {broken}", args.file.display(), segment.position());
            }
        };
        batches += 1;
        record_count += located.header.record_count.max(0) as u64;
        if !located.crc_is_valid {
            outcome = Outcome::Found;
        }
        match args.json {
            true => writeln!(out, "{}", batch_as_json(&located))?,
            false => writeln!(out, "{}", batch_as_line(&located))?,
        }
        if args.records && located.crc_is_valid {
            dump_records(&located, args.json, out)?;
        }
    }
    if !args.json {
        writeln!(
            out,
            "{} {}, {} {}, {} bytes",
            human_count(batches),
            plural(batches, "batch", "batches"),
            human_count(record_count),
            plural(record_count, "record", "records"),
            segment.position()
        )?;
    }
    Ok(outcome)
}

fn batch_as_line(located: &Located) -> String {
    let header = &located.header;
    let mut line = format!(
        "offsets {}..={}  {} {}  at {}, {} bytes  {}  {}  crc {:08x} {}  epoch {}",
        header.base_offset,
        header.last_offset(),
        header.record_count,
        plural(u64::try_from(header.record_count).unwrap_or(0), "record", "records"),
        located.position,
        header.size_in_bytes(),
        times(header),
        codec(header),
        header.crc,
        if located.crc_is_valid { "ok" } else { "WRONG" },
        header.partition_leader_epoch,
    );
    if header.producer_id >= 0 {
        line += &format!(
            "  producer {}/{} sequence {}..={}",
            header.producer_id,
            header.producer_epoch,
            header.base_sequence,
            header.last_sequence()
        );
    }
    for (is_so, word) in [
        (header.timestamp_type() == TimestampType::LogAppendTime, "log-append-time"),
        (header.is_transactional(), "transactional"),
        (header.is_control(), "control"),
        // Compaction keeps a producer's last sequence though none of its records is left.
        (header.record_count == 0, "empty"),
    ] {
        if is_so {
            line = format!("{line}  {word}");
        }
    }
    if let Some(marker) = marker_of(located) {
        line += &format!("  {} of coordinator epoch {}", outcome_name(marker), marker.coordinator_epoch);
    }
    if let Some(horizon) = header.delete_horizon_ms() {
        line += &format!("  delete horizon {}", Timestamp(horizon).to_rfc3339());
    }
    line
}

/// How the batch ends a transaction, if it does.
fn marker_of(located: &Located) -> Option<EndMarker> {
    BatchView::parse(&located.bytes).ok().as_ref().and_then(EndMarker::from_batch)
}

fn outcome_name(marker: EndMarker) -> &'static str {
    match marker.outcome {
        TransactionOutcome::Abort => "abort",
        TransactionOutcome::Commit => "commit",
    }
}

fn times(header: &BatchHeader) -> String {
    if header.delete_horizon_ms().is_some() {
        return format!("to {}", Timestamp(header.max_timestamp).to_rfc3339());
    }
    let time = |ms: i64| if ms < 0 { "no time".to_owned() } else { Timestamp(ms).to_rfc3339() };
    let [first, last] = [header.base_timestamp, header.max_timestamp].map(time);
    if first == last { first } else { format!("{first} to {last}") }
}

fn codec(header: &BatchHeader) -> String {
    match header.compression() {
        Ok(compression) => compression.name().to_owned(),
        Err(_) => format!("unknown codec {}", header.attributes & 7),
    }
}

fn batch_as_json(located: &Located) -> Value {
    let header = &located.header;
    let marker = marker_of(located);
    json!({
        "marker": marker.map(outcome_name), "coordinator_epoch": marker.map(|marker| marker.coordinator_epoch),
        "position": located.position, "size": header.size_in_bytes(),
        "base_offset": header.base_offset, "last_offset": header.last_offset(), "records": header.record_count,
        "base_timestamp": header.base_timestamp, "max_timestamp": header.max_timestamp,
        "log_append_time": header.timestamp_type() == TimestampType::LogAppendTime,
        "compression": codec(header), "crc": header.crc, "crc_ok": located.crc_is_valid,
        "leader_epoch": header.partition_leader_epoch, "producer_id": header.producer_id,
        "producer_epoch": header.producer_epoch, "base_sequence": header.base_sequence,
        "transactional": header.is_transactional(), "control": header.is_control(),
        "last_sequence": (header.producer_id >= 0).then(|| header.last_sequence()),
        "attributes": header.attributes, "delete_horizon": header.delete_horizon_ms(), "empty": header.record_count == 0,
    })
}

fn dump_records(located: &Located, as_json: bool, out: &mut impl Write) -> anyhow::Result<()> {
    let position = located.position;
    let context = || format!("the records of the batch at byte {position} cannot be read");
    for record in records::records(&located.bytes, DECOMPRESSED_BYTES_MAX).with_context(context)? {
        let record = record.with_context(context)?;
        if !as_json {
            let text = |bytes: Option<&[u8]>| {
                bytes.map_or("null".to_owned(), |bytes| bytes.escape_ascii().to_string())
            };
            write!(out, "  {} {}", record.offset, Timestamp(record.timestamp).to_rfc3339())?;
            write!(out, "  key {}  value {}", text(record.key.as_deref()), text(record.value.as_deref()))?;
            for header in &record.headers {
                write!(out, "  {}={}", header.key.escape_debug(), text(header.value.as_deref()))?;
            }
            writeln!(out)?;
            continue;
        }
        serde_json::to_writer(&mut *out, &RecordAsJson(&record))?;
        writeln!(out)?;
    }
    Ok(())
}

struct RecordAsJson<'a>(&'a Record);

impl Serialize for RecordAsJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(record) = self;
        let mut object = serializer.serialize_map(None)?;
        object.serialize_entry("offset", &record.offset)?;
        object.serialize_entry("timestamp", &record.timestamp)?;
        serialize_bytes(&mut object, ["key", "key_base64"], record.key.as_deref())?;
        serialize_bytes(&mut object, ["value", "value_base64"], record.value.as_deref())?;
        object.serialize_entry("headers", &HeadersAsJson(&record.headers))?;
        object.end()
    }
}

fn base_of(path: &Path) -> anyhow::Result<i64> {
    base_offset_of(path)
        .with_context(|| format!("{} is not named by an offset of twenty digits", path.display()))
}

fn dump_offset_index(path: &Path, as_json: bool, out: &mut impl Write) -> anyhow::Result<Outcome> {
    let index = read_offset_index(path, base_of(path)?)?;
    for entry in &index.entries {
        match as_json {
            true => writeln!(out, "{}", json!({"offset": entry.offset, "position": entry.position}))?,
            false => writeln!(out, "offset {}  position {}", entry.offset, entry.position)?,
        }
    }
    warn_of_rest(index.rest)
}

fn dump_time_index(path: &Path, as_json: bool, out: &mut impl Write) -> anyhow::Result<Outcome> {
    let index = read_time_index(path, base_of(path)?)?;
    for entry in &index.entries {
        match as_json {
            true => writeln!(out, "{}", json!({"timestamp": entry.timestamp, "offset": entry.offset}))?,
            false => {
                let time = Timestamp(entry.timestamp).to_rfc3339();
                writeln!(out, "timestamp {} ({time})  offset {}", entry.timestamp, entry.offset)?;
            }
        }
    }
    warn_of_rest(index.rest)
}

fn dump_txn_index(path: &Path, as_json: bool, out: &mut impl Write) -> anyhow::Result<Outcome> {
    let index = read_txn_index(path)?;
    for TxnEntry { version, producer, first_offset, marker, last_stable } in &index.entries {
        match as_json {
            true => writeln!(
                out,
                "{}",
                json!({"version": version, "producer_id": producer, "first_offset": first_offset,
                    "last_offset": marker, "last_stable_offset": last_stable})
            )?,
            false => writeln!(
                out,
                "producer {producer}  offsets {first_offset}..={marker}  aborted, then stable to {last_stable}"
            )?,
        }
    }
    warn_of_rest(index.rest)
}

fn warn_of_rest(rest: usize) -> anyhow::Result<Outcome> {
    if rest == 0 {
        return Ok(Outcome::Done);
    }
    eprintln!("millstream: the last {rest} bytes are not a whole entry");
    Ok(Outcome::Found)
}
