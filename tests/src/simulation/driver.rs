//! One run: time passes, the broker works, things go wrong, everything heals, and what is left is judged.

use std::cell::Cell;
use std::panic::PanicHookInfo;
use std::rc::Rc;
use std::sync::Once;
use std::time::Duration;

use millstream_log::PowerCut;
use millstream_protocol::ErrorCode;
use tokio::task::LocalSet;

use super::chance::Chance;
use super::consumer::{fetch_one, judge_reply};
use super::faults::{End, Faults, Planted};
use super::oracle::{PartitionId, Placed, Whole};
use super::producer::Style;
use super::setting::setting;
use super::wire::Lost;
use super::world::{Phase, Shared, Topic, World};
use super::{Aim, Failure, Plan, Report, admin, consumer, producer};

const TICK: Duration = Duration::from_millis(1);

/// Simulated milliseconds in which clients must have finished once the faults have healed.
const PATIENCE_MS: i64 = 20_000;

thread_local! {
    static PANICS: Cell<u64> = const { Cell::new(0) };
}

/// Counts panics of this thread, wherever they are caught.
fn count_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info: &PanicHookInfo<'_>| {
            PANICS.with(|panics| panics.set(panics.get() + 1));
            before(info);
        }));
    });
    PANICS.with(|panics| panics.set(0));
}

/// Runs a plan from beginning to end.
///
/// # Errors
/// The first promise that was broken.
pub fn run(plan: Plan) -> Result<Report, Failure> {
    count_panics();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without threads needs nothing");
    let local = LocalSet::new();
    local.block_on(&runtime, async {
        let (topics, styles) = setting(plan.aim);
        let world = World::new(plan, topics);
        Driver::new(Rc::clone(&world)).run(styles).await;
        world.outcome()
    })
}

struct Driver {
    world: Shared,
    chance: Chance,
    faults: Faults,
}

impl Driver {
    fn new(world: Shared) -> Self {
        let chance = Chance::of(world.plan.seed);
        Self { world, chance, faults: Faults::default() }
    }

    async fn run(&mut self, styles: Vec<Style>) {
        match self.world.plan.planted {
            Some(Planted::SyncsLie) => self.world.disk.make_syncs_lie(),
            Some(Planted::OneSyncInFiveLies) => {
                self.world.disk.make_some_syncs_lie(std::num::NonZero::new(5).expect("five"));
            }
            None => {}
        }
        if self.world.plan.aim == Aim::Relaxed {
            self.world.oracle.borrow_mut().judge_ages();
        }
        if let Err(error) = self.world.start_broker() {
            self.world.fail(format!("the first start failed: {error}"));
            return;
        }
        self.spawn_clients(styles);
        let until = self.world.now_ms() + i64::try_from(self.world.plan.millis).expect("short");
        while self.world.now_ms() < until && !self.world.has_failed() {
            self.tick().await;
            self.maybe_fault().await;
        }
        self.finish().await;
        self.world.phase.set(Phase::Over);
        self.count();
    }

    fn spawn_clients(&mut self, styles: Vec<Style>) {
        for style in styles {
            let (world, chance) = (Rc::clone(&self.world), self.chance.fork());
            world.busy_clients.set(world.busy_clients.get() + 1);
            tokio::task::spawn_local(async move {
                producer::produce(Rc::clone(&world), chance, style).await;
                world.busy_clients.set(world.busy_clients.get() - 1);
            });
        }
        for _ in 0..2 {
            let (world, chance) = (Rc::clone(&self.world), self.chance.fork());
            tokio::task::spawn_local(consumer::consume(world, chance));
        }
        let (world, chance) = (Rc::clone(&self.world), self.chance.fork());
        tokio::task::spawn_local(admin::administrate(world, chance));
    }

