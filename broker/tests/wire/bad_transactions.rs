//! Transactional requests that are wrong, one by one, with Kafka's code in each version; and that nothing of them is left.
//!
//! With `MILLSTREAM_TEST_BOOTSTRAP=host:port` the same is asked of whatever listens there: Apache Kafka 4.3.1 gives these
//! answers. It needs a fresh one with `group.initial.rebalance.delay.ms=0`.

mod lasting;
mod offsets;
mod requests;

use std::collections::HashMap;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;

use bytes::Bytes;
use millstream_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use millstream_protocol::messages::create_topics_request::CreatableTopic;
use millstream_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use millstream_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use millstream_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use millstream_protocol::messages::offset_fetch_request::OffsetFetchRequestGroup;
use millstream_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use millstream_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use millstream_protocol::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use millstream_protocol::messages::write_txn_markers_request::{WritableTxnMarker, WritableTxnMarkerTopic};
use millstream_protocol::messages::{
    AddOffsetsToTxnRequest, AddPartitionsToTxnRequest, CreateTopicsRequest, EndTxnRequest,
    FindCoordinatorRequest, InitProducerIdRequest, JoinGroupRequest, ListOffsetsRequest, OffsetCommitRequest,
    OffsetFetchRequest, ProduceRequest, SyncGroupRequest, TxnOffsetCommitRequest, WriteTxnMarkersRequest,
};
use millstream_protocol::records::{BatchBuilder, Compression};
use millstream_protocol::{Chunk, ErrorCode, KStr, Request, Uuid};

use super::bed::{Bed, Client, builder_of};

/// Ours, or whoever is to be asked.
struct Judge {
    /// Kept for as long as it is asked.
    bed: Option<Bed>,
    client: Client,
    /// What Produce 13 calls the topics.
    topic_ids: HashMap<KStr, Uuid>,
}

/// Tests may ask the same server.
static NAMES: AtomicU32 = AtomicU32::new(0);

/// A producer as its coordinator knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    id: i64,
    epoch: i16,
}

impl Judge {
    fn new() -> Self {
        match std::env::var("MILLSTREAM_TEST_BOOTSTRAP") {
            Ok(address) => {
                let client = Client::connect(address.parse().expect("host:port"));
                Self { bed: None, client, topic_ids: HashMap::new() }
            }
            Err(_) => {
                let bed = Bed::with(&[("group.initial.rebalance.delay.ms", "0")]);
                let client = bed.client();
                Self { bed: Some(bed), client, topic_ids: HashMap::new() }
            }
        }
    }

    /// A name that nobody has used.
    fn name(&self, what: &str) -> KStr {
        KStr::from(format!("{what}-{}-{}", std::process::id(), NAMES.fetch_add(1, Relaxed)))
    }

