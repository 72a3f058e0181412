//! What is counted of data folders and logs. Most of it is read off the logs when somebody asks, not counted on
//! the way.

use std::fmt::Write;
use std::sync::Arc;

use metrics::{Counter, Gauge};
use millstream_log::{Compacted, FlushStats};

use crate::metadata::topics::{Partition, RecoverySummary, Topics, Unavailable};
use crate::storage::directory::Directory;

/// Of one data folder.
#[derive(Debug)]
struct DirectoryMetrics {
    free_bytes: Gauge,
    total_bytes: Gauge,
    is_low: Gauge,
    refused: Counter,
}

/// Of all that is stored.
#[derive(Debug)]
pub(crate) struct StorageMetrics {
    /// In the order of the node's directories.
    directories: Vec<DirectoryMetrics>,
    directories_missing: Gauge,
    topics: Gauge,
    partitions: Gauge,
    partitions_failed: Gauge,
    log_bytes: Gauge,
    segments: Gauge,
    reopened: Counter,
    reopens_failed: Counter,
    retention_segments: Counter,
    retention_bytes: Counter,
    scrubbed_bytes: Counter,
    quarantined: Gauge,
    compaction: CompactionMetrics,
    recovery: RecoveryMetrics,
}

#[derive(Debug)]
struct CompactionMetrics {
    runs: Counter,
    failed: Counter,
    read_bytes: Counter,
    written_bytes: Counter,
    records_removed: Counter,
    last_seconds: Gauge,
    last_success: Gauge,
    dirty_bytes: Gauge,
}

#[derive(Debug)]
struct RecoveryMetrics {
    seconds: Gauge,
    partitions: Gauge,
    failed: Gauge,
    scanned_bytes: Gauge,
    torn_tails: Gauge,
    lost_ranges: Gauge,
}

impl StorageMetrics {
    /// Resolves the handles in the recorder that is current.
    pub(super) fn resolve(directories: &[Arc<Directory>]) -> Self {
        describe();
        let of_directory = |directory: &Arc<Directory>| {
            let path = directory.path.display().to_string();
            DirectoryMetrics {
                free_bytes: metrics::gauge!("millstream_disk_free_bytes", "directory" => path.clone()),
                total_bytes: metrics::gauge!("millstream_disk_bytes", "directory" => path.clone()),
                is_low: metrics::gauge!("millstream_disk_low", "directory" => path.clone()),
                refused: metrics::counter!("millstream_disk_low_refused_total", "directory" => path),
            }
        };
        Self {
            directories: directories.iter().map(of_directory).collect(),
            directories_missing: metrics::gauge!("millstream_directories_missing"),
            topics: metrics::gauge!("millstream_topics"),
            partitions: metrics::gauge!("millstream_partitions"),
            partitions_failed: metrics::gauge!("millstream_partitions_failed"),
            log_bytes: metrics::gauge!("millstream_log_bytes"),
            segments: metrics::gauge!("millstream_segments"),
            reopened: metrics::counter!("millstream_partitions_reopened_total"),
            reopens_failed: metrics::counter!("millstream_partition_reopens_failed_total"),
            retention_segments: metrics::counter!("millstream_retention_segments_deleted_total"),
            retention_bytes: metrics::counter!("millstream_retention_bytes_deleted_total"),
            scrubbed_bytes: metrics::counter!("millstream_scrubbed_bytes_total"),
            quarantined: metrics::gauge!("millstream_quarantined_ranges"),
            compaction: CompactionMetrics {
                runs: metrics::counter!("millstream_compaction_runs_total"),
                failed: metrics::counter!("millstream_compaction_failures_total"),
                read_bytes: metrics::counter!("millstream_compaction_read_bytes_total"),
                written_bytes: metrics::counter!("millstream_compaction_written_bytes_total"),
                records_removed: metrics::counter!("millstream_compaction_records_removed_total"),
                last_seconds: metrics::gauge!("millstream_compaction_last_seconds"),
                last_success: metrics::gauge!("millstream_compaction_last_success_timestamp_seconds"),
                dirty_bytes: metrics::gauge!("millstream_compaction_dirty_bytes"),
            },
            recovery: RecoveryMetrics {
                seconds: metrics::gauge!("millstream_recovery_seconds"),
                partitions: metrics::gauge!("millstream_recovery_partitions"),
                failed: metrics::gauge!("millstream_recovery_partitions_failed"),
                scanned_bytes: metrics::gauge!("millstream_recovery_scanned_bytes"),
                torn_tails: metrics::gauge!("millstream_recovery_torn_tails"),
                lost_ranges: metrics::gauge!("millstream_recovery_lost_ranges"),
            },
        }
    }

