//! What a connection counts, through the `metrics` facade: whoever installs a recorder sees it, and without one a handle
//! is empty and costs a branch. So there is no feature to switch it off.
//!
//! Handles are looked up when an API is first used on a connection: a recorder is to be installed before connecting.

use std::time::Duration;

use metrics::{Counter, Histogram};
use millstream_protocol::ApiKey;

/// Handles by API; a connection uses few.
#[derive(Default)]
pub(super) struct Meters {
    of: Vec<(ApiKey, Meter)>,
}

struct Meter {
    answered: Counter,
    failed: Counter,
    seconds: Histogram,
}

impl Meters {
    /// A request was answered, so long after it was queued.
    pub(super) fn answered(&mut self, api: ApiKey, after: Duration) {
        let meter = self.of(api);
        meter.answered.increment(1);
        meter.seconds.record(after.as_secs_f64());
    }

    /// A request will not be answered.
    pub(super) fn failed(&mut self, api: ApiKey) {
        self.of(api).failed.increment(1);
    }

    fn of(&mut self, api: ApiKey) -> &Meter {
        let known = self.of.iter().position(|(of, _)| *of == api);
        let place = known.unwrap_or_else(|| {
            self.of.push((api, Meter::new(api)));
            self.of.len() - 1
        });
        &self.of[place].1
    }
}

impl Meter {
    fn new(api: ApiKey) -> Self {
        let requests = |outcome: &'static str| metrics::counter!("millstream_client_requests_total", "api" => api.name(), "outcome" => outcome);
        Self {
            answered: requests("answered"),
            failed: requests("failed"),
            seconds: metrics::histogram!("millstream_client_request_seconds", "api" => api.name()),
        }
    }
}
