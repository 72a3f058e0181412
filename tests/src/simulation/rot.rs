//! Harm to files: bits that turn and sectors that go astray in data that was written long ago, and files that
//! can be done without and are spoilt.

use std::ops::Range;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use millstream_log::Damage;
use millstream_protocol::Uuid;
use millstream_protocol::records::{BatchHeader, batches};

use super::chance::Chance;
use super::oracle::PartitionId;
use super::world::World;

const SECTOR_BYTES: u64 = 512;

/// The partition whose folder a file is in.
fn partition_of(path: &Path) -> Option<PartitionId> {
    let folder = path.parent()?;
    let index = folder.file_name()?.to_str()?.parse().ok()?;
    let topic = folder.parent()?.file_name()?.to_str()?.parse::<Uuid>().ok()?;
    Some(PartitionId { topic, index })
}

fn is_log(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "log")
}

/// Segments that nothing is appended to any more, with nothing on the way to the disk, and a snapshot that says
/// so: above the durable point nobody can tell damage from a tail that a crash has torn.
fn sealed(world: &World) -> Vec<PathBuf> {
    let logs: Vec<PathBuf> =
        world.disk.files().into_iter().filter(|path| is_log(path) && partition_of(path).is_some()).collect();
    let is_last = |at: usize| logs.get(at + 1).is_none_or(|next| next.parent() != logs[at].parent());
    let is_known = |path: &Path| {
        let end = end_of(world, path);
        world.disk.files().iter().any(|other| {
            let is_snapshot = other.extension().is_some_and(|extension| extension == "snapshot");
            is_snapshot
                && other.parent() == path.parent()
                && base_of(other) >= end
                && !world.disk.is_dirty(other)
        })
    };
    let sealed = (0..logs.len())
        .filter(|at| !is_last(*at) && !world.disk.is_dirty(&logs[*at]) && is_known(&logs[*at]));
    sealed.map(|at| logs[at].clone()).collect()
}

/// Something rots in a sealed segment, and memory forgets what it was.
pub(super) fn harm(world: &World, chance: &mut Chance) {
    let sealed = sealed(world);
    if sealed.is_empty() {
        return;
    }
    let path = chance.pick(&sealed);
    let (Some(id), Some(before)) = (partition_of(path), world.disk.content(path)) else { return };
    let sectors = (before.len() as u64).div_ceil(SECTOR_BYTES);
    let damage = match chance.below(4) {
        0 | 1 => Damage::FlippedBit { bit: chance.below(8 * before.len() as u64) },
        2 => Damage::Misdirected { from: chance.below(sectors), to: chance.below(sectors) },
        _ => Damage::Stale { sector: chance.below(sectors) },
    };
    if !world.disk.damage(path, damage) {
        return;
    }
    world.disk.evict(path);
    let after = world.disk.content(path).unwrap_or_default();
    for offsets in spoilt((&before, &after), base_of(path)..end_of(world, path)) {
        world.note(&format!("rot in {}: {damage:?} spoils {offsets:?}", path.display()));
        world.oracle.borrow_mut().rotted(id, offsets);
    }
}

/// The first offset of a segment, which is its name.
fn base_of(path: &Path) -> i64 {
    path.file_stem().and_then(|stem| stem.to_str()?.parse().ok()).unwrap_or(0)
}

/// Where the next segment begins.
fn end_of(world: &World, path: &Path) -> i64 {
    let files = world.disk.files();
    let others = files.iter().filter(|other| is_log(other) && other.parent() == path.parent());
    others.map(|other| base_of(other)).filter(|base| *base > base_of(path)).min().unwrap_or(i64::MAX)
}

/// The offsets of batches that are not as they were, up to the sound ones on either side: where compaction has
/// left gaps nobody can tell which of those were in a spoilt batch.
fn spoilt((before, after): (&[u8], &[u8]), segment: Range<i64>) -> Vec<Range<i64>> {
    let (mut at, mut sound_to, mut is_open) = (0, segment.start, false);
    let mut spoilt = Vec::new();
    for batch in batches(Bytes::copy_from_slice(before)).map_while(Result::ok) {
        let end = at + batch.len();
        let Ok(header) = BatchHeader::decode(&batch) else { break };
        if before[at..end] != after[at..end] {
            is_open = true;
        } else {
            if std::mem::take(&mut is_open) {
                spoilt.push(sound_to..header.base_offset);
            }
            sound_to = header.last_offset() + 1;
        }
        at = end;
    }
    if is_open {
        spoilt.push(sound_to..segment.end);
    }
    spoilt
}

/// Memory drops a segment.
pub(super) fn evict(world: &World, chance: &mut Chance) {
    let logs: Vec<PathBuf> = world.disk.files().into_iter().filter(|path| is_log(path)).collect();
    if !logs.is_empty() {
        let path: &PathBuf = chance.pick(&logs);
        world.disk.evict(path);
    }
}

/// A file that only makes things faster is emptied, cut or filled with something else.
pub(super) fn garble(world: &World, chance: &mut Chance) {
    let spare: Vec<PathBuf> = world
        .disk
        .files()
        .into_iter()
        .filter(|path| {
            partition_of(path).is_some()
                && path.extension().is_some_and(|kind| kind == "index" || kind == "timeindex")
        })
        .collect();
    if spare.is_empty() {
        return;
    }
    let path = chance.pick(&spare);
    let mut content = world.disk.content(path).unwrap_or_default();
    match chance.below(3) {
        0 => content.clear(),
        1 => content.truncate(content.len() / 2),
        _ => content.iter_mut().for_each(|byte| *byte = (chance.next() & 0xFF) as u8),
    }
    world.note(&format!("{} is spoilt", path.display()));
    world.disk.overwrite(path, &content);
}
