//! Offsets in a transaction.

use super::*;

fn committing(id: &KStr, who: Identity, group: &KStr, topic: &KStr) -> TxnOffsetCommitRequest {
    TxnOffsetCommitRequest {
        transactional_id: id.clone(),
        group_id: group.clone(),
        producer_id: who.id,
        producer_epoch: who.epoch,
        generation_id: -1,
        topics: vec![TxnOffsetCommitRequestTopic {
            name: topic.clone(),
            partitions: vec![TxnOffsetCommitRequestPartition {
                partition_index: 0,
                committed_offset: 42,
                committed_leader_epoch: -1,
                committed_metadata: Some(KStr::from_static("so far")),
            }],
        }],
        ..Default::default()
    }
}

/// What is wrong with a TxnOffsetCommit, from a version on.
struct WrongCommit {
    what: &'static str,
    from: i16,
    change: fn(&mut TxnOffsetCommitRequest),
    code: fn(i16) -> ErrorCode,
}

const WRONG_COMMITS: &[WrongCommit] = &[
    WrongCommit {
        what: "a stale epoch",
        from: 0,
        change: |request| request.producer_epoch -= 1,
        code: |_| ErrorCode::InvalidProducerEpoch,
    },
    WrongCommit {
        what: "an epoch of the future",
        from: 0,
        change: |request| request.producer_epoch += 1,
        code: |_| ErrorCode::InvalidProducerEpoch,
    },
    WrongCommit {
        what: "another producer",
        from: 0,
        change: |request| request.producer_id += 1000,
        code: |_| ErrorCode::InvalidProducerIdMapping,
    },
    WrongCommit {
        what: "an unknown transactional id",
        from: 0,
        change: |request| request.transactional_id = KStr::from_static("nobody has this"),
        code: |_| ErrorCode::InvalidProducerIdMapping,
    },
    WrongCommit {
        what: "an empty transactional id",
        from: 0,
        change: |request| request.transactional_id = KStr::default(),
        code: |_| ErrorCode::InvalidRequest,
    },
    WrongCommit {
        what: "no group id",
        from: 0,
        change: |request| request.group_id = KStr::default(),
        code: |_| ErrorCode::InvalidGroupId,
    },
    WrongCommit {
        what: "an unknown topic",
        from: 0,
        change: |request| request.topics[0].name = KStr::from_static("nothing"),
        code: |_| ErrorCode::UnknownTopicOrPartition,
    },
    WrongCommit {
        what: "an unknown partition",
        from: 0,
        change: |request| request.topics[0].partitions[0].partition_index = 1,
        code: |_| ErrorCode::UnknownTopicOrPartition,
    },
    WrongCommit {
        what: "too much metadata",
        from: 0,
        change: |request| {
            request.topics[0].partitions[0].committed_metadata = Some(KStr::from("m".repeat(4097)));
        },
        code: |_| ErrorCode::OffsetMetadataTooLarge,
    },
    WrongCommit {
        what: "a generation of a group that does not exist",
        from: 3,
        change: |request| request.generation_id = 1,
        code: |_| ErrorCode::IllegalGeneration,
    },
];

#[test]
fn offsets_in_a_transaction_that_are_wrong_are_refused_with_kafkas_code_and_nothing_of_them_stays() {
    let mut judge = Judge::new();
    for version in 0..=5 {
        for WrongCommit { what, from, change, code } in WRONG_COMMITS {
            if version < *from {
                continue;
            }
            let (id, group, topic) = (judge.name("tx"), judge.name("group"), judge.topic(1));
            judge.find(&group, 0);
            judge.init(&id);
            let who = judge.init(&id);
            if version < 5 {
                assert_eq!(judge.add_offsets(&id, who, &group), ErrorCode::None);
            }
            let mut request = committing(&id, who, &group, &topic);
            change(&mut request);
            assert_eq!(judge.commit(version, request), code(version), "{what}, version {version}");
            assert_eq!(judge.committed(&group, &topic), Ok(-1), "{what}, version {version}");
            let right = judge.commit(version, committing(&id, who, &group, &topic));
            assert_eq!(right, ErrorCode::None, "{what}, version {version}");
            let pending = judge.committed(&group, &topic);
            assert_eq!(pending, Err(ErrorCode::UnstableOffsetCommit), "{what}, version {version}");
            match version {
                5 => drop(judge.end_anew(&id, who, true)),
                _ => assert_eq!(judge.end(&id, who, true), ErrorCode::None),
            }
            while judge.committed(&group, &topic).is_err() {}
            assert_eq!(judge.committed(&group, &topic), Ok(42), "{what}, version {version}");
        }
    }
}

#[test]
fn offsets_of_a_group_that_was_not_added_are_refused_until_the_request_adds_it() {
    let mut judge = Judge::new();
    for version in 0..=5 {
        let (id, group, topic, other) =
            (judge.name("tx"), judge.name("group"), judge.topic(1), judge.topic(1));
        judge.find(&group, 0);
        let who = judge.init(&id);
        assert_eq!(judge.add(&id, who, (&other, 0)), ErrorCode::None);
        let told = judge.commit(version, committing(&id, who, &group, &topic));
        let wanted = match version {
            ..=3 => ErrorCode::InvalidTxnState,
            4 => ErrorCode::TransactionAbortable,
            _ => ErrorCode::None,
        };
        assert_eq!(told, wanted, "version {version}");
        let held = if version == 5 { Err(ErrorCode::UnstableOffsetCommit) } else { Ok(-1) };
        assert_eq!(judge.committed(&group, &topic), held, "version {version}");
    }
}

