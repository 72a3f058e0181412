//! What clients are told of a partition that another node leads, the refusals of a cluster before there is
//! one; and of a partition whose log is not open yet, or cannot be opened.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use millstream_log::{CleanStart, Disk, Flusher, LeaderEpoch, RealDisk, SystemClock};
use millstream_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use millstream_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use millstream_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use millstream_protocol::messages::metadata_response::MetadataResponsePartition;
use millstream_protocol::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use millstream_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use millstream_protocol::messages::*;
use millstream_protocol::records::{BatchBuilder, Compression, NewRecord};
use millstream_protocol::{Chunk, ErrorCode, KStr, Request};

use crate::connection::frame::FrameMemory;
use crate::dispatch::{Answer, Call, Handler, Meanwhile, Peer};
use crate::fetch_session::FetchSessions;
use crate::groups::Groups;
use crate::machine::{Control, Machine, Uuids};
use crate::meta_store::LocalMetaStore;
use crate::metadata::believed_time::BelievedTime;
use crate::metadata::cluster_view::tests::TwoNodes;
use crate::metadata::cluster_view::{ClusterView, Dialled, SingleNode};
use crate::metadata::features::Features;
use crate::metadata::live_settings::LiveSettings;
use crate::metadata::producer_ids::ProducerIds;
use crate::metadata::topics::{Logs, Topics};
use crate::metrics::Metrics;
use crate::node::Node;
use crate::settings::{BrokerSettings, Written};
use crate::storage::compactions::Compactions;
use crate::storage::directory::{Directory, DirectoryParts};
use crate::storage::folders::FIRST;
use crate::transactions::Transactions;

const NOT_LEADER: i16 = ErrorCode::NotLeaderOrFollower.code();

/// Node 1 of two, with a topic whose partition 1 the other node leads.
struct Cluster {
    node: Arc<Node>,
    folder: tempfile::TempDir,
}

impl Cluster {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let cluster = Self::on(folder, Box::new(TwoNodes));
        cluster.node.topics.create(&t(), 2, BTreeMap::new()).unwrap();
        cluster
    }

    /// A single node that has read its metadata after a restart, and has opened no log yet.
    fn restarted() -> Self {
        let Self { folder, node, .. } = Self::new();
        node.topics.close(&node.topics.directories()[0]).unwrap();
        drop(node);
        let view = SingleNode { cluster_id: "one".into(), epoch: LeaderEpoch::new(5), advertised: None };
        Self::on(folder, Box::new(view))
    }

    fn on(folder: tempfile::TempDir, view: Box<dyn ClusterView>) -> Self {
        let settings = BrokerSettings::new(Written::new()).unwrap();
        let store = Arc::new(LocalMetaStore::open(Arc::new(RealDisk), &folder.path().join("meta")).unwrap());
        let topics = folder.path().join("topics");
        std::fs::create_dir_all(&topics).unwrap();
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        let directory = Directory::new(DirectoryParts {
            id: FIRST,
            path: folder.path().to_owned(),
            disk: Arc::clone(&disk),
            flusher: Flusher::start(1),
            clean: CleanStart::Yes,
            low_water: settings.low_water,
        });
        let uuids = Arc::new(Uuids::Random);
        let machine = Machine { clock: Arc::new(SystemClock), uuids: Arc::clone(&uuids), threads: 1 };
        let leader_epoch = LeaderEpoch::new(5);
        let logs = Logs { machine, leader_epoch, directories: vec![directory], missing: Vec::new() };
        let topics = Topics::load(store.clone(), logs, &settings.topic_defaults).unwrap();
        let time = BelievedTime::new(store.clone(), Arc::new(SystemClock), Duration::ZERO).unwrap();
        let metrics = Metrics::new(topics.directories());
        let node = Node {
            clock: Arc::new(SystemClock),
            time,
            view,
            features: Features::load(store.clone()).unwrap(),
            topics,
            settings: LiveSettings::load(settings, store.clone()).unwrap(),
            groups: Groups::new(),
            transactions: Transactions::new(),
            producer_ids: ProducerIds::new(store.clone()),
            store,
            uuids,
            fetch_sessions: FetchSessions::new(10),
            frames: FrameMemory::new(1 << 20),
            metrics,
            compactions: Compactions::default(),
            #[cfg(feature = "fault-hooks")]
            faults: crate::dispatch::faults::Faults::default(),
            http_address: None,
            control: Control::Threads(tokio::runtime::Handle::current()),
            stop: Arc::default(),
        };
        Self { node: Arc::new(node), folder }
    }

    async fn ask<H: Handler>(&self, version: i16, request: H::Request) -> <H::Request as Request>::Response {
        let address = "127.0.0.1:9092".parse().unwrap();
        let peer = Arc::new(Peer { address, dialled: Dialled::Socket(address) });
        match H::handle(
            Call {
                node: Arc::clone(&self.node),
                peer,
                version,
                meanwhile: Meanwhile::Waits,
                client_id: KStr::default(),
            },
            request,
        ) {
            Answer::Now(response) => response,
            Answer::Later(work) => work.await,
            Answer::Silent | Answer::Close(_) => panic!("a request is answered"),
        }
    }
}

