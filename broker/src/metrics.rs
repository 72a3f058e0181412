//! What Prometheus sees. Handles are resolved once; the request path only increments them.

mod groups;
mod page;
mod storage;
mod transactions;

use std::sync::Arc;
use std::time::{Duration, Instant};

use metrics::{Counter, Gauge, Histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use millstream_log::ClockState;
use millstream_protocol::ApiKey;

use crate::dispatch::ROUTES;
use crate::metadata::topics::Topics;
use crate::storage::directory::Directory;

pub(crate) use groups::render_groups;
use storage::StorageMetrics;
pub(crate) use transactions::render_transactions;

/// Upper bounds of the latency buckets, in seconds.
const LATENCY_BUCKETS: [f64; 16] = [
    0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25,
    0.5, 1.0, 5.0,
];

/// Counts of one API.
#[derive(Debug)]
struct ApiMetrics {
    requests: Counter,
    seconds: Histogram,
}

/// All metrics of one broker. Brokers of one process do not share any.
pub(crate) struct Metrics {
    exporter: PrometheusHandle,
    /// In the order of `ROUTES`.
    apis: Vec<ApiMetrics>,
    bytes_received: Counter,
    bytes_sent: Counter,
    connections: Gauge,
    connections_refused: Counter,
    batches_appended: Counter,
    records_appended: Counter,
    bytes_appended: Counter,
    batches_refused: Counter,
    pub(crate) storage: StorageMetrics,
    clock_held: Gauge,
    clock_ahead: Gauge,
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Metrics")
    }
}

impl Metrics {
    pub(crate) fn new(directories: &[Arc<Directory>]) -> Self {
        let recorder = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &LATENCY_BUCKETS)
            .expect("the buckets are not empty")
            .build_recorder();
        let exporter = recorder.handle();
        metrics::with_local_recorder(&recorder, || Self::resolve(exporter, directories))
    }

    fn resolve(exporter: PrometheusHandle, directories: &[Arc<Directory>]) -> Self {
        describe();
        let api = |name: &'static str| ApiMetrics {
            requests: metrics::counter!("millstream_requests_total", "api" => name),
            seconds: metrics::histogram!("millstream_request_seconds", "api" => name),
        };
        Self {
            exporter,
            apis: ROUTES.iter().map(|route| api(route.api.name())).collect(),
            bytes_received: metrics::counter!("millstream_bytes_received_total"),
            bytes_sent: metrics::counter!("millstream_bytes_sent_total"),
            connections: metrics::gauge!("millstream_connections"),
            connections_refused: metrics::counter!("millstream_connections_refused_total"),
            batches_appended: metrics::counter!("millstream_batches_appended_total"),
            records_appended: metrics::counter!("millstream_records_appended_total"),
            bytes_appended: metrics::counter!("millstream_bytes_appended_total"),
            batches_refused: metrics::counter!("millstream_batches_refused_total"),
            storage: StorageMetrics::resolve(directories),
            clock_held: metrics::gauge!("millstream_clock_held"),
            clock_ahead: metrics::gauge!("millstream_clock_ahead_seconds"),
        }
    }

    pub(crate) fn received(&self, bytes: usize) {
        self.bytes_received.increment(bytes as u64);
    }

    pub(crate) fn sent(&self, bytes: u64) {
        self.bytes_sent.increment(bytes);
    }

    /// A request of `api` that arrived at `arrived` has its answer.
    pub(crate) fn answered(&self, api: ApiKey, arrived: Instant) {
        if let Some(at) = ROUTES.iter().position(|route| route.api == api) {
            self.apis[at].requests.increment(1);
            self.apis[at].seconds.record(arrived.elapsed());
        }
    }

    pub(crate) fn appended(&self, records: i32, bytes: usize) {
        self.batches_appended.increment(1);
        self.records_appended.increment(u64::try_from(records).unwrap_or(0));
        self.bytes_appended.increment(bytes as u64);
    }

    pub(crate) fn refused_batch(&self) {
        self.batches_refused.increment(1);
    }

    pub(crate) fn connection_opened(&self) {
        self.connections.increment(1.0);
    }

    pub(crate) fn connection_closed(&self) {
        self.connections.decrement(1.0);
    }

    pub(crate) fn connection_refused(&self) {
        self.connections_refused.increment(1);
    }

    /// Histograms keep every sample until this runs: call it about once a second.
    pub(crate) fn upkeep(&self) {
        self.exporter.run_upkeep();
    }

    /// Whether the wall clock is believed, as of now.
    pub(crate) fn show_clock(&self, state: ClockState) {
        let (held, ahead_ms) = match state {
            ClockState::Believed => (0.0, 0),
            ClockState::Held { ahead_ms, .. } => (1.0, ahead_ms),
        };
        self.clock_held.set(held);
        self.clock_ahead.set(Duration::from_millis(u64::try_from(ahead_ms).unwrap_or(0)).as_secs_f64());
    }

    /// The text that Prometheus scrapes. Gauges of the logs are computed here, not on the append path.
    pub(crate) fn render(&self, topics: &Topics) -> String {
        self.storage.look(topics);
        let mut text = self.exporter.render();
        text.push_str(&storage::render_flushes(topics.directories()));
        text
    }
}

fn describe() {
    use metrics::Unit;
    use metrics::{describe_counter, describe_gauge, describe_histogram};
    describe_counter!("millstream_requests_total", "Requests answered, by API.");
    describe_histogram!(
        "millstream_request_seconds",
        Unit::Seconds,
        "Time from a request's last byte to its answer, by API; for Fetch this includes the long poll."
    );
    describe_counter!("millstream_bytes_received_total", Unit::Bytes, "Bytes of request frames.");
    describe_counter!("millstream_bytes_sent_total", Unit::Bytes, "Bytes of reply frames.");
    describe_gauge!("millstream_connections", "Open Kafka connections.");
    describe_counter!(
        "millstream_connections_refused_total",
        "Connections closed because max.connections was reached."
    );
    describe_counter!("millstream_batches_appended_total", "Record batches acknowledged.");
    describe_counter!("millstream_records_appended_total", "Records in acknowledged batches.");
    describe_counter!(
        "millstream_bytes_appended_total",
        Unit::Bytes,
        "Bytes of acknowledged batches, as stored."
    );
    describe_counter!("millstream_batches_refused_total", "Record batches refused with an error.");
    describe_gauge!(
        "millstream_clock_held",
        "1 while the wall clock jumped and is not believed: ages go by the time before."
    );
    describe_gauge!(
        "millstream_clock_ahead_seconds",
        Unit::Seconds,
        "How far the wall clock is ahead of the time by which ages go."
    );
}
