//! Places with little room, and how room is made there.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use millstream_protocol::ErrorCode;
use rustix::process::Pid;
use tempfile::TempDir;

use crate::proof::bed::wire::{Target, Wire, batch};
use crate::proof::{Failure, Options};

const MEBIBYTE: u64 = 1 << 20;
/// What is never given back of the large disks, so that the rest is soon full.
const FILLER_BYTES: u64 = 22 * MEBIBYTE;
/// What the ballast takes.
const BALLAST_BYTES: u64 = 10 * MEBIBYTE;

/// Why there is no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scarcity {
    /// ext4 on a loop device of 48 MiB that is filled to the last block.
    Ext4,
    /// The same with the broker's own mark of how much must stay free.
    LowWater,
    /// tmpfs with a size.
    Tmpfs,
    /// No file may grow beyond a limit of the process.
    FileSize,
}

impl Scarcity {
    pub(super) const ALL: [Self; 4] = [Self::Ext4, Self::LowWater, Self::Tmpfs, Self::FileSize];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "a full ext4 of 48 MiB",
            Self::LowWater => "ext4 of 48 MiB at its low-water mark",
            Self::Tmpfs => "a full tmpfs of 20 MiB",
            Self::FileSize => "RLIMIT_FSIZE of 2 MiB",
        }
    }
}

/// A place with little room. Unmounted when dropped.
#[derive(Debug)]
pub(super) struct Room {
    scarcity: Scarcity,
    folder: TempDir,
    is_mounted: bool,
}

impl Room {
    pub(super) fn new(scarcity: Scarcity, options: &Options) -> Result<Self, Failure> {
        let folder = tempfile::Builder::new().prefix("millstream-room-").tempdir_in(&options.folder);
        let folder = folder.context("no folder")?;
        let mut room = Self { scarcity, folder, is_mounted: false };
        fs::create_dir(room.mount()).context("no folder")?;
        if scarcity != Scarcity::FileSize {
            if !rustix::process::geteuid().is_root() {
                return Err(Failure::Skipped("mounting a small disk needs root".to_owned()));
            }
            room.mount_it()
                .map_err(|error| Failure::Skipped(format!("a small disk cannot be mounted: {error:#}")))?;
            room.is_mounted = true;
        }
        Ok(room)
    }

    fn mount(&self) -> PathBuf {
        self.folder.path().join("mount")
    }

    fn mount_it(&self) -> Result<()> {
        let mount = self.mount();
        if self.scarcity == Scarcity::Tmpfs {
            return run(
                "mount",
                &[
                    "-t".as_ref(),
                    "tmpfs".as_ref(),
                    "-o".as_ref(),
                    "size=20m".as_ref(),
                    "tmpfs".as_ref(),
                    &mount,
                ],
            );
        }
        let image = self.folder.path().join("image");
        File::create(&image)?.set_len(48 * MEBIBYTE)?;
        run("mkfs.ext4", &["-q".as_ref(), "-F".as_ref(), "-m0".as_ref(), &image])?;
        run("mount", &["-o".as_ref(), "loop".as_ref(), &image, &mount])?;
        Ok(fs::write(mount.join("filler"), vec![0; FILLER_BYTES as usize])?)
    }

    /// Where the broker is to keep its data.
    pub(super) fn data(&self) -> PathBuf {
        self.mount().join("data")
    }

    pub(super) fn settings(&self) -> &'static [&'static str] {
        match self.scarcity {
            Scarcity::Ext4 | Scarcity::Tmpfs => &["log.disk.free.min.bytes=0", "log.segment.bytes=2097152"],
            Scarcity::LowWater => &["log.segment.bytes=2097152"],
            Scarcity::FileSize => &["log.segment.bytes=67108864"],
        }
    }

    /// What the broker is started under.
    pub(super) fn command(&self) -> &'static [&'static str] {
        match self.scarcity {
            Scarcity::FileSize => &["prlimit", "--fsize=2097152:unlimited", "--"],
            Scarcity::Ext4 | Scarcity::LowWater | Scarcity::Tmpfs => &[],
        }
    }

    /// Puts something there that can be taken away.
    pub(super) fn fill(&self, wire: &mut Wire, topic: &str) -> Result<()> {
        match self.scarcity {
            Scarcity::FileSize => Ok(()),
            Scarcity::Ext4 | Scarcity::Tmpfs => {
                let zeros = vec![0; BALLAST_BYTES as usize];
                fs::write(self.mount().join("ballast"), zeros).context("the ballast does not fit")
            }
            Scarcity::LowWater => {
                wire.create_topic(topic, 1, &[])?;
                let values: Vec<_> = (0..3_000).collect();
                let batch = batch(&values);
                for _ in 0..BALLAST_BYTES / batch.len() as u64 {
                    let answer = wire.produce(Target { topic, partition: 0, acks: 1 }, batch.clone())?;
                    if answer.code != ErrorCode::None {
                        bail!("the ballast was refused: {answer:?}");
                    }
                }
                Ok(())
            }
        }
    }

    /// Fails if there is more room than there should be.
    pub(super) fn is_full(&self) -> Result<(), Failure> {
        let stat = rustix::fs::statvfs(self.mount()).context("statvfs")?;
        let free = stat.f_bavail * stat.f_frsize;
        match self.scarcity {
            Scarcity::Ext4 | Scarcity::Tmpfs if free > MEBIBYTE => {
                Err(Failure::Invalid(format!("{free} bytes are free although writes were refused")))
            }
            Scarcity::LowWater if free < MEBIBYTE => {
                Err(Failure::Broken(format!("only {free} bytes are free: refused too late")))
            }
            Scarcity::Ext4 | Scarcity::Tmpfs | Scarcity::LowWater | Scarcity::FileSize => Ok(()),
        }
    }

    /// Makes room.
    pub(super) fn make(&self, wire: &mut Wire, topic: &str, broker: Pid) -> Result<()> {
        match self.scarcity {
            Scarcity::Ext4 | Scarcity::Tmpfs => Ok(fs::remove_file(self.mount().join("ballast"))?),
            Scarcity::LowWater => Ok(wire.delete_topic(topic)?),
            Scarcity::FileSize => {
                let pid = broker.as_raw_nonzero().to_string();
                run("prlimit", &["--pid".as_ref(), pid.as_ref(), "--fsize=unlimited:unlimited".as_ref()])
            }
        }
    }

    /// Whether what was made is used up again.
    pub(super) fn fills_again(&self) -> bool {
        self.scarcity != Scarcity::FileSize
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if self.is_mounted {
            // A folder that stays mounted is seen by whoever looks; there is nobody to tell here.
            let _ = run("umount", &["-l".as_ref(), &self.mount()]);
        }
    }
}

fn run(program: &str, words: &[&Path]) -> Result<()> {
    let output = Command::new(program).args(words).output().with_context(|| program.to_owned())?;
    if !output.status.success() {
        bail!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
