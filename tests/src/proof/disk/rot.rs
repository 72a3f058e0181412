//! Bar 5: a flipped bit in a sealed segment costs the batch that has it, and is reported.

use std::ops::Range;

use millstream_log::{CleanStart, Damage, Disk as _};
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};

use super::{Batch, Rig, consume_around, sealed_segments};
use crate::proof::{Failure, Options, Proven};

/// How the log comes to read the damaged bytes.
#[derive(Clone, Copy, Debug)]
enum Way {
    CleanStart,
    UncleanStart,
    WithoutIndexes,
    /// All snapshots are damaged: the log is walked from its start.
    WithoutSnapshots,
    /// It served the same bytes before, and they left memory.
    Running,
}

const WAYS: [Way; 5] =
    [Way::CleanStart, Way::UncleanStart, Way::WithoutIndexes, Way::WithoutSnapshots, Way::Running];

/// Where a batch has its leader epoch.
const EPOCH: Range<usize> = 12..16;

pub(in crate::proof) fn run(options: &Options) -> Proven {
    let seed = options.seed();
    let mut dice = SmallRng::seed_from_u64(seed);
    let flips = options.either(10_000, 200_000);
    let (mut reported, mut bites) = (0, 0);
    let mut held: Option<(Rig, Vec<Batch>)> = None;
    for flip in 0..flips {
        if flip % 500 == 0 {
            let rig = sealed_segments(dice.random())?;
            let batches = rig.batches()?;
            held = Some((rig, batches));
        }
        let Some((rig, batches)) = &held else { continue };
        let sealed =
            batches.iter().filter(|batch| batches.last().is_some_and(|last| last.file != batch.file));
        let sealed = sealed.count();
        let way = WAYS[flip % WAYS.len()];
        let (at, byte) = loop {
            let at = dice.random_range(0..sealed);
            // Headers are where it is hardest: every other flip hits one.
            let reach = if flip % 2 == 0 { 61 } else { batches[at].bytes.len() };
            let byte = dice.random_range(0..reach);
            if !(matches!(way, Way::WithoutSnapshots)
                && EPOCH.contains(&byte)
                && is_near_a_change(batches, at))
            {
                break (at, byte);
            }
        };
        let bit = (batches[at].positions.start + byte) as u64 * 8 + dice.random_range(0..8);
        let rig = rig.fork();
        judge(&rig, batches, Flip { at, bit }, way).map_err(|why| {
            Failure::Broken(format!("flip {flip} of seed {seed}, batch {at}, byte {byte}, {way:?}: {why:#}"))
        })?;
        reported += 1;
        bites += usize::from(rig.disk.bites().damage_read > 0);
    }
    if bites < flips {
        return Err(Failure::Invalid(format!("of {flips} flips only {bites} were read")));
    }
    Ok(format!(
        "{flips} flipped bits, all read: 0 wrong bytes served, 0 undamaged records lost, {reported} batches reported, \
         0 bytes cut; seed {seed}"
    ))
}

/// Whether an epoch begins or ends near a batch. Without snapshots batches alone say who led when, and there
/// one that says otherwise may be right.
fn is_near_a_change(batches: &[Batch], at: usize) -> bool {
    let epoch = |at: usize| batches.get(at).map(|batch| &batch.bytes[EPOCH]);
    let around = [at.checked_sub(2), at.checked_sub(1), Some(at + 1), Some(at + 2)];
    !around.into_iter().all(|near| near.and_then(epoch) == epoch(at))
}

#[derive(Clone, Copy)]
struct Flip {
    /// Which batch.
    at: usize,
    /// Which bit of its file.
    bit: u64,
}

fn judge(rig: &Rig, batches: &[Batch], flip: Flip, way: Way) -> anyhow::Result<()> {
    let hit = &batches[flip.at];
    let file = Rig::path(&hit.file);
    let running = match way {
        Way::Running => Some(rig.open(CleanStart::Yes)?),
        _ => None,
    };
    if let Some((log, _)) = &running {
        let (served, _) = consume_around(log)?;
        anyhow::ensure!(served.len() == batches.len(), "before the flip {} batches", served.len());
    }
    anyhow::ensure!(rig.disk.damage(&file, Damage::FlippedBit { bit: flip.bit }), "the bit did not flip");
    rig.disk.evict(&file);
    let lengths = lengths(rig)?;
    let (log, recovery) = match (way, running) {
        (_, Some(running)) => running,
        (Way::WithoutIndexes, _) => {
            for name in rig.names("index")?.iter().chain(&rig.names("timeindex")?) {
                rig.disk.remove_file(&Rig::path(name))?;
            }
            rig.open(CleanStart::Yes)?
        }
        (Way::WithoutSnapshots, _) => {
            rig.names("snapshot")?.iter().for_each(|name| rig.disk.overwrite(&Rig::path(name), b"damaged"));
            rig.open(CleanStart::No)?
        }
        (Way::UncleanStart, _) => rig.open(CleanStart::No)?,
        (Way::CleanStart | Way::Running, _) => rig.open(CleanStart::Yes)?,
    };
    anyhow::ensure!(recovery.torn.is_empty(), "cut {:?}", recovery.torn);
    let (served, lost) = consume_around(&log)?;
    let mut sound =
        batches.iter().enumerate().filter(|(at, _)| *at != flip.at).map(|(_, batch)| &batch.bytes);
    anyhow::ensure!(
        served.iter().eq(sound.by_ref()),
        "not served are other batches than the damaged one: {lost:?}"
    );
    anyhow::ensure!(lost == [hit.offsets.clone()], "reported as lost: {lost:?}, damaged: {:?}", hit.offsets);
    let quarantined: Vec<_> = log.quarantined().iter().map(|range| range.offsets.start.get()).collect();
    anyhow::ensure!(quarantined == [hit.offsets.start], "quarantined: {quarantined:?}");
    let now = self::lengths(rig)?;
    anyhow::ensure!(
        lengths.iter().all(|length| now.contains(length)),
        "files were {lengths:?} and are {now:?}"
    );
    Ok(())
}

fn lengths(rig: &Rig) -> anyhow::Result<Vec<(String, usize)>> {
    rig.names("log")?.into_iter().map(|name| Ok((name.clone(), rig.content(&name)?.len()))).collect()
}
