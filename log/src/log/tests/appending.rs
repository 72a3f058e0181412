//! Appends, rolls, reads, deletions.

use super::*;

#[test]
fn batches_lie_one_behind_the_other_with_their_offset_and_epoch() {
    let rig = Rig::small();
    let log = rig.open();
    assert_eq!(written(&log, &[b"a", b"b"]), 0);
    assert_eq!(written(&log, &[b"c"]), 2);
    let bytes = read_bytes(&log, from(0));
    let epochs: Vec<_> = records::batches(bytes)
        .map(|batch| BatchView::parse(&batch.unwrap()).unwrap().header().partition_leader_epoch)
        .collect();
    assert_eq!(epochs, [1, 1]);
    assert_eq!(values(&consume(&log, 0)), ["a", "b", "c"]);
    assert_eq!(
        values(&consume(&log, 1)),
        ["b", "c"],
        "the slice starts with the batch that holds the offset"
    );
}

#[test]
fn a_segment_that_would_grow_beyond_its_size_is_rolled() {
    let rig = Rig::small();
    let log = rig.open();
    fill(&log, 0..40);
    assert!(log.segment_count() > 2);
    for segment in log.segments.all().iter() {
        assert!(segment.extent().bytes <= rig.config.segment_bytes);
    }
    assert_eq!(values(&consume(&log, 0)), numbered(0..40));
    assert_eq!(values(&consume(&log, 33)), numbered(33..40));
}

#[test]
fn a_segment_is_rolled_by_the_first_append_after_its_age() {
    let rig = Rig::small();
    let log = rig.open();
    written(&log, &[b"old"]);
    rig.clock.advance(rig.config.segment_age - Duration::from_millis(1));
    written(&log, &[b"still"]);
    assert_eq!(log.segment_count(), 1);
    rig.clock.advance(Duration::from_millis(1));
    written(&log, &[b"new"]);
    assert_eq!(log.segment_count(), 2);
}

#[test]
fn a_segment_whose_index_is_full_is_rolled() {
    let config = LogConfig { index_interval_bytes: 0, index_bytes_max: 80, ..LogConfig::default() };
    let rig = Rig::new(config);
    let log = rig.open();
    fill(&log, 0..40);
    assert!(log.segment_count() >= 4, "{} segments", log.segment_count());
    assert_eq!(values(&consume(&log, 0)), numbered(0..40));
}

#[test]
fn offsets_that_do_not_fit_the_index_start_a_new_segment() {
    let log = Rig::small().open();
    let mut append = append_of(batch_at(NOW_MS, &[b"a"]).build(), Acks::Written);
    append.header.last_offset_delta = i32::MAX;
    submit(&log, append).lock().take().unwrap().unwrap();
    assert_eq!(written(&log, &[b"b"]), i64::from(i32::MAX) + 1);
    assert_eq!(log.segment_count(), 2);
}

#[test]
fn a_batch_larger_than_a_segment_is_refused_and_one_of_its_size_is_not() {
    let rig = Rig::small();
    let log = rig.open();
    let overhead = batch_at(NOW_MS, &[&[b'x'; 900]]).build().len() - 900;
    let fits = vec![b'x'; 1000 - overhead];
    append(&log, &[&fits], Acks::Written).unwrap();
    let more = vec![b'x'; 1001 - overhead];
    let refused = append(&log, &[&more], Acks::Written).unwrap_err();
    assert_eq!(refused, AppendError::LargerThanSegment { bytes: 1001, segment_bytes: 1000 });
    assert_eq!(end(&log), 1);
}

#[test]
fn a_read_respects_its_size_but_for_a_first_batch_that_must_be_whole() {
    let rig = Rig::new(LogConfig::default());
    let log = rig.open();
    fill(&log, 0..100);
    let batch = read_bytes(&log, from(99)).len();
    let limited = |max_bytes, first_batch| {
        let read = ReadFrom {
            offset: Offset::new(10),
            max_bytes,
            first_batch,
            isolation: Isolation::ReadUncommitted,
        };
        read_bytes(&log, read).len()
    };
    assert_eq!(limited(1, FirstBatch::Whole), batch);
    assert_eq!(limited(batch - 1, FirstBatch::IfItFits), 0);
    assert_eq!(limited(batch, FirstBatch::IfItFits), batch);
    assert!(limited(10 * batch + 5, FirstBatch::IfItFits) <= 10 * batch + 5);
    assert_eq!(limited(usize::MAX, FirstBatch::IfItFits), 90 * batch);
    let recent = ReadFrom {
        offset: Offset::new(90),
        max_bytes: 3 * batch + 5,
        first_batch: FirstBatch::Whole,
        isolation: Isolation::ReadUncommitted,
    };
    assert_eq!(read_bytes(&log, recent).len(), 3 * batch, "near the tail a slice ends with a batch");
}

