//! Zstandard, through the library of that name: the only codec that is C.

use std::cell::RefCell;

use zstd::bulk::Compressor;
use zstd::zstd_safe::{self, DCtx, zstd_sys::ZSTD_ErrorCode::ZSTD_error_dstSize_tooSmall};

use super::output::{Failure, Output};

/// What zstd calls its default, and Kafka's clients use.
const LEVEL: i32 = 3;

thread_local! {
    // Contexts are costly to set up (a third of the time of a 16 KiB batch), so each thread keeps its own.
    static ZSTD: RefCell<Option<(i32, Compressor<'static>)>> = const { RefCell::new(None) };
    static UNZSTD: RefCell<Option<DCtx<'static>>> = const { RefCell::new(None) };
}

pub(super) fn compress(level: Option<i32>, body: &[u8], out: &mut Vec<u8>) {
    let level = level.unwrap_or(LEVEL);
    let mut frame = Vec::with_capacity(zstd_safe::compress_bound(body.len()));
    ZSTD.with_borrow_mut(|context| {
        let (at, context) = context.get_or_insert_with(|| {
            (level, Compressor::new(level).expect("zstd has memory for a context and knows the level"))
        });
        if std::mem::replace(at, level) != level {
            context.set_compression_level(level).expect("zstd knows the level");
        }
        context.compress_to_buffer(body, &mut frame).expect("the buffer has zstd's own upper bound");
    });
    out.extend_from_slice(&frame);
}

/// Decompresses in one piece, straight into the output: no window is allocated by what a frame announces.
/// When the output is too short the work begins again with twice the room; in all that costs twice at most.
pub(super) fn decompress(body: &[u8], output: &mut Output) -> Result<(), Failure> {
    UNZSTD.with_borrow_mut(|context| {
        let context = context.get_or_insert_with(DCtx::create);
        let announced = zstd_safe::get_frame_content_size(body).ok().flatten().unwrap_or(0);
        let plausible = body.len().saturating_mul(64);
        let mut guess = usize::try_from(announced).unwrap_or(usize::MAX).min(plausible);
        loop {
            let room = output.room(guess);
            let capacity = room.len();
            match context.decompress(room, body) {
                Ok(count) => {
                    output.advance(count);
                    return Ok(());
                }
                Err(code) if zstd_safe::is_error_kind(code, ZSTD_error_dstSize_tooSmall) => {
                    output.check_room_after(capacity)?;
                    guess = capacity.saturating_mul(2);
                }
                Err(code) => return Err(Failure::damaged(zstd_safe::get_error_name(code))),
            }
        }
    })
}