    /// A partition that had failed takes writes again.
    pub(crate) fn reopened(&self) {
        self.reopened.increment(1);
    }

    /// It was tried and does not.
    pub(crate) fn reopen_failed(&self) {
        self.reopens_failed.increment(1);
    }

    /// Retention has deleted.
    pub(crate) fn trimmed(&self, segments: usize, bytes: u64) {
        self.retention_segments.increment(segments as u64);
        self.retention_bytes.increment(bytes);
    }

    /// A run of compaction has come to its end.
    pub(crate) fn compacted(&self, run: &Compacted, now_ms: i64) {
        let of = &self.compaction;
        of.runs.increment(1);
        of.read_bytes.increment(run.read_bytes);
        of.written_bytes.increment(run.written_bytes);
        of.records_removed.increment(run.records_removed);
        of.last_seconds.set(run.took.as_secs_f64());
        of.last_success.set(now_ms as f64 / 1000.0);
    }

    /// A run of compaction has failed.
    pub(crate) fn compaction_failed(&self) {
        self.compaction.failed.increment(1);
    }

    /// So much was looked through.
    pub(crate) fn scrubbed(&self, bytes: u64) {
        self.scrubbed_bytes.increment(bytes);
    }

    /// Takes over what logs and folders say now.
    pub(super) fn look(&self, topics: &Topics) {
        for (directory, of_it) in topics.directories().iter().zip(&self.directories) {
            let space = directory.space.space();
            of_it.free_bytes.set(space.free_bytes as f64);
            of_it.total_bytes.set(space.total_bytes as f64);
            of_it.is_low.set(f64::from(u8::from(directory.space.is_refusing())));
            of_it.refused.absolute(directory.space.refused());
        }
        self.directories_missing.set(topics.missing_directories().len() as f64);
        let snapshot = topics.snapshot();
        let named = snapshot.sorted();
        let partitions = || named.iter().flat_map(|topic| &topic.partitions);
        self.topics.set(named.len() as f64);
        self.partitions.set(partitions().count() as f64);
        let failed = |partition: &&Arc<Partition>| match partition.log() {
            Ok(log) => log.is_failed(),
            Err(missing) => matches!(missing, Unavailable::Failed { .. }),
        };
        self.partitions_failed.set(partitions().filter(failed).count() as f64);
        let logs = || partitions().filter_map(|partition| partition.log().ok());
        self.log_bytes.set(logs().map(|log| log.size_bytes()).sum::<u64>() as f64);
        self.segments.set(logs().map(|log| log.segment_count()).sum::<usize>() as f64);
        let compacted = named.iter().filter(|topic| topic.settings.cleanup().compacts());
        let compacted = compacted.flat_map(|topic| &topic.partitions);
        let dirty = compacted.filter_map(|partition| Some(partition.log().ok()?.dirtiness().dirty_bytes));
        self.compaction.dirty_bytes.set(dirty.sum::<u64>() as f64);
        self.quarantined.set(logs().map(|log| log.quarantined().len()).sum::<usize>() as f64);
        self.show_recovery(&topics.recovery().summary());
    }

    fn show_recovery(&self, summary: &RecoverySummary) {
        let of = &self.recovery;
        of.seconds.set(summary.elapsed.as_secs_f64());
        of.partitions.set(summary.partitions as f64);
        of.failed.set(summary.failed as f64);
        of.scanned_bytes.set(summary.scanned_bytes as f64);
        of.torn_tails.set(summary.torn_tails as f64);
        of.lost_ranges.set(summary.lost_ranges as f64);
    }
}

/// The flushers' own counts, in the form of a scrape: they are a histogram already.
pub(super) fn render_flushes(directories: &[Arc<Directory>]) -> String {
    let all: Vec<(String, FlushStats)> = directories
        .iter()
        .map(|one| (escaped(&one.path.display().to_string()), one.flusher.stats()))
        .collect();
    let mut text = String::new();
    // Writing to a String does not fail.
    let mut line = |line: std::fmt::Arguments<'_>| _ = writeln!(text, "{line}");
    line(format_args!("# HELP millstream_flushes_total Successful fdatasync calls on segments."));
    line(format_args!("# TYPE millstream_flushes_total counter"));
    for (path, stats) in &all {
        line(format_args!("millstream_flushes_total{{directory=\"{path}\"}} {}", stats.flushes));
    }
    line(format_args!("# HELP millstream_flushed_batches_total Record batches that became durable by them."));
    line(format_args!("# TYPE millstream_flushed_batches_total counter"));
    for (path, stats) in &all {
        line(format_args!("millstream_flushed_batches_total{{directory=\"{path}\"}} {}", stats.batches));
    }
    line(format_args!("# HELP millstream_flush_seconds Time that one of them took."));
    line(format_args!("# TYPE millstream_flush_seconds histogram"));
    for (path, stats) in &all {
        for (bound, count) in &stats.at_most {
            let bound = bound.as_secs_f64();
            line(format_args!(
                "millstream_flush_seconds_bucket{{directory=\"{path}\",le=\"{bound}\"}} {count}"
            ));
        }
        let (sum, count) = (stats.time.as_secs_f64(), stats.flushes);
        line(format_args!("millstream_flush_seconds_bucket{{directory=\"{path}\",le=\"+Inf\"}} {count}"));
        line(format_args!("millstream_flush_seconds_sum{{directory=\"{path}\"}} {sum}"));
        line(format_args!("millstream_flush_seconds_count{{directory=\"{path}\"}} {count}"));
    }
    text
}

