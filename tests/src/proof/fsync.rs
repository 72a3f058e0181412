//! Bar 8: every k-th fdatasync fails, for each k. Nothing is acknowledged on a file after its failure, everything else is
//! served, the partition comes back by itself under a higher epoch, and nothing acknowledged is lost.

use std::sync::atomic::Ordering;

use super::failing::{Failing, Harm};
use super::{Options, Proven};

/// Every k up to this one fails in some start.
const UP_TO: usize = 50;
/// Of the syncs of one start every so-manieth fails: so many starts are needed.
const STEP: usize = 4;

pub(super) fn run(options: &Options) -> Proven {
    let mut failing = Failing::new(options)?;
    let mut refused_starts = 0;
    for _ in 0..options.either(1, 10) {
        for remainder in 1..=STEP {
            // The first syncs of a start are those of its metadata, without which it does not serve.
            let starts = (remainder..UP_TO).step_by(STEP).map(|first| Harm {
                call: "fdatasync",
                how: format!("error=EIO:when={first}+{STEP}"),
                at_least: (UP_TO - first).div_ceil(STEP),
            });
            for harm in starts {
                if failing.one_start(&harm)? {
                    break;
                }
                refused_starts += 1;
            }
        }
    }
    let figures = failing.judge(options)?;
    let seen = &failing.seen;
    Ok(format!(
        "0 acknowledged lost of {}, 0 acknowledged after a failure before a higher epoch; {} fdatasync failed (each k up to \
         {UP_TO}), {refused_starts} starts refused, {} sends refused, {} acknowledged elsewhere while a partition was closed, {} reopened without a restart",
        figures.acknowledged,
        seen.injected,
        seen.refused.load(Ordering::Relaxed),
        seen.served.load(Ordering::Relaxed),
        seen.reopened.load(Ordering::Relaxed),
    ))
}
