//! A connection in memory: parts, pieces, waiting, and both ends.

use super::*;
use std::io::Write;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[tokio::test]
async fn a_slice_of_a_file_goes_through_in_parts_and_waits_for_the_reader() {
    let content: Vec<u8> = (0..900_000_u32).map(|at| at.to_le_bytes()[0] ^ at.to_le_bytes()[1]).collect();
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&content).unwrap();
    let slice = FileSlice { file: Arc::new(file), offset: 5, length: content.len() - 5 };
    let (mut ours, mut theirs) = InProcessStream::pair();
    let mut waits = 0;
    let sending = async {
        let mut sent = 0;
        while sent < slice.length {
            match ours.try_send_file(&slice, sent) {
                Ok(bytes) => sent += bytes,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    waits += 1;
                    ours.writable().await.unwrap();
                }
                Err(error) => panic!("{error}"),
            }
        }
    };
    let mut got = vec![0; slice.length];
    let (_, read) = tokio::join!(sending, theirs.read_exact(&mut got));
    read.unwrap();
    assert!(got == content[5..]);
    assert!(waits > 0, "the pipe holds less than the slice");
    let beyond = FileSlice { offset: content.len() as u64, ..slice };
    assert_eq!(ours.try_send_file(&beyond, 0).unwrap(), 0, "its file ends before");
}

#[tokio::test]
async fn a_piece_is_handed_over_whole_and_without_a_copy() {
    let (mut ours, mut theirs) = InProcessStream::pair();
    let piece = Bytes::from(vec![7; 3 * PIPE_BYTES]);
    assert_eq!(ours.try_send_piece(&piece, 5, More::No).unwrap(), piece.len() - 5);
    assert_eq!(ours.outgoing.lock().pieces[0].as_ptr(), piece[5..].as_ptr());
    assert_eq!(ours.try_send(b"x", More::No).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    let mut got = vec![0; piece.len() - 5];
    theirs.read_exact(&mut got).await.unwrap();
    assert!(got == piece[5..]);
    ours.writable().await.unwrap();
}

#[tokio::test]
async fn what_was_written_before_the_end_is_read_and_nothing_is_written_behind_it() {
    let (mut ours, mut theirs) = InProcessStream::pair();
    ours.write_all(b"last words").await.unwrap();
    drop(ours);
    let mut got = Vec::new();
    theirs.read_to_end(&mut got).await.unwrap();
    assert_eq!(got, b"last words");
    assert_eq!(theirs.write_all(b"x").await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
}

#[tokio::test]
async fn a_writer_that_waits_for_room_learns_that_the_reader_is_gone() {
    let (mut ours, theirs) = InProcessStream::pair();
    ours.try_send_piece(&Bytes::from(vec![0; PIPE_BYTES]), 0, More::No).unwrap();
    let waiting = tokio::spawn(async move { ours.writable().await });
    tokio::task::yield_now().await;
    drop(theirs);
    assert_eq!(waiting.await.unwrap().unwrap_err().kind(), io::ErrorKind::BrokenPipe);
}
