//! Files in memory behave as files.

use super::*;

fn file(disk: &MemoryDisk, path: &str) -> Arc<dyn DiskFile> {
    disk.open(Path::new(path), IfMissing::Create).unwrap()
}

fn content(file: &dyn DiskFile) -> Vec<u8> {
    let mut all = vec![0; usize::try_from(file.bytes().unwrap()).unwrap() + 10];
    let read = file.read_at(&mut all, 0).unwrap();
    all.truncate(read);
    all
}

#[test]
fn writes_at_any_position_across_pieces_read_as_one_file() {
    let disk = MemoryDisk::default();
    let file = file(&disk, "/f");
    let mut expected: Vec<u8> = Vec::new();
    for (position, bytes) in
        [(0, 10), (5, PIECE_BYTES), (PIECE_BYTES * 3 - 1, 3), (100, 1), (20, 2 * PIECE_BYTES)]
    {
        let part: Vec<u8> = (0..bytes).map(|at| u8::try_from((at * 7 + position) % 251).unwrap()).collect();
        let (first, second) = part.split_at(bytes / 3);
        file.write_at(&mut [IoSlice::new(first), IoSlice::new(second)], position as u64).unwrap();
        expected.resize(expected.len().max(position + bytes), 0);
        expected[position..position + bytes].copy_from_slice(&part);
        assert!(content(&*file) == expected, "after {bytes} bytes at {position}");
        assert_eq!(disk.held_bytes(), expected.len() as u64);
    }
    for bytes in [PIECE_BYTES * 2, PIECE_BYTES * 2 + 5, PIECE_BYTES - 1, 0, PIECE_BYTES] {
        file.truncate(bytes as u64).unwrap();
        expected.resize(bytes, 0);
        assert!(content(&*file) == expected, "cut to {bytes}");
        assert_eq!(disk.held_bytes(), bytes as u64);
    }
}

#[test]
fn a_removed_file_is_readable_while_it_is_open_and_gives_its_memory_back_then() {
    let disk = MemoryDisk::default();
    disk.create_dir(Path::new("/a")).unwrap();
    let (first, second) = (file(&disk, "/a/first"), file(&disk, "/a/second"));
    for file in [&first, &second] {
        file.write_at(&mut [IoSlice::new(b"abc")], 0).unwrap();
    }
    disk.rename(Path::new("/a/first"), Path::new("/a/second")).unwrap();
    assert_eq!((content(&*second), disk.held_bytes()), (b"abc".to_vec(), 6));
    drop(second);
    assert_eq!(disk.held_bytes(), 3);
    disk.remove_dir(Path::new("/a")).unwrap();
    assert_eq!(disk.list(Path::new("/a")).unwrap_err().kind(), io::ErrorKind::NotFound);
    assert_eq!((content(&*first), disk.held_bytes()), (b"abc".to_vec(), 3));
    drop(first);
    assert_eq!(disk.held_bytes(), 0);
}

#[test]
fn names_behave_as_on_any_file_system() {
    let disk = MemoryDisk::default();
    let path = Path::new;
    let kind = |result: io::Result<()>| result.unwrap_err().kind();
    assert_eq!(kind(disk.create_dir(path("/a/b"))), io::ErrorKind::NotFound);
    disk.create_dir(path("/a")).unwrap();
    assert_eq!(kind(disk.create_dir(path("/a"))), io::ErrorKind::AlreadyExists);
    disk.create_dir(path("/a/b")).unwrap();
    disk.create_dir(path("/ab")).unwrap();
    file(&disk, "/a/f");
    file(&disk, "/a/b/g");
    let mut names = disk.list(path("/a")).unwrap();
    names.sort();
    assert_eq!(names, ["b", "f"]);
    assert_eq!(kind(disk.open(path("/a/x"), IfMissing::Fail).map(drop)), io::ErrorKind::NotFound);
    assert_eq!(kind(disk.open(path("/a/b"), IfMissing::Create).map(drop)), io::ErrorKind::IsADirectory);
    assert_eq!(kind(disk.open(path("/x/y"), IfMissing::Create).map(drop)), io::ErrorKind::NotFound);
    assert_eq!(kind(disk.remove_file(path("/a/x"))), io::ErrorKind::NotFound);
    disk.remove_file(path("/a/f")).unwrap();
    assert_eq!(disk.list(path("/a")).unwrap(), ["b"]);
    assert!(disk.space(path("/a")).unwrap().free_bytes > 0);
}
