//! What an open transaction lives through: another `transaction.version`, a restart, and the end of one of its topics.

use millstream_protocol::messages::update_features_request::FeatureUpdateKey;
use millstream_protocol::messages::{DeleteTopicsRequest, UpdateFeaturesRequest};

use super::*;

impl Judge {
    fn set_transaction_version(&mut self, level: i16) {
        let (upgrade, downgrade) = (1, 2);
        let update = FeatureUpdateKey {
            feature: "transaction.version".into(),
            max_version_level: level,
            upgrade_type: if level == 2 { upgrade } else { downgrade },
            ..Default::default()
        };
        let request = UpdateFeaturesRequest { feature_updates: vec![update], ..Default::default() };
        assert_eq!(self.client.call(1, &request).error_code, 0, "level {level}");
    }

    /// Ours is stopped and started again.
    fn restart(&mut self) {
        if let Some(bed) = &mut self.bed {
            bed.stop();
            bed.start();
            self.client = bed.client();
        }
    }
}

#[test]
fn an_open_transaction_outlives_a_restart_and_another_version_of_transactions() {
    let mut judge = Judge::new();
    for version in [11, 12] {
        for (before, after) in [(2, 0), (0, 2), (1, 2)] {
            // Kafka refuses what is of KIP-890 in the middle of a transaction; we let it come to its end.
            if judge.bed.is_none() && version >= ADDS {
                continue;
            }
            judge.set_transaction_version(before);
            let (id, topic) = (judge.name("tx"), judge.topic(1));
            let who = judge.init(&id);
            if version < ADDS {
                assert_eq!(judge.add(&id, who, (&topic, 0)), ErrorCode::None);
            }
            let write = |judge: &mut Judge, sequence| {
                let told = judge.produce_one(version, Some(&id), (&topic, transactional(who, sequence)));
                assert_eq!(told, ErrorCode::None, "version {version}, {before} to {after}, {sequence}");
            };
            write(&mut judge, 0);
            judge.set_transaction_version(after);
            write(&mut judge, 1);
            judge.restart();
            write(&mut judge, 2);
            assert_eq!(judge.ends(&topic), (3, 0), "version {version}, {before} to {after}");
            match version {
                ADDS.. => assert_eq!(judge.end_anew(&id, who, true), next(who)),
                _ => assert_eq!(judge.end(&id, who, true), ErrorCode::None),
            }
            judge.until_stable(&topic, 4);
            judge.restart();
            // Its answer may have got lost: the same is asked again, and nothing more is written.
            match version {
                ADDS.. => assert_eq!(judge.end_anew(&id, who, true), next(who)),
                _ => assert_eq!(judge.end(&id, who, true), ErrorCode::None),
            }
            assert_eq!(judge.ends(&topic), (4, 4), "version {version}, {before} to {after}");
        }
    }
    judge.set_transaction_version(2);
}

#[test]
fn a_topic_that_is_deleted_takes_its_part_of_the_transaction_along() {
    let mut judge = Judge::new();
    for version in [11, 12] {
        let (id, stays, goes) = (judge.name("tx"), judge.topic(1), judge.topic(1));
        let who = judge.init(&id);
        for topic in [&stays, &goes] {
            if version < ADDS {
                assert_eq!(judge.add(&id, who, (topic, 0)), ErrorCode::None);
            }
            let told = judge.produce_one(version, Some(&id), (topic, transactional(who, 0)));
            assert_eq!(told, ErrorCode::None, "version {version}");
        }
        let request =
            DeleteTopicsRequest { topic_names: vec![goes.clone()], timeout_ms: 10_000, ..Default::default() };
        assert_eq!(judge.client.call(4, &request).responses[0].error_code, 0);
        match version {
            ADDS.. => drop(judge.end_anew(&id, who, true)),
            _ => assert_eq!(judge.end(&id, who, true), ErrorCode::None),
        }
        judge.until_stable(&stays, 2);
    }
}

#[test]
fn an_idempotent_producer_goes_on_after_a_restart_and_its_duplicates_are_known() {
    let mut judge = Judge::new();
    let (topic, who) = (judge.topic(1), judge.idempotent());
    for round in 0..3 {
        for sequence in [2 * round, 2 * round + 1] {
            assert_eq!(judge.produce_one(9, None, (&topic, alone(who, sequence))), ErrorCode::None);
        }
        judge.restart();
        // Acknowledged before, but the client has not heard of it.
        for sequence in [2 * round, 2 * round + 1] {
            assert_eq!(judge.produce_one(9, None, (&topic, alone(who, sequence))), ErrorCode::None);
        }
        let end = i64::from(2 * round + 2);
        assert_eq!(judge.ends(&topic), (end, end), "round {round}");
        let gap = judge.produce_one(9, None, (&topic, alone(who, 2 * round + 3)));
        assert_eq!(gap, ErrorCode::OutOfOrderSequenceNumber, "round {round}");
    }
}
