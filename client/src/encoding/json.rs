//! JSON, through serde.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Deserializer, Serializer};

/// JSON, for everything that serde knows. With the feature `json`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Json;

impl<T: Serialize + ?Sized> Serializer<T> for Json {
    type Error = serde_json::Error;

    fn serialize(&self, value: &T) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(value)
    }
}

impl<T: DeserializeOwned> Deserializer<T> for Json {
    type Error = serde_json::Error;

    fn deserialize(&self, bytes: &[u8]) -> Result<T, serde_json::Error> {
        serde_json::from_slice(bytes)
    }
}