#[test]
fn a_slice_of_large_batches_ends_with_a_whole_one() {
    let rig = Rig::new(LogConfig::default());
    let log = rig.open();
    let value = vec![b'x'; 40_000];
    for at in 0..200 {
        written(&log, &[&value]);
        if at == 120 {
            log.checkpoint().unwrap();
        }
    }
    let batch = read_bytes(&log, from(199)).len();
    // In the file of the index, in memory, and among the last ones.
    for offset in [0, 50, 118, 125, 140, 190] {
        let read = ReadFrom {
            offset: Offset::new(offset),
            max_bytes: 3 * batch + batch / 2,
            first_batch: FirstBatch::Whole,
            isolation: Isolation::ReadUncommitted,
        };
        assert_eq!(read_bytes(&log, read).len(), 3 * batch, "from {offset}");
    }
}

#[test]
fn the_end_can_be_asked_for_and_what_lies_outside_cannot() {
    let log = Rig::small().open();
    written(&log, &[b"a"]);
    assert!(log.read(from(1)).unwrap().records.is_none());
    for outside in [-1, 2] {
        let refused = log.read(from(outside)).unwrap_err();
        assert!(matches!(refused, ReadError::OutOfRange { .. }), "{refused}");
    }
}

#[test]
fn a_reader_is_not_shown_what_lies_beyond_the_high_watermark() {
    let rig = Rig::small();
    let log = rig.open();
    fill(&log, 0..40);
    let offsets = log.offsets();
    for high_watermark in [0, 1, 7, 25, 39] {
        log.tail.publish(Offsets { high_watermark: Offset::new(high_watermark), ..offsets });
        let visible = usize::try_from(high_watermark).unwrap();
        assert_eq!(values(&consume(&log, 0)), numbered(0..visible));
    }
}

#[test]
fn deleted_records_are_gone_with_their_segments_and_stay_gone() {
    let rig = Rig::small();
    let log = rig.open();
    fill(&log, 0..40);
    let before = log.segment_count();
    assert_eq!(log.delete_records(Some(Offset::new(25))), Ok(Offset::new(25)));
    assert!(log.segment_count() < before);
    assert_eq!(log.delete_records(Some(Offset::new(3))), Ok(Offset::new(25)), "the start never moves back");
    assert!(matches!(log.read(from(24)), Err(ReadError::OutOfRange { .. })));
    assert_eq!(values(&consume(&log, 25)), numbered(25..40));
    let refused = log.delete_records(Some(Offset::new(41)));
    assert!(matches!(refused, Err(DeleteRecordsError::OutOfRange { .. })));
    log.flush().unwrap();
    rig.disk.power_cut(PowerCut::LosesUnsynced);
    let log = rig.open();
    assert_eq!(log.offsets().log_start, Offset::new(25));
    assert_eq!(log.delete_records(None), Ok(Offset::new(40)));
    assert!(log.read(from(40)).unwrap().records.is_none());
    assert_eq!(written(&log, &[b"next"]), 40);
}

#[test]
fn a_truncated_log_goes_on_from_where_it_was_cut() {
    let rig = Rig::small();
    let log = rig.open();
    fill(&log, 0..40);
    log.checkpoint().unwrap();
    assert_eq!(log.truncate(Offset::new(50)), Ok(Offset::new(40)));
    assert_eq!(log.truncate(Offset::new(13)), Ok(Offset::new(13)));
    assert_eq!(values(&consume(&log, 0)), numbered(0..13));
    fill(&log, 13..30);
    assert_eq!(values(&consume(&log, 0)), numbered(0..30));
    log.close().unwrap();
    let (log, recovery) = rig.try_open(CleanStart::Yes).unwrap();
    assert_eq!((recovery.scanned_bytes, recovery.torn, recovery.lost), (0, vec![], vec![]));
    assert_eq!(values(&consume(&log, 0)), numbered(0..30));
    assert_eq!(log.truncate(Offset::new(0)), Ok(Offset::new(0)));
    assert_eq!(written(&log, &[b"anew"]), 0);
}

#[test]
fn a_deleted_log_tells_everybody_and_leaves_nothing() {
    let rig = Rig::small();
    let log = rig.open();
    fill(&log, 0..20);
    log.delete();
    assert!(matches!(log.read(from(0)), Err(ReadError::Closed)));
    assert_eq!(append(&log, &[b"late"], Acks::Durable), Err(AppendError::Closed));
    assert_eq!(log.delete_records(None), Err(DeleteRecordsError::Closed));
    assert!(rig.disk.list(&Rig::dir()).is_err(), "the folder is gone");
}