fn batch() -> Bytes {
    let mut builder = BatchBuilder::new(Compression::None);
    builder.append(&NewRecord { timestamp: 1, key: None, value: Some(b"v"), headers: &[] });
    builder.build()
}

fn t() -> KStr {
    KStr::from_static("t")
}

#[tokio::test]
async fn produce_names_the_leader_and_writes_nothing() {
    let cluster = Cluster::new();
    let data = |index| PartitionProduceData { index, records: Some(Chunk::Bytes(batch())) };
    let topic = TopicProduceData { name: t(), partition_data: vec![data(0), data(1)], ..Default::default() };
    let request = ProduceRequest { acks: 1, topic_data: vec![topic], ..Default::default() };
    let told = cluster.ask::<super::produce::Produce>(10, request.clone()).await;
    let [here, there] = &told.responses[0].partition_responses[..] else { panic!("two were asked for") };
    assert_eq!((here.error_code, here.base_offset), (0, 0));
    assert_eq!((there.error_code, there.base_offset), (NOT_LEADER, -1));
    assert_eq!((there.current_leader.leader_id, there.current_leader.leader_epoch), (2, 5));
    let endpoint = told.node_endpoints.iter().find(|endpoint| endpoint.node_id == 2).unwrap();
    assert_eq!((&*endpoint.host, endpoint.port), ("n2", 9002));
    let topic = Arc::clone(cluster.node.topics.snapshot().named("t").unwrap());
    assert_eq!(topic.partition(1).unwrap().log().unwrap().offsets().log_end.get(), 0);
    let old = cluster.ask::<super::produce::Produce>(9, request).await;
    assert!(old.node_endpoints.is_empty(), "version 9 has no room for them");
}

#[tokio::test]
async fn fetch_names_the_leader_at_once() {
    let cluster = Cluster::new();
    let ask = |epoch| {
        let partition = FetchPartition { partition: 1, current_leader_epoch: epoch, ..Default::default() };
        let id = cluster.node.topics.snapshot().named("t").unwrap().id;
        let topic = FetchTopic { topic_id: id, partitions: vec![partition], ..Default::default() };
        FetchRequest { max_wait_ms: 60_000, min_bytes: 1, topics: vec![topic], ..Default::default() }
    };
    let asked = cluster.ask::<super::fetch::Fetch>(16, ask(5));
    let told = asked.now_or_never().expect("an error does not wait");
    let data = &told.responses[0].partitions[0];
    assert_eq!((data.error_code, data.current_leader.leader_id), (NOT_LEADER, 2));
    assert!(told.node_endpoints.iter().any(|endpoint| endpoint.node_id == 2));
    let old = cluster.ask::<super::fetch::Fetch>(16, ask(4)).await;
    let data = &old.responses[0].partitions[0];
    assert_eq!(data.error_code, ErrorCode::FencedLeaderEpoch.code());
    assert_eq!(data.current_leader.leader_epoch, 5);
}

#[tokio::test]
async fn questions_about_offsets_are_for_the_leader() {
    let cluster = Cluster::new();
    let partition = ListOffsetsPartition { partition_index: 1, timestamp: -1, ..Default::default() };
    let topics = vec![ListOffsetsTopic { name: t(), partitions: vec![partition] }];
    let request = ListOffsetsRequest { topics, ..Default::default() };
    let told = cluster.ask::<super::list_offsets::ListOffsets>(7, request).await;
    assert_eq!(told.topics[0].partitions[0].error_code, NOT_LEADER);
    let partition = OffsetForLeaderPartition { partition: 1, ..Default::default() };
    let topics = vec![OffsetForLeaderTopic { topic: t(), partitions: vec![partition] }];
    let request = OffsetForLeaderEpochRequest { topics, ..Default::default() };
    let told = cluster.ask::<super::offset_for_leader_epoch::OffsetForLeaderEpoch>(4, request).await;
    assert_eq!(told.topics[0].partitions[0].error_code, NOT_LEADER);
    let partitions = vec![DeleteRecordsPartition { partition_index: 1, offset: -1 }];
    let topics = vec![DeleteRecordsTopic { name: t(), partitions }];
    let request = DeleteRecordsRequest { topics, ..Default::default() };
    let told = cluster.ask::<super::admin::delete_records::DeleteRecords>(2, request).await;
    assert_eq!(told.topics[0].partitions[0].error_code, NOT_LEADER);
}

