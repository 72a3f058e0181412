//! Between values of the program and the bytes of records.
//!
//! Two traits, so that producers, consumers and programs speak of the same thing; and two formats, each behind a
//! feature. Knows nothing of topics: which format is in which topic is the program's to know.

#[cfg(feature = "json")]
mod json;
#[cfg(feature = "prost")]
mod protobuf;

#[cfg(feature = "json")]
pub use json::Json;
#[cfg(feature = "prost")]
pub use protobuf::Prost;

/// Turns a value into the bytes of a record's key or value.
///
#[cfg_attr(feature = "json", doc = "```")]
#[cfg_attr(not(feature = "json"), doc = "```ignore")]
/// use millstream_client::{Json, Serializer};
///
/// let bytes = Json.serialize(&("apples", 2))?;
/// assert_eq!(bytes, br#"["apples",2]"#);
/// // A producer sends it: Record::to("orders").value(&bytes)
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Serializer<T: ?Sized> {
    /// What goes wrong.
    type Error: std::error::Error + Send + Sync + 'static;

    /// The bytes of a value.
    ///
    /// # Errors
    /// That the format has no bytes for it.
    fn serialize(&self, value: &T) -> Result<Vec<u8>, Self::Error>;
}

/// Turns the bytes of a record's key or value into a value.
///
#[cfg_attr(feature = "json", doc = "```")]
#[cfg_attr(not(feature = "json"), doc = "```ignore")]
/// use millstream_client::{Deserializer, Json};
///
/// let order: (String, u32) = Json.deserialize(br#"["apples",2]"#)?;
/// assert_eq!(order, ("apples".to_owned(), 2));
/// let wrong: Result<u32, _> = Json.deserialize(b"two apples");
/// assert!(wrong.is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Deserializer<T> {
    /// What goes wrong.
    type Error: std::error::Error + Send + Sync + 'static;

    /// The value that the bytes stand for.
    ///
    /// # Errors
    /// That they stand for none.
    fn deserialize(&self, bytes: &[u8]) -> Result<T, Self::Error>;
}
