//! Settings of a consumer by the names that they have in Kafka.

use millstream_client::{Client, Properties, PropertyError};

use super::{ConsumerBuilder, Isolation, OutOfRange, StartAt};
use crate::group::{Assignor, GroupProtocol};

/// What a consumer of ours does otherwise.
const UNSUPPORTED: &[(&str, &str)] = &[
    ("key.deserializer", "records carry bytes; deserialize what is received"),
    ("value.deserializer", "records carry bytes; deserialize what is received"),
    ("interceptor.classes", "wrap the consumer"),
    ("check.crcs", "checksums are always checked"),
    ("exclude.internal.topics", "patterns never match topics of the brokers themselves"),
    ("allow.auto.create.topics", "a consumer makes no topics"),
];

impl ConsumerBuilder {
    /// Takes settings by the names that they have in Kafka: `group.id` (which has to be there), `group.instance.id`,
    /// `group.protocol`, `group.remote.assignor`, `partition.assignment.strategy`, `session.timeout.ms`,
    /// `heartbeat.interval.ms`, `max.poll.interval.ms`, `max.poll.records`, `enable.auto.commit`,
    /// `auto.commit.interval.ms`, `auto.offset.reset`, `isolation.level`, `client.rack`, `fetch.min.bytes`,
    /// `fetch.max.bytes`, `fetch.max.wait.ms`, `max.partition.fetch.bytes`. What is not there keeps its default here, which
    /// may differ from Kafka's: nothing is committed by itself unless `enable.auto.commit` says so.
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// use millstream_client::{Client, Properties};
    /// use millstream_consumer::ConsumerBuilder;
    ///
    /// let text = "bootstrap.servers=127.0.0.1:9092\ngroup.id=billing\nauto.offset.reset=earliest\n";
    /// let mut properties = Properties::parse(text)?;
    /// let client = Client::builder_from(&mut properties)?.connect().await?;
    /// let consumer = ConsumerBuilder::from_properties(&client, &mut properties)?;
    /// properties.finish()?;
    /// let consumer = consumer.subscribe(["orders"]).build().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`PropertyError`].
    pub fn from_properties(client: &Client, properties: &mut Properties) -> Result<Self, PropertyError> {
        const GROUP: &str = "group.id";
        properties.refuse(UNSUPPORTED)?;
        let group = properties.take(GROUP).ok_or(PropertyError::Missing { name: GROUP })?;
        let mut builder = Self::new(client.clone()).group(group.into());
        builder = builder.take_membership(properties)?.take_fetching(properties)?;
        let reset =
            properties.take_as("auto.offset.reset", "earliest, latest or none", |value| match value {
                "earliest" => Some(Some((StartAt::Beginning, OutOfRange::Beginning))),
                "latest" => Some(Some((StartAt::End, OutOfRange::End))),
                "none" => Some(None),
                _ => None,
            });
        if let Some((start, out_of_range)) = reset?.flatten() {
            builder = builder.start_at(start).out_of_range(out_of_range);
        }
        let isolation = properties.take_as(
            "isolation.level",
            "read_committed or read_uncommitted",
            |level| match level {
                "read_committed" => Some(Isolation::ReadCommitted),
                "read_uncommitted" => Some(Isolation::ReadUncommitted),
                _ => None,
            },
        );
        Ok(match isolation? {
            Some(isolation) => builder.isolation(isolation),
            None => builder,
        })
    }

