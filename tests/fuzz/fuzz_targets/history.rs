//! A history of clients with any bytes: it is read and judged, or refused; the judge never falls over. That no
//! two sends share a value is what whoever writes histories has to see to.
#![no_main]

use std::collections::BTreeSet;

use libfuzzer_sys::fuzz_target;
use millstream_tests::history::{self, Action};

fuzz_target!(|input: &[u8]| {
    let Ok(ops) = history::read(input) else { return };
    let mut sent = BTreeSet::new();
    let mut values = ops.iter().flat_map(|op| match &op.action {
        Action::Send { records, .. } => records.iter().map(|record| (record.key, record.value)).collect(),
        _ => Vec::new(),
    });
    if !values.all(|value| sent.insert(value)) {
        return;
    }
    let verdict = history::checker::judge(&ops);
    assert_eq!(verdict, history::checker::judge(&ops), "the same history is judged otherwise");
    let mut again = Vec::new();
    history::write(&mut again, &ops).expect("memory takes all");
    assert_eq!(history::read(again.as_slice()).expect("what was written is read"), ops);
});
