//! `kideal`, the floor: the smallest broker that librdkafka accepts. No rules, no recovery.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use super::{How, Peer, Running, await_listener, folder, free_port, spawn};
use crate::options::Acks;

/// A built `kideal`.
#[derive(Debug)]
pub(crate) struct Kideal {
    binary: PathBuf,
}

impl Kideal {
    /// Takes a built one.
    pub(crate) fn at(binary: PathBuf) -> Result<Self> {
        if !binary.is_file() {
            bail!("there is no kideal at {}; --no-floor measures without one", binary.display());
        }
        Ok(Self { binary })
    }

    /// Builds it from `source`, which is not written to: the build's output goes beside our own.
    pub(crate) fn build(source: &Path, output: &Path) -> Result<Self> {
        let manifest = source.join("Cargo.toml");
        if !manifest.is_file() {
            bail!(
                "there is no {}: point --perf-dir at kideal's source, or use --no-floor",
                manifest.display()
            );
        }
        // The source may be read-only and has no lock file yet: cargo writes that beside the manifest.
        let copy = output.join("source");
        for file in ["Cargo.toml", "src/main.rs", "src/bin/kideal.rs"] {
            let to = copy.join(file);
            if let Some(parent) = to.parent() {
                std::fs::create_dir_all(parent)
                    .with_context(|| format!("cannot make {}", parent.display()))?;
            }
            let text =
                std::fs::read(source.join(file)).with_context(|| format!("cannot read kideal's {file}"))?;
            if std::fs::read(&to).ok().as_ref() != Some(&text) {
                std::fs::write(&to, text).with_context(|| format!("cannot write {}", to.display()))?;
            }
        }
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let status = Command::new(cargo)
            .args(["build", "--quiet", "--release", "--bin", "kideal", "--manifest-path"])
            .arg(copy.join("Cargo.toml"))
            .arg("--target-dir")
            .arg(output)
            .stdin(Stdio::null())
            .status()
            .context("cannot run cargo to build kideal")?;
        if !status.success() {
            bail!("kideal does not build ({status})");
        }
        Self::at(output.join("release/kideal"))
    }
}

impl Peer for Kideal {
    fn name(&self) -> &'static str {
        "kideal"
    }

    fn describe(&self) -> String {
        format!("{} crc for acks=1, fsync for acks=all", self.binary.display())
    }

    fn creates_topics(&self) -> bool {
        false
    }

    fn binary(&self) -> Option<&Path> {
        Some(&self.binary)
    }

    fn start(&self, how: &How<'_>) -> Result<Running> {
        let folder = folder(how, self.name())?;
        let port = free_port()?;
        let mode = match how.acks {
            Acks::Written => "crc",
            Acks::Flushed => "fsync",
        };
        let mut command = Command::new(&self.binary);
        command.arg(port.to_string()).arg(folder.path()).arg(how.partitions.to_string()).arg(mode);
        let mut process = spawn(command.stdout(Stdio::null()), folder.path())?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        await_listener(address, &mut process, folder.path())?;
        Ok(Running { address, http: None, process, folder })
    }
}
