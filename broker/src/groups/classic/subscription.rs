//! Which topics a group of consumers reads: the one thing in its members' metadata that the broker looks at.

use millstream_protocol::KStr;
use millstream_protocol::wire::{DecodeError, Form, Reader};

use super::ClassicGroup;

impl ClassicGroup {
    /// Whether offsets of this topic are in use. What cannot be read, as with metadata of an unknown form, counts
    /// as reading everything.
    pub(crate) fn is_subscribed(&self, topic: &str) -> bool {
        let Some(protocol) = &self.protocol else { return self.is_of_consumers() && !self.is_empty() };
        self.is_of_consumers()
            && self.members.iter().any(|member| match topics(&member.metadata(protocol)) {
                Ok(topics) => topics.iter().any(|subscribed| &**subscribed == topic),
                Err(_) => true,
            })
    }
}

/// The topics that a consumer's subscription names: they come first in every version of it.
fn topics(metadata: &bytes::Bytes) -> Result<Vec<KStr>, DecodeError> {
    let mut reader = Reader::new(metadata);
    let _version = reader.i16()?;
    let form = Form::at(0, 1);
    reader.array(form, |reader| reader.string(form))
}
