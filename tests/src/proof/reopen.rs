//! A failed write or sync closes a partition, and it takes writes again without a restart.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::failing::{Failing, Harm};
use super::{Failure, Options, Proven, say};

/// Longest time for which a partition may stay closed when its disk is well again.
const REOPENED_WITHIN: Duration = Duration::from_secs(5);

pub(super) fn run(options: &Options) -> Proven {
    let mut failing = Failing::new(options)?;
    let harms = [
        ("pwritev", "error=EIO:when=7"),
        ("pwritev", "error=ENOSPC:when=9..12"),
        ("fdatasync", "error=EIO:when=6"),
        ("fdatasync", "error=ENOSPC:when=8"),
        // The file that would be next cannot be made.
        ("openat", "error=EMFILE:when=120..125"),
    ];
    for _ in 0..options.either(1, 20) {
        for (call, how) in harms {
            if !failing.one_start(&Harm { call, how: how.to_owned(), at_least: 1 })? {
                return Err(Failure::Broken(format!("the broker did not start with {call} {how}")));
            }
            say(&format!("  {call} {how}: closed for at most {:.1?}", failing.seen.longest_closed.lock()));
        }
    }
    let figures = failing.judge(options)?;
    let seen = &failing.seen;
    let longest = *seen.longest_closed.lock();
    let figure = format!(
        "{} partitions reopened without a restart, the longest closed for {:.1} s, {} acknowledged elsewhere meanwhile, 0 lost of \
         {}; {} calls failed",
        seen.reopened.load(Ordering::Relaxed),
        longest.as_secs_f64(),
        seen.served.load(Ordering::Relaxed),
        figures.acknowledged,
        seen.injected,
    );
    if longest > options.at_most(REOPENED_WITHIN) { Err(Failure::Broken(figure)) } else { Ok(figure) }
}
