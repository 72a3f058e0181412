//! What clients are told of a partition that another node leads: the refusals of a cluster, before there is
//! one.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt;
use millstream_log::{CleanStart, Flusher, LeaderEpoch, RealDisk, SystemClock};
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
use tokio::sync::watch;

use crate::dispatch::{Answer, Call, Handler, Peer};
use crate::fetch_session::FetchSessions;
use crate::frame::FrameMemory;
use crate::meta_store::LocalMetaStore;
use crate::metadata::cluster_view::tests::TwoNodes;
use crate::metadata::producer_ids::ProducerIds;
use crate::metadata::topics::{LogSource, Topics};
use crate::metrics::Metrics;
use crate::node::Node;
use crate::settings::{BrokerSettings, Written};

const NOT_LEADER: i16 = ErrorCode::NotLeaderOrFollower.code();

/// Node 1 of two, with a topic whose partition 1 the other node leads.
struct Cluster {
    node: Arc<Node>,
    _stop: watch::Sender<bool>,
    _folder: tempfile::TempDir,
}

impl Cluster {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let settings = BrokerSettings::new(Written::new()).unwrap();
        let store = Arc::new(LocalMetaStore::open(Arc::new(RealDisk), &folder.path().join("meta")).unwrap());
        let topics = folder.path().join("topics");
        std::fs::create_dir(&topics).unwrap();
        let logs = LogSource {
            disk: Arc::new(RealDisk),
            clock: Arc::new(SystemClock),
            flusher: Flusher::start(1),
            folder: topics,
            leader_epoch: LeaderEpoch::new(5),
        };
        let topics = Topics::open(store.clone(), logs, &settings.topic_defaults, CleanStart::Yes).unwrap();
        let defaults = settings.topic_defaults.clone();
        topics.create(&KStr::from_static("t"), 2, defaults, BTreeMap::new()).unwrap();
        let (stop, stopping) = watch::channel(false);
        let node = Node {
            clock: Arc::new(SystemClock),
            view: Box::new(TwoNodes),
            topics,
            producer_ids: ProducerIds::new(store),
            fetch_sessions: FetchSessions::new(10),
            frames: FrameMemory::new(1 << 20),
            metrics: Metrics::new(),
            http_address: None,
            control: tokio::runtime::Handle::current(),
            stopping,
            settings,
        };
        Self { node: Arc::new(node), _stop: stop, _folder: folder }
    }

    async fn ask<H: Handler>(&self, version: i16, request: H::Request) -> <H::Request as Request>::Response {
        let address = "127.0.0.1:9092".parse().unwrap();
        let peer = Arc::new(Peer { address, dialled: address });
        match H::handle(Call { node: Arc::clone(&self.node), peer, version }, request) {
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
    assert_eq!(topic.partition(1).unwrap().log.offsets().log_end.get(), 0);
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
