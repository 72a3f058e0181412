//! Records whose value is one of the program's, and those of which it is not.

use std::error::Error;

use millstream_client::Deserializer;

use crate::record::ConsumerRecord;

/// A record and its decoded value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Typed<T> {
    /// The value; none for a tombstone.
    pub value: Option<T>,
    /// The record as it was read.
    pub record: ConsumerRecord,
}

/// A record whose value cannot be decoded. It owns the record: park it, log it, or look at it some other way.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the value at offset {} of partition {} of topic {:?} cannot be decoded: {source}",
    record.offset, record.partition, record.topic
)]
pub struct Undecodable<E: Error + 'static> {
    /// The record as it was read.
    pub record: Box<ConsumerRecord>,
    /// What is wrong with its value.
    pub source: E,
}

impl ConsumerRecord {
    /// Decodes the value.
    ///
    /// ```
    /// # #[cfg(feature = "json")]
    /// # fn example(record: millstream_consumer::ConsumerRecord) {
    /// use millstream_client::Json;
    ///
    /// match record.decode::<Vec<u32>, _>(&Json) {
    ///     Ok(order) => println!("{:?} at offset {}", order.value, order.record.offset),
    ///     Err(poison) => println!("{poison}: {:?}", poison.record.value),
    /// }
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Undecodable`], which has the record.
    pub fn decode<T, D: Deserializer<T>>(self, format: &D) -> Result<Typed<T>, Undecodable<D::Error>> {
        match self.value.as_deref().map(|bytes| format.deserialize(bytes)).transpose() {
            Ok(value) => Ok(Typed { value, record: self }),
            Err(source) => Err(Undecodable { record: Box::new(self), source }),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::str::Utf8Error;

    use bytes::Bytes;
    use millstream_protocol::KStr;

    use super::*;

    struct Text;

    impl Deserializer<String> for Text {
        type Error = Utf8Error;

        fn deserialize(&self, bytes: &[u8]) -> Result<String, Utf8Error> {
            std::str::from_utf8(bytes).map(str::to_owned)
        }
    }

    fn record(value: Option<&'static [u8]>) -> ConsumerRecord {
        ConsumerRecord {
            topic: KStr::from("t"),
            partition: 3,
            offset: 42,
            timestamp: 0,
            key: None,
            value: value.map(Bytes::from_static),
            headers: Vec::new(),
            leader_epoch: 0,
        }
    }

    #[test]
    fn a_value_that_cannot_be_decoded_comes_back_with_its_record() {
        assert_eq!(record(Some(b"x")).decode(&Text).unwrap().value.as_deref(), Some("x"));
        assert_eq!(record(None).decode(&Text).unwrap().value, None);
        let error = record(Some(b"\xff")).decode(&Text).unwrap_err();
        assert_eq!(*error.record, record(Some(b"\xff")));
        assert!(error.to_string().contains("offset 42 of partition 3 of topic \"t\""), "{error}");
    }
}