    fn topic(&mut self, partitions: i32) -> KStr {
        let name = self.name("topic");
        let topic = CreatableTopic {
            name: name.clone(),
            num_partitions: partitions,
            replication_factor: 1,
            ..Default::default()
        };
        let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 10_000, ..Default::default() };
        let created = self.client.call(7, &request).topics[0].clone();
        assert_eq!(created.error_code, 0);
        self.topic_ids.insert(name.clone(), created.topic_id);
        // Kafka learns of it a moment later.
        while self.ends(&name) != (0, 0) {}
        name
    }

    /// Asks again while the coordinator is being made or loaded, or an earlier transaction ends.
    fn patiently<R: Request>(
        &mut self,
        version: i16,
        request: &R,
        code: impl Fn(&R::Response) -> i16,
    ) -> R::Response {
        loop {
            let response = self.client.call(version, request);
            match ErrorCode::from_code(code(&response)) {
                Some(
                    ErrorCode::CoordinatorLoadInProgress
                    | ErrorCode::CoordinatorNotAvailable
                    | ErrorCode::NotCoordinator
                    | ErrorCode::ConcurrentTransactions
                    | ErrorCode::NotEnoughReplicas
                    | ErrorCode::NotLeaderOrFollower,
                ) => {}
                _ => return response,
            }
        }
    }

    fn find(&mut self, key: &KStr, key_type: i8) {
        let request =
            FindCoordinatorRequest { coordinator_keys: vec![key.clone()], key_type, ..Default::default() };
        let found = self.patiently(4, &request, |response| response.coordinators[0].error_code);
        assert_eq!(found.coordinators[0].error_code, 0);
    }

    fn init(&mut self, transactional_id: &KStr) -> Identity {
        self.find(transactional_id, 1);
        let request = InitProducerIdRequest {
            transactional_id: Some(transactional_id.clone()),
            transaction_timeout_ms: 60_000,
            producer_id: -1,
            producer_epoch: -1,
        };
        let response = self.patiently(4, &request, |response| response.error_code);
        assert_eq!(response.error_code, 0);
        Identity { id: response.producer_id, epoch: response.producer_epoch }
    }

    fn idempotent(&mut self) -> Identity {
        let request = InitProducerIdRequest {
            transactional_id: None,
            transaction_timeout_ms: 60_000,
            producer_id: -1,
            producer_epoch: -1,
        };
        let response = self.patiently(4, &request, |response| response.error_code);
        assert_eq!(response.error_code, 0);
        Identity { id: response.producer_id, epoch: response.producer_epoch }
    }

    fn add(&mut self, id: &KStr, who: Identity, (topic, partition): (&KStr, i32)) -> ErrorCode {
        let topics = vec![AddPartitionsToTxnTopic { name: topic.clone(), partitions: vec![partition] }];
        let request = AddPartitionsToTxnRequest {
            v3_and_below_transactional_id: id.clone(),
            v3_and_below_producer_id: who.id,
            v3_and_below_producer_epoch: who.epoch,
            v3_and_below_topics: topics,
            ..Default::default()
        };
        let code = |response: &<AddPartitionsToTxnRequest as Request>::Response| {
            response.results_by_topic_v3_and_below[0].results_by_partition[0].partition_error_code
        };
        let response = self.patiently(3, &request, code);
        ErrorCode::from_code(code(&response)).unwrap()
    }

    fn add_offsets(&mut self, id: &KStr, who: Identity, group: &KStr) -> ErrorCode {
        let request = AddOffsetsToTxnRequest {
            transactional_id: id.clone(),
            producer_id: who.id,
            producer_epoch: who.epoch,
            group_id: group.clone(),
        };
        let response = self.patiently(3, &request, |response| response.error_code);
        ErrorCode::from_code(response.error_code).unwrap()
    }

    fn end(&mut self, id: &KStr, who: Identity, committed: bool) -> ErrorCode {
        let request = EndTxnRequest {
            transactional_id: id.clone(),
            producer_id: who.id,
            producer_epoch: who.epoch,
            committed,
        };
        let response = self.patiently(3, &request, |response| response.error_code);
        ErrorCode::from_code(response.error_code).unwrap()
    }

    /// As a client of KIP-890 ends it: with the next identity.
    fn end_anew(&mut self, id: &KStr, who: Identity, committed: bool) -> Identity {
        let request = EndTxnRequest {
            transactional_id: id.clone(),
            producer_id: who.id,
            producer_epoch: who.epoch,
            committed,
        };
        let response = self.patiently(5, &request, |response| response.error_code);
        assert_eq!(response.error_code, 0);
        Identity { id: response.producer_id, epoch: response.producer_epoch }
    }

    /// The codes of all batches, in the order of the request.
    fn produce(
        &mut self,
        version: i16,
        transactional_id: Option<&KStr>,
        batches: &[(&KStr, i32, Bytes)],
    ) -> Vec<ErrorCode> {
        let mut topic_data: Vec<TopicProduceData> = Vec::new();
        for (topic, index, batch) in batches {
            let data = PartitionProduceData { index: *index, records: Some(Chunk::Bytes(batch.clone())) };
            // The form has one or the other.
            let (name, topic_id) = match version {
                BY_ID.. => (KStr::default(), self.topic_ids[*topic]),
                _ => ((*topic).clone(), Uuid::nil()),
            };
            match topic_data.iter_mut().find(|data| (&data.name, data.topic_id) == (&name, topic_id)) {
                Some(topic) => topic.partition_data.push(data),
                None => topic_data.push(TopicProduceData { name, topic_id, partition_data: vec![data] }),
            }
        }
        let request = ProduceRequest {
            transactional_id: transactional_id.cloned(),
            acks: -1,
            timeout_ms: 10_000,
            topic_data,
        };
        let code = |response: &<ProduceRequest as Request>::Response| {
            response.responses[0].partition_responses[0].error_code
        };
        let response = self.patiently(version, &request, code);
        let mut told: Vec<((KStr, Uuid, i32), ErrorCode)> = Vec::new();
        for topic in response.responses {
            for at in topic.partition_responses {
                let code = ErrorCode::from_code(at.error_code).unwrap();
                told.push(((topic.name.clone(), topic.topic_id, at.index), code));
            }
        }
        let of = |(topic, index, _): &(&KStr, i32, Bytes)| {
            let is_it = |name: &KStr, id: Uuid| match version {
                BY_ID.. => id == self.topic_ids[*topic],
                _ => name == *topic,
            };
            let found = told.iter().find(|((name, id, at), _)| is_it(name, *id) && at == index);
            found.expect("all are answered").1
        };
        batches.iter().map(of).collect()
    }

    fn produce_one(
        &mut self,
        version: i16,
        transactional_id: Option<&KStr>,
        (topic, batch): (&KStr, Bytes),
    ) -> ErrorCode {
        self.produce(version, transactional_id, &[(topic, 0, batch)])[0]
    }

    fn commit(&mut self, version: i16, mut request: TxnOffsetCommitRequest) -> ErrorCode {
        if version < 2 {
            request.topics[0].partitions[0].committed_leader_epoch = -1;
        }
        let code = |response: &<TxnOffsetCommitRequest as Request>::Response| {
            response.topics[0].partitions[0].error_code
        };
        let response = self.patiently(version, &request, code);
        ErrorCode::from_code(code(&response)).unwrap()
    }

    /// What a group has committed for partition 0, or why that is not told.
    fn committed(&mut self, group: &KStr, topic: &KStr) -> Result<i64, ErrorCode> {
        let topics = vec![millstream_protocol::messages::offset_fetch_request::OffsetFetchRequestTopics {
            name: topic.clone(),
            partition_indexes: vec![0],
            ..Default::default()
        }];
        let groups = vec![OffsetFetchRequestGroup {
            group_id: group.clone(),
            member_epoch: -1,
            topics: Some(topics),
            ..Default::default()
        }];
        let request = OffsetFetchRequest { groups, require_stable: true, ..Default::default() };
        let response = self.patiently(8, &request, |response| response.groups[0].error_code);
        let at = &response.groups[0].topics[0].partitions[0];
        match ErrorCode::from_code(at.error_code).unwrap() {
            ErrorCode::None => Ok(at.committed_offset),
            other => Err(other),
        }
    }

    /// Where a partition ends, for all readers and for those of committed records.
    fn ends(&mut self, topic: &KStr) -> (i64, i64) {
        let mut end = |isolation_level| {
            let partitions =
                vec![ListOffsetsPartition { timestamp: -1, current_leader_epoch: -1, ..Default::default() }];
            let topics = vec![ListOffsetsTopic { name: topic.clone(), partitions }];
            let request =
                ListOffsetsRequest { replica_id: -1, isolation_level, topics, ..Default::default() };
            self.client.call(7, &request).topics[0].partitions[0].offset
        };
        (end(0), end(1))
    }

    fn abort_by_force(&mut self, version: i16, marker: WritableTxnMarker) -> ErrorCode {
        let request = WriteTxnMarkersRequest { markers: vec![marker] };
        let response = self.client.call(version, &request);
        ErrorCode::from_code(response.markers[0].topics[0].partitions[0].error_code).unwrap()
    }
}

