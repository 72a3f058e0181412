//! What a person, or a script, is told once clients are served.

use std::io::{self, IsTerminal, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

use millstream_broker::Broker;
use serde_json::json;

use crate::connect;

/// For whom the banner is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BannerFormat {
    Human,
    /// One line that scripts wait for.
    Json,
}

/// Prints the banner, or its one line of JSON. Nobody reading it is no reason not to serve.
pub(super) fn print(broker: &Broker, data_dir: &Path, started: Instant, format: BannerFormat) {
    let took = started.elapsed();
    let data_dir = std::path::absolute(data_dir).unwrap_or_else(|_| data_dir.to_owned());
    let mut out = io::stdout().lock();
    let text = match format {
        BannerFormat::Human => human(broker, &data_dir, took),
        BannerFormat::Json => machine(broker, &data_dir, took),
    };
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

fn machine(broker: &Broker, data_dir: &Path, took: Duration) -> String {
    let line = json!({
        "event": "ready",
        "version": env!("CARGO_PKG_VERSION"),
        "data_dir": data_dir,
        "kafka": broker.kafka_address().to_string(),
        "advertised": broker.advertised(),
        "http": broker.http_address().map(|address| address.to_string()),
        "pid": std::process::id(),
        "ready_ms": took.as_millis() as u64,
    });
    format!("{line}\n")
}

fn human(broker: &Broker, data_dir: &Path, took: Duration) -> String {
    let (bold, plain) = if io::stdout().is_terminal() { ("\x1b[1m", "\x1b[0m") } else { ("", "") };
    let kafka = broker.kafka_address();
    let told = match broker.advertised() {
        Some(address) => format!("clients are told {address}"),
        None => "clients are told the address they dialled".to_owned(),
    };
    let http = match broker.http_address() {
        Some(address) => format!("http://{address}  /metrics /healthz /readyz"),
        None => "off".to_owned(),
    };
    let call = Call::of_this_process(kafka);
    format!(
        "{bold}Millstream {}{plain}, ready after {} ms

  Data        {}
  Kafka       {kafka}  {told}
  HTTP        {http}
  Durability  acks=all is answered once it is on disk (fdatasync), acks=1 once it is written to the page cache

In another terminal:
  {}
  {}
  {}

Ctrl-C stops.
",
        env!("CARGO_PKG_VERSION"),
        took.as_millis(),
        data_dir.display(),
        call.with("topic create hello --partitions 3", ""),
        call.with("produce hello", "echo 'hello, world' | "),
        call.with("consume hello", ""),
    )
}

/// How a person calls this binary against this broker.
struct Call {
    program: String,
    bootstrap: Option<String>,
}

impl Call {
    fn of_this_process(kafka: SocketAddr) -> Self {
        let program = std::env::args_os().next().and_then(|program| program.into_string().ok());
        // Listening everywhere includes here.
        let here = match kafka.ip() {
            IpAddr::V4(Ipv4Addr::UNSPECIFIED) | IpAddr::V6(Ipv6Addr::UNSPECIFIED) => {
                Ipv4Addr::LOCALHOST.into()
            }
            address => address,
        };
        let bootstrap = SocketAddr::new(here, kafka.port()).to_string();
        let bootstrap = (bootstrap != connect::BOOTSTRAP_DEFAULT).then_some(bootstrap);
        Self { program: program.unwrap_or_else(|| "millstream".to_owned()), bootstrap }
    }

    fn with(&self, command: &str, before: &str) -> String {
        let address = self.bootstrap.as_deref().map(|address| format!(" -b {address}")).unwrap_or_default();
        format!("{before}{} {command}{address}", self.program)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_name_an_address_only_where_the_default_would_miss() {
        let call = |address: &str| Call::of_this_process(address.parse().unwrap()).bootstrap;
        assert_eq!(call("127.0.0.1:9092"), None);
        assert_eq!(call("0.0.0.0:9092"), None);
        assert_eq!(call("[::]:9093").as_deref(), Some("127.0.0.1:9093"));
        assert_eq!(call("192.0.2.1:9092").as_deref(), Some("192.0.2.1:9092"));
    }
}
