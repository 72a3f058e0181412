//! A broker that plays a script, in memory: for tests of this crate and of those on top of it.
//!
//! It is a [`Transport`], so a test needs no socket, and runs on tokio's paused clock. The script sees each
//! request and says what becomes of it; what it leaves to the broker gets a plain answer: every API in every
//! version that we know, one node that leads every partition, one producer id.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use millstream_protocol::messages::api_versions_response::ApiVersion;
use millstream_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use millstream_protocol::messages::{
    ApiVersionsRequest, ApiVersionsResponse, InitProducerIdRequest, InitProducerIdResponse, MetadataRequest,
    MetadataResponse,
};
use millstream_protocol::wire::Reader;
use millstream_protocol::{ApiKey, Chunk, KStr, Request, RequestHeader, Uuid, encode_response};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use crate::address::Address;
use crate::transport::{Connecting, Stream, Transport};

/// The node that the built-in answers name.
pub const NODE: i32 = 1;
/// The producer id that the built-in answer gives.
pub const PRODUCER_ID: i64 = 7;

/// What becomes of a request.
#[derive(Debug)]
pub enum Answer {
    /// This frame is the answer.
    Frame(Vec<Chunk>),
    /// The built-in answer.
    Usual,
    /// None, for ever; the connection stays open.
    Never,
    /// None; the connection is closed.
    Close,
}

/// A request that arrived.
#[derive(Debug, Clone)]
pub struct Call {
    /// How many connections were opened before the one that it came over.
    pub connection: usize,
    /// Its API.
    pub api: ApiKey,
    /// Its version.
    pub version: i16,
    correlation_id: i32,
    body: Bytes,
}

impl Call {
    /// The request.
    ///
    /// # Panics
    /// If it is another one.
    #[must_use]
    pub fn decode<R: Request>(&self) -> R {
        assert_eq!(self.api, R::KEY, "the script expected another request");
        R::decode(&mut Reader::new(&self.body), self.version).expect("our own client sent it")
    }

    /// Answers it.
    ///
    /// # Panics
    /// If the answer cannot be expressed in the request's version.
    pub fn answer<R: Request>(&self, response: &R::Response) -> Answer {
        assert_eq!(self.api, R::KEY, "the script answers another request");
        let frame = encode_response(R::KEY, self.version, self.correlation_id, response);
        Answer::Frame(frame.expect("the script wrote an answer for this version"))
    }

    /// Answers it with a body written in another version than its own.
    ///
    /// # Panics
    /// If the answer cannot be expressed in that version.
    pub fn answer_in<R: Request>(&self, version: i16, response: &R::Response) -> Answer {
        let frame = encode_response(R::KEY, version, self.correlation_id, response);
        Answer::Frame(frame.expect("the script wrote an answer for this version"))
    }
}

type Script = Box<dyn FnMut(&Call) -> Answer + Send>;

/// The broker.
pub struct FakeBroker {
    partitions: i32,
    script: Arc<Mutex<Script>>,
    connections: AtomicUsize,
}

impl FakeBroker {
    /// A broker whose topics all exist and have so many partitions.
    pub fn start(partitions: i32, script: impl FnMut(&Call) -> Answer + Send + 'static) -> Arc<Self> {
        let script: Script = Box::new(script);
        Arc::new(Self { partitions, script: Arc::new(Mutex::new(script)), connections: AtomicUsize::new(0) })
    }

    /// How many connections have been opened.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for FakeBroker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FakeBroker").field("partitions", &self.partitions).finish_non_exhaustive()
    }
}

impl Transport for FakeBroker {
    fn connect<'a>(&'a self, _address: &'a Address) -> Connecting<'a> {
        let (near, far) = tokio::io::duplex(1 << 20);
        let number = self.connections.fetch_add(1, Ordering::Relaxed);
        tokio::spawn(serve(far, number, self.partitions, self.script.clone()));
        let (read, write) = tokio::io::split(near);
        Box::pin(async move { Ok(Stream { read: Box::new(read), write: Box::new(write) }) })
    }
}

