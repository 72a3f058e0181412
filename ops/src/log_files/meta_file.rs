//! `meta/log` and `meta/snapshot`: frames of changes to the metadata, drawn in `docs/FORMAT.md`.

use millstream_protocol::records::crc32c;

use super::fields::{Fault, Fields};

/// How such a file begins.
pub(super) const MARK: &str = "MSMETA1\n";

/// Length and checksum.
const PREFIX_BYTES: usize = 8;

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) position: usize,
    pub(super) version: u64,
    pub(super) kind: u8,
    pub(super) key: String,
    pub(super) value: Vec<u8>,
}

impl Frame {
    pub(super) fn kind_name(&self) -> &'static str {
        match self.kind {
            1 => "put",
            2 => "delete",
            3 => "version of the snapshot",
            _ => "unknown",
        }
    }
}

/// The frames of a file, and where and why it cannot be read on, if so.
#[derive(Debug)]
pub(super) struct MetaFile {
    pub(super) frames: Vec<Frame>,
    pub(super) broken: Option<(usize, Fault)>,
}

impl MetaFile {
    pub(super) fn read(bytes: &[u8]) -> Result<Self, Fault> {
        // The mark is written together with the first change.
        if bytes.is_empty() {
            return Ok(Self { frames: Vec::new(), broken: None });
        }
        let mut fields = Fields::of(bytes);
        if fields.bytes(MARK.len()).ok() != Some(MARK.as_bytes()) {
            return Err(Fault::Mark { mark: MARK });
        }
        let mut frames = Vec::new();
        while !fields.rest().is_empty() {
            let at = fields.position();
            match frame(&mut fields) {
                Ok(frame) => frames.push(frame),
                Err(fault) => return Ok(Self { frames, broken: Some((at, fault)) }),
            }
        }
        Ok(Self { frames, broken: None })
    }
}

/// Whether a whole frame begins anywhere in these bytes: then what stands before it was not being written when
/// the machine stopped.
pub(super) fn holds_a_frame(bytes: &[u8]) -> bool {
    (0..bytes.len().saturating_sub(PREFIX_BYTES)).any(|at| frame(&mut Fields::of(&bytes[at..])).is_ok())
}

fn frame(fields: &mut Fields<'_>) -> Result<Frame, Fault> {
    let position = fields.position();
    let (length, crc) = (fields.u32()?, fields.u32()?);
    let payload = fields.bytes(usize::try_from(length).unwrap_or(usize::MAX))?;
    if crc32c(payload) != crc {
        return Err(Fault::Checksum);
    }
    let mut inner = Fields::of(payload);
    let (version, kind, key_bytes) = (inner.u64()?, inner.u8()?, inner.u16()?);
    let key = String::from_utf8_lossy(inner.bytes(usize::from(key_bytes))?).into_owned();
    Ok(Frame { position, version, kind, key, value: inner.rest().to_vec() })
}