#[tokio::test]
async fn metadata_names_each_partitions_own_leader() {
    let cluster = Cluster::new();
    let request = MetadataRequest { topics: None, ..Default::default() };
    let told = cluster.ask::<super::metadata::Metadata>(12, request).await;
    assert_eq!(told.brokers.len(), 2);
    assert_eq!(told.controller_id, 2);
    let leader = |partition: &MetadataResponsePartition| (partition.leader_id, partition.leader_epoch);
    assert_eq!(told.topics[0].partitions.iter().map(leader).collect::<Vec<_>>(), [(1, 5), (2, 5)]);
}

#[tokio::test]
async fn a_compacted_topic_refuses_a_batch_with_a_record_that_has_no_key() {
    let cluster = Cluster::new();
    let overrides = BTreeMap::from([("cleanup.policy".to_owned(), "compact,delete".to_owned())]);
    cluster.node.topics.create(&KStr::from_static("c"), 1, overrides).unwrap();
    let mut all_keyed = BatchBuilder::new(Compression::None);
    let mut builder = BatchBuilder::new(Compression::Zstd);
    for key in [Some(&b"a"[..]), None, Some(b""), None] {
        builder.append(&NewRecord { timestamp: 1, key, value: Some(b"v"), headers: &[] });
        all_keyed.append(&NewRecord { timestamp: 1, key: key.or(Some(b"b")), value: None, headers: &[] });
    }
    let ask = |batch: Bytes, topic: &'static str| {
        let data = PartitionProduceData { index: 0, records: Some(Chunk::Bytes(batch)) };
        let name = KStr::from_static(topic);
        let topic = TopicProduceData { name, partition_data: vec![data], ..Default::default() };
        let request = ProduceRequest { acks: 1, topic_data: vec![topic], ..Default::default() };
        cluster.ask::<super::produce::Produce>(8, request)
    };
    let batch = builder.build();
    let told = ask(batch.clone(), "c").await;
    let refused = &told.responses[0].partition_responses[0];
    assert_eq!((refused.error_code, refused.base_offset), (ErrorCode::InvalidRecord.code(), -1));
    let blamed: Vec<_> = refused.record_errors.iter().map(|error| error.batch_index).collect();
    assert_eq!(blamed, [1, 3]);
    assert!(refused.record_errors[0].batch_index_error_message.as_ref().unwrap().contains("without a key"));
    assert!(refused.error_message.as_ref().unwrap().contains("2 of the batch's 4 records"));
    let taken = ask(all_keyed.build(), "c").await;
    assert_eq!(
        taken.responses[0].partition_responses[0].base_offset, 0,
        "nothing of the refused batch is there"
    );
    let elsewhere = ask(batch, "t").await;
    assert_eq!(elsewhere.responses[0].partition_responses[0].error_code, 0);
}

/// What each API answers for partition 0 of `t`: Produce, Fetch, ListOffsets, OffsetForLeaderEpoch,
/// DeleteRecords.
async fn codes(cluster: &Cluster) -> [i16; 5] {
    let id = cluster.node.topics.snapshot().named("t").unwrap().id;
    let data = PartitionProduceData { index: 0, records: Some(Chunk::Bytes(batch())) };
    let topic = TopicProduceData { name: t(), partition_data: vec![data], ..Default::default() };
    let request = ProduceRequest { acks: 1, topic_data: vec![topic], ..Default::default() };
    let produced = cluster.ask::<super::produce::Produce>(10, request).await;
    let produced = &produced.responses[0].partition_responses[0];
    assert_eq!(produced.current_leader.leader_id, -1, "an answer with a leader is tried again at once");
    let partition = FetchPartition { partition: 0, current_leader_epoch: 5, ..Default::default() };
    let topic = FetchTopic { topic_id: id, partitions: vec![partition], ..Default::default() };
    let request =
        FetchRequest { max_wait_ms: 60_000, min_bytes: 1, topics: vec![topic], ..Default::default() };
    let fetched = cluster.ask::<super::fetch::Fetch>(16, request);
    let fetched = fetched.now_or_never().expect("an error does not wait");
    let fetched = &fetched.responses[0].partitions[0];
    assert_eq!(fetched.current_leader.leader_id, -1, "an answer with a leader is tried again at once");
    let partition = ListOffsetsPartition { timestamp: -1, ..Default::default() };
    let topics = vec![ListOffsetsTopic { name: t(), partitions: vec![partition] }];
    let request = ListOffsetsRequest { topics, ..Default::default() };
    let listed = cluster.ask::<super::list_offsets::ListOffsets>(7, request).await;
    let topics =
        vec![OffsetForLeaderTopic { topic: t(), partitions: vec![OffsetForLeaderPartition::default()] }];
    let request = OffsetForLeaderEpochRequest { topics, ..Default::default() };
    let ended = cluster.ask::<super::offset_for_leader_epoch::OffsetForLeaderEpoch>(4, request).await;
    let partitions = vec![DeleteRecordsPartition { partition_index: 0, offset: 0 }];
    let topics = vec![DeleteRecordsTopic { name: t(), partitions }];
    let request = DeleteRecordsRequest { topics, ..Default::default() };
    let deleted = cluster.ask::<super::admin::delete_records::DeleteRecords>(2, request).await;
    [
        produced.error_code,
        fetched.error_code,
        listed.topics[0].partitions[0].error_code,
        ended.topics[0].partitions[0].error_code,
        deleted.topics[0].partitions[0].error_code,
    ]
}

