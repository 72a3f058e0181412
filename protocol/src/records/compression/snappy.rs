//! Snappy as Kafka has it: raw blocks in the frame of xerial's `snappy-java`.
//!
//! ```text
//! 82 'S' 'N' 'A' 'P' 'P' 'Y' 00 | version, 4 bytes | compatible with, 4 bytes | blocks
//! block: length, 4 bytes, big-endian | a raw snappy block
//! ```
//!
//! librdkafka writes a single raw block without the frame, so that is read as well.

use snap::raw::{Decoder, Encoder, decompress_len, max_compress_len};

use super::output::{Failure, Output};

const MAGIC: [u8; 8] = *b"\x82SNAPPY\0";
const FRAME_HEADER_BYTES: usize = 16;

/// The version that snappy-java writes, and the oldest that can read it.
const VERSION: [u8; 4] = 1u32.to_be_bytes();

/// What snappy-java takes per block.
const BLOCK_BYTES: usize = 32 * 1024;

/// A copy of 64 bytes takes three, so no valid block yields more per byte than this.
const EXPANSION_MAX: usize = 22;

pub(super) fn compress(encoder: &mut Encoder, body: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&VERSION);
    out.extend_from_slice(&VERSION);
    for block in body.chunks(BLOCK_BYTES) {
        let length_at = out.len();
        let block_at = length_at + 4;
        out.resize(block_at + max_compress_len(block.len()), 0);
        let count = encoder.compress(block, &mut out[block_at..]).expect("the room has snappy's upper bound");
        out[length_at..block_at].copy_from_slice(&(count as u32).to_be_bytes());
        out.truncate(block_at + count);
    }
}

pub(super) fn decompress(body: &[u8], output: &mut Output) -> Result<(), Failure> {
    if !body.starts_with(&MAGIC) {
        return block(body, output);
    }
    let mut rest =
        body.get(FRAME_HEADER_BYTES..).ok_or_else(|| Failure::damaged("the frame header is cut off"))?;
    while let Some((length, tail)) = rest.split_first_chunk::<4>() {
        let length = u32::from_be_bytes(*length) as usize;
        let Some((bytes, tail)) = tail.split_at_checked(length) else {
            return Err(Failure::damaged(format_args!("a block of {length} bytes is cut off")));
        };
        block(bytes, output)?;
        rest = tail;
    }
    if rest.is_empty() { Ok(()) } else { Err(Failure::damaged("the length of a block is cut off")) }
}

fn block(bytes: &[u8], output: &mut Output) -> Result<(), Failure> {
    let length = decompress_len(bytes).map_err(Failure::damaged)?;
    if length > bytes.len().saturating_mul(EXPANSION_MAX) {
        return Err(Failure::damaged(format_args!("{} bytes cannot hold {length}", bytes.len())));
    }
    let Some(room) = output.room(length).get_mut(..length) else { return Err(Failure::TooLarge) };
    let count = Decoder::new().decompress(bytes, room).map_err(Failure::damaged)?;
    output.advance(count);
    Ok(())
}
