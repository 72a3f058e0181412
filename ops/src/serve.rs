//! `millstream serve`, and `millstream` alone: the broker as a process.
//!
//! Resolves settings (`serve/settings.rs`), starts the broker, prints the banner (`serve/banner.rs`), and
//! turns signals into a graceful end. Everything else is the broker's.

mod banner;
mod settings;

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, anyhow};
use clap::Args;
use millstream_broker::{Broker, StartError};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::logging::{self, LogFormat};
use crate::outcome::Outcome;
use banner::BannerFormat;
use settings::Resolved;

/// Options that are settings. Each may come from the environment instead; both win over the file.
#[derive(Debug, Args)]
pub(crate) struct SettingArgs {
    /// Folder for topics and records; made if it is missing
    /// [default: ./millstream-data] [env: MILLSTREAM_DATA_DIR]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Address for Kafka clients; port 0 takes any free one
    /// [default: 127.0.0.1:9092] [env: MILLSTREAM_LISTEN]
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<String>,
    /// Address for /metrics, /healthz and /readyz, or `off`
    /// [default: 127.0.0.1:9192] [env: MILLSTREAM_HTTP]
    #[arg(long, value_name = "HOST:PORT|off")]
    http: Option<String>,
    /// TOML file with settings; `millstream config list` shows them all
    #[arg(long, value_name = "FILE", env = "MILLSTREAM_CONFIG")]
    config: Option<PathBuf>,
    /// One setting, for example num.partitions=3; may be repeated, wins over file and environment
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = crate::topic::parse_pair)]
    set: Vec<(String, String)>,
}

/// What `serve` can be told.
#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    settings: SettingArgs,
    /// What is logged to standard error, for example `debug` or `warn,millstream_broker=debug`
    #[arg(long, value_name = "FILTER", env = "MILLSTREAM_LOG")]
    log: Option<String>,
    /// How log lines look
    #[arg(long, value_enum, default_value_t = LogFormat::Human, env = "MILLSTREAM_LOG_FORMAT")]
    log_format: LogFormat,
    /// Print one line of JSON instead of the banner, once clients are served
    #[arg(long)]
    json: bool,
}

/// What these options, the environment and the file come to.
///
/// # Errors
/// When the file cannot be read, or a key or value is wrong; says where it was written.
pub(crate) fn resolve_settings(args: &SettingArgs) -> anyhow::Result<Resolved> {
    settings::resolve(args, std::env::vars_os())
}

/// Serves until a signal asks for the end.
///
/// # Errors
/// When settings are wrong, or the folder or a port cannot be had.
pub(crate) fn run(args: &ServeArgs) -> anyhow::Result<Outcome> {
    let started = Instant::now();
    logging::start(args.log.as_deref(), args.log_format)?;
    let banner = if args.json { BannerFormat::Json } else { BannerFormat::Human };
    let resolved = resolve_settings(&args.settings)?;
    let data_dir = resolved.data_dir();
    raise_file_limit();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .context("the process cannot wait for signals")?;
    runtime.block_on(async move {
        let mut signals = Signals::install()?;
        let mut starting = tokio::task::spawn_blocking(move || resolved.builder().begin());
        // A slow disk may keep the metadata for a while; being killed now is as safe as any crash.
        let broker = tokio::select! {
            broker = &mut starting => broker.context("the broker's start panicked")?.map_err(explain)?,
            _ = signals.next() => std::process::exit(130),
        };
        banner::print(&broker, &data_dir, started, banner);
        serve(broker, signals).await
    })
}

async fn serve(broker: Broker, mut signals: Signals) -> anyhow::Result<Outcome> {
    let name = signals.next().await;
    tracing::info!(signal = name, "stopping: finishing requests and flushing; a second signal ends at once");
    tokio::select! {
        () = broker.shutdown() => {}
        // The log recovers from this as from any crash.
        _ = signals.next() => std::process::exit(130),
    };
    Ok(Outcome::Done)
}

/// Names the option where the broker, which knows no command line, names the setting.
fn explain(error: StartError) -> anyhow::Error {
    match &error {
        StartError::Listen { setting, address, error } => {
            let option = if *setting == "http.listener" { "--http" } else { "--listen" };
            anyhow!("cannot listen on {address}: {error}; give another address with {option} HOST:PORT")
        }
        _ => error.into(),
    }
}

/// The two ways in which a process is asked to end.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn install() -> anyhow::Result<Self> {
        let install = |kind| signal(kind).context("signal handlers cannot be installed");
        // A write beyond the limit of file sizes shall fail, as on a full disk, and not end the process. The handler stays.
        drop(install(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw()))?);
        Ok(Self {
            interrupt: install(SignalKind::interrupt())?,
            terminate: install(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }
}

/// Segments, indexes and connections are files each, and the usual soft limit of 1,024 is soon reached.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
    if let Err(error) = raised {
        tracing::warn!(%error, limit = limit.current, "the limit of open files cannot be raised");
    }
}
