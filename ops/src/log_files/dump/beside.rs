//! The files beside segments and indexes.

use std::io::Write;
use std::path::Path;

use anyhow::Context;
use serde_json::{Value, json};

use crate::log_files::folder::Kind;
use crate::log_files::meta_file::MetaFile;
use crate::log_files::segment_file::base_offset_of;
use crate::log_files::snapshot_file::{SegmentRecord, SnapshotFile, SwapFile, read_small};
use crate::outcome::Outcome;
use crate::timestamp::Timestamp;

fn time(ms: i64) -> String {
    if ms < 0 { "never".to_owned() } else { Timestamp(ms).to_rfc3339() }
}

pub(super) fn dump_snapshot(path: &Path, as_json: bool, out: &mut impl Write) -> anyhow::Result<Outcome> {
    let context = || format!("{} is damaged", path.display());
    let snapshot = SnapshotFile::decode(&read_small(path)?).with_context(context)?;
    if as_json {
        writeln!(out, "{}", snapshot_as_json(&snapshot))?;
        return Ok(Outcome::Done);
    }
    let SnapshotFile { durable, log_start, active_since_ms, cleaned_to, segments, epochs, producers } =
        &snapshot;
    writeln!(out, "durable to {durable}  log start {log_start}  cleaned to {cleaned_to}")?;
    writeln!(out, "active segment since {}", time(*active_since_ms))?;
    for segment in segments {
        writeln!(out, "{}", segment_line(segment))?;
    }
    for start in epochs {
        writeln!(out, "epoch {} from offset {}", start.epoch, start.offset)?;
    }
    for producer in producers {
        write!(out, "producer {}/{}  last {}", producer.id, producer.epoch, time(producer.last_ms))?;
        if producer.transaction_start >= 0 {
            write!(out, "  transaction open from offset {}", producer.transaction_start)?;
        }
        if producer.marker >= 0 {
            write!(out, "  marker {} of coordinator epoch {}", producer.marker, producer.coordinator_epoch)?;
        }
        writeln!(out)?;
        for batch in &producer.batches {
            writeln!(
                out,
                "  offset {}  sequence {}..={}  answered with time {}",
                batch.base_offset,
                batch.base_sequence,
                batch.base_sequence.wrapping_add(batch.last_offset_delta) & i32::MAX,
                batch.timestamp
            )?;
        }
    }
    Ok(Outcome::Done)
}

fn segment_line(segment: &SegmentRecord) -> String {
    let mut line = format!(
        "segment {:020}  {} bytes  appended {}  {} offset entries, the last at {}  {} time entries, the last {}  newest {}",
        segment.base,
        segment.bytes,
        time(segment.appended_ms),
        segment.offset_entries,
        segment.last_position,
        segment.time_entries,
        time(segment.last_time),
        time(segment.newest_time),
    );
    if segment.aborted_entries > 0 {
        line += &format!("  {} aborted, sum {:08x}", segment.aborted_entries, segment.aborted_sum);
    }
    for (is_so, word) in [(segment.is_compacted(), "compacted"), (segment.is_left_out(), "left out")] {
        if is_so {
            line = format!("{line}  {word}");
        }
    }
    line
}

fn segment_as_json(segment: &SegmentRecord) -> Value {
    json!({
        "base": segment.base, "bytes": segment.bytes, "compacted": segment.is_compacted(),
        "left_out": segment.is_left_out(), "appended_ms": segment.appended_ms,
        "offset_entries": segment.offset_entries, "time_entries": segment.time_entries,
        "last_position": segment.last_position, "last_time": segment.last_time,
        "aborted_entries": segment.aborted_entries, "aborted_sum": segment.aborted_sum,
        "newest_time": segment.newest_time, "newest_offset": segment.base + i64::from(segment.newest_offset),
    })
}