async fn leader(cluster: &Cluster) -> MetadataResponsePartition {
    let request = MetadataRequest { topics: None, ..Default::default() };
    let told = cluster.ask::<super::metadata::Metadata>(12, request).await;
    told.topics[0].partitions[0].clone()
}

#[tokio::test]
async fn a_partition_that_is_being_recovered_has_no_leader_for_a_moment() {
    let cluster = Cluster::restarted();
    let told = leader(&cluster).await;
    assert_eq!((told.error_code, told.leader_id), (ErrorCode::LeaderNotAvailable.code(), -1));
    assert_eq!(codes(&cluster).await, [NOT_LEADER; 5]);
    assert!(!cluster.node.topics.recovery().is_over());
    let summary = cluster.node.topics.recover(&|| false);
    assert_eq!((summary.partitions, summary.opened, summary.failed), (2, 2, 0));
    assert!(cluster.node.topics.recovery().is_over());
    let told = leader(&cluster).await;
    assert_eq!((told.error_code, told.leader_id, told.leader_epoch), (0, 1, 5));
    assert_eq!(codes(&cluster).await, [0; 5]);
}

#[tokio::test]
async fn a_partition_that_cannot_be_opened_answers_with_a_storage_error_and_costs_no_other() {
    let cluster = Cluster::restarted();
    let id = cluster.node.topics.snapshot().named("t").unwrap().id;
    let folder = cluster.folder.path().join("topics").join(id.to_string()).join("0");
    std::fs::remove_dir_all(&folder).unwrap();
    std::fs::write(&folder, "not a folder").unwrap();
    let summary = cluster.node.topics.recover(&|| false);
    assert_eq!((summary.partitions, summary.opened, summary.failed), (2, 1, 1));
    let storage = ErrorCode::KafkaStorageError.code();
    assert_eq!(codes(&cluster).await, [storage; 5]);
    let told = leader(&cluster).await;
    assert_eq!((told.error_code, told.leader_id, told.offline_replicas), (storage, 1, vec![1]));
    let topic = Arc::clone(cluster.node.topics.snapshot().named("t").unwrap());
    assert!(topic.partition(1).unwrap().log().is_ok());
}

#[tokio::test]
async fn a_topic_that_is_deleted_while_it_is_recovered_stays_deleted() {
    let cluster = Cluster::restarted();
    let topics = &cluster.node.topics;
    let before = Arc::clone(&topics.snapshot());
    topics.delete(&t()).unwrap();
    topics.recover(&|| false);
    let id = before.named("t").unwrap().id;
    assert!(!cluster.folder.path().join("topics").join(id.to_string()).exists());
    assert!(topics.close(&topics.directories()[0]).is_ok());
}

#[tokio::test]
async fn a_recovery_that_is_stopped_leaves_the_rest_unopened_and_says_so() {
    let cluster = Cluster::restarted();
    let topics = &cluster.node.topics;
    let summary = topics.recover(&|| true);
    assert_eq!((summary.partitions, summary.opened), (2, 0));
    assert!(topics.recovery().is_over(), "who waits for it is told");
    assert!(
        topics
            .close(&topics.directories()[0])
            .unwrap_err()
            .to_string()
            .contains("2 partitions were never opened")
    );
}
