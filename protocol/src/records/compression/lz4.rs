//! The standard LZ4 frame: one per body, of independent blocks.
//!
//! ```text
//! 04 22 4d 18 | flags | block size | content size, 8 bytes, if flagged | dictionary, 4, if flagged | checksum
//! blocks: length, 4 bytes, little-endian, high bit for not compressed | bytes | checksum, 4, if flagged
//! end: 00 00 00 00 | checksum of the content, 4, if flagged
//! ```

use std::io::Write;

use lz4_flex::frame::{BlockMode, BlockSize, FrameDecoder, FrameEncoder, FrameInfo};

use super::output::{Failure, Output};

const MAGIC: [u8; 4] = 0x184d_2204u32.to_le_bytes();

const FLAG_DICTIONARY: u8 = 1;
const FLAG_CONTENT_CHECKSUM: u8 = 1 << 2;
const FLAG_CONTENT_SIZE: u8 = 1 << 3;
const FLAG_BLOCK_CHECKSUM: u8 = 1 << 4;
const FLAG_INDEPENDENT: u8 = 1 << 5;

const AT_FLAGS: usize = 4;

pub(super) fn compress(body: &[u8], out: &mut Vec<u8>) {
    let frame = FrameInfo::new().block_size(BlockSize::Max64KB).block_mode(BlockMode::Independent);
    let mut encoder = FrameEncoder::with_frame_info(frame, out);
    encoder.write_all(body).expect("writing to memory cannot fail");
    encoder.finish().expect("writing to memory cannot fail");
}

/// Takes only what Kafka's own consumers can read, or one batch would stop them for good: the Java client knows
/// no linked blocks, and misses what follows the first frame without a word. The decoder here would also take a
/// frame without its end for a whole one.
pub(super) fn decompress(body: &[u8], output: &mut Output) -> Result<(), Failure> {
    let size = frame_size(body).ok_or_else(|| Failure::damaged("no frame, or one that is cut off"))?;
    if body[AT_FLAGS] & FLAG_INDEPENDENT == 0 {
        return Err(Failure::damaged("its blocks are linked, which Kafka's consumers do not read"));
    }
    match body.len() - size {
        0 => output.read_all(&mut FrameDecoder::new(body)),
        surplus => Err(Failure::damaged(format_args!("{surplus} bytes follow the frame"))),
    }
}

/// Bytes of the frame at the start, if it is there to its end.
fn frame_size(body: &[u8]) -> Option<usize> {
    let flags = *body.get(AT_FLAGS).filter(|_| body.starts_with(&MAGIC))?;
    let optional = |flag, bytes| if flags & flag == 0 { 0 } else { bytes };
    let mut at = 7 + optional(FLAG_CONTENT_SIZE, 8) + optional(FLAG_DICTIONARY, 4);
    loop {
        let length = u32::from_le_bytes(*body.get(at..)?.first_chunk()?) & 0x7fff_ffff;
        at += 4;
        if length == 0 {
            at += optional(FLAG_CONTENT_CHECKSUM, 4);
            return (at <= body.len()).then_some(at);
        }
        at += length as usize + optional(FLAG_BLOCK_CHECKSUM, 4);
    }
}
