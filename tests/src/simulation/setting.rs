//! Which topics there are, and who works with them.

use millstream_protocol::KStr;

use super::Aim;
use super::oracle::Policy;
use super::producer::Style;
use super::world::Topic;

/// `flush.ms` of the relaxed topic.
const RELAXED_FLUSH_MS: i64 = 50;

/// Topics and producers of a run.
pub(super) fn setting(aim: Aim) -> (Vec<Topic>, Vec<Style>) {
    let (topics, styles) = (all_topics(), all_styles());
    let wanted: &[&'static str] = match aim {
        Aim::Everything => return (topics, styles),
        Aim::PowerCuts => &["plain", "kept", "compacted"],
        Aim::Relaxed => &["kept", "relaxed"],
    };
    let is_wanted = |at: usize| wanted.contains(&&*topics[at].name);
    let kept: Vec<usize> = (0..topics.len()).filter(|at| is_wanted(*at)).collect();
    let place = |at: usize| kept.iter().position(|kept| *kept == at);
    let styles =
        styles.iter().filter_map(|style| Some(Style { topic: place(style.topic)?, ..*style })).collect();
    (kept.iter().map(|at| topics[*at].clone()).collect(), styles)
}

fn all_topics() -> Vec<Topic> {
    let topic = |name, partitions, policy, configs: &[_]| Topic {
        name: KStr::from_static(name),
        partitions,
        configs: configs.to_vec(),
        policy,
        churns: false,
        id: None,
    };
    let plain = Policy { compacts: false, retention_ms: None, is_durable: true, flush_ms: None };
    let week = Policy { retention_ms: Some(604_800_000), ..plain };
    let compacted = Policy { compacts: true, ..plain };
    let tiny = ("segment.bytes", "4096");
    vec![
        topic("plain", 2, week, &[("segment.bytes", "16384")]),
        topic("kept", 1, plain, &[tiny, ("retention.ms", "-1")]),
        topic(
            "relaxed",
            1,
            Policy { is_durable: false, flush_ms: Some(RELAXED_FLUSH_MS), ..week },
            &[tiny, ("durability", "written"), ("flush.ms", "50")],
        ),
        topic(
            "short",
            1,
            Policy { retention_ms: Some(60_000), ..plain },
            &[tiny, ("retention.ms", "60000"), ("segment.ms", "10000")],
        ),
        topic("compacted", 1, compacted, &[tiny, ("cleanup.policy", "compact")]),
        topic(
            "both",
            1,
            Policy { retention_ms: Some(120_000), ..compacted },
            &[
                tiny,
                ("cleanup.policy", "compact,delete"),
                ("retention.ms", "120000"),
                ("segment.ms", "10000"),
            ],
        ),
        Topic { churns: true, ..topic("churning", 1, week, &[tiny]) },
    ]
}

fn all_styles() -> Vec<Style> {
    let style = |topic, partition, acks, is_idempotent| Style { topic, partition, acks, is_idempotent };
    vec![
        style(0, 0, -1, true),
        style(0, 1, -1, true),
        style(0, 0, 1, false),
        style(0, 1, 0, false),
        style(1, 0, -1, true),
        style(2, 0, -1, true),
        style(2, 0, 1, false),
        style(3, 0, 1, true),
        style(3, 0, -1, false),
        style(4, 0, -1, true),
        style(4, 0, 1, false),
        style(5, 0, -1, true),
        style(6, 0, -1, true),
    ]
}
