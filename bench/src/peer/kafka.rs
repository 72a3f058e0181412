//! Apache Kafka, started by a script: `kafka.sh start PORT DIR` prints the process's number once it listens.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::{How, Peer, Process, Running, await_listener, folder, free_port};
use crate::meter::Pid;

/// The script.
#[derive(Debug)]
pub(crate) struct Kafka {
    script: PathBuf,
}

impl Kafka {
    /// Takes the script.
    pub(crate) fn at(script: PathBuf) -> Result<Self> {
        if !script.is_file() {
            bail!("there is no script at {}", script.display());
        }
        Ok(Self { script })
    }
}

impl Peer for Kafka {
    fn name(&self) -> &'static str {
        "kafka"
    }

    fn describe(&self) -> String {
        format!("{}, its own defaults: acks=all is NOT flushed", self.script.display())
    }

    fn start(&self, how: &How<'_>) -> Result<Running> {
        let folder = folder(how, self.name())?;
        let port = free_port()?;
        let output = Command::new(&self.script)
            .env("KAFKA_PARTITIONS", how.partitions.to_string())
            .args(["start", &port.to_string()])
            .arg(folder.path())
            .output()
            .with_context(|| format!("cannot run {}", self.script.display()))?;
        let printed = String::from_utf8_lossy(&output.stdout);
        let Some(pid) = printed.trim().parse().ok().map(Pid) else {
            bail!("Kafka did not start: {}", String::from_utf8_lossy(&output.stderr));
        };
        let mut process = Process::Script { script: self.script.clone(), pid };
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        await_listener(address, &mut process, folder.path())?;
        Ok(Running { address, http: None, process, folder })
    }
}
