//! The judge of histories finds each anomaly that is planted, by its name and place, and nothing in a clean history.

use std::collections::BTreeSet;

use millstream_tests::history::checker::{Kind, judge};
use millstream_tests::history::generated::{clean, transactions};
use millstream_tests::history::planted::{findings, plant};
use millstream_tests::history::{read, write};

#[test]
fn each_planted_anomaly_is_named_exactly() {
    for kind in Kind::ALL {
        for seed in 0..20 {
            let planted = plant(kind, seed);
            assert_eq!(findings(&judge(&planted.history)), planted.expected, "{}, seed {seed}", kind.name());
            assert!(planted.expected.iter().any(|finding| finding.0 == kind));
        }
    }
}

#[test]
fn a_clean_history_has_no_anomaly_and_is_not_empty() {
    for seed in 0..300 {
        let verdict = judge(&clean(seed).history);
        assert_eq!(findings(&verdict), BTreeSet::new(), "seed {seed}");
        let figures = verdict.figures;
        assert!(
            figures.acknowledged > 50 && figures.failed + figures.unknown > 0,
            "seed {seed}: {figures:?}"
        );
        assert!(figures.readings > 50, "seed {seed}: {figures:?}");
    }
}

#[test]
fn a_clean_history_of_transactions_has_no_anomaly_and_is_not_empty() {
    for seed in 0..300 {
        let verdict = judge(&transactions::clean(seed).history);
        assert_eq!(findings(&verdict), BTreeSet::new(), "seed {seed}");
        let figures = verdict.figures;
        assert!(figures.committed > 5 && figures.aborted > 3, "seed {seed}: {figures:?}");
        assert!(figures.readings > 50, "seed {seed}: {figures:?}");
    }
}

#[test]
fn a_history_survives_being_written_down() {
    for seed in 0..20 {
        for history in [clean(seed).history, transactions::clean(seed).history] {
            let mut lines = Vec::new();
            write(&mut lines, &history).unwrap();
            assert_eq!(read(&lines[..]).unwrap(), history, "seed {seed}");
        }
    }
    let error = read(&b"{}\n"[..]).unwrap_err().to_string();
    assert!(error.starts_with("line 1: "), "{error}");
}
