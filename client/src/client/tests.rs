//! A client against a broker that plays a script: metadata, retries, isolation, raw requests.

use std::sync::atomic::{AtomicUsize, Ordering};

use millstream_protocol::ApiKey;
use millstream_protocol::messages::{
    DescribeClusterRequest, DescribeClusterResponse, ProduceRequest, metadata_response,
};

use super::*;
use crate::fake::{self, Answer, Call, FakeBroker};

async fn connect(script: impl FnMut(&Call) -> Answer + Send + 'static) -> (Client, Arc<FakeBroker>) {
    let broker = FakeBroker::start(2, script);
    let client = Client::builder("fake:1").transport(broker.clone()).connect().await.unwrap();
    (client, broker)
}

/// Counts what is asked of a kind, and leaves the rest to the broker.
fn counting(api: ApiKey, count: &Arc<AtomicUsize>) -> impl FnMut(&Call) -> Answer + Send + 'static {
    let count = count.clone();
    move |call| {
        if call.api == api {
            count.fetch_add(1, Ordering::Relaxed);
        }
        Answer::Usual
    }
}

#[tokio::test(start_paused = true)]
async fn metadata_is_asked_for_once_until_it_is_old_or_doubted() {
    let asked = Arc::new(AtomicUsize::new(0));
    let (client, _) = connect(counting(ApiKey::Metadata, &asked)).await;
    let first_contact = asked.load(Ordering::Relaxed);
    let asked = || asked.load(Ordering::Relaxed) - first_contact;
    let all = (0..10).map(|_| client.topic("t", Missing::Fail));
    for topic in all {
        assert_eq!(topic.await.unwrap().partitions.len(), 2);
    }
    assert_eq!(asked(), 1);
    client.invalidate("t");
    client.topic("t", Missing::Fail).await.unwrap();
    assert_eq!(asked(), 2);
    tokio::time::advance(Duration::from_secs(301)).await;
    client.metadata(&["t"]).await.unwrap();
    assert_eq!(asked(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_missing_topic_is_told_after_a_moment_and_one_to_be_created_gets_longer() {
    let (client, _) = connect(|call| {
        if call.api != ApiKey::Metadata {
            return Answer::Usual;
        }
        let asked: MetadataRequest = call.decode();
        let mut answer = fake::metadata(asked.topics.into_iter().flatten().filter_map(|t| t.name), 1, |_| 1);
        let unknown = |topic: &mut metadata_response::MetadataResponseTopic| {
            topic.error_code = ErrorCode::UnknownTopicOrPartition.code();
        };
        answer.topics.iter_mut().for_each(unknown);
        call.answer::<MetadataRequest>(&answer)
    })
    .await;
    for (missing, patience) in [(Missing::Fail, 1.0), (Missing::Create, 5.0)] {
        let started = Instant::now();
        let error = client.topic("t", missing).await.unwrap_err();
        assert!(matches!(error, ClientError::UnknownTopic { .. }), "{error}");
        assert!(started.elapsed().as_secs_f64() <= patience, "{missing:?} took {:?}", started.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_may_have_arrived_is_not_repeated_and_one_that_did_not_is() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let (client, broker) = connect(move |call| match call.api {
        ApiKey::DescribeCluster => {
            count.fetch_add(1, Ordering::Relaxed);
            Answer::Close
        }
        // The second connection does not even come up.
        ApiKey::ApiVersions if call.connection == 1 => Answer::Close,
        _ => Answer::Usual,
    })
    .await;
    let error = client.request(DescribeClusterRequest::default(), To::Any).await.unwrap_err();
    assert!(error.is_retriable() && !error.had_no_effect(), "{error}");
    assert_eq!(asked.load(Ordering::Relaxed), 1);
    client.request(DescribeClusterRequest::default(), To::Any).await.unwrap_err();
    assert_eq!((asked.load(Ordering::Relaxed), broker.connections()), (2, 3));
}

#[tokio::test]
async fn an_isolated_handle_shares_metadata_but_no_connection() {
    let (client, broker) = connect(|_| Answer::Usual).await;
    client.topic("t", Missing::Fail).await.unwrap();
    let isolated = client.isolated();
    let shared = isolated.topic("t", Missing::Fail).await.unwrap();
    assert!(Arc::ptr_eq(&shared, &client.topic("t", Missing::Fail).await.unwrap()));
    let before = broker.connections();
    isolated.connection(To::Leader("t", 1)).await.unwrap();
    client.connection(To::Leader("t", 1)).await.unwrap();
    assert_eq!(broker.connections(), before + 2);
}

#[tokio::test]
async fn every_kind_of_request_can_be_sent_as_it_is() {
    let (client, _) = connect(|call| match call.api {
        ApiKey::DescribeCluster => {
            let cluster_id = KStr::from_static("c");
            let answer = DescribeClusterResponse { cluster_id, ..Default::default() };
            call.answer::<DescribeClusterRequest>(&answer)
        }
        ApiKey::Produce => Answer::Never,
        _ => Answer::Usual,
    })
    .await;
    for to in [To::Any, To::Controller, To::Broker(BrokerId(2)), To::Leader("t", 0)] {
        let answer = client.request(DescribeClusterRequest::default(), to).await.unwrap();
        assert_eq!(answer.cluster_id, "c", "{to:?}");
    }
    // No answer ever comes to a Produce without acknowledgement.
    let unanswered = ProduceRequest { acks: 0, ..Default::default() };
    client.request(unanswered, To::Any).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn nobody_there_is_told_with_every_address() {
    let (quick, slow) = ("127.0.0.1:1", "[::1]:1");
    let builder = Client::builder(format!("{quick},{slow}")).total_timeout(Duration::from_secs(3));
    let error = builder.connect().await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains(quick) && text.contains(slow) && text.contains("is it running"), "{text}");
    assert!(error.had_no_effect() && error.is_retriable());
}
