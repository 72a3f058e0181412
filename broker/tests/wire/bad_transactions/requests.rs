//! What a coordinator is asked wrongly, in each version; and clients of both protocols that share a transactional id.

use super::*;

/// Who asks, and under which name.
type Asker = (KStr, Identity);

/// What is wrong with who asks: the right one, a name that nobody has, and the code that the newest versions answer.
struct WrongAsker {
    what: &'static str,
    change: fn(Asker, KStr) -> Asker,
    code: ErrorCode,
}

const WRONG_ASKERS: &[WrongAsker] = &[
    WrongAsker {
        what: "a stale epoch",
        change: |(id, who), _| (id, before(who)),
        code: ErrorCode::ProducerFenced,
    },
    WrongAsker {
        what: "an epoch of the future",
        change: |(id, who), _| (id, next(who)),
        code: ErrorCode::ProducerFenced,
    },
    WrongAsker {
        what: "another producer",
        change: |(id, who), _| (id, Identity { id: who.id + 1000, ..who }),
        code: ErrorCode::InvalidProducerIdMapping,
    },
    WrongAsker {
        what: "an unknown transactional id",
        change: |(_, who), unknown| (unknown, who),
        code: ErrorCode::InvalidProducerIdMapping,
    },
    WrongAsker {
        what: "an empty transactional id",
        change: |(_, who), _| (KStr::default(), who),
        code: ErrorCode::InvalidRequest,
    },
];

/// Before PRODUCER_FENCED was known.
fn of_version(code: ErrorCode, version: i16) -> ErrorCode {
    match code {
        ErrorCode::ProducerFenced if version < 2 => ErrorCode::InvalidProducerEpoch,
        code => code,
    }
}

impl Judge {
    fn try_add(&mut self, version: i16, (id, who): &Asker, topic: &KStr) -> ErrorCode {
        let topics = vec![AddPartitionsToTxnTopic { name: topic.clone(), partitions: vec![0] }];
        let request = AddPartitionsToTxnRequest {
            v3_and_below_transactional_id: id.clone(),
            v3_and_below_producer_id: who.id,
            v3_and_below_producer_epoch: who.epoch,
            v3_and_below_topics: topics,
            ..Default::default()
        };
        let response = self.client.call(version, &request);
        let told = &response.results_by_topic_v3_and_below[0].results_by_partition[0];
        ErrorCode::from_code(told.partition_error_code).unwrap()
    }

    fn try_add_offsets(&mut self, version: i16, (id, who): &Asker, group: &KStr) -> ErrorCode {
        let request = AddOffsetsToTxnRequest {
            transactional_id: id.clone(),
            producer_id: who.id,
            producer_epoch: who.epoch,
            group_id: group.clone(),
        };
        ErrorCode::from_code(self.client.call(version, &request).error_code).unwrap()
    }

    fn try_end(&mut self, version: i16, (id, who): &Asker, committed: bool) -> ErrorCode {
        let request = EndTxnRequest {
            transactional_id: id.clone(),
            producer_id: who.id,
            producer_epoch: who.epoch,
            committed,
        };
        ErrorCode::from_code(self.client.call(version, &request).error_code).unwrap()
    }

    fn try_init(&mut self, version: i16, id: &KStr, (timeout, who): (i32, Identity)) -> ErrorCode {
        let request = InitProducerIdRequest {
            transactional_id: Some(id.clone()),
            transaction_timeout_ms: timeout,
            producer_id: who.id,
            producer_epoch: who.epoch,
        };
        ErrorCode::from_code(self.client.call(version, &request).error_code).unwrap()
    }
}

#[test]
fn a_coordinator_that_is_asked_wrongly_says_so_with_kafkas_code_and_the_transaction_goes_on() {
    let mut judge = Judge::new();
    for version in 0..=5 {
        for WrongAsker { what, change, code } in WRONG_ASKERS {
            let (id, group) = (judge.name("tx"), judge.name("group"));
            let (topic, other) = (judge.topic(1), judge.topic(1));
            judge.find(&group, 0);
            judge.init(&id);
            let who = judge.init(&id);
            assert_eq!(judge.add(&id, who, (&topic, 0)), ErrorCode::None);
            assert_eq!(judge.produce_one(9, Some(&id), (&topic, transactional(who, 0))), ErrorCode::None);
            let wrong = change((id.clone(), who), judge.name("unknown"));
            let code = of_version(*code, version);
            if version <= 3 {
                assert_eq!(
                    judge.try_add(version, &wrong, &other),
                    code,
                    "AddPartitionsToTxn {version}: {what}"
                );
            }
            if version <= 4 {
                let told = judge.try_add_offsets(version, &wrong, &group);
                assert_eq!(told, code, "AddOffsetsToTxn {version}: {what}");
            }
            for committed in [true, false] {
                assert_eq!(judge.try_end(version, &wrong, committed), code, "EndTxn {version}: {what}");
            }
            assert_eq!(judge.ends(&topic), (1, 0), "version {version}: {what}");
            assert_eq!(judge.end(&id, who, true), ErrorCode::None, "version {version}: {what}");
            judge.until_stable(&topic, 2);
            assert_eq!(judge.ends(&other), (0, 0), "version {version}: {what}");
        }
    }
}