fn record_of(who: Identity, sequence: i32) -> BatchBuilder {
    let mut builder = builder_of(Compression::None, &["v"]);
    builder.producer(who.id, who.epoch, sequence);
    builder
}

fn transactional(who: Identity, sequence: i32) -> Bytes {
    let mut builder = record_of(who, sequence);
    builder.transactional();
    builder.build()
}

fn alone(who: Identity, sequence: i32) -> Bytes {
    record_of(who, sequence).build()
}

fn next(who: Identity) -> Identity {
    Identity { epoch: who.epoch + 1, ..who }
}

fn before(who: Identity) -> Identity {
    Identity { epoch: who.epoch - 1, ..who }
}

/// Before clients knew TRANSACTION_ABORTABLE, after, with KIP-890, and with topic ids.
const PRODUCE_VERSIONS: [i16; 5] = [3, 10, 11, 12, 13];

/// From here on Produce adds partitions to the transaction.
const ADDS: i16 = 12;

/// From here on Produce calls topics by their ids.
const BY_ID: i16 = 13;

/// What a version of Produce answers that is not allowed to add a partition to a transaction.
fn not_added(version: i16) -> ErrorCode {
    match version {
        ..=10 => ErrorCode::InvalidTxnState,
        _ => ErrorCode::TransactionAbortable,
    }
}