fn snapshot_as_json(snapshot: &SnapshotFile) -> Value {
    let producers = snapshot.producers.iter().map(|producer| {
        let batches = producer.batches.iter().map(|batch| {
            json!({
                "base_offset": batch.base_offset, "timestamp": batch.timestamp,
                "base_sequence": batch.base_sequence, "last_offset_delta": batch.last_offset_delta,
            })
        });
        json!({
            "id": producer.id, "epoch": producer.epoch, "last_ms": producer.last_ms,
            "transaction_start": producer.transaction_start, "marker": producer.marker,
            "coordinator_epoch": producer.coordinator_epoch,
            "batches": batches.collect::<Vec<_>>(),
        })
    });
    json!({
        "durable": snapshot.durable, "log_start": snapshot.log_start, "cleaned_to": snapshot.cleaned_to,
        "active_since_ms": snapshot.active_since_ms,
        "segments": snapshot.segments.iter().map(segment_as_json).collect::<Vec<_>>(),
        "epochs": snapshot.epochs.iter().map(|start| json!({"epoch": start.epoch, "offset": start.offset})).collect::<Vec<_>>(),
        "producers": producers.collect::<Vec<_>>(),
    })
}

pub(super) fn dump_swap(path: &Path, as_json: bool, out: &mut impl Write) -> anyhow::Result<Outcome> {
    let context = || format!("{} is damaged", path.display());
    let swap = SwapFile::decode(&read_small(path)?).with_context(context)?;
    if as_json {
        let (segment, end, crc) = (segment_as_json(&swap.segment), swap.end, swap.crc);
        writeln!(out, "{}", json!({"segment": segment, "end": end, "crc": crc, "replaced": swap.replaced}))?;
        return Ok(Outcome::Done);
    }
    writeln!(out, "{}", segment_line(&swap.segment))?;
    writeln!(out, "ends at {}  crc {:08x}", swap.end, swap.crc)?;
    for base in &swap.replaced {
        writeln!(out, "replaces {base:020}")?;
    }
    Ok(Outcome::Done)
}

/// Files whose names say all there is to say.
pub(super) fn dump_mark(
    path: &Path,
    kind: Kind,
    as_json: bool,
    out: &mut impl Write,
) -> anyhow::Result<Outcome> {
    let offset = base_offset_of(path).unwrap_or_default();
    let (field, text) = match kind {
        Kind::Start => ("log_start", format!("the log starts at {offset}")),
        Kind::Gaps => ("gaps_below", format!("compaction may have left gaps below {offset}")),
        _ => ("doubted", "a sync failed: the next start reads everything from the device".to_owned()),
    };
    match as_json {
        true => writeln!(out, "{}", json!({field: offset}))?,
        false => writeln!(out, "{text}; the name says all, the file is empty")?,
    }
    Ok(Outcome::Done)
}

pub(super) fn dump_meta(bytes: &[u8], as_json: bool, out: &mut impl Write) -> anyhow::Result<Outcome> {
    let MetaFile { frames, broken } = MetaFile::read(bytes)?;
    for frame in &frames {
        let value = String::from_utf8_lossy(&frame.value);
        if as_json {
            // Values are JSON, too, but for those that somebody else wrote.
            let value = serde_json::from_str(&value).unwrap_or_else(|_| json!(value));
            let (position, version, kind) = (frame.position, frame.version, frame.kind_name());
            writeln!(
                out,
                "{}",
                json!({"position": position, "version": version, "kind": kind, "key": frame.key, "value": value})
            )?;
            continue;
        }
        writeln!(
            out,
            "at {}  version {}  {}  {}  {value}",
            frame.position,
            frame.version,
            frame.kind_name(),
            frame.key
        )?;
    }
    let Some((at, fault)) = broken else { return Ok(Outcome::Done) };
    eprintln!("millstream: the frame at byte {at} cannot be read: {fault}");
    Ok(Outcome::Found)
}

pub(super) fn dump_text(
    name: &str,
    bytes: &[u8],
    as_json: bool,
    out: &mut impl Write,
) -> anyhow::Result<Outcome> {
    let text = String::from_utf8_lossy(bytes);
    match as_json {
        true => writeln!(out, "{}", json!({"file": name, "text": text}))?,
        false if bytes.is_empty() => writeln!(out, "{name} is empty: that it is there says all")?,
        false => write!(out, "{text}")?,
    }
    Ok(Outcome::Done)
}
