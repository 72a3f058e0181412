//! Where `tracing` goes: the broker's log, and what the clients have to say.

use std::io::{self, IsTerminal};

use anyhow::Context;
use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    Human,
    /// One JSON object per line.
    Json,
}

/// Starts the broker's log on standard error.
///
/// # Errors
/// When the filter is not understood.
pub(crate) fn start(filter: Option<&str>, format: LogFormat) -> anyhow::Result<()> {
    let wanted = filter.map(str::to_owned).or_else(|| std::env::var("RUST_LOG").ok());
    let wanted = wanted.filter(|filter| !filter.is_empty()).unwrap_or_else(|| "info".into());
    let filter = EnvFilter::try_new(&wanted)
        .with_context(|| format!("the log filter {wanted:?} is not understood; try --log debug"))?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    match format {
        LogFormat::Human => lines.with_ansi(io::stderr().is_terminal()).with_target(false).init(),
        LogFormat::Json => lines.json().flatten_event(true).init(),
    }
    Ok(())
}

/// Shows the warnings of a client command, such as a broker that went away, beside its own messages.
pub(crate) fn start_for_client() {
    let filter = EnvFilter::try_from_env("MILLSTREAM_LOG").or_else(|_| EnvFilter::try_from_default_env());
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter.unwrap_or_else(|_| EnvFilter::new("warn")))
        .with_writer(io::stderr);
    lines.with_ansi(io::stderr().is_terminal()).with_target(false).without_time().init();
}
