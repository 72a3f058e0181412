//! What a broker tells over HTTP: its counters, and whether it is ready.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

/// The largest page that is expected.
const PAGE_BYTES_MAX: u64 = 64 << 20;

/// One page of metrics.
#[derive(Debug)]
pub(crate) struct Scrape(String);

impl Scrape {
    /// Reads the page.
    pub(crate) fn of(http: SocketAddr) -> Result<Self> {
        Ok(Self(get(http, "/metrics")?))
    }

    /// The sum of a counter over all its labels.
    fn total(&self, name: &str) -> Option<f64> {
        let values = self.0.lines().filter_map(|line| {
            let rest = line.strip_prefix(name)?;
            let is_it = rest.starts_with(' ') || rest.starts_with('{');
            is_it.then(|| rest.rsplit_once(' ')?.1.parse::<f64>().ok()).flatten()
        });
        values.reduce(|a, b| a + b)
    }

    /// By how much a counter grew since `before`; one that was not there then began at 0.
    pub(crate) fn grown(&self, before: &Self, name: &str) -> Result<f64> {
        let now = self.total(name).with_context(|| format!("the broker has no metric {name}"))?;
        Ok(now - before.total(name).unwrap_or(0.0))
    }
}

/// Waits until every partition is recovered.
pub(crate) fn await_readiness(http: SocketAddr) -> Result<()> {
    const TRIES: u32 = 5_000;
    for _ in 0..TRIES {
        if get(http, "/readyz")?.lines().next().is_some_and(|status| status.contains(" 200 ")) {
            return Ok(());
        }
        std::thread::park_timeout(Duration::from_millis(2));
    }
    bail!("the broker is not ready after {TRIES} questions")
}

/// An answer with its header.
fn get(http: SocketAddr, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect(http).with_context(|| format!("cannot connect to {http}"))?;
    stream.set_read_timeout(Some(Duration::from_secs(30))).context("cannot set a time limit")?;
    let request = format!("GET {path} HTTP/1.0\r\nHost: bench\r\n\r\n");
    stream.write_all(request.as_bytes()).with_context(|| format!("cannot ask for {path}"))?;
    let mut answer = String::new();
    let read = stream.take(PAGE_BYTES_MAX).read_to_string(&mut answer);
    read.with_context(|| format!("no answer about {path}"))?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_is_summed_over_its_labels_and_not_mistaken_for_its_neighbour() {
        let before = Scrape("flushes_total 3\n".to_owned());
        let after = Scrape("# HELP flushes_total x\nflushes_total{dir=\"a b\"} 4\nflushes_total{dir=\"c\"} 2\nflushes_total_bytes 900\n".to_owned());
        assert_eq!(after.grown(&before, "flushes_total").unwrap(), 3.0);
        assert!(after.grown(&before, "flush").is_err());
    }
}
