//! Proofs in simulation: whole brokers over simulated disks, as many at a time as there are processors.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use super::{Failure, Options, Proven};
use crate::simulation::{
    Lie, Plan, Planted, Report, TransactionPlan, TransactionReport, run, transactions as run_transactions,
};

/// Power cuts that the short form takes part in.
const POWER_CUTS: u64 = 10_000;

/// What the relaxed topic promises: `flush.ms` is 50.
const RELAXED_MS: u64 = 100;

/// Runs seeds one after the other until the reports together are `enough`.
fn until(
    first: u64,
    plan: impl Fn(u64) -> Plan + Sync,
    enough: impl Fn(&Report) -> bool + Sync,
) -> Result<(u64, Report), Failure> {
    let next = AtomicU64::new(first);
    let total = parking_lot::Mutex::new((Report::default(), None::<Failure>));
    let work = || {
        loop {
            if total.lock().1.is_some() || enough(&total.lock().0) {
                return;
            }
            let outcome = run(plan(next.fetch_add(1, Relaxed)));
            let mut total = total.lock();
            match outcome {
                Ok(report) => total.0 = total.0.plus(report),
                Err(failure) => total.1 = Some(Failure::Broken(failure.to_string())),
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    match total.into_inner() {
        (_, Some(failure)) => Err(failure),
        (report, None) => Ok((next.load(Relaxed) - first, report)),
    }
}

/// A bug that is planted must be found.
fn is_found(plan: impl Fn(u64) -> Plan, planted: Planted) -> Result<u64, Failure> {
    let missed = || Failure::Broken(format!("{planted:?} was planted and not found in 100 runs"));
    let found = |seed: &u64| run(Plan { planted: Some(planted), ..plan(*seed) }).is_err();
    (0..100).find(found).map(|seed| seed + 1).ok_or_else(missed)
}

/// Bar 2: power cuts lose nothing that is durable; one sync in five left out is found.
pub(super) fn power_cut(options: &Options) -> Proven {
    let began = Instant::now();
    let wanted = options.either(POWER_CUTS, 100 * POWER_CUTS);
    let first = options.seed() >> 1;
    let (seeds, report) = until(first, Plan::power_cuts, |report| report.power_cuts >= wanted)?;
    let seconds = began.elapsed().as_secs_f64();
    if report.bites < wanted / 10 {
        return Err(Failure::Invalid(format!(
            "of {} power cuts {} lost anything",
            report.power_cuts, report.bites
        )));
    }
    let runs = is_found(Plan::power_cuts, Planted::OneSyncInFiveLies)?;
    Ok(format!(
        "{} power cuts of a whole broker in {seconds:.1} s ({} lost something), {} records acknowledged, 0 durable ones lost; \
         one sync in five left out: found by run {runs} (seeds {first} to {})",
        report.power_cuts,
        report.bites,
        report.acked,
        first + seeds
    ))
}

/// Bar 3: the relaxed mode loses the youngest records only.
pub(super) fn relaxed(options: &Options) -> Proven {
    let wanted = options.either(500, 50_000);
    let first = options.seed() >> 1;
    let (seeds, report) = until(first, Plan::relaxed, |report| report.power_cuts >= wanted)?;
    if report.lost == 0 {
        return Err(Failure::Invalid("no acknowledged record was lost, so nothing was tried".to_owned()));
    }
    if report.oldest_lost_ms >= RELAXED_MS {
        return Err(Failure::Broken(format!("a record of {} ms was lost", report.oldest_lost_ms)));
    }
    Ok(format!(
        "{} power cuts lost {} of {} acknowledged records, each from the end and none older than {} ms (flush.ms 50) (seeds {first} to {})",
        report.power_cuts,
        report.lost,
        report.acked,
        report.oldest_lost_ms,
        first + seeds
    ))
}

/// Whatever goes wrong; the same seed twice is the same run.
pub(super) fn simulate(options: &Options) -> Proven {
    let began = Instant::now();
    // The short form repeats; the long one looks for what nobody has seen.
    let first = if options.long { options.seed() >> 1 } else { options.seed.unwrap_or(0) };
    let time = options.either(Duration::from_secs(15), Duration::from_hours(1));
    let (seeds, report) = until(first, Plan::short, |_| began.elapsed() >= time)?;
    if report.bites == 0 {
        return Err(Failure::Invalid("no fault has bitten".to_owned()));
    }
    let twice = options.either(50, 500);
    for seed in first..first + twice {
        let plan = Plan { millis: 200, ..Plan::short(seed) };
        let hashes = [run(plan), run(plan)].map(|run| run.map(|report| report.trace_hash));
        match hashes {
            [Ok(one), Ok(two)] if one == two => {}
            [Ok(_), Ok(_)] => return Err(Failure::Broken(format!("seed {seed} gives two different runs"))),
            [Err(failure), _] | [_, Err(failure)] => return Err(Failure::Broken(failure.to_string())),
        }
    }
    Ok(format!(
        "{seeds} runs of a whole broker: {} power cuts, {} kills, {} stops, {} faults that bit, {} records acknowledged, every promise kept; \
         {twice} of {twice} seeds repeat exactly (seeds {first} to {})",
        report.power_cuts,
        report.kills,
        report.shutdowns,
        report.bites,
        report.acked,
        first + seeds
    ))
}

/// Transactions, whatever goes wrong; one sync in five left out is found.
pub(super) fn transactions(options: &Options) -> Proven {
    let began = Instant::now();
    // The short form repeats; the long one looks for what nobody has seen.
    let first = if options.long { options.seed() >> 1 } else { options.seed.unwrap_or(0) };
    let time = options.either(Duration::from_secs(15), Duration::from_hours(1));
    let next = AtomicU64::new(first);
    let total = parking_lot::Mutex::new((TransactionReport::default(), None::<Failure>));
    let work = || {
        while began.elapsed() < time && total.lock().1.is_none() {
            let outcome = run_transactions(TransactionPlan::short(next.fetch_add(1, Relaxed)));
            let mut total = total.lock();
            match outcome {
                Ok(report) => total.0 = total.0.plus(report),
                Err(failure) => total.1 = Some(Failure::Broken(failure.to_string())),
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    let report = match total.into_inner() {
        (_, Some(failure)) => return Err(failure),
        (report, None) => report,
    };
    let seeds = next.load(Relaxed) - first;
    if report.bites == 0 || report.fenced == 0 || report.held_back == 0 {
        return Err(Failure::Invalid(format!("nothing went wrong: {report:?}")));
    }
    let mut runs = Vec::new();
    for lie in [Lie::OneSyncInFive, Lie::Decisions] {
        let plan = |seed| TransactionPlan { planted: Some(lie), ..TransactionPlan::short(seed) };
        let found = (0..100).position(|seed| run_transactions(plan(seed)).is_err());
        let missed = || Failure::Broken(format!("{lie:?} was planted and not found in 100 runs"));
        runs.push(found.ok_or_else(missed)? + 1);
    }
    Ok(format!(
        "{seeds} runs of a whole broker: {} transactions committed, {} aborted, {} undecided, {} records copied once in order; {} kills \
         and power cuts, {} faults that bit, {} answers lost, {} requests doubled, {} ends that came late, {} attempts of zombies \
         fenced; one sync in five left out: found by run {}; decisions that are not durable: by run {} (seeds {first} to {})",
        report.committed,
        report.aborted,
        report.undecided,
        report.copied,
        report.ends,
        report.bites,
        report.lost_answers,
        report.doubled,
        report.held_back,
        report.fenced,
        runs[0],
        runs[1],
        first + seeds,
    ))
}
