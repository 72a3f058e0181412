//! Why an administrative request is refused: Kafka's code, and words for a person.

use millstream_protocol::{ErrorCode, KStr};

use crate::handlers::wire_errors::code_for_topic;
use crate::metadata::topics::TopicError;
use crate::settings::SettingError;

/// Messages repeat what was asked for, and old versions of replies have no room for everything.
const MESSAGE_BYTES_MAX: usize = 8192;

#[derive(Debug)]
pub(super) struct Refused {
    pub(super) code: ErrorCode,
    message: String,
}

impl Refused {
    pub(super) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        let mut message = message.into();
        message.truncate(message.floor_char_boundary(MESSAGE_BYTES_MAX));
        Self { code, message }
    }

    /// Code and message of an outcome as replies carry them.
    pub(super) fn told(outcome: Result<(), Self>) -> (i16, Option<KStr>) {
        match outcome {
            Ok(()) => (ErrorCode::None.code(), None),
            Err(refused) => (refused.code.code(), refused.message()),
        }
    }

    /// The message as replies carry it.
    pub(super) fn message(self) -> Option<KStr> {
        Some(KStr::from(self.message))
    }
}

impl From<ErrorCode> for Refused {
    fn from(code: ErrorCode) -> Self {
        Self::new(code, code.message())
    }
}

impl From<TopicError> for Refused {
    fn from(error: TopicError) -> Self {
        Self::new(code_for_topic(&error), error.to_string())
    }
}

impl From<SettingError> for Refused {
    fn from(error: SettingError) -> Self {
        Self::new(ErrorCode::InvalidConfig, error.to_string())
    }
}
