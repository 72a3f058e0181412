//! The bars that the figures are held against, as ratios to the floor or as plain limits.

use serde::Serialize;

use crate::options::Acks;
use crate::sample::{Case, Figure, Quantile, Summary, Work};

/// One bar.
#[derive(Clone, Copy, Debug)]
struct Bar {
    case: Case,
    figure: Figure,
    what: &'static str,
    limit: Limit,
}

#[derive(Clone, Copy, Debug)]
enum Limit {
    /// Ours divided by the floor's.
    RatioAtMost(f64),
    RatioAtLeast(f64),
    /// Ours alone.
    AtMost(f64),
}

/// A bar and where we stand.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Verdict {
    pub(crate) bar: String,
    pub(crate) ours: f64,
    pub(crate) floor: Option<f64>,
    pub(crate) ratio: Option<f64>,
    pub(crate) limit: String,
    pub(crate) met: bool,
}

/// Whose figures are compared.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sides {
    pub(crate) ours: &'static str,
    pub(crate) floor: &'static str,
}

/// Millstream against `kideal`, by the medians; bars whose figures were not taken are left out.
pub(crate) fn judge(summary: &Summary, sides: Sides) -> Vec<Verdict> {
    bars(summary).into_iter().filter_map(|bar| bar.judge(summary, sides)).collect()
}

fn bars(summary: &Summary) -> Vec<Bar> {
    let mut cases: Vec<Case> = summary.cases().map(|(case, _)| case).collect();
    cases.dedup();
    let mut bars = Vec::new();
    for case in cases {
        let mut bar = |figure, what, limit| bars.push(Bar { case, figure, what, limit });
        match case.work {
            Work::Produce | Work::Consume => {
                bar(Figure::BrokerSecondsPerGigabyte, "broker CPU s/GB", Limit::RatioAtMost(1.6));
                bar(Figure::MessagesPerSecond, "msgs/s", Limit::RatioAtLeast(0.85));
            }
            Work::ClosedLoop | Work::OpenLoop => {
                bar(Figure::Ack(Quantile::P50), "ack p50 us", Limit::RatioAtMost(2.0));
            }
            Work::Footprint => {
                bar(Figure::FirstProduceMs, "start to first produce ms", Limit::AtMost(60.0));
                bar(Figure::IdleMemoryBytes, "idle memory MB", Limit::AtMost(15e6));
                bar(Figure::PartitionsMemoryBytes, "1,000 partitions MB", Limit::AtMost(20e6));
                bar(Figure::BinaryBytes, "binary MB", Limit::AtMost(20e6));
            }
        }
    }
    bars
}

impl Bar {
    fn judge(&self, summary: &Summary, sides: Sides) -> Option<Verdict> {
        let ours = summary.spread(self.case, sides.ours, self.figure)?.median;
        let floor = summary.spread(self.case, sides.floor, self.figure).map(|spread| spread.median);
        let ratio = floor.filter(|floor| *floor > 0.0).map(|floor| ours / floor);
        let (limit, met) = match self.limit {
            Limit::RatioAtMost(most) => (format!("<= {most}x"), ratio? <= most),
            Limit::RatioAtLeast(least) => (format!(">= {least}x"), ratio? >= least),
            Limit::AtMost(most) => (format!("<= {}", self.scaled(most)), ours <= most),
        };
        let ratio = if matches!(self.limit, Limit::AtMost(_)) { None } else { ratio };
        Some(Verdict {
            bar: format!("{}: {}", self.case.title(), self.what),
            ours: self.scaled(ours),
            floor: floor.map(|floor| self.scaled(floor)),
            ratio,
            limit,
            met,
        })
    }

    /// Bytes are told in MB.
    fn scaled(&self, value: f64) -> f64 {
        match self.figure {
            Figure::PeakMemoryBytes
            | Figure::IdleMemoryBytes
            | Figure::PartitionsMemoryBytes
            | Figure::BinaryBytes => value / 1e6,
            Figure::MessagesPerSecond
            | Figure::MegabytesPerSecond
            | Figure::BrokerSecondsPerGigabyte
            | Figure::ClientSecondsPerGigabyte
            | Figure::Ack(_)
            | Figure::EndToEnd(_)
            | Figure::FirstProduceMs => value,
        }
    }
}

/// Footprint has no record size and waits for nothing; this is the case it is filed under.
pub(crate) const FOOTPRINT: Case = Case { work: Work::Footprint, record_bytes: 0, acks: Acks::Written };

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::sample::Sample;

    const SIDES: Sides = Sides { ours: "ours", floor: "floor" };
    const PRODUCE: Case = Case { work: Work::Produce, record_bytes: 1024, acks: Acks::Written };

    fn summary(samples: &[(&'static str, Case, Figure, f64)]) -> Summary {
        let mut summary = Summary::default();
        for (peer, case, figure, value) in samples {
            summary.add(&Sample {
                peer,
                case: *case,
                round: 0,
                figures: BTreeMap::from([(*figure, *value)]),
            });
        }
        summary
    }

    #[test]
    fn a_ratio_exactly_at_the_limit_is_met_and_beyond_it_is_not() {
        for (ours, met) in [(1.6, true), (1.61, false)] {
            let cpu = Figure::BrokerSecondsPerGigabyte;
            let verdicts =
                judge(&summary(&[("ours", PRODUCE, cpu, ours), ("floor", PRODUCE, cpu, 1.0)]), SIDES);
            assert_eq!(verdicts.len(), 1);
            assert_eq!((verdicts[0].met, verdicts[0].ratio), (met, Some(ours)));
            assert_eq!(verdicts[0].limit, "<= 1.6x");
        }
    }

    #[test]
    fn throughput_is_held_from_below() {
        let speed = Figure::MessagesPerSecond;
        let slow = summary(&[("ours", PRODUCE, speed, 84.0), ("floor", PRODUCE, speed, 100.0)]);
        assert!(!judge(&slow, SIDES)[0].met);
        let fast = summary(&[("ours", PRODUCE, speed, 200.0), ("floor", PRODUCE, speed, 100.0)]);
        assert!(judge(&fast, SIDES)[0].met);
    }

    #[test]
    fn without_a_floor_there_are_no_ratios_but_plain_limits_stay() {
        let verdicts = judge(
            &summary(&[
                ("ours", PRODUCE, Figure::MessagesPerSecond, 1.0),
                ("ours", FOOTPRINT, Figure::IdleMemoryBytes, 15_100_000.0),
                ("ours", FOOTPRINT, Figure::FirstProduceMs, 12.0),
            ]),
            SIDES,
        );
        let told: Vec<_> =
            verdicts.iter().map(|verdict| (verdict.bar.as_str(), verdict.met, verdict.ratio)).collect();
        let expected = [
            ("footprint: start to first produce ms", true, None),
            ("footprint: idle memory MB", false, None),
        ];
        assert_eq!(told, expected);
        assert_eq!(verdicts[1].limit, "<= 15");
    }
}
