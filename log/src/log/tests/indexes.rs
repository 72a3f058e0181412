//! Index files are Kafka's, and expendable.

use super::*;

/// Three sealed segments and an active one, closed.
fn closed() -> Rig {
    let rig = Rig::small();
    let log = rig.open();
    for (at, value) in numbered(0..40).iter().enumerate() {
        let time = 1000 + i64::try_from(at).unwrap();
        submit(&log, append_of(batch_at(time, &[value.as_bytes()]).build(), Acks::Written));
    }
    log.close().unwrap();
    rig
}

fn entries<const BYTES: usize>(rig: &Rig, name: &str) -> Vec<[u8; BYTES]> {
    let content = rig.disk.content(&Rig::file(name)).unwrap();
    let (entries, rest) = content.as_chunks::<BYTES>();
    assert!(rest.is_empty(), "{name} ends within an entry");
    entries.to_vec()
}

/// Every entry points to a batch that ends with its offset; times rise and are those of their batch.
fn check_files(rig: &Rig) {
    let logs: Vec<_> = rig.names().into_iter().filter(|name| name.ends_with(".log")).collect();
    assert!(logs.len() > 2);
    for log in logs {
        let base: i64 = log[..20].parse().unwrap();
        let content = rig.disk.content(&Rig::file(&log)).unwrap();
        let headers: Vec<_> = records::batches(Bytes::from(content.clone()))
            .map(|batch| BatchView::parse(&batch.unwrap()).unwrap().header())
            .collect();
        let offsets = entries::<8>(rig, &log.replace("log", "index"));
        for entry in &offsets {
            let offset = base + i64::from(u32::from_be_bytes(entry[..4].try_into().unwrap()));
            let position = u32::from_be_bytes(entry[4..].try_into().unwrap()) as usize;
            assert_eq!(BatchView::parse(&content[position..]).unwrap().last_offset(), offset);
        }
        assert_eq!(offsets.len(), content.len().saturating_sub(1) / 270, "an entry about every 200 bytes");
        let times = entries::<12>(rig, &log.replace("log", "timeindex"));
        let decoded: Vec<_> = times
            .iter()
            .map(|entry| {
                (
                    i64::from_be_bytes(entry[..8].try_into().unwrap()),
                    u32::from_be_bytes(entry[8..].try_into().unwrap()),
                )
            })
            .collect();
        assert!(decoded.is_sorted_by(|a, b| a.0 < b.0));
        for (time, offset) in &decoded {
            let header = headers.iter().find(|h| h.last_offset() == base + i64::from(*offset)).unwrap();
            assert_eq!(header.max_timestamp, *time);
        }
        let newest = headers.iter().map(|header| header.max_timestamp).max();
        assert_eq!(
            decoded.last().map(|entry| entry.0),
            newest,
            "a sealed segment's last entry has its largest time"
        );
    }
}

fn check_answers(rig: &Rig) {
    let log = rig.open();
    for (at, value) in numbered(0..40).into_iter().enumerate() {
        let offset = i64::try_from(at).unwrap();
        assert_eq!(values(&consume(&log, offset)).first(), Some(&value));
        let found = log.offset_for_timestamp(1000 + offset).unwrap().unwrap();
        assert_eq!(found.offset.get(), offset);
    }
    log.close().unwrap();
}

#[test]
fn entries_are_those_that_kafka_would_write() {
    check_files(&closed());
}

#[test]
fn index_files_may_be_missing_short_long_or_wrong() {
    let damages: [fn(Vec<u8>) -> Vec<u8>; 6] = [
        |_| Vec::new(),
        |content| content[..content.len() / 2].to_vec(),
        |content| vec![0; content.len()],
        |content| vec![0xff; content.len()],
        |content| content.iter().map(|byte| byte ^ 1).collect(),
        |mut content| {
            content.extend([7; 24]);
            content
        },
    ];
    for extension in ["index", "timeindex"] {
        for (at, damage) in damages.iter().enumerate() {
            let rig = closed();
            let names: Vec<_> =
                rig.names().into_iter().filter(|name| name.split('.').nth(1) == Some(extension)).collect();
            for name in &names {
                let content = rig.disk.content(&Rig::file(name)).unwrap();
                rig.disk.overwrite(&Rig::file(name), &damage(content));
            }
            check_answers(&rig);
            println!("{extension}, damage {at}");
        }
        let rig = closed();
        for name in rig.names().iter().filter(|name| name.ends_with(extension)) {
            rig.disk.remove_file(&Rig::file(name)).unwrap();
        }
        check_answers(&rig);
        if extension == "index" {
            // What was found missing when it was used is there again.
            assert!(rig.names().iter().filter(|name| name.ends_with(".index")).count() > 2);
        }
    }
}

#[test]
fn entries_reach_the_files_without_a_close() {
    let rig = Rig::small();
    let log = rig.open();
    fill(&log, 0..40);
    log.checkpoint().unwrap();
    assert!(log.segments.all().iter().all(|segment| segment.index().pending() == 0));
    assert_eq!(values(&consume(&log, 3)), numbered(3..40));
}

#[test]
fn an_index_of_many_pages_finds_every_offset() {
    let rig = Rig::new(LogConfig { index_interval_bytes: 0, ..LogConfig::default() });
    let log = rig.open();
    for value in 0..3000u32 {
        written(&log, &[&value.to_be_bytes()]);
        if value % 700 == 0 {
            log.checkpoint().unwrap();
        }
    }
    log.checkpoint().unwrap();
    for offset in (0..3000).step_by(13) {
        let read = ReadFrom {
            offset: Offset::new(offset),
            max_bytes: 1,
            first_batch: FirstBatch::Whole,
            isolation: Isolation::ReadUncommitted,
        };
        let bytes = read_bytes(&log, read);
        assert_eq!(BatchView::parse(&bytes).unwrap().base_offset(), offset);
    }
    assert!(log.segments.all()[0].index().may_be_rebuilt(), "no lookup found it wanting");
}

#[test]
fn a_read_that_must_not_wait_says_so_and_the_tail_needs_no_disk() {
    let rig = closed();
    let log = rig.open();
    assert!(
        log.try_read(from(3)).unwrap().is_none(),
        "this process did not write it and has not verified it"
    );
    let verified = log.read(from(3)).unwrap().bytes;
    assert_eq!(log.try_read(from(3)).unwrap().unwrap().bytes, verified);
    rig.disk.chill();
    assert!(log.try_read(from(3)).unwrap().is_none());
    assert!(log.read(from(3)).unwrap().bytes > 0);
    written(&log, &[b"new"]);
    assert!(log.try_read(from(40)).unwrap().unwrap().bytes > 0, "it was written a moment ago");
    assert!(log.try_read(from(41)).unwrap().unwrap().records.is_none());
    assert!(matches!(log.try_read(from(42)), Err(ReadError::OutOfRange { .. })));
}

#[test]
fn a_read_that_must_not_wait_rebuilds_nothing() {
    let rig = closed();
    for name in rig.names().iter().filter(|name| name.ends_with(".index")) {
        rig.disk.overwrite(&Rig::file(name), &[0xff; 24]);
    }
    let log = rig.open();
    assert!(log.try_read(from(10)).unwrap().is_none());
    assert!(log.read(from(10)).unwrap().bytes > 0);
    assert!(log.try_read(from(10)).unwrap().is_some(), "it was rebuilt meanwhile");
}
