//! How shuttle is asked: half of the schedules at random, half with few preemptions at chosen places (PCT),
//! which finds what needs a certain order of a few events among many.

use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use shuttle::{Config, Runner};

/// Preemptions in a PCT schedule; bugs that need more are rare.
const PREEMPTIONS: usize = 4;

/// A log with its disk has deeper stacks than shuttle expects.
const STACK_BYTES: usize = 512 << 10;

/// Runs `scenario` in `schedules` of each kind. `SCHEDULES=100` runs a hundred times as many, `SEED=7` others.
/// Shuttle prints the schedule that fails, to be given to `shuttle::replay`.
pub(crate) fn explore(schedules: usize, scenario: impl Fn() + Clone + Send + Sync + 'static) {
    let schedules = schedules * number("SCHEDULES").unwrap_or(1);
    let seed = number("SEED").unwrap_or(1) as u64;
    run(RandomScheduler::new_from_seed(seed, schedules), scenario.clone());
    run(PctScheduler::new_from_seed(seed, PREEMPTIONS, schedules), scenario);
}

fn run(scheduler: impl Scheduler + 'static, scenario: impl Fn() + Send + Sync + 'static) {
    let mut config = Config::new();
    config.stack_size = STACK_BYTES;
    config.silence_warnings = true;
    Runner::new(scheduler, config).run(scenario);
}

fn number(name: &str) -> Option<usize> {
    std::env::var(name).ok()?.parse().ok()
}