/// What is wrong with a Produce; the rest is as it should be.
struct Wrong {
    what: &'static str,
    id: fn(&KStr, KStr) -> Option<KStr>,
    batch: fn(Identity) -> Bytes,
    code: fn(i16) -> ErrorCode,
}

fn same(id: &KStr, _: KStr) -> Option<KStr> {
    Some(id.clone())
}

const WRONG: &[Wrong] = &[
    Wrong {
        what: "a stale epoch",
        id: same,
        batch: |who| transactional(before(who), 0),
        code: |_| ErrorCode::InvalidProducerEpoch,
    },
    Wrong {
        what: "an epoch of the future",
        id: same,
        batch: |who| transactional(next(who), 0),
        code: |_| ErrorCode::InvalidProducerEpoch,
    },
    Wrong {
        what: "the id of another producer",
        id: same,
        batch: |who| transactional(Identity { id: who.id + 1000, ..who }, 0),
        code: |_| ErrorCode::InvalidProducerIdMapping,
    },
    Wrong {
        what: "an unknown transactional id",
        id: |_, unknown| Some(unknown),
        batch: |who| transactional(who, 0),
        code: |_| ErrorCode::InvalidProducerIdMapping,
    },
    Wrong {
        what: "no transactional id",
        id: |_, _| None,
        batch: |who| transactional(who, 0),
        code: |_| ErrorCode::TransactionalIdAuthorizationFailed,
    },
    Wrong {
        what: "an empty transactional id",
        id: |_, _| Some(KStr::default()),
        batch: |who| transactional(who, 0),
        code: |_| ErrorCode::InvalidRequest,
    },
];

#[test]
fn a_transactional_batch_that_is_wrong_is_refused_with_kafkas_code_and_nothing_of_it_stays() {
    let mut judge = Judge::new();
    for version in PRODUCE_VERSIONS {
        for Wrong { what, id, batch, code } in WRONG {
            let (transactional_id, unknown) = (judge.name("tx"), judge.name("unknown"));
            let topic = judge.topic(1);
            judge.init(&transactional_id);
            let who = judge.init(&transactional_id);
            assert_eq!(who.epoch, 1);
            if version < ADDS {
                assert_eq!(judge.add(&transactional_id, who, (&topic, 0)), ErrorCode::None);
            }
            let asked = id(&transactional_id, unknown);
            let told = judge.produce_one(version, asked.as_ref(), (&topic, batch(who)));
            assert_eq!(told, code(version), "{what}, version {version}");
            assert_eq!(judge.ends(&topic), (0, 0), "{what}, version {version}");
            // The transaction goes on as if nothing had been.
            let right = judge.produce_one(version, Some(&transactional_id), (&topic, transactional(who, 0)));
            assert_eq!(right, ErrorCode::None, "{what}, version {version}");
            match version {
                ADDS.. => drop(judge.end_anew(&transactional_id, who, true)),
                _ => assert_eq!(judge.end(&transactional_id, who, true), ErrorCode::None),
            }
            judge.until_stable(&topic, 2);
        }
    }
}

