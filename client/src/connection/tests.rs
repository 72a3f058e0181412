//! One connection against a broker that plays a script: versions, pipelining, timeouts, limits.

use std::sync::atomic::{AtomicUsize, Ordering};

use millstream_protocol::messages::api_versions_response::ApiVersion;
use millstream_protocol::messages::{
    ApiVersionsRequest, ApiVersionsResponse, DescribeClusterRequest, DescribeClusterResponse, MetadataRequest,
};
use millstream_protocol::{ErrorCode, KStr};

use super::*;
use crate::fake::{Answer, Call, FakeBroker};

async fn open(
    max_in_flight: usize,
    script: impl FnMut(&Call) -> Answer + Send + 'static,
) -> Result<Connection, ClientError> {
    let settings = Arc::new(ConnectionSettings {
        client_id: Some("me".to_owned()),
        connect_timeout: Duration::from_secs(1),
        request_timeout: Duration::from_secs(10),
        max_reply_bytes: 1 << 20,
        max_in_flight,
        authenticator: None,
    });
    Connection::open(&*FakeBroker::start(1, script), &Address::new("fake", 1), &settings).await
}

fn cluster(id: &str) -> DescribeClusterResponse {
    DescribeClusterResponse { cluster_id: KStr::from(id), ..Default::default() }
}

fn served(max_of_question: i16) -> Vec<ApiVersion> {
    let api_key = ApiKey::ApiVersions.code();
    vec![ApiVersion { api_key, min_version: 0, max_version: max_of_question }]
}

#[tokio::test]
async fn an_older_broker_is_asked_again_in_the_version_that_it_lists() {
    for newest in [0, 2, 3] {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = asked.clone();
        let opened = open(8, move |call| {
            count.fetch_add(1, Ordering::Relaxed);
            let mut response = ApiVersionsResponse { api_keys: served(newest), ..Default::default() };
            if call.version > newest {
                response.error_code = ErrorCode::UnsupportedVersion.code();
                return call.answer_in::<ApiVersionsRequest>(0, &response);
            }
            call.answer::<ApiVersionsRequest>(&response)
        });
        let connection = opened.await.unwrap();
        assert_eq!(asked.load(Ordering::Relaxed), 2, "version 4, then {newest}");
        let error = connection.version_of::<MetadataRequest>(CallOptions::default()).unwrap_err();
        assert!(matches!(error, ClientError::UnsupportedVersion { served: None, .. }), "{error}");
    }
}

#[tokio::test]
async fn a_broker_that_refuses_the_question_without_a_list_is_asked_in_version_0() {
    let opened = open(8, |call| {
        let error_code = if call.version > 0 { ErrorCode::InvalidRequest.code() } else { 0 };
        call.answer_in::<ApiVersionsRequest>(0, &ApiVersionsResponse { error_code, ..Default::default() })
    });
    assert!(opened.await.is_ok());
}

#[tokio::test]
async fn whoever_does_not_speak_kafka_is_named() {
    for (bytes, said) in [
        (&b"HTTP/1.1 400 Bad Request\r\n"[..], "HTTP"),
        (&[0x15, 3, 1, 0, 2, 2, 70][..], "TLS"),
        (&b"SSH-2.0-OpenSSH\r\n"[..], "SSH-"),
    ] {
        let error =
            open(8, move |_| Answer::Frame(vec![Bytes::from_static(bytes).into()])).await.unwrap_err();
        assert!(matches!(error, ClientError::NotKafka { .. }), "{error}");
        assert!(
            error.to_string().contains(said) && !error.is_retriable() && error.had_no_effect(),
            "{error}"
        );
    }
    let error = open(8, |_| Answer::Close).await.unwrap_err();
    assert!(error.to_string().contains("instead of saying which versions"), "{error}");
}

