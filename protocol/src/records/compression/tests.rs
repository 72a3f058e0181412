//! Each codec: round trips up to the limit, bombs, frames of other writers, rubbish.

use std::io::Write;

use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};

use super::*;

const LIMIT: usize = 300_000;

fn decompressed(codec: Compression, body: &[u8], limit: usize) -> Result<Vec<u8>, BatchError> {
    with_decompressed(codec, body, limit, <[u8]>::to_vec)
}

fn frame(codec: Compression, body: &[u8]) -> Vec<u8> {
    compressed(codec, body).split_off(HEADER_BYTES)
}

/// Text that compresses, but not to nothing.
fn text(count: usize) -> Vec<u8> {
    let mut state = 1u32;
    let letter = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        b"abcdefgh"[(state >> 29) as usize]
    };
    (0..count).map(letter).collect()
}

fn codecs() -> impl Iterator<Item = Compression> {
    Compression::ALL.into_iter().filter(|&codec| codec != Compression::None)
}

#[test]
fn every_codec_gives_back_what_it_took_up_to_the_limit() {
    for codec in codecs() {
        for count in [0, 1, 32 * 1024, 64 * 1024 + 1, LIMIT - 1, LIMIT] {
            let body = text(count);
            assert_eq!(decompressed(codec, &frame(codec, &body), LIMIT), Ok(body), "{codec} {count}");
        }
    }
}

#[test]
fn one_byte_beyond_the_limit_is_too_large() {
    for codec in codecs() {
        let frame = frame(codec, &text(LIMIT + 1));
        assert_eq!(decompressed(codec, &frame, LIMIT), Err(BatchError::TooLarge { limit: LIMIT }), "{codec}");
    }
}

#[test]
fn bombs_stop_at_the_limit_and_leave_no_large_buffer() {
    for codec in codecs() {
        let bomb = frame(codec, &vec![0; 64 << 20]);
        let limit = 4 << 20;
        assert_eq!(decompressed(codec, &bomb, limit), Err(BatchError::TooLarge { limit }), "{codec}");
        let kept = OUTPUT.take();
        assert!(kept.capacity() <= 1 << 20, "{codec} keeps {} bytes", kept.capacity());
    }
}

#[test]
fn a_limit_of_zero_allows_an_empty_body_only() {
    for codec in codecs() {
        assert_eq!(decompressed(codec, &frame(codec, b""), 0), Ok(Vec::new()), "{codec}");
        assert_eq!(
            decompressed(codec, &frame(codec, b"a"), 0),
            Err(BatchError::TooLarge { limit: 0 }),
            "{codec}"
        );
    }
}

#[test]
fn cut_off_frames_are_errors_or_shorter_but_never_whole() {
    for codec in codecs() {
        let body = text(5000);
        let frame = frame(codec, &body);
        for end in 0..frame.len() {
            let outcome = decompressed(codec, &frame[..end], LIMIT);
            let whole = outcome.is_ok_and(|found| found == body);
            assert!(!whole, "{codec} cut at {end} of {}", frame.len());
        }
    }
}

#[test]
fn frames_may_follow_each_other() {
    for codec in [Compression::Gzip, Compression::Zstd] {
        let mut frames = frame(codec, b"one ");
        frames.extend_from_slice(&frame(codec, b"two"));
        assert_eq!(decompressed(codec, &frames, LIMIT), Ok(b"one two".to_vec()), "{codec}");
    }
}

#[test]
fn lz4_that_the_java_client_cannot_read_is_refused() {
    let two = frame(Compression::Lz4, b"frame").repeat(2);
    let error = decompressed(Compression::Lz4, &two, LIMIT).unwrap_err();
    assert!(error.to_string().contains("bytes follow the frame"), "{error}");
    let linked = FrameInfo::new().block_mode(BlockMode::Linked).block_size(BlockSize::Max64KB);
    let mut encoder = FrameEncoder::with_frame_info(linked, Vec::new());
    encoder.write_all(&text(200_000)).unwrap();
    let error = decompressed(Compression::Lz4, &encoder.finish().unwrap(), LIMIT).unwrap_err();
    assert!(error.to_string().contains("linked"), "{error}");
}

#[test]
fn a_bare_snappy_block_is_read_as_well() {
    let body = text(100_000);
    let block = snap::raw::Encoder::new().compress_vec(&body).unwrap();
    assert_eq!(decompressed(Compression::Snappy, &block, LIMIT), Ok(body));
}

#[test]
fn a_snappy_block_cannot_announce_more_than_it_can_hold() {
    // 200 000 as a varint, then a literal of one byte.
    let block = [0xc0, 0x9a, 0x0c, 0x00, b'x'];
    let error = decompressed(Compression::Snappy, &block, LIMIT).unwrap_err();
    assert!(matches!(error, BatchError::Decompression { .. }), "{error}");
}

#[test]
fn lz4_frames_with_checksums_and_a_size_are_read() {
    let body = text(200_000);
    let info = FrameInfo::new()
        .block_mode(BlockMode::Independent)
        .block_size(BlockSize::Max256KB)
        .block_checksums(true)
        .content_checksum(true)
        .content_size(Some(body.len() as u64));
    let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
    encoder.write_all(&body).unwrap();
    assert_eq!(decompressed(Compression::Lz4, &encoder.finish().unwrap(), LIMIT), Ok(body));
}

#[test]
fn a_zstd_frame_without_its_size_is_read() {
    let body = text(250_000);
    let mut encoder = ::zstd::stream::Encoder::new(Vec::new(), 1).unwrap();
    encoder.write_all(&body).unwrap();
    assert_eq!(decompressed(Compression::Zstd, &encoder.finish().unwrap(), LIMIT), Ok(body));
}

#[test]
fn rubbish_is_named_with_its_codec() {
    for codec in codecs() {
        let error = decompressed(codec, &[0x7f; 40], LIMIT).unwrap_err();
        assert!(error.to_string().contains(codec.name()), "{error}");
    }
}

#[test]
fn names_and_codes_lead_back() {
    for codec in Compression::ALL {
        assert_eq!(codec.name().parse(), Ok(codec));
        assert_eq!(Compression::from_code(codec.code()), Some(codec));
    }
    assert_eq!("LZ4".parse::<Compression>(), Err(UnknownCompressionName("LZ4".into())));
    assert_eq!(Compression::from_code(5), None);
}

#[test]
fn a_higher_level_is_smaller_and_reads_the_same_and_a_level_does_not_stay_for_the_next_batch() {
    let body = text(100_000);
    for compression in [Compression::Gzip, Compression::Zstd] {
        let levels = compression.levels().unwrap();
        let at = |level| compressed(compression.at_level(level).unwrap(), &body).split_off(HEADER_BYTES);
        let usual = frame(compression, &body);
        let (low, high) = (at(*levels.start()), at(*levels.end()));
        assert!(high.len() < low.len(), "{compression}: {} and {}", high.len(), low.len());
        assert_eq!(frame(compression, &body), usual, "{compression}");
        for frame in [low, high] {
            assert_eq!(decompressed(compression, &frame, LIMIT).as_deref(), Ok(&body[..]), "{compression}");
        }
    }
    let error = Compression::Lz4.at_level(3).unwrap_err().to_string();
    assert_eq!(error, "lz4 has no level 3; there is nothing to choose");
    assert!(Compression::Gzip.at_level(10).unwrap_err().to_string().ends_with("there are 1 to 9"));
}
