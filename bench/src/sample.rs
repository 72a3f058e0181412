//! Measured figures, and what remains of them over several rounds: median and spread.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Serialize, Serializer};

use crate::latency::Percentiles;
use crate::meter::Usage;
use crate::options::Acks;

/// What was done when a figure was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Work {
    /// Records in, as fast as the client can.
    Produce,
    /// The same records out again.
    Consume,
    /// One record at a time: sent, acknowledged, received, then the next.
    ClosedLoop,
    /// A record each interval, whatever became of the one before; latency counts from the intended time.
    OpenLoop,
    /// Start-up, idle memory, size.
    Footprint,
}

/// A workload with its parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) struct Case {
    pub(crate) work: Work,
    pub(crate) record_bytes: usize,
    pub(crate) acks: Acks,
}

/// One number's meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Figure {
    MessagesPerSecond,
    MegabytesPerSecond,
    BrokerSecondsPerGigabyte,
    ClientSecondsPerGigabyte,
    PeakMemoryBytes,
    Ack(Quantile),
    EndToEnd(Quantile),
    FirstProduceMs,
    IdleMemoryBytes,
    PartitionsMemoryBytes,
    BinaryBytes,
}

/// Which point of a latency distribution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Quantile {
    P50,
    P90,
    P99,
    P999,
    Max,
}

/// The figures of one run of one workload against one broker.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Sample {
    pub(crate) peer: &'static str,
    pub(crate) case: Case,
    pub(crate) round: u32,
    pub(crate) figures: BTreeMap<Figure, f64>,
}

/// Several rounds of one figure.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

/// All rounds, by case and peer.
#[derive(Debug, Default)]
pub(crate) struct Summary {
    figures: BTreeMap<(Case, &'static str), BTreeMap<Figure, Vec<f64>>>,
}

impl Case {
    /// A case in words.
    pub(crate) fn title(&self) -> String {
        let acks = self.acks.name();
        match self.work {
            Work::Produce => format!("produce {} B, acks={acks}", self.record_bytes),
            Work::Consume => format!("consume {} B", self.record_bytes),
            Work::ClosedLoop => format!("closed loop, acks={acks}"),
            Work::OpenLoop => format!("open loop, acks={acks}"),
            Work::Footprint => "footprint".to_owned(),
        }
    }
}

impl Quantile {
    /// In the order of a table's columns.
    pub(crate) const ALL: [Self; 5] = [Self::P50, Self::P90, Self::P99, Self::P999, Self::Max];

    fn name(self) -> &'static str {
        match self {
            Self::P50 => "p50",
            Self::P90 => "p90",
            Self::P99 => "p99",
            Self::P999 => "p999",
            Self::Max => "max",
        }
    }

    fn of(self, percentiles: &Percentiles) -> f64 {
        match self {
            Self::P50 => percentiles.p50_us,
            Self::P90 => percentiles.p90_us,
            Self::P99 => percentiles.p99_us,
            Self::P999 => percentiles.p999_us,
            Self::Max => percentiles.max_us,
        }
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::MessagesPerSecond => "messages_per_second",
            Self::MegabytesPerSecond => "megabytes_per_second",
            Self::BrokerSecondsPerGigabyte => "broker_cpu_seconds_per_gigabyte",
            Self::ClientSecondsPerGigabyte => "client_cpu_seconds_per_gigabyte",
            Self::PeakMemoryBytes => "peak_memory_bytes",
            Self::Ack(quantile) => return write!(f, "ack_{}_us", quantile.name()),
            Self::EndToEnd(quantile) => return write!(f, "end_to_end_{}_us", quantile.name()),
            Self::FirstProduceMs => "start_to_first_produce_ms",
            Self::IdleMemoryBytes => "idle_memory_bytes",
            Self::PartitionsMemoryBytes => "added_by_1000_partitions_bytes",
            Self::BinaryBytes => "binary_bytes",
        })
    }
}