#[tokio::test]
async fn requests_are_pipelined_and_each_reply_reaches_its_own_caller() {
    let mut held = Vec::new();
    let connection = open(8, move |call| {
        if call.api != ApiKey::DescribeCluster {
            return Answer::Usual;
        }
        // Nothing is answered before the third request is there: they are all under way at once.
        let name = format!("answer {}", held.len());
        let Answer::Frame(frame) = call.answer::<DescribeClusterRequest>(&cluster(&name)) else {
            unreachable!("an answer is a frame")
        };
        held.push(frame);
        if held.len() < 3 { Answer::Never } else { Answer::Frame(held.drain(..).flatten().collect()) }
    });
    let connection = connection.await.unwrap();
    let mut replies = Vec::new();
    for _ in 0..3 {
        let request = DescribeClusterRequest::default();
        replies.push(connection.send(&request, CallOptions::default()).await.unwrap());
    }
    for (n, reply) in replies.into_iter().enumerate() {
        assert_eq!(reply.await.unwrap().cluster_id, *format!("answer {n}"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_late_answer_ends_the_connection_and_says_that_the_request_may_have_arrived() {
    let opened = open(8, |call| match call.api {
        ApiKey::ApiVersions => Answer::Usual,
        _ => Answer::Never,
    });
    let connection = opened.await.unwrap();
    let started = tokio::time::Instant::now();
    let options = CallOptions { broker_may_take: Duration::from_secs(5), ..Default::default() };
    let first = connection.send(&DescribeClusterRequest::default(), options).await.unwrap();
    let second = connection.send(&DescribeClusterRequest::default(), options).await.unwrap();
    let error = first.await.unwrap_err();
    assert_eq!(started.elapsed().as_secs(), 15);
    assert!(matches!(error, ClientError::TimedOut { progress: Progress::MaybeSent, .. }), "{error}");
    let error = second.await.unwrap_err();
    assert!(matches!(error, ClientError::Disconnected { progress: Progress::MaybeSent, .. }), "{error}");
    assert!(!connection.is_open());
    let error = connection.send(&DescribeClusterRequest::default(), options).await.unwrap_err();
    assert!(error.had_no_effect() && error.is_retriable(), "{error}");
}

#[tokio::test]
async fn a_reply_that_is_too_large_is_not_waited_for() {
    let opened = open(8, |call| match call.api {
        ApiKey::ApiVersions => Answer::Usual,
        _ => Answer::Frame(vec![Bytes::from_static(&[0x7f, 0xff, 0xff, 0xff]).into()]),
    });
    let connection = opened.await.unwrap();
    let reply = connection.send(&DescribeClusterRequest::default(), CallOptions::default()).await.unwrap();
    let error = reply.await.unwrap_err();
    let is_told = matches!(error, ClientError::ReplyTooLarge { bytes: 0x7fff_ffff, limit: 0x10_0000, .. });
    assert!(is_told && !error.had_no_effect() && !error.is_retriable(), "{error}");
}

#[tokio::test]
async fn a_reply_to_something_else_ends_the_connection() {
    let opened = open(8, |call| match call.api {
        ApiKey::ApiVersions => Answer::Usual,
        _ => Answer::Frame(vec![Bytes::from_static(&[0, 0, 0, 4, 0, 0, 0, 99]).into()]),
    });
    let connection = opened.await.unwrap();
    let reply = connection.send(&DescribeClusterRequest::default(), CallOptions::default()).await.unwrap();
    let error = reply.await.unwrap_err();
    assert!(error.to_string().contains("a reply to request 99"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn what_waits_behind_the_limit_in_flight_was_not_sent() {
    let opened = open(1, |call| match call.api {
        ApiKey::ApiVersions => Answer::Usual,
        _ => Answer::Never,
    });
    let connection = opened.await.unwrap();
    let request = DescribeClusterRequest::default();
    let first = connection.send(&request, CallOptions::default()).await.unwrap();
    // Queued in the channel: the connection takes no more than one.
    let second = connection.send(&request, CallOptions::default()).await.unwrap();
    assert!(!first.await.unwrap_err().had_no_effect());
    assert!(second.await.unwrap_err().had_no_effect());
}