    /// A moment passes: everybody gets on, the flusher takes a few steps.
    async fn tick(&mut self) {
        tokio::time::sleep(TICK).await;
        self.world.advance(TICK);
        if let Some(broker) = &*self.world.broker.borrow() {
            for _ in 0..self.chance.below(4) {
                broker.flush_step();
            }
            if self.chance.one_in(25) {
                broker.maintain();
            }
            if broker.has_panicked() {
                self.world.fail("a connection's task panicked".to_owned());
            }
        }
        if PANICS.with(Cell::get) > 0 {
            self.world.fail("something panicked".to_owned());
        }
    }

    async fn maybe_fault(&mut self) {
        if let Some(end) = self.faults.due(&self.world) {
            self.end(end).await;
        }
        match self.world.plan.aim {
            Aim::Everything => self.anything_may_happen().await,
            Aim::PowerCuts => self.faults.cut_power_soon(&self.world, &mut self.chance),
            Aim::Relaxed if self.chance.one_in(100) => {
                let end = End::PowerCut(PowerCut::LosesUnsynced);
                self.end(end).await;
            }
            Aim::Relaxed => {}
        }
        let is_down = self.world.broker.borrow().is_none();
        if is_down && self.chance.one_in(if self.world.plan.aim == Aim::PowerCuts { 2 } else { 10 }) {
            self.start();
        }
    }

    async fn anything_may_happen(&mut self) {
        if self.world.broker.borrow().is_some() && self.chance.one_in(60) {
            let end = self.faults.come(&self.world, &mut self.chance);
            if let Some(end) = end {
                self.end(end).await;
            }
        }
        if self.world.broker.borrow().is_none() && self.chance.one_in(30) {
            self.faults.garble(&self.world, &mut self.chance);
        }
        if self.chance.one_in(250) {
            let minutes = Duration::from_secs(1 + self.chance.below(120));
            self.world.note(&format!("{minutes:?} of silence"));
            self.world.advance(minutes);
        }
    }

    async fn end(&mut self, end: End) {
        let Some(broker) = self.world.broker.borrow_mut().take() else { return };
        self.world.note(&format!("the broker ends: {end:?}, {} changes", self.world.disk.changes()));
        match end {
            End::PowerCut(cut) => {
                broker.crash(cut).await;
                self.world.oracle.borrow_mut().power_cut(self.world.now_ms());
                self.world.report.borrow_mut().power_cuts += 1;
            }
            End::Kill => {
                broker.kill().await;
                self.world.report.borrow_mut().kills += 1;
            }
            End::Shutdown => {
                let was_clean = broker.shutdown().await;
                self.world.note(&format!("shut down, clean: {was_clean}"));
                self.world.disk.kill();
                self.world.report.borrow_mut().shutdowns += 1;
            }
        }
        self.faults.process_ended();
    }

    fn start(&mut self) {
        let faults_before = self.world.disk.bites();
        let started = self.world.start_broker();
        let disk_failed = self.world.disk.bites() != faults_before || self.world.disk.is_off();
        let unopened = self.world.broker.borrow().as_ref().map_or(0, |broker| broker.unopened_partitions());
        match started {
            Ok(()) if unopened == 0 || disk_failed => {
                self.world.note("started");
                self.world.oracle.borrow_mut().restarted(self.world.now_ms());
            }
            Ok(()) => self.world.fail(format!("{unopened} partitions cannot be opened")),
            Err(error) if disk_failed => {
                self.world.note(&format!("not started: {error}"));
                self.world.disk.kill();
            }
            Err(error) => self.world.fail(format!("the broker does not start: {error}")),
        }
    }

