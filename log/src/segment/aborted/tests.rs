//! The file is Kafka's, and nothing in it is believed unless it sums up.

use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::disk::{Disk, SimDisk};

fn entry(producer: i64, first: i64, marker: i64) -> Aborted {
    Aborted {
        producer: ProducerId::new(producer),
        first: Offset::new(first),
        marker: Offset::new(marker),
        last_stable: Offset::new(marker + 1),
    }
}

#[test]
fn an_entry_has_the_bytes_that_kafka_writes() {
    let bytes = encode(&entry(7, 100, 258));
    assert_eq!(bytes.len(), 34);
    assert_eq!(bytes[..10], [0, 0, 0, 0, 0, 0, 0, 0, 0, 7]);
    assert_eq!(bytes[10..26], [0, 0, 0, 0, 0, 0, 0, 100, 0, 0, 0, 0, 0, 0, 1, 2]);
    assert_eq!(bytes[26..], [0, 0, 0, 0, 0, 0, 1, 3]);
    assert_eq!(decode(&bytes), Some(entry(7, 100, 258)));
}

#[test]
fn what_is_no_entry_is_refused() {
    let mut bytes = encode(&entry(7, 1, 2));
    bytes[1] = 1;
    assert_eq!(decode(&bytes), None, "another version");
    assert_eq!(decode(&encode(&entry(7, 5, 5))), None, "it ends before it begins");
}

#[test]
fn a_sum_tells_the_order_and_the_content() {
    let (one, two) = (entry(7, 1, 2), entry(8, 3, 9));
    let sum = AbortedMark::of(&[one, two]);
    assert_ne!(AbortedMark::of(&[two, one]), sum);
    assert_ne!(AbortedMark::of(&[one]), sum);
    assert_eq!(AbortedMark::of(&[]), AbortedMark::default());
}

#[test]
fn who_must_not_wait_does_not_wait_for_somebody_who_is_at_the_file() {
    let disk: Arc<dyn Disk> = Arc::new(SimDisk::new());
    let dir: Arc<Path> = Path::new("/log").into();
    disk.create_dir(&dir).unwrap();
    let segment = Segment::create(&disk, &dir, Offset::default(), 4096).unwrap();
    segment.aborted().note(&[entry(7, 1, 2)]);
    let everything = Offset::default()..Offset::new(i64::MAX);
    let mut found = Vec::new();
    let spilling = segment.aborted().entries.lock();
    let told = segment.aborted().collect(&segment, (&everything, Patience::Never), &mut found);
    assert!(matches!(told, Err(AbortedError::Io(error)) if error.kind() == io::ErrorKind::WouldBlock));
    drop(spilling);
    segment.aborted().collect(&segment, (&everything, Patience::Never), &mut found).unwrap();
    assert_eq!(found, [entry(7, 1, 2)]);
}
