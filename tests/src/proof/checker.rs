//! Bar 20: the judge of histories is honest.

use crate::history::checker::{Kind, judge};
use crate::history::generated::{clean, transactions};
use crate::history::planted::{findings, plant};
use crate::proof::{Failure, Options, Proven};

pub(super) fn run(options: &Options) -> Proven {
    let seed = options.seed();
    let (plants, histories) = (options.either(20, 400), options.either(1_000, 20_000));
    let mut named = 0;
    for kind in Kind::ALL {
        for seed in (0..plants).map(|n| seed.wrapping_add(n)) {
            let planted = plant(kind, seed);
            let found = findings(&judge(&planted.history));
            if found != planted.expected {
                let expected = planted.expected;
                return Err(Failure::Broken(format!(
                    "{}, seed {seed}: found {found:?}, planted {expected:?}",
                    kind.name()
                )));
            }
            named += 1;
        }
    }
    let mut records = 0;
    for seed in (0..histories).map(|n| seed.wrapping_add(n)) {
        for history in [clean(seed).history, transactions::clean(seed).history] {
            let verdict = judge(&history);
            if let Some(anomaly) = verdict.anomalies.first() {
                return Err(Failure::Broken(format!("clean history, seed {seed}: {anomaly}")));
            }
            records += verdict.figures.readings;
        }
    }
    let kinds = Kind::ALL.len();
    Ok(format!(
        "{named} planted anomalies of {kinds} kinds named exactly, 0 false alarms on {histories} clean histories \
         without transactions and as many with them ({records} records read), from seed {seed}"
    ))
}