async fn serve(mut stream: DuplexStream, connection: usize, partitions: i32, script: Arc<Mutex<Script>>) {
    // Ends when the client goes away.
    while let Ok(length) = stream.read_i32().await {
        let mut frame = vec![0; usize::try_from(length).expect("our own client sent it")];
        if stream.read_exact(&mut frame).await.is_err() {
            return;
        }
        let frame = Bytes::from(frame);
        let mut reader = Reader::new(&frame);
        let header = RequestHeader::decode(&mut reader).expect("our own client sent it");
        let body = frame.slice(frame.len() - reader.remaining()..);
        let api = ApiKey::from_code(header.api_key).expect("our own client sent it");
        let RequestHeader { api_version: version, correlation_id, .. } = header;
        let call = Call { connection, api, version, correlation_id, body };
        let answer = (script.lock().unwrap_or_else(PoisonError::into_inner))(&call);
        let answer = if matches!(answer, Answer::Usual) { usual(&call, partitions) } else { answer };
        match answer {
            Answer::Frame(chunks) => {
                for chunk in chunks {
                    if stream.write_all(&chunk.into_bytes()).await.is_err() {
                        return;
                    }
                }
            }
            Answer::Never => {}
            Answer::Usual | Answer::Close => return,
        }
    }
}

fn usual(call: &Call, partitions: i32) -> Answer {
    match call.api {
        ApiKey::ApiVersions => call.answer::<ApiVersionsRequest>(&all_versions()),
        ApiKey::Metadata => {
            let asked: MetadataRequest = call.decode();
            let names = asked.topics.unwrap_or_default().into_iter().filter_map(|topic| topic.name);
            let led_by = |_: i32| NODE;
            call.answer::<MetadataRequest>(&metadata(names, partitions, led_by))
        }
        ApiKey::InitProducerId => call.answer::<InitProducerIdRequest>(&InitProducerIdResponse {
            producer_id: PRODUCER_ID,
            producer_epoch: 0,
            ..Default::default()
        }),
        _ => Answer::Close,
    }
}

/// Every API in every version that we know.
#[must_use]
pub fn all_versions() -> ApiVersionsResponse {
    let codes = (0..200).filter_map(ApiKey::from_code);
    let served = codes.map(|api| ApiVersion {
        api_key: api.code(),
        min_version: api.min_version(),
        max_version: api.max_version(),
    });
    ApiVersionsResponse { api_keys: served.collect(), ..Default::default() }
}

/// A cluster of nodes 1 and 2, and topics whose partitions are led by whom `led_by` says.
pub fn metadata(
    topics: impl Iterator<Item = KStr>,
    partitions: i32,
    led_by: impl Fn(i32) -> i32,
) -> MetadataResponse {
    let broker = |node_id: i32| MetadataResponseBroker {
        node_id,
        host: KStr::from_static("fake"),
        port: 9000 + node_id,
        ..Default::default()
    };
    let partition = |index: i32| MetadataResponsePartition {
        partition_index: index,
        leader_id: led_by(index),
        ..Default::default()
    };
    let topics = topics.map(|name| MetadataResponseTopic {
        topic_id: topic_id(&name),
        name: Some(name),
        partitions: (0..partitions).map(partition).collect(),
        ..Default::default()
    });
    MetadataResponse {
        brokers: vec![broker(NODE), broker(NODE + 1)],
        controller_id: NODE,
        topics: topics.collect(),
        ..Default::default()
    }
}

/// The id of a topic in the built-in answers.
#[must_use]
pub fn topic_id(name: &str) -> Uuid {
    let mut bytes = [1; 16];
    for (byte, of_name) in bytes.iter_mut().zip(name.bytes()) {
        *byte = of_name;
    }
    Uuid::from_bytes(bytes)
}
