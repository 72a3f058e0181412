//! What Prometheus sees of transactions.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use super::page::Page;
use crate::transactions::{Counts, Standing};

/// The text of a scrape.
pub(crate) fn render_transactions(standing: &[Standing], counts: &Counts, now_ms: i64) -> String {
    let mut page = Page::default();
    let sum = |of: fn(&Standing) -> usize| standing.iter().map(of).sum::<usize>();
    page.about("transactional_ids", "gauge", "Transactional ids, by the state of their transaction.");
    let states: [(&str, fn(&Standing) -> usize); 4] = [
        ("empty", |one| one.empty),
        ("ongoing", |one| one.ongoing),
        ("prepared", |one| one.prepared),
        ("complete", |one| one.complete),
    ];
    for (state, of) in states {
        page.line("transactional_ids", format_args!("state=\"{state}\""), sum(of));
    }
    page.about(
        "transaction_oldest_age_seconds",
        "gauge",
        "For how long the oldest transaction has been open or on its way to its end; 0 if there is none.",
    );
    let oldest = standing.iter().filter_map(|one| one.oldest_ms).min();
    let age = oldest.map_or(0, |began| now_ms.saturating_sub(began).max(0));
    page.line(
        "transaction_oldest_age_seconds",
        format_args!(""),
        format_args!("{}.{:03}", age / 1000, age % 1000),
    );
    page.about("transactions_total", "counter", "Transactions that have ended since the start, by outcome.");
    let of = |counter: &AtomicU64| counter.load(Relaxed);
    page.line("transactions_total", format_args!("outcome=\"committed\""), of(&counts.committed));
    page.line("transactions_total", format_args!("outcome=\"aborted\""), of(&counts.aborted));
    page.about(
        "transactions_taken_total",
        "counter",
        "Transactions that were aborted though their producer did not ask for it, by cause.",
    );
    page.line("transactions_taken_total", format_args!("cause=\"timeout\""), of(&counts.timed_out));
    page.line("transactions_taken_total", format_args!("cause=\"fenced\""), of(&counts.fenced));
    page.text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transactions_are_told_by_state_with_the_age_of_the_oldest() {
        let standing = [
            Standing { ongoing: 2, prepared: 1, oldest_ms: Some(7_500), ..Standing::default() },
            Standing { complete: 3, oldest_ms: Some(9_000), ..Standing::default() },
        ];
        let text = render_transactions(&standing, &Counts::default(), 10_000);
        for line in [
            "millstream_transactional_ids{state=\"ongoing\"} 2",
            "millstream_transactional_ids{state=\"complete\"} 3",
            "millstream_transaction_oldest_age_seconds 2.500",
            "millstream_transactions_total{outcome=\"committed\"} 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in {text}");
        }
    }
}
