//! What goes wrong, and when.

use millstream_log::{Clock, PowerCut};

use super::chance::Chance;
use super::rot;
use super::world::World;

/// A bug to plant: a proof that finds nothing in the broker must find this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Planted {
    /// No sync makes anything durable.
    SyncsLie,
    /// One sync in five makes nothing durable.
    OneSyncInFiveLies,
}

/// How far the wall clock may be off.
const SKEW_MS_MAX: i64 = 20 * 86_400_000;

/// What the broker believes at a start.
const BELIEVED_MS: i64 = 1_800_000;

/// How the broker ends.
#[derive(Clone, Copy, Debug)]
pub(super) enum End {
    PowerCut(PowerCut),
    Kill,
    Shutdown,
}

/// Ends that are to come: the disk goes dead in the middle of a change, then the broker ends.
#[derive(Debug, Default)]
pub(super) struct Faults {
    end: Option<End>,
    /// The disk is full until then.
    full_until_ms: Option<i64>,
    failed_calls: u64,
}

impl Faults {
    /// Something goes wrong, perhaps now, perhaps in a few changes of the disk.
    pub(super) fn come(&mut self, world: &World, chance: &mut Chance) -> Option<End> {
        let disk = &world.disk;
        let soon = chance.below(12);
        match chance.below(20) {
            0..=5 => return Some(self.end(world, chance)),
            6..=9 if self.end.is_none() => {
                disk.fail_power_at(disk.changes() + soon);
                self.end = Some(match chance.below(3) {
                    0 => End::Kill,
                    _ => End::PowerCut(some_cut(chance)),
                });
                world.note(&format!("power fails after {soon} changes: {:?}", self.end));
            }
            10 => disk.fail_sync(soon),
            11 => disk.fail_write(soon),
            12 => disk.fail_read(soon),
            13 => disk.fail_change(soon),
            14 => {
                disk.set_capacity(Some(disk.used_bytes() + 200 * soon));
                self.full_until_ms = Some(world.now_ms() + 20 + 5 * i64::try_from(soon).expect("small"));
                world.note("the disk is full soon");
            }
            15 | 16 => jump(world, chance),
            17 if world.rots() => rot::harm(world, chance),
            18 => rot::evict(world, chance),
            _ => {}
        }
        None
    }

    /// The power fails in the middle of one of the next changes.
    pub(super) fn cut_power_soon(&mut self, world: &World, chance: &mut Chance) {
        if self.end.is_none() && world.broker.borrow().is_some() {
            let changes = chance.below(40);
            world.disk.fail_power_at(world.disk.changes() + changes);
            self.end = Some(End::PowerCut(some_cut(chance)));
            world.note(&format!("power fails after {changes} changes: {:?}", self.end));
        }
    }

    /// While the broker is down, somebody spoils a file that is not needed.
    pub(super) fn garble(&self, world: &World, chance: &mut Chance) {
        if !world.rots() {
            rot::garble(world, chance);
        }
    }

    fn end(&self, world: &World, chance: &mut Chance) -> End {
        let end = match chance.below(5) {
            0 => End::Shutdown,
            1..=3 => End::PowerCut(some_cut(chance)),
            _ => End::Kill,
        };
        world.note(&format!("{end:?}"));
        end
    }

    /// What has come due.
    pub(super) fn due(&mut self, world: &World) -> Option<End> {
        if self.full_until_ms.is_some_and(|until| until <= world.now_ms()) {
            self.full_until_ms = None;
            world.disk.set_capacity(None);
        }
        let bites = world.disk.bites();
        let failed = bites.failed_calls + bites.refused_for_space;
        if failed > self.failed_calls {
            self.failed_calls = failed;
            world.note("a call to the disk failed");
            world.oracle.borrow_mut().disk_failed(world.now_ms());
        }
        if world.disk.is_off() { self.end.take() } else { None }
    }

    pub(super) fn heal(&mut self, world: &World) {
        world.disk.heal();
        world.disk.set_capacity(None);
        world.disk.fail_power_at(u64::MAX);
        self.end = None;
        self.full_until_ms = None;
    }

    /// The process ended, and with it what was to come.
    pub(super) fn process_ended(&mut self) {
        self.end = None;
    }
}

pub(super) fn some_cut(chance: &mut Chance) -> PowerCut {
    match chance.one_in(3) {
        true => PowerCut::LosesUnsynced,
        false => PowerCut::KeepsSome { seed: chance.next() },
    }
}

/// The wall clock jumps, forward or back.
fn jump(world: &World, chance: &mut Chance) {
    let offset = match chance.below(4) {
        0 => -i64::try_from(chance.below(50 * 60_000)).expect("small"),
        // Less than ten minutes ahead is believed at a start: nobody knows for how long the broker was down.
        1 | 2 => BELIEVED_MS + i64::try_from(chance.below(SKEW_MS_MAX as u64)).expect("small"),
        _ => 0,
    };
    let to = world.true_time_ms() + offset;
    world.note(&format!("the clock jumps by {}", to - world.clock.now_ms()));
    world.clock.set(to);
    world.report.borrow_mut().clock_jumps += 1;
}
