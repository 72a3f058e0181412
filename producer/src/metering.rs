//! What a producer counts, through the `metrics` facade: whoever installs a recorder before building sees it, and without
//! one a handle is empty and costs a branch.

use metrics::{Counter, Gauge};

/// Handles, looked up once for each producer.
pub(crate) struct Meters {
    pub(crate) delivered_records: Counter,
    pub(crate) failed_records: Counter,
    pub(crate) delivered_bytes: Counter,
    pub(crate) buffered_bytes: Gauge,
    pub(crate) requests: Counter,
    pub(crate) repeated_batches: Counter,
}

impl Meters {
    pub(crate) fn new() -> Self {
        let records = |outcome: &'static str| metrics::counter!("millstream_producer_records_total", "outcome" => outcome);
        Self {
            delivered_records: records("delivered"),
            failed_records: records("failed"),
            delivered_bytes: metrics::counter!("millstream_producer_delivered_bytes_total"),
            buffered_bytes: metrics::gauge!("millstream_producer_buffered_bytes"),
            requests: metrics::counter!("millstream_producer_requests_total"),
            repeated_batches: metrics::counter!("millstream_producer_repeated_batches_total"),
        }
    }
}
