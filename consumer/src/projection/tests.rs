//! What a projection does without a real broker: time that passes, and partitions that come.

use std::convert::Infallible;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use millstream_client::Client;
use millstream_client::fake::{self, Answer, Call, FakeBroker, NODE};
use millstream_client::protocol::messages::fetch_response::{FetchableTopicResponse, PartitionData};
use millstream_client::protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use millstream_client::protocol::messages::{
    FetchRequest, FetchResponse, ListOffsetsRequest, ListOffsetsResponse, MetadataRequest,
};
use millstream_client::protocol::records::{BatchBuilder, Compression, NewRecord};
use millstream_client::protocol::{ApiKey, Chunk};
use tokio::time::Instant;

use super::progress::{Meter, eta};
use super::*;

/// One record in each partition.
fn fetch(call: &Call) -> Answer {
    let request: FetchRequest = call.decode();
    let asked = request.topics.iter().flat_map(|topic| &topic.partitions);
    let due = asked.filter(|partition| partition.fetch_offset == 0).map(|partition| {
        let mut builder = BatchBuilder::new(Compression::None);
        builder.append(&NewRecord { value: Some(b"x"), ..Default::default() });
        PartitionData {
            partition_index: partition.partition,
            high_watermark: 1,
            records: Some(Chunk::Bytes(builder.build())),
            ..Default::default()
        }
    });
    let partitions: Vec<_> = due.collect();
    if partitions.is_empty() {
        return Answer::Never;
    }
    let topic = FetchableTopicResponse { topic_id: fake::topic_id("t"), partitions, ..Default::default() };
    call.answer::<FetchRequest>(&FetchResponse { responses: vec![topic], ..Default::default() })
}

fn list_offsets(call: &Call) -> Answer {
    let request: ListOffsetsRequest = call.decode();
    let topics = request.topics.into_iter().map(|topic| ListOffsetsTopicResponse {
        name: topic.name,
        partitions: (topic.partitions.iter())
            .map(|partition| ListOffsetsPartitionResponse {
                partition_index: partition.partition_index,
                offset: i64::from(partition.timestamp == -1),
                ..Default::default()
            })
            .collect(),
    });
    let response = ListOffsetsResponse { topics: topics.collect(), ..Default::default() };
    call.answer::<ListOffsetsRequest>(&response)
}

#[derive(Debug, Clone, Default)]
struct Partitions(Arc<Mutex<Vec<i32>>>);

impl Sink for Partitions {
    type Error = Infallible;

    async fn load(&mut self) -> Result<Positions, Infallible> {
        Ok(Positions::default())
    }

    async fn apply(&mut self, batch: &Batch, positions: &Positions) -> Result<(), Infallible> {
        for record in batch.iter() {
            assert_eq!(positions.next("t", record.partition), Some(1));
            self.0.lock().unwrap().push(record.partition);
        }
        Ok(())
    }

    async fn reset(&mut self) -> Result<(), Infallible> {
        self.0.lock().unwrap().clear();
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn partitions_that_are_added_to_a_topic_are_read_from_their_first_record() {
    let count = Arc::new(AtomicI32::new(1));
    let partitions = count.clone();
    let broker = FakeBroker::start(1, move |call| match call.api {
        ApiKey::Metadata => {
            let asked: MetadataRequest = call.decode();
            let names = asked.topics.into_iter().flatten().filter_map(|topic| topic.name);
            let metadata = fake::metadata(names, partitions.load(Ordering::SeqCst), |_| NODE);
            call.answer::<MetadataRequest>(&metadata)
        }
        ApiKey::Fetch => fetch(call),
        ApiKey::ListOffsets => list_offsets(call),
        _ => Answer::Usual,
    });
    let client = Client::builder("fake").transport(broker).metadata_max_age(Duration::from_secs(60));
    let client = client.connect().await.unwrap();
    let seen = Partitions::default();
    let projection = Projection::builder(client, "t").open(seen.clone()).await.unwrap();
    let mut handle = projection.handle();
    let running = tokio::spawn(projection.run());
    handle.caught_up().await.unwrap();
    assert_eq!(*seen.0.lock().unwrap(), [0]);
    assert_eq!(handle.progress().phase, Phase::Live);
    count.store(3, Ordering::SeqCst);
    while seen.0.lock().unwrap().len() < 3 {
        handle.changed().await.unwrap();
    }
    assert_eq!(*seen.0.lock().unwrap(), [0, 1, 2]);
    handle.stop();
    running.await.unwrap().unwrap();
    assert_eq!(handle.progress().phase, Phase::Stopped);
}

#[test]
fn the_rate_is_that_of_the_last_whole_second_and_the_rest_is_reckoned_by_it() {
    let start = Instant::now();
    let mut meter = Meter::new(start);
    let at = |ms| start + Duration::from_millis(ms);
    assert_eq!(meter.count(50, at(500)), 100.0);
    assert_eq!(meter.count(150, at(1000)), 200.0);
    assert_eq!(meter.count(10, at(1100)), 200.0, "the second has just begun");
    assert_eq!(meter.count(990, at(2000)), 1000.0);
    assert_eq!(eta(500, 1000.0), Some(Duration::from_millis(500)));
    assert_eq!((eta(0, 0.0), eta(1, 0.0)), (Some(Duration::ZERO), None));
}