#[test]
fn a_slice_of_a_deleted_segment_can_be_read_to_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let (log, _) = Log::open(OpenOptions {
        disk: Arc::new(crate::RealDisk),
        clock: Arc::new(crate::SystemClock),
        flusher: Flusher::start(2),
        dir: folder.path().join("topic").join("0"),
        config: LogConfig::default(),
        leader_epoch: LeaderEpoch::new(0),
        clean: CleanStart::Yes,
    })
    .unwrap();
    let (told, answer) = std::sync::mpsc::channel();
    let done = Box::new(move |result| told.send(result).unwrap());
    drop(log.append(append_of(batch_at(NOW_MS, &[b"kept"]).build(), Acks::Durable), done));
    assert_eq!(answer.recv().unwrap().unwrap().base_offset, Offset::new(0));
    let slice = log.read(from(0)).unwrap();
    assert!(slice.is_resident());
    slice.bring_in().unwrap();
    log.delete();
    assert!(!folder.path().join("topic").join("0").exists());
    let Some(Chunk::File(slice)) = slice.records else { panic!("a real disk gives file slices") };
    let mut bytes = vec![0; slice.length];
    std::os::unix::fs::FileExt::read_exact_at(&*slice.file, &mut bytes, slice.offset).unwrap();
    assert!(BatchView::parse(&bytes).unwrap().crc_is_valid());
}

#[test]
fn a_log_of_many_segments_holds_few_files_open() {
    let rig = Rig::small();
    let log = rig.open();
    let alone = rig.disk.handles();
    let is_open = |what| {
        let open = rig.disk.handles() - alone;
        assert!(open <= 30, "{open} files are open after {what}");
    };
    fill(&log, 0..900);
    assert!(log.segment_count() > 60);
    is_open("writing");
    assert_eq!(consume(&log, 0).len(), 900);
    is_open("reading");
    log.offset_for_timestamp(NOW_MS + 1).unwrap();
    log.max_timestamp().unwrap();
    is_open("looking for times");
    log.flush().unwrap();
    let all = ScrubFrom { offset: Offset::new(0), max_bytes: u64::MAX };
    assert_eq!(log.scrub(all, &crate::Pace::unlimited()).unwrap().damaged, vec![]);
    is_open("scrubbing");
    assert_eq!(consume(&log, 450).len(), 450);
    log.delete_records(Some(Offset::new(890))).unwrap();
    is_open("deleting");
    assert!(rig.disk.handles() - alone < 10, "a deleted file that is open takes room");
}

#[test]
fn a_segment_that_grows_has_room_set_aside_until_the_log_is_closed() {
    use std::os::unix::fs::MetadataExt;
    let folder = tempfile::tempdir().unwrap();
    let config = LogConfig { preallocate: true, segment_bytes: 64 << 20, ..LogConfig::default() };
    let (log, _) = Log::open(OpenOptions {
        disk: Arc::new(crate::RealDisk),
        clock: Arc::new(crate::SystemClock),
        flusher: Flusher::start(1),
        dir: folder.path().to_owned(),
        config,
        leader_epoch: LeaderEpoch::new(0),
        clean: CleanStart::Yes,
    })
    .unwrap();
    let value = vec![b'x'; 1 << 20];
    for _ in 0..17 {
        written(&log, &[&value]);
    }
    let file = folder.path().join("00000000000000000000.log");
    let held = || std::fs::metadata(&file).map(|held| (held.len(), held.blocks() * 512)).unwrap();
    let probe =
        crate::Disk::open(&crate::RealDisk, &folder.path().join("probe"), crate::IfMissing::Create).unwrap();
    probe.preallocate(0..1 << 20).unwrap();
    if probe.as_file().unwrap().metadata().unwrap().blocks() == 0 {
        return eprintln!("this file system sets no room aside");
    }
    while held().1 < 60 << 20 {
        std::thread::yield_now();
    }
    assert_eq!(held().0, log.size_bytes());
    log.close().unwrap();
    assert!(held().1 < 20 << 20, "{:?}", held());
}

#[test]
fn many_appenders_share_turns_and_lose_nothing() {
    let log = Rig::new(LogConfig::default()).open();
    let mut bases: Vec<_> = std::thread::scope(|scope| {
        let appenders: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    (0..200)
                        .map(|_| submit(&log, append_of(batch_at(NOW_MS, &[b"v"]).build(), Acks::Written)))
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        appenders.into_iter().flat_map(|appender| appender.join().unwrap()).collect()
    });
    // Whoever left its batch to a leader has its answer once all have returned.
    let mut bases: Vec<_> =
        bases.drain(..).map(|outcome| outcome.lock().take().unwrap().unwrap().base_offset.get()).collect();
    bases.sort_unstable();
    assert_eq!(bases, (0..1600).collect::<Vec<_>>());
    assert_eq!(consume(&log, 0).len(), 1600);
}

#[test]
fn a_segment_ends_where_the_size_that_was_set_last_says() {
    let log = Rig::new(LogConfig::default()).open();
    let value = [b'x'; 600];
    for _ in 0..4 {
        append(&log, &[&value], Acks::Durable).unwrap();
    }
    assert_eq!(log.segment_count(), 1);
    log.reconfigure(LogConfig { segment_bytes: 1000, ..LogConfig::default() });
    append(&log, &[&value], Acks::Durable).unwrap();
    append(&log, &[&value], Acks::Durable).unwrap();
    assert_eq!(log.segment_count(), 3);
    let refused = append(&log, &[&[b'x'; 2000]], Acks::Durable);
    assert!(matches!(refused, Err(AppendError::LargerThanSegment { segment_bytes: 1000, .. })));
}
