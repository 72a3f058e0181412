//! Connections from within the process, without a socket.

use std::io;
use std::net::Ipv4Addr;
use std::sync::{Arc, Weak};

use millstream_protocol::KStr;
use millstream_protocol::messages::{ProduceRequest, ProduceResponse};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use super::listener::{Open, SLOTS, all_returned};
use crate::connection::Connection;
use crate::connection::pipe::InProcessStream;
use crate::dispatch::{Answer, Call, Handler, Meanwhile, Peer};
use crate::handlers::produce::Produce;
use crate::metadata::cluster_view::Dialled;
use crate::node::Node;

/// Opens connections to a broker in this process; see [`Broker::in_process`](super::Broker::in_process). Clones lead
/// to the same broker, and none of them keeps it running.
#[derive(Debug, Clone)]
pub struct InProcess {
    node: Weak<Node>,
    connections: Arc<Semaphore>,
    peer: Arc<Peer>,
}

/// Of a Produce that is not encoded: the newest in which topics are named, and not told by their ids.
const PRODUCE_VERSION: i16 = 12;

fn peer() -> Peer {
    Peer { address: (Ipv4Addr::LOCALHOST, 0).into(), dialled: Dialled::InProcess }
}

impl InProcess {
    pub(super) fn new(node: &Arc<Node>) -> Self {
        let connections = Arc::new(Semaphore::new(SLOTS));
        Self { node: Arc::downgrade(node), connections, peer: Arc::new(peer()) }
    }

    /// Opens a connection and returns the client's end, over which Kafka's protocol is spoken as over a socket. The
    /// broker's end is served by the tokio runtime that this is called in: a request is handled, and its records are
    /// appended, without a change of threads. It ends when either end is dropped, the broker stops, or that runtime
    /// does.
    ///
    /// ```
    /// # use tokio::io::{AsyncReadExt, AsyncWriteExt};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let broker = millstream_broker::Broker::builder().in_memory().no_listener().start()?;
    /// let mut stream = broker.in_process().connect()?;
    /// // ApiVersions, version 0, correlation id 7, no client id.
    /// stream.write_all(&[0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 7, 0xff, 0xff]).await?;
    /// let mut reply = vec![0; stream.read_u32().await? as usize];
    /// stream.read_exact(&mut reply).await?;
    /// assert_eq!(reply[..6], [0, 0, 0, 7, 0, 0], "the same correlation id, and no error");
    /// broker.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `ConnectionRefused` if the broker has stopped, `Unsupported` outside of a tokio runtime.
    pub fn connect(&self) -> io::Result<InProcessStream> {
        let (node, runtime) = self.node_and_runtime()?;
        let slot = Arc::clone(&self.connections).try_acquire_owned();
        let slot = slot.map_err(|_| refused("there are more connections than can be counted"))?;
        let open = Open::new(Arc::clone(&node), slot);
        let (ours, theirs) = InProcessStream::pair();
        let connection = Connection::new(node, peer(), ours);
        runtime.spawn(async move {
            connection.serve().await;
            drop(open);
        });
        Ok(theirs)
    }

    /// Handles one Produce on the spot, without encoding it, and without a connection that others may use: with `acks=1`
    /// most often all is done before this waits for anything. Topics are told by name. For programs that make their
    /// own batches; what a producer does for its records (order, retries, sequences) is theirs to do then.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use millstream_broker::protocol::messages::ProduceRequest;
    /// use millstream_broker::protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
    /// use millstream_broker::protocol::records::{BatchBuilder, Compression, NewRecord};
    ///
    /// let broker = millstream_broker::Broker::builder().in_memory().no_listener().start()?;
    /// let mut batch = BatchBuilder::new(Compression::None);
    /// batch.append(&NewRecord { timestamp: -1, value: Some(b"hello"), ..Default::default() });
    /// let data = PartitionProduceData { index: 0, records: Some(batch.build().into()) };
    /// let topic = TopicProduceData { name: "nowhere".into(), partition_data: vec![data], ..Default::default() };
    /// let request = ProduceRequest { acks: 1, topic_data: vec![topic], ..Default::default() };
    /// let response = broker.in_process().produce(request).await?;
    /// assert_eq!(response.responses[0].partition_responses[0].error_code, 3, "there is no such topic");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// Cancellation: whoever drops this may have written, as with a connection that is lost.
    ///
    /// # Errors
    /// As [`connect`](Self::connect), and `InvalidInput` for what would end a connection. What is wrong with a batch is
    /// in the response.
    pub async fn produce(&self, request: ProduceRequest) -> io::Result<ProduceResponse> {
        let (node, _) = self.node_and_runtime()?;
        let call = Call {
            node,
            peer: Arc::clone(&self.peer),
            version: PRODUCE_VERSION,
            meanwhile: Meanwhile::Waits,
            client_id: KStr::default(),
        };
        match Produce::handle(call, request) {
            Answer::Now(response) => Ok(response),
            Answer::Later(work) => Ok(work.await),
            Answer::Silent => Ok(ProduceResponse::default()),
            Answer::Close(reason) => Err(io::Error::new(io::ErrorKind::InvalidInput, reason)),
        }
    }

    fn node_and_runtime(&self) -> io::Result<(Arc<Node>, Handle)> {
        let node = self.node.upgrade().filter(|node| !node.is_stopping());
        let node = node.ok_or_else(|| refused("the broker in this process has stopped"))?;
        let runtime = Handle::try_current();
        Ok((node, runtime.map_err(|error| io::Error::new(io::ErrorKind::Unsupported, error))?))
    }

    /// Ready once all connections have ended, which they do when the broker stops.
    pub(super) async fn drained(&self) {
        all_returned(&self.connections).await;
    }
}

fn refused(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionRefused, text)
}
