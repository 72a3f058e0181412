//! What a case runs against, and what several cases do.

use std::sync::Arc;

use millstream_broker::Broker;
use millstream_client::{Client, ClientBuilder, NewTopic, Tcp, Transport, embedded};
use millstream_consumer::{Consumer, ConsumerRecord, StartAt, StopAt};
use rand::Rng;

mod kafka;

/// A broker to test against. Millstream is there for one case alone, and its data goes with it; Kafka, which takes
/// seconds to start, for all of them, so that what a case makes there has to have a name of its own.
pub(crate) struct Bed {
    bootstrap: String,
    transport: Arc<dyn Transport>,
    _own: Option<(Broker, Option<tempfile::TempDir>)>,
}

impl Bed {
    pub(crate) fn over_tcp() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let builder = Broker::builder().data_dir(dir.path()).listen("127.0.0.1:0");
        let broker = builder.set("log.retention.ms", "-1").start().unwrap();
        let bootstrap = broker.kafka_address().to_string();
        Self { bootstrap, transport: Arc::new(Tcp), _own: Some((broker, Some(dir))) }
    }

    pub(crate) fn in_process() -> Self {
        let builder = Broker::builder().in_memory().no_listener();
        let broker = builder.set("log.retention.ms", "-1").start().unwrap();
        let (bootstrap, transport) = (embedded::ADDRESS.to_owned(), embedded::transport(&broker));
        Self { bootstrap, transport, _own: Some((broker, None)) }
    }

    /// `None`, and a word about it, if there is no Kafka here.
    pub(crate) fn apache_kafka() -> Option<Self> {
        let bootstrap = kafka::address()?.to_string();
        Some(Self { bootstrap, transport: Arc::new(Tcp), _own: None })
    }

    /// A client to be set up further.
    pub(crate) fn builder(&self) -> ClientBuilder {
        Client::builder(&self.bootstrap).client_id("clients-test").transport(self.transport())
    }

    /// How connections to this broker are opened.
    pub(crate) fn transport(&self) -> Arc<dyn Transport> {
        self.transport.clone()
    }

    pub(crate) async fn client(&self) -> Client {
        self.builder().connect().await.unwrap()
    }

    /// A name that nobody else has: of a topic, a group, a transaction.
    pub(crate) fn unique(&self, prefix: &str) -> String {
        format!("{prefix}-{}", rand::rng().next_u64())
    }

    /// A client, and a fresh topic for this case alone.
    pub(crate) async fn topic(&self, prefix: &str, partitions: i32) -> (Client, String) {
        let (client, topic) = (self.client().await, self.unique(prefix));
        client.admin().create_topic(NewTopic::new(topic.as_str()).partitions(partitions)).await.unwrap();
        (client, topic)
    }
}

/// Everything that the topic holds now.
pub(crate) async fn read_all(client: &Client, topic: &str) -> Vec<ConsumerRecord> {
    let consumer = Consumer::builder(client.clone()).assign_topic(topic, StartAt::Beginning);
    let mut consumer = consumer.stop(StopAt::CurrentEnd).build().await.unwrap();
    let mut all = Vec::new();
    loop {
        match consumer.recv_batch().await.unwrap() {
            records if records.is_empty() => return all,
            records => all.extend(records),
        }
    }
}