/// A label's value as the format wants it.
pub(super) fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn describe() {
    use metrics::Unit;
    use metrics::{describe_counter, describe_gauge};
    describe_gauge!(
        "millstream_disk_free_bytes",
        Unit::Bytes,
        "What is free on the disk of a data folder, as of the last look; one is taken each second."
    );
    describe_gauge!("millstream_disk_bytes", Unit::Bytes, "The size of that disk.");
    describe_gauge!(
        "millstream_disk_low",
        "1 while records are refused because the disk is nearly full (log.disk.free.min.bytes)."
    );
    describe_counter!("millstream_disk_low_refused_total", "Record batches refused for that reason.");
    describe_gauge!(
        "millstream_directories_missing",
        "Data folders that hold partitions and could not be used at the start."
    );
    describe_gauge!("millstream_topics", "Topics.");
    describe_gauge!("millstream_partitions", "Partitions.");
    describe_gauge!(
        "millstream_partitions_failed",
        "Partitions that take no writes because a write or flush failed, or that cannot be opened; they are tried again."
    );
    describe_gauge!("millstream_log_bytes", Unit::Bytes, "Bytes of all segment files.");
    describe_gauge!("millstream_segments", "Segment files.");
    describe_counter!(
        "millstream_partitions_reopened_total",
        "Partitions that had failed and were reopened."
    );
    describe_counter!("millstream_partition_reopens_failed_total", "Tries to reopen one that did not help.");
    describe_counter!("millstream_retention_segments_deleted_total", "Segments deleted by age or size.");
    describe_counter!("millstream_retention_bytes_deleted_total", Unit::Bytes, "Bytes of these segments.");
    describe_compaction();
    describe_counter!(
        "millstream_scrubbed_bytes_total",
        Unit::Bytes,
        "Stored bytes checked in the background."
    );
    describe_gauge!(
        "millstream_quarantined_ranges",
        "Ranges of records that are known to be damaged and are not served."
    );
    describe_gauge!(
        "millstream_recovery_seconds",
        Unit::Seconds,
        "How long the opening of all partitions took at the start, or has taken so far."
    );
    describe_gauge!("millstream_recovery_partitions", "Partitions that there were.");
    describe_gauge!("millstream_recovery_partitions_failed", "Those that could not be opened then.");
    describe_gauge!(
        "millstream_recovery_scanned_bytes",
        Unit::Bytes,
        "Bytes that were read and checked because they lay above what was known to be on disk."
    );
    describe_gauge!("millstream_recovery_torn_tails", "Tails torn by a crash that were cut off then.");
    describe_gauge!(
        "millstream_recovery_lost_ranges",
        "Ranges that were on disk and could not be read then."
    );
}

fn describe_compaction() {
    use metrics::Unit;
    use metrics::{describe_counter, describe_gauge};
    describe_counter!("millstream_compaction_runs_total", "Runs of compaction that came to their end.");
    describe_counter!(
        "millstream_compaction_failures_total",
        "Runs that failed; nothing was changed by them."
    );
    describe_counter!("millstream_compaction_read_bytes_total", Unit::Bytes, "Bytes read by compaction.");
    describe_counter!(
        "millstream_compaction_written_bytes_total",
        Unit::Bytes,
        "Bytes written by compaction."
    );
    describe_counter!(
        "millstream_compaction_records_removed_total",
        "Records removed because a later one of the same key replaces them, and old tombstones."
    );
    describe_gauge!("millstream_compaction_last_seconds", Unit::Seconds, "How long the last run took.");
    describe_gauge!(
        "millstream_compaction_last_success_timestamp_seconds",
        Unit::Seconds,
        "When the last run ended, since 1970."
    );
    describe_gauge!(
        "millstream_compaction_dirty_bytes",
        Unit::Bytes,
        "Bytes of compacted topics that no run has been through and one could."
    );
}
