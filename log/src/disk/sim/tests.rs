//! Claims about the simulated disk itself: a fault that it does not do proves nothing.

use super::*;

fn write(disk: &SimDisk, path: &str, bytes: &[u8], position: u64) -> Arc<dyn DiskFile> {
    let file = disk.open(Path::new(path), IfMissing::Create).unwrap();
    file.write_at(&mut [IoSlice::new(bytes)], position).unwrap();
    file
}

fn content(disk: &SimDisk, path: &str) -> Option<Vec<u8>> {
    disk.content(Path::new(path))
}

#[test]
fn a_power_cut_takes_back_what_was_not_synced_and_nothing_else() {
    let disk = SimDisk::new();
    let file = write(&disk, "/a", b"durable text", 0);
    file.sync_data().unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    write(&disk, "/a", b"DUR", 0);
    file.truncate(5).unwrap();
    write(&disk, "/a", b"xyz and more", 3);
    write(&disk, "/unnamed", b"lost", 0).sync_data().unwrap();
    assert_eq!(content(&disk, "/a").unwrap(), b"DURxyz and more");
    let fork = disk.fork();
    disk.power_cut(PowerCut::LosesUnsynced);
    assert_eq!(content(&disk, "/a").unwrap(), b"durable text");
    assert_eq!(content(&disk, "/unnamed"), None);
    assert!(file.bytes().is_err(), "open files are gone");
    assert_eq!(disk.bites().power_cuts, 1);
    fork.kill();
    assert_eq!(content(&fork, "/a").unwrap(), b"DURxyz and more", "a killed process loses nothing");
    fork.power_cut(PowerCut::LosesUnsynced);
    assert_eq!(content(&fork, "/a").unwrap(), b"durable text", "and makes nothing durable");
}

#[test]
fn a_nasty_power_cut_tears_and_reorders() {
    let (mut later_alone, mut torn, mut whole) = (0, 0, 0);
    for seed in 0..200 {
        let disk = SimDisk::new();
        let file = write(&disk, "/a", &[0; 4096], 0);
        file.sync_data().unwrap();
        disk.sync_dir(Path::new("/")).unwrap();
        write(&disk, "/a", &[1; 2048], 0);
        write(&disk, "/a", &[2; 2048], 2048);
        disk.power_cut(PowerCut::KeepsSome { seed });
        let bytes = content(&disk, "/a").unwrap();
        let kept = |range: Range<usize>, value| bytes[range].iter().filter(|byte| **byte == value).count();
        let (first, second) = (kept(0..2048, 1), kept(2048..4096, 2));
        assert!(first.is_multiple_of(512) && second.is_multiple_of(512));
        later_alone += u32::from(first == 0 && second == 2048);
        torn += u32::from((1..2048).contains(&first));
        whole += u32::from(first == 2048 && second == 2048);
    }
    assert!(later_alone > 5 && torn > 20 && whole > 5, "{later_alone} {torn} {whole}");
}

#[test]
fn a_rename_is_done_or_not_and_never_half() {
    let (mut done, mut undone) = (0, 0);
    for seed in 0..50 {
        let disk = SimDisk::new();
        for (name, text) in [("/old", b"old"), ("/new", b"new")] {
            write(&disk, name, text, 0).sync_data().unwrap();
        }
        disk.sync_dir(Path::new("/")).unwrap();
        disk.rename(Path::new("/new"), Path::new("/old")).unwrap();
        disk.power_cut(PowerCut::KeepsSome { seed });
        match (content(&disk, "/old").as_deref(), content(&disk, "/new").as_deref()) {
            (Some(b"new"), None) => done += 1,
            (Some(b"old"), Some(b"new")) => undone += 1,
            other => panic!("seed {seed}: {other:?}"),
        }
    }
    assert!(done > 10 && undone > 10, "{done} {undone}");
}

#[test]
fn after_a_failed_sync_memory_shows_what_the_device_has_lost() {
    let disk = SimDisk::new();
    let file = write(&disk, "/a", b"durable", 0);
    file.sync_data().unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    write(&disk, "/a", b"lost", 7);
    disk.fail_sync(0);
    assert!(file.sync_data().is_err() && !disk.fault_is_pending());
    file.sync_data().unwrap();
    assert_eq!(content(&disk, "/a").unwrap(), b"durablelost", "clean-looking pages");
    write(&disk, "/a", b"!", 11);
    file.sync_data().unwrap();
    let mut device = [0; 12];
    file.read_device_at(&mut device, 0).unwrap();
    assert_eq!(&device, b"durable\0\0\0\0!");
    disk.power_cut(PowerCut::LosesUnsynced);
    assert_eq!(content(&disk, "/a").unwrap(), b"durable\0\0\0\0!");
}

#[test]
fn damage_is_seen_once_memory_has_dropped_the_file() {
    let disk = SimDisk::new();
    let bytes: Vec<u8> = (0..2048_usize).map(|at| 1 + (at / 512) as u8).collect();
    let file = write(&disk, "/a", &bytes, 0);
    file.sync_data().unwrap();
    let path = Path::new("/a");
    assert!(disk.damage(path, Damage::FlippedBit { bit: 3 }));
    assert!(disk.damage(path, Damage::Misdirected { from: 0, to: 1 }));
    assert!(disk.damage(path, Damage::Stale { sector: 2 }));
    assert!(!disk.damage(path, Damage::Misdirected { from: 9, to: 1 }), "there is no such sector");
    let mut seen = vec![0; 2048];
    file.read_at(&mut seen, 0).unwrap();
    assert!(seen == bytes && disk.bites().damage_read == 0);
    disk.evict(path);
    assert!(!file.is_resident(0, 2048));
    assert_eq!(file.try_read_at(&mut seen, 0).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    file.read_at(&mut seen, 0).unwrap();
    assert!(file.is_resident(0, 2048) && disk.bites().damage_read == 1);
    assert_eq!((seen[0], seen[600], seen[1100], seen[1600]), (9, 1, 0, 4));
}

#[test]
fn a_sync_that_lies_is_found_out_by_a_power_cut() {
    let disk = SimDisk::new();
    disk.make_some_syncs_lie(std::num::NonZero::new(2).unwrap());
    let file = write(&disk, "/a", b"first", 0);
    file.sync_data().unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    assert!(content(&disk, "/a").is_some());
    disk.power_cut(PowerCut::LosesUnsynced);
    assert_eq!(content(&disk, "/a"), None, "the second sync was the lie");
}

#[test]
fn syncs_may_lie_in_one_folder_only() {
    let disk = SimDisk::new();
    disk.create_dir(Path::new("/lies")).unwrap();
    disk.make_syncs_lie_in(Path::new("/lies"));
    for path in ["/lies/a", "/b"] {
        write(&disk, path, b"first", 0).sync_data().unwrap();
        disk.sync_dir(Path::new(path).parent().unwrap()).unwrap();
    }
    disk.power_cut(PowerCut::LosesUnsynced);
    assert_eq!(content(&disk, "/b").as_deref(), Some(&b"first"[..]));
    assert_ne!(content(&disk, "/lies/a").as_deref(), Some(&b"first"[..]));
}