impl Judge {
    /// Kafka answers before its markers are written.
    fn until_stable(&mut self, topic: &KStr, end: i64) {
        while self.ends(topic).1 < end {}
        assert_eq!(self.ends(topic), (end, end));
    }
}

#[test]
fn a_batch_for_a_partition_that_was_not_added_is_refused_until_produce_adds_it() {
    let mut judge = Judge::new();
    for version in PRODUCE_VERSIONS {
        for is_ongoing in [false, true] {
            let (id, topic, other) = (judge.name("tx"), judge.topic(1), judge.topic(1));
            let who = judge.init(&id);
            if is_ongoing {
                assert_eq!(judge.add(&id, who, (&other, 0)), ErrorCode::None);
            }
            let told = judge.produce_one(version, Some(&id), (&topic, transactional(who, 0)));
            let wanted = if version >= ADDS { ErrorCode::None } else { not_added(version) };
            assert_eq!(told, wanted, "version {version}, ongoing {is_ongoing}");
            let end = i64::from(version >= ADDS);
            assert_eq!(judge.ends(&topic), (end, 0), "version {version}, ongoing {is_ongoing}");
        }
    }
}

#[test]
fn a_topic_id_of_before_joins_no_transaction_and_the_rest_goes_on() {
    let mut judge = Judge::new();
    let (id, topic, gone) = (judge.name("tx"), judge.topic(1), judge.topic(1));
    let who = judge.init(&id);
    judge.topic_ids.insert(gone.clone(), Uuid::from_bytes([7; 16]));
    let batches = [(&gone, 0, transactional(who, 0)), (&topic, 0, transactional(who, 0))];
    let told = judge.produce(BY_ID, Some(&id), &batches);
    assert_eq!(told, [ErrorCode::UnknownTopicId, ErrorCode::None]);
    assert_eq!((judge.ends(&gone), judge.ends(&topic)), ((0, 0), (1, 0)));
    judge.end_anew(&id, who, true);
    judge.until_stable(&topic, 2);
    assert_eq!(judge.ends(&gone), (0, 0), "it has no marker either");
}

#[test]
fn a_request_with_batches_of_two_producers_is_refused_as_a_whole() {
    let mut judge = Judge::new();
    for version in PRODUCE_VERSIONS {
        let (id, other_id) = (judge.name("tx"), judge.name("tx"));
        let topics = [judge.topic(1), judge.topic(1), judge.topic(1)];
        let (who, other) = (judge.init(&id), judge.init(&other_id));
        let idempotent = judge.idempotent();
        let batches = [
            (&topics[0], 0, transactional(who, 0)),
            (&topics[1], 0, transactional(other, 0)),
            (&topics[2], 0, alone(idempotent, 0)),
        ];
        let told = judge.produce(version, Some(&id), &batches);
        assert_eq!(told, [ErrorCode::InvalidProducerIdMapping; 3], "version {version}");
        for topic in &topics {
            assert_eq!(judge.ends(topic), (0, 0), "version {version}");
        }
    }
}

