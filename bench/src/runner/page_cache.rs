//! Warm memory for the brokers' files.
//!
//! A virtual machine often gives free memory back to its host and takes a slow fault per page to have it
//! again. Seen here: the same `kideal` at 2.0 CPU s/GB into memory that was never touched, and at 0.4 into
//! memory that was just freed. Without this, the order of the runs is what a comparison measures.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};

/// Fills that many bytes of page cache with a file in `folder` and frees them again.
pub(crate) fn warm(folder: &Path, bytes: u64) -> Result<()> {
    const BLOCK: usize = 1 << 20;
    let path = tempfile::Builder::new().prefix("millstream-bench-warm-").tempdir_in(folder);
    let path = path.with_context(|| format!("cannot make a folder in {}", folder.display()))?;
    let mut file = File::create(path.path().join("warm")).context("cannot write a file to warm memory")?;
    let block = vec![0x5a_u8; BLOCK];
    for _ in 0..bytes.div_ceil(BLOCK as u64) {
        file.write_all(&block).context("cannot write a file to warm memory; is the disk full?")?;
    }
    Ok(())
}
