//! Settings of a producer by the names that they have in Kafka.

use millstream_client::{Properties, PropertyError};
use millstream_protocol::records::{Codec, Compression};

use super::{Acks, Idempotence, ProducerBuilder, TransactionalProducerBuilder};

const TRANSACTIONAL_ID: &str = "transactional.id";

/// What a producer of ours does otherwise.
const UNSUPPORTED: &[(&str, &str)] = &[
    ("retries", "what may be tried again is, until delivery.timeout.ms is over"),
    ("max.in.flight.requests.per.connection", "there are five, and the order is kept"),
    ("key.serializer", "records carry bytes; serialize before sending"),
    ("value.serializer", "records carry bytes; serialize before sending"),
    ("partitioner.", "give the builder a partitioner"),
    ("interceptor.classes", "wrap the producer"),
    (
        "max.block.ms",
        "default.api.timeout.ms bounds what is waited for; a full buffer is waited for as long as it is full",
    ),
    ("compression.lz4.level", "lz4 has one level"),
    ("transaction.two.phase.commit.enable", "two-phase commit is not supported"),
];

impl ProducerBuilder {
    /// Takes settings by the names that they have in Kafka: `acks`, `enable.idempotence`, `compression.type`,
    /// `compression.gzip.level`, `compression.zstd.level`, `linger.ms`, `batch.size`, `buffer.memory`,
    /// `max.request.size`, `delivery.timeout.ms`. What is not there keeps its default here, which may differ from Kafka's.
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// use millstream_client::{Client, Properties};
    /// use millstream_producer::ProducerExt;
    ///
    /// let mut properties = Properties::parse("bootstrap.servers=127.0.0.1:9092\nlinger.ms=5\n")?;
    /// let client = Client::builder_from(&mut properties)?.connect().await?;
    /// let producer = client.producer().properties(&mut properties)?.build();
    /// properties.finish()?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`PropertyError`].
    pub fn properties(mut self, properties: &mut Properties) -> Result<Self, PropertyError> {
        properties.refuse(UNSUPPORTED)?;
        let acks = properties.take_as("acks", "0, 1, all or -1", |value| match value {
            "0" => Some(Acks::None),
            "1" => Some(Acks::Leader),
            "all" | "-1" => Some(Acks::All),
            _ => None,
        });
        self.acks = acks?.unwrap_or(self.acks);
        match properties.take_bool("enable.idempotence")? {
            Some(true) => self.idempotence = Idempotence::On,
            Some(false) => self.idempotence = Idempotence::Off,
            None => {}
        }
        self.buffer.codec = codec(properties)?.unwrap_or(self.buffer.codec);
        if let Some(linger) = properties.take_ms("linger.ms")? {
            self = self.linger(linger);
        }
        if let Some(bytes) = properties.take_bytes("batch.size")? {
            self = self.batch_bytes(bytes);
        }
        if let Some(bytes) = properties.take_bytes("buffer.memory")? {
            self = self.buffer_bytes(bytes);
        }
        if let Some(bytes) = properties.take_bytes("max.request.size")? {
            self = self.max_record_bytes(bytes);
        }
        if let Some(timeout) = properties.take_ms("delivery.timeout.ms")? {
            self = self.delivery_timeout(timeout);
        }
        Ok(self)
    }

    /// The same for a producer with transactions: takes `transactional.id` and `transaction.timeout.ms`, too.
    ///
    /// # Errors
    /// [`PropertyError`].
    pub fn transactional_properties(
        self,
        properties: &mut Properties,
    ) -> Result<TransactionalProducerBuilder, PropertyError> {
        let builder = self.properties(properties)?;
        let missing = PropertyError::Missing { name: TRANSACTIONAL_ID };
        let builder = builder.transactional_id(properties.take(TRANSACTIONAL_ID).ok_or(missing)?);
        Ok(match properties.take_ms("transaction.timeout.ms")? {
            Some(timeout) => builder.transaction_timeout(timeout),
            None => builder,
        })
    }
}

/// The codec at its level; levels of other codecs say nothing, as in Kafka.
fn codec(properties: &mut Properties) -> Result<Option<Codec>, PropertyError> {
    const NAME: &str = "compression.type";
    let compression =
        properties.take_as(NAME, "none, gzip, snappy, lz4 or zstd", |name| name.parse().ok())?;
    let mut level_of = |name, compression: Compression| {
        let levels = compression.levels().expect("it has some");
        let expected = format!("a level from {} to {}", levels.start(), levels.end());
        properties.take_as(name, &expected, |level| compression.at_level(level.parse().ok()?).ok())
    };
    let gzip = level_of("compression.gzip.level", Compression::Gzip)?;
    #[cfg(feature = "zstd")]
    let zstd = level_of("compression.zstd.level", Compression::Zstd)?;
    Ok(match compression {
        Some(Compression::Gzip) => gzip.or(Some(Compression::Gzip.into())),
        #[cfg(feature = "zstd")]
        Some(Compression::Zstd) => zstd.or(Some(Compression::Zstd.into())),
        other => other.map(Codec::from),
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use millstream_client::Client;
    use millstream_client::fake::{Answer, FakeBroker};

    async fn builder() -> ProducerBuilder {
        let client = Client::builder("fake").transport(FakeBroker::start(1, |_| Answer::Usual));
        ProducerBuilder::new(client.connect().await.unwrap())
    }

    #[tokio::test]
    async fn names_of_kafka_become_settings() {
        let text = "acks=1\nenable.idempotence=false\ncompression.type=zstd\ncompression.zstd.level=9\n\
                    linger.ms=5\nbatch.size=100\nbuffer.memory=1000\ndelivery.timeout.ms=7\n";
        let mut properties = Properties::parse(text).unwrap();
        let built = builder().await.properties(&mut properties).unwrap();
        properties.finish().unwrap();
        assert_eq!((built.acks, built.idempotence), (Acks::Leader, Idempotence::Off));
        assert_eq!(built.buffer.codec, Compression::Zstd.at_level(9).unwrap());
        assert_eq!(built.buffer.linger, Some(Duration::from_millis(5)));
        assert_eq!((built.buffer.batch_bytes, built.buffer.buffer_bytes), (100, 1000));
        assert_eq!(built.delivery_timeout, Duration::from_millis(7));
    }

    #[tokio::test]
    async fn what_cannot_be_taken_is_refused_with_what_to_do() {
        for (text, words) in [
            ("acks=2", "0, 1, all or -1 is needed"),
            ("compression.type=brotli", "none, gzip, snappy, lz4 or zstd is needed"),
            ("compression.gzip.level=12", "a level from 1 to 9 is needed"),
            ("retries=3", "until delivery.timeout.ms is over"),
            ("partitioner.class=x", "give the builder a partitioner"),
            ("linger.sm=3", "did you mean linger.ms?"),
        ] {
            let mut properties = Properties::parse(text).unwrap();
            let built = builder().await.properties(&mut properties).and_then(|_| properties.finish());
            let error = built.unwrap_err().to_string();
            assert!(error.contains(words), "{text}: {error}");
        }
        let mut properties = Properties::parse("transaction.timeout.ms=5").unwrap();
        let error = builder().await.transactional_properties(&mut properties).unwrap_err();
        assert_eq!(error.to_string(), "transactional.id is missing");
    }
}