    fn take_membership(mut self, properties: &mut Properties) -> Result<Self, PropertyError> {
        if let Some(name) = properties.take("group.instance.id") {
            self = self.instance_id(name);
        }
        if let Some(rack) = properties.take("client.rack") {
            self = self.rack(rack);
        }
        let protocol =
            properties.take_as("group.protocol", "classic or consumer", |protocol| match protocol {
                "classic" => Some(GroupProtocol::Classic),
                "consumer" => Some(GroupProtocol::Consumer),
                _ => None,
            });
        if let Some(protocol) = protocol? {
            self = self.protocol(protocol);
        }
        if let Some(name) = properties.take("group.remote.assignor") {
            self = self.server_assignor(name);
        }
        let expected = "range, roundrobin or cooperative-sticky, or the class of one, several of them separated by commas,";
        let assignors = properties.take_as("partition.assignment.strategy", expected, assignors);
        if let Some(assignors) = assignors? {
            self = self.assignors(assignors);
        }
        if let Some(timeout) = properties.take_ms("session.timeout.ms")? {
            self = self.session_timeout(timeout);
        }
        if let Some(interval) = properties.take_ms("heartbeat.interval.ms")? {
            self = self.heartbeat_interval(interval);
        }
        if let Some(interval) = properties.take_ms("max.poll.interval.ms")? {
            self = self.max_poll_interval(interval).rebalance_timeout(interval);
        }
        let every = properties.take_ms("auto.commit.interval.ms")?;
        if properties.take_bool("enable.auto.commit")? == Some(true) {
            self = self.auto_commit(every.unwrap_or(std::time::Duration::from_secs(5)));
        }
        Ok(self)
    }

    fn take_fetching(mut self, properties: &mut Properties) -> Result<Self, PropertyError> {
        if let Some(records) =
            properties.take_as("max.poll.records", "a number", |value| value.parse().ok())?
        {
            self = self.max_batch_records(records);
        }
        let min = properties.take_as("fetch.min.bytes", "a number of bytes", |value| value.parse().ok());
        if let Some(bytes) = min? {
            self = self.min_bytes(bytes);
        }
        if let Some(bytes) = properties.take_bytes("fetch.max.bytes")? {
            self = self.max_bytes(bytes);
        }
        if let Some(wait) = properties.take_ms("fetch.max.wait.ms")? {
            self = self.max_wait(wait);
        }
        if let Some(bytes) = properties.take_bytes("max.partition.fetch.bytes")? {
            self = self.max_partition_bytes(bytes);
        }
        Ok(self)
    }
}

/// Names of assignors, or of Kafka's classes for them.
fn assignors(names: &str) -> Option<Vec<Assignor>> {
    let one = |name: &str| match name.trim().trim_start_matches("org.apache.kafka.clients.consumer.") {
        "range" | "RangeAssignor" => Some(Assignor::Range),
        "roundrobin" | "RoundRobinAssignor" => Some(Assignor::RoundRobin),
        "cooperative-sticky" | "CooperativeStickyAssignor" => Some(Assignor::CooperativeSticky),
        _ => None,
    };
    names.split(',').map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_client::fake::{Answer, FakeBroker};

    async fn built(text: &str) -> Result<ConsumerBuilder, PropertyError> {
        let client = Client::builder("fake").transport(FakeBroker::start(1, |_| Answer::Usual));
        let client = client.connect().await.unwrap();
        let mut properties = Properties::parse(text)?;
        let builder = ConsumerBuilder::from_properties(&client, &mut properties)?;
        properties.finish().map(|()| builder)
    }

    #[tokio::test]
    async fn names_of_kafka_become_settings() {
        let text = "group.id=g\nisolation.level=read_committed\nauto.offset.reset=earliest\nmax.poll.records=7\n\
                    partition.assignment.strategy=org.apache.kafka.clients.consumer.RangeAssignor,cooperative-sticky\n\
                    fetch.min.bytes=5\nenable.auto.commit=false\n";
        let builder = built(text).await.unwrap();
        assert_eq!(builder.settings.group.as_deref(), Some("g"));
        assert_eq!(builder.settings.isolation, Isolation::ReadCommitted);
        assert_eq!(builder.settings.uncommitted, Some(StartAt::Beginning));
        assert_eq!((builder.settings.max_batch_records, builder.settings.min_bytes), (7, 5));
        assert_eq!(builder.group.assignors, [Assignor::Range, Assignor::CooperativeSticky]);
    }

    #[tokio::test]
    async fn what_cannot_be_taken_is_refused_with_what_to_do() {
        for (text, words) in [
            ("isolation.level=x", "group.id is missing"),
            ("group.id=g\nisolation.level=x", "read_committed or read_uncommitted is needed"),
            ("group.id=g\nauto.offset.reset=smallest", "earliest, latest or none is needed"),
            ("group.id=g\nkey.deserializer=x", "deserialize what is received"),
            ("group.id=g\nmax.poll.record=3", "did you mean max.poll.records?"),
        ] {
            let error = built(text).await.unwrap_err().to_string();
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}