#[test]
fn an_idempotent_batch_may_stand_in_a_transactional_request_but_not_in_its_open_transaction() {
    let mut judge = Judge::new();
    let (id, topic) = (judge.name("tx"), judge.topic(1));
    let who = judge.init(&id);
    let idempotent = judge.idempotent();
    assert_eq!(judge.produce_one(9, Some(&id), (&topic, alone(idempotent, 0))), ErrorCode::None);
    assert_eq!(judge.produce_one(12, Some(&id), (&topic, transactional(who, 0))), ErrorCode::None);
    for version in PRODUCE_VERSIONS {
        let told = judge.produce_one(version, Some(&id), (&topic, alone(who, 1)));
        assert_eq!(told, ErrorCode::InvalidTxnState, "version {version}");
    }
    assert_eq!(judge.ends(&topic), (2, 1));
    judge.end_anew(&id, who, false);
    judge.until_stable(&topic, 3);
}

#[test]
fn a_held_back_end_of_a_transaction_does_not_touch_the_next_one() {
    let mut judge = Judge::new();
    let (id, topic) = (judge.name("tx"), judge.topic(1));
    let first = judge.init(&id);
    assert_eq!(judge.produce_one(12, Some(&id), (&topic, transactional(first, 0))), ErrorCode::None);
    let second = judge.end_anew(&id, first, true);
    assert_eq!(second, next(first));
    judge.until_stable(&topic, 2);
    assert_eq!(judge.end_anew(&id, first, true), second, "a retry");
    assert_eq!(judge.produce_one(12, Some(&id), (&topic, transactional(second, 0))), ErrorCode::None);
    for (version, committed, code) in [
        (0, true, ErrorCode::InvalidProducerEpoch),
        (1, false, ErrorCode::InvalidProducerEpoch),
        (2, true, ErrorCode::ProducerFenced),
        (4, false, ErrorCode::ProducerFenced),
        (5, true, ErrorCode::ProducerFenced),
        (5, false, ErrorCode::ProducerFenced),
    ] {
        let request = EndTxnRequest {
            transactional_id: id.clone(),
            producer_id: first.id,
            producer_epoch: first.epoch,
            committed,
        };
        let told = judge.client.call(version, &request).error_code;
        assert_eq!(ErrorCode::from_code(told), Some(code), "version {version}");
    }
    assert_eq!(judge.ends(&topic), (3, 2), "the second transaction is open");
}

/// Sequences in one partition: each step's epoch above the first, its sequence, and the code.
type Steps = &'static [(i16, i32, ErrorCode)];

const SEQUENCES: &[(&str, Steps)] = &[
    ("in order", &[(0, 0, ErrorCode::None), (0, 1, ErrorCode::None)]),
    (
        "a gap",
        &[(0, 0, ErrorCode::None), (0, 2, ErrorCode::OutOfOrderSequenceNumber), (0, 1, ErrorCode::None)],
    ),
    ("begins anywhere", &[(0, 7, ErrorCode::None), (0, 8, ErrorCode::None)]),
    ("wraps around", &[(0, i32::MAX, ErrorCode::None), (0, 0, ErrorCode::None), (0, 1, ErrorCode::None)]),
    ("does not wrap past", &[(0, i32::MAX, ErrorCode::None), (0, 1, ErrorCode::OutOfOrderSequenceNumber)]),
    (
        "the last five are known",
        &[
            (0, 0, ErrorCode::None),
            (0, 1, ErrorCode::None),
            (0, 2, ErrorCode::None),
            (0, 3, ErrorCode::None),
            (0, 4, ErrorCode::None),
            (0, 5, ErrorCode::None),
            (0, 1, ErrorCode::None),
            (0, 0, ErrorCode::OutOfOrderSequenceNumber),
            (0, 6, ErrorCode::None),
        ],
    ),
    (
        "a new epoch begins at zero",
        &[
            (0, 0, ErrorCode::None),
            (1, 1, ErrorCode::OutOfOrderSequenceNumber),
            (1, 0, ErrorCode::None),
            (0, 1, ErrorCode::InvalidProducerEpoch),
            (0, 0, ErrorCode::InvalidProducerEpoch),
            (1, 1, ErrorCode::None),
        ],
    ),
];