    /// The faults heal, clients finish, and what is there is judged; once more after a clean restart.
    async fn finish(&mut self) {
        if self.world.has_failed() {
            return;
        }
        self.faults.heal(&self.world);
        self.world.note("healed");
        self.end(End::Kill).await;
        self.start();
        self.world.oracle.borrow_mut().restarted(self.world.now_ms());
        self.world.phase.set(Phase::Finishing);
        let until = self.world.now_ms() + PATIENCE_MS;
        while self.world.busy_clients.get() > 0 && !self.world.has_failed() {
            if self.world.now_ms() > until {
                self.world.fail(format!(
                    "{} producers do not get on although nothing is wrong any more",
                    self.world.busy_clients.get()
                ));
            }
            self.tick().await;
        }
        self.world.phase.set(Phase::Over);
        let Some(first) = self.judge_all().await else { return };
        self.end(End::Shutdown).await;
        self.start();
        let second = self.judge_all().await;
        if second.is_some_and(|second| second != first) {
            self.world.fail("a clean restart has changed what is there".to_owned());
        }
    }

    async fn judge_all(&mut self) -> Option<Vec<(PartitionId, Vec<(i64, u64)>)>> {
        let topics = self.world.topics.borrow().clone();
        let mut all = Vec::new();
        for topic in topics {
            let Some(id) = topic.id else { continue };
            for index in 0..topic.partitions {
                if self.world.has_failed() {
                    return None;
                }
                let id = PartitionId { topic: id, index };
                match self.read_whole(&topic, id).await {
                    Ok(placed) => {
                        all.push((id, placed.iter().map(|placed| (placed.offset, placed.number)).collect()));
                    }
                    Err(Lost) => {
                        self.world.fail(format!("the connection was lost while {id:?} was read in peace"));
                    }
                }
            }
        }
        Some(all)
    }

    async fn read_whole(&mut self, topic: &Topic, id: PartitionId) -> Result<Vec<Placed>, Lost> {
        let mut wire = self.world.connect().ok_or(Lost)?.wire;
        let start = admin::offset_of(&mut wire, &topic.name, id.index, admin::EARLIEST).await?;
        let end = admin::offset_of(&mut wire, &topic.name, id.index, admin::LATEST).await?;
        let (Some((start, _)), Some((end, _))) = (start, end) else {
            // A deletion whose answer was an error may have been done all the same.
            if topic.churns && admin::lookup(&mut wire, &topic.name).await?.is_none() {
                return Ok(Vec::new());
            }
            self.world.fail(format!("{} cannot be asked for its offsets in peace", topic.name));
            return Ok(Vec::new());
        };
        let (mut placed, mut position) = (Vec::new(), start);
        while position < end && !self.world.has_failed() {
            let Some(data) = fetch_one(&mut wire, id, position).await? else { return Err(Lost) };
            match ErrorCode::from_code(data.error_code) {
                Some(ErrorCode::None) => match judge_reply(&self.world, id, position, &data) {
                    Ok(read) if read.next == position => {
                        // Compaction may have taken the rest.
                        if !topic.policy.compacts {
                            self.world.fail(format!(
                                "nothing is served at {position} of {id:?}, which ends at {end}"
                            ));
                        }
                        break;
                    }
                    Ok(read) => {
                        position = read.next;
                        placed.extend(read.placed);
                    }
                    Err(what) => self.world.fail(what),
                },
                Some(ErrorCode::CorruptMessage) if self.world.oracle.borrow().is_rotten(id, position) => {
                    position += 1;
                }
                code => self
                    .world
                    .fail(format!("a Fetch of {id:?} at {position} was answered with {code:?} in peace")),
            }
        }
        let whole = Whole { bounds: start..end, records: &placed, now_ms: self.world.now_ms() };
        let verdict = self.world.oracle.borrow_mut().judge(id, &whole);
        self.world.check(verdict);
        self.world.note(&format!(
            "judged {} {}: {start} to {end}, {} records",
            topic.name,
            id.index,
            placed.len()
        ));
        Ok(placed)
    }

    fn count(&self) {
        let bites = self.world.disk.bites();
        let mut report = self.world.report.borrow_mut();
        (report.lost, report.oldest_lost_ms) = self.world.oracle.borrow().lost();
        report.bites = bites.power_cuts + bites.failed_calls + bites.refused_for_space + bites.damage_read;
    }
}