#[test]
fn offsets_of_an_aborted_transaction_are_those_of_before() {
    let mut judge = Judge::new();
    for version in [3, 5] {
        let (id, group, topic) = (judge.name("tx"), judge.name("group"), judge.topic(1));
        judge.find(&group, 0);
        let who = judge.init(&id);
        judge.commit_plainly(&group, &topic, 7);
        if version < 5 {
            assert_eq!(judge.add_offsets(&id, who, &group), ErrorCode::None);
        }
        assert_eq!(judge.commit(version, committing(&id, who, &group, &topic)), ErrorCode::None);
        assert_eq!(judge.committed(&group, &topic), Err(ErrorCode::UnstableOffsetCommit));
        match version {
            5 => drop(judge.end_anew(&id, who, false)),
            _ => assert_eq!(judge.end(&id, who, false), ErrorCode::None),
        }
        while judge.committed(&group, &topic).is_err() {}
        assert_eq!(judge.committed(&group, &topic), Ok(7), "version {version}");
    }
}

impl Judge {
    fn commit_plainly(&mut self, group: &KStr, topic: &KStr, offset: i64) {
        let partition = OffsetCommitRequestPartition {
            partition_index: 0,
            committed_offset: offset,
            committed_leader_epoch: -1,
            committed_metadata: None,
        };
        let topics = vec![OffsetCommitRequestTopic {
            name: topic.clone(),
            partitions: vec![partition],
            ..Default::default()
        }];
        let request = OffsetCommitRequest {
            group_id: group.clone(),
            generation_id_or_member_epoch: -1,
            topics,
            ..Default::default()
        };
        let code = |response: &<OffsetCommitRequest as Request>::Response| {
            response.topics[0].partitions[0].error_code
        };
        let response = self.patiently(8, &request, code);
        assert_eq!(code(&response), 0);
    }

    /// A group with one static member: its id and generation.
    fn join(&mut self, group: &KStr, instance: &KStr) -> (KStr, i32) {
        let joining = JoinGroupRequest {
            group_id: group.clone(),
            session_timeout_ms: 10_000,
            rebalance_timeout_ms: 10_000,
            group_instance_id: Some(instance.clone()),
            protocol_type: "consumer".into(),
            protocols: vec![JoinGroupRequestProtocol { name: "range".into(), metadata: Bytes::new() }],
            ..JoinGroupRequest::default()
        };
        let joined = self.patiently(5, &joining, |response| response.error_code);
        assert_eq!(joined.error_code, 0);
        let syncing = SyncGroupRequest {
            group_id: group.clone(),
            generation_id: joined.generation_id,
            member_id: joined.member_id.clone(),
            group_instance_id: Some(instance.clone()),
            assignments: vec![SyncGroupRequestAssignment {
                member_id: joined.member_id.clone(),
                assignment: Bytes::new(),
            }],
            ..SyncGroupRequest::default()
        };
        assert_eq!(self.patiently(3, &syncing, |response| response.error_code).error_code, 0);
        (joined.member_id, joined.generation_id)
    }
}

#[test]
fn only_the_member_of_this_generation_commits_for_a_group_or_who_does_not_say_who_it_is() {
    let mut judge = Judge::new();
    for version in 3..=5 {
        let (id, group, instance) = (judge.name("tx"), judge.name("group"), judge.name("instance"));
        let topic = judge.topic(1);
        judge.find(&group, 0);
        let who = judge.init(&id);
        let (member, generation) = judge.join(&group, &instance);
        if version < 5 {
            assert_eq!(judge.add_offsets(&id, who, &group), ErrorCode::None);
        }
        let stranger = KStr::from_static("somebody else");
        for (what, member_id, instance_id, generation_id, code) in [
            ("an unknown member", &stranger, None, generation, ErrorCode::UnknownMemberId),
            ("an old generation", &member, None, generation - 1, ErrorCode::IllegalGeneration),
            ("a coming generation", &member, None, generation + 1, ErrorCode::IllegalGeneration),
            ("a member without its generation", &member, None, -1, ErrorCode::IllegalGeneration),
            ("fenced", &stranger, Some(&instance), generation, ErrorCode::FencedInstanceId),
            ("an unknown static name", &member, Some(&stranger), generation, ErrorCode::UnknownMemberId),
            ("the member", &member, Some(&instance), generation, ErrorCode::None),
            ("nobody", &KStr::default(), None, -1, ErrorCode::None),
        ] {
            let request = TxnOffsetCommitRequest {
                member_id: member_id.clone(),
                group_instance_id: instance_id.cloned(),
                generation_id,
                ..committing(&id, who, &group, &topic)
            };
            assert_eq!(judge.commit(version, request), code, "{what}, version {version}");
        }
    }
}