#[test]
fn nobody_begins_with_a_timeout_above_the_maximum_or_without_a_name_or_as_who_it_is_not() {
    let mut judge = Judge::new();
    let (id, topic) = (judge.name("tx"), judge.topic(1));
    judge.init(&id);
    let who = judge.init(&id);
    let nobody = Identity { id: -1, epoch: -1 };
    assert_eq!(judge.add(&id, who, (&topic, 0)), ErrorCode::None);
    assert_eq!(judge.produce_one(9, Some(&id), (&topic, transactional(who, 0))), ErrorCode::None);
    for version in 0..=5 {
        for timeout in [900_001, i32::MAX, 0, -1] {
            let told = judge.try_init(version, &id, (timeout, nobody));
            assert_eq!(told, ErrorCode::InvalidTransactionTimeout, "version {version}, {timeout} ms");
        }
        let told = judge.try_init(version, &KStr::default(), (60_000, nobody));
        assert_eq!(told, ErrorCode::InvalidRequest, "version {version}");
        if version >= 3 {
            let another = Identity { id: who.id + 1000, ..who };
            let fenced =
                if version < 4 { ErrorCode::InvalidProducerEpoch } else { ErrorCode::ProducerFenced };
            let told = judge.try_init(version, &id, (60_000, another));
            assert_eq!(told, fenced, "version {version}");
        }
    }
    assert_eq!(judge.ends(&topic), (1, 0));
    assert_eq!(judge.end(&id, who, true), ErrorCode::None, "nobody has touched it");
    judge.until_stable(&topic, 2);
}

#[test]
fn clients_of_both_protocols_share_an_id_and_the_later_one_fences_the_other() {
    let mut judge = Judge::new();
    for (first, second) in [(11, 12), (12, 11), (12, 12), (11, 11)] {
        let (id, topic) = (judge.name("tx"), judge.topic(1));
        let begin = |judge: &mut Judge, version: i16| {
            let who = judge.init(&id);
            if version < ADDS {
                assert_eq!(judge.add(&id, who, (&topic, 0)), ErrorCode::None);
            }
            let told = judge.produce_one(version, Some(&id), (&topic, transactional(who, 0)));
            assert_eq!(told, ErrorCode::None, "{first} and {second}");
            who
        };
        let zombie = begin(&mut judge, first);
        // Its transaction is aborted: a record and a marker.
        let who = begin(&mut judge, second);
        assert!(who.epoch > zombie.epoch);
        assert_eq!(judge.ends(&topic), (3, 2), "{first} and {second}");
        let told = judge.produce_one(first, Some(&id), (&topic, transactional(zombie, 1)));
        assert_eq!(told, ErrorCode::InvalidProducerEpoch, "{first} and {second}");
        for (version, committed) in [(4, true), (4, false), (5, true), (5, false)] {
            let told = judge.try_end(version, &(id.clone(), zombie), committed);
            assert_eq!(told, ErrorCode::ProducerFenced, "{first} and {second}, EndTxn {version}");
        }
        assert_eq!(judge.ends(&topic), (3, 2), "{first} and {second}");
        match second {
            ADDS.. => drop(judge.end_anew(&id, who, true)),
            _ => assert_eq!(judge.end(&id, who, true), ErrorCode::None),
        }
        judge.until_stable(&topic, 4);
    }
}

/// As one whose library is replaced in the middle, or which falls back when features are turned down.
#[test]
fn a_client_that_changes_its_protocol_from_transaction_to_transaction_loses_nothing() {
    let mut judge = Judge::new();
    let (id, topic) = (judge.name("tx"), judge.topic(1));
    let mut who = judge.init(&id);
    let (mut sequence, mut end) = (0, 0);
    for (produce, ends_anew) in [(12, false), (11, true), (12, true), (11, false), (12, false), (12, true)] {
        assert_eq!(judge.add(&id, who, (&topic, 0)), ErrorCode::None);
        let told = judge.produce_one(produce, Some(&id), (&topic, transactional(who, sequence)));
        assert_eq!(told, ErrorCode::None, "Produce {produce}, sequence {sequence}");
        sequence += 1;
        end += 2;
        if ends_anew {
            let after = judge.end_anew(&id, who, true);
            assert_eq!(after, next(who));
            (who, sequence) = (after, 0);
        } else {
            assert_eq!(judge.end(&id, who, true), ErrorCode::None);
        }
        judge.until_stable(&topic, end);
    }
}