#[test]
fn sequences_of_an_idempotent_producer_are_judged_as_kafka_judges_them_in_each_version() {
    let mut judge = Judge::new();
    for version in [3, 7, 12, 13] {
        for (what, steps) in SEQUENCES {
            let (topic, who) = (judge.topic(1), judge.idempotent());
            let mut distinct = std::collections::BTreeSet::new();
            for (at, (epoch, sequence, code)) in steps.iter().enumerate() {
                let who = Identity { epoch: who.epoch + epoch, ..who };
                let told = judge.produce_one(version, None, (&topic, alone(who, *sequence)));
                assert_eq!(told, *code, "{what}, step {at}, version {version}");
                if *code == ErrorCode::None {
                    distinct.insert((epoch, sequence));
                }
            }
            let end = i64::try_from(distinct.len()).unwrap();
            assert_eq!(judge.ends(&topic), (end, end), "{what}, version {version}");
        }
    }
}

#[test]
fn a_transaction_with_an_epoch_of_its_own_begins_at_sequence_zero() {
    let mut judge = Judge::new();
    let (id, topic) = (judge.name("tx"), judge.topic(1));
    let who = judge.init(&id);
    for sequence in [1, i32::MAX] {
        let told = judge.produce_one(12, Some(&id), (&topic, transactional(who, sequence)));
        assert_eq!(told, ErrorCode::OutOfOrderSequenceNumber, "{sequence}");
    }
    assert_eq!(judge.ends(&topic), (0, 0));
    assert_eq!(judge.produce_one(12, Some(&id), (&topic, transactional(who, 0))), ErrorCode::None);
}

#[test]
fn what_a_client_may_not_write_is_refused() {
    let mut judge = Judge::new();
    let (topic, who) = (judge.topic(1), judge.idempotent());
    let set = |batch: Bytes, at: usize, bits: u8| {
        let mut bytes = batch.to_vec();
        bytes[at] |= bits;
        let crc = millstream_protocol::records::crc32c(&bytes[21..]);
        bytes[17..21].copy_from_slice(&crc.to_be_bytes());
        Bytes::from(bytes)
    };
    for (what, batch, code) in [
        ("a control batch", set(alone(who, 0), 22, 0x20), ErrorCode::InvalidRecord),
        ("no sequence", alone(who, -1), ErrorCode::InvalidRecord),
    ] {
        assert_eq!(judge.produce_one(9, None, (&topic, batch)), code, "{what}");
    }
    assert_eq!(judge.ends(&topic), (0, 0));
}

#[test]
fn an_admin_ends_what_hangs_with_the_epoch_of_the_producer_or_a_newer_one() {
    let mut judge = Judge::new();
    for version in [1, 2] {
        let (id, topic) = (judge.name("tx"), judge.topic(1));
        judge.init(&id);
        let who = judge.init(&id);
        assert_eq!(judge.add(&id, who, (&topic, 0)), ErrorCode::None);
        assert_eq!(judge.produce_one(9, Some(&id), (&topic, transactional(who, 0))), ErrorCode::None);
        let marker = |who: Identity, partition| WritableTxnMarker {
            producer_id: who.id,
            producer_epoch: who.epoch,
            topics: vec![WritableTxnMarkerTopic { name: topic.clone(), partition_indexes: vec![partition] }],
            coordinator_epoch: 1000,
            transaction_version: if version == 2 { 2 } else { 0 },
            ..Default::default()
        };
        let told = judge.abort_by_force(version, marker(who, 7));
        assert_eq!(told, ErrorCode::UnknownTopicOrPartition);
        let told = judge.abort_by_force(version, marker(before(who), 0));
        assert_eq!(told, ErrorCode::InvalidProducerEpoch);
        assert_eq!(judge.ends(&topic), (1, 0));
        let ends = if version == 2 { next(who) } else { who };
        if version == 2 {
            let told = judge.abort_by_force(version, marker(who, 0));
            assert_eq!(told, ErrorCode::InvalidProducerEpoch, "it has to be newer");
        }
        assert_eq!(judge.abort_by_force(version, marker(ends, 0)), ErrorCode::None);
        assert_eq!(judge.ends(&topic), (2, 2));
    }
}