impl Serialize for Figure {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The figures of a run at full load: `records` of `record_bytes`, at the cost of `usage`.
pub(crate) fn load_figures(records: u64, record_bytes: usize, usage: &Usage) -> BTreeMap<Figure, f64> {
    let bytes = records as f64 * record_bytes as f64;
    let seconds = usage.elapsed.as_secs_f64().max(1e-9);
    let per_gigabyte = |cpu: std::time::Duration| cpu.as_secs_f64() / (bytes.max(1.0) / 1e9);
    BTreeMap::from([
        (Figure::MessagesPerSecond, records as f64 / seconds),
        (Figure::MegabytesPerSecond, bytes / 1e6 / seconds),
        (Figure::BrokerSecondsPerGigabyte, per_gigabyte(usage.broker_cpu)),
        (Figure::ClientSecondsPerGigabyte, per_gigabyte(usage.client_cpu)),
        (Figure::PeakMemoryBytes, usage.peak_memory_bytes as f64),
    ])
}

/// The figures of a latency run.
pub(crate) fn latency_figures(
    ack: Option<Percentiles>,
    end_to_end: Option<Percentiles>,
) -> BTreeMap<Figure, f64> {
    let acks =
        ack.iter().flat_map(|told| Quantile::ALL.map(|quantile| (Figure::Ack(quantile), quantile.of(told))));
    let ends = end_to_end.iter();
    let ends =
        ends.flat_map(|told| Quantile::ALL.map(|quantile| (Figure::EndToEnd(quantile), quantile.of(told))));
    acks.chain(ends).collect()
}

impl Spread {
    /// None of nothing.
    pub(crate) fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (least, most) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let median =
            if sorted.len() % 2 == 1 { sorted[middle] } else { (sorted[middle - 1] + sorted[middle]) / 2.0 };
        Some(Self { median, least, most })
    }
}

impl Summary {
    /// Takes a sample in.
    pub(crate) fn add(&mut self, sample: &Sample) {
        let figures = self.figures.entry((sample.case, sample.peer)).or_default();
        for (figure, value) in &sample.figures {
            figures.entry(*figure).or_default().push(*value);
        }
    }

    /// The rounds of one figure.
    pub(crate) fn spread(&self, case: Case, peer: &'static str, figure: Figure) -> Option<Spread> {
        Spread::of(self.figures.get(&(case, peer))?.get(&figure)?)
    }

    /// Which cases were run against whom, in order.
    pub(crate) fn cases(&self) -> impl Iterator<Item = (Case, &'static str)> {
        self.figures.keys().copied()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const CASE: Case = Case { work: Work::Produce, record_bytes: 1000, acks: Acks::Written };

    #[test]
    fn the_median_of_an_even_number_lies_between_the_middle_two() {
        assert_eq!(Spread::of(&[4.0, 1.0, 2.0, 9.0]), Some(Spread { median: 3.0, least: 1.0, most: 9.0 }));
        assert_eq!(Spread::of(&[7.0]), Some(Spread { median: 7.0, least: 7.0, most: 7.0 }));
        assert_eq!(Spread::of(&[]), None);
    }

    #[test]
    fn load_is_told_per_second_and_per_gigabyte() {
        let usage = Usage {
            elapsed: Duration::from_secs(2),
            broker_cpu: Duration::from_millis(500),
            client_cpu: Duration::from_secs(1),
            peak_memory_bytes: 77,
        };
        let figures = load_figures(1_000_000, 1000, &usage);
        assert_eq!(figures[&Figure::MessagesPerSecond], 500_000.0);
        assert_eq!(figures[&Figure::MegabytesPerSecond], 500.0);
        assert_eq!(figures[&Figure::BrokerSecondsPerGigabyte], 0.5);
        assert_eq!(figures[&Figure::ClientSecondsPerGigabyte], 1.0);
        assert_eq!(figures[&Figure::PeakMemoryBytes], 77.0);
    }

    #[test]
    fn a_summary_keeps_peers_and_cases_apart() {
        let mut summary = Summary::default();
        for (peer, round, value) in [("a", 0, 1.0), ("b", 0, 10.0), ("a", 1, 3.0)] {
            let figures = BTreeMap::from([(Figure::BinaryBytes, value)]);
            summary.add(&Sample { peer, case: CASE, round, figures });
        }
        assert_eq!(summary.spread(CASE, "a", Figure::BinaryBytes).unwrap().median, 2.0);
        assert_eq!(summary.spread(CASE, "b", Figure::BinaryBytes).unwrap().median, 10.0);
        assert_eq!(summary.spread(Case { record_bytes: 1, ..CASE }, "a", Figure::BinaryBytes), None);
        assert_eq!(summary.cases().count(), 2);
    }

    #[test]
    fn a_sample_is_one_flat_line_of_json() {
        let figures = BTreeMap::from([(Figure::Ack(Quantile::P999), 12.5)]);
        let line = serde_json::to_string(&Sample { peer: "kideal", case: CASE, round: 3, figures }).unwrap();
        let expected = r#"{"peer":"kideal","case":{"work":"produce","record_bytes":1000,"acks":"1"},"round":3,"figures":{"ack_p999_us":12.5}}"#;
        assert_eq!(line, expected);
    }
}
