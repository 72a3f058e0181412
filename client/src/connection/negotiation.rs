//! Which versions both sides know: ApiVersions is the first request on every connection (KIP-35, KIP-511).

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use millstream_protocol::messages::{ApiVersionsRequest, ApiVersionsResponse};
use millstream_protocol::wire::{DecodeError, Reader};
use millstream_protocol::{ApiKey, ErrorCode, KStr, Message};

use super::Link;
use crate::error::ClientError;

/// The newest ApiVersions that we send.
const NEWEST: i16 = 4;
/// The oldest flexible one; before it the request has no body.
const NAMED_FROM: i16 = 3;

/// What a broker serves.
#[derive(Debug, Default)]
pub(super) struct ApiVersions {
    served: HashMap<i16, (i16, i16)>,
    /// Finalized levels of features.
    features: HashMap<KStr, i16>,
}

impl ApiVersions {
    /// The level that the cluster has agreed on for a feature.
    pub(super) fn feature(&self, name: &str) -> Option<i16> {
        self.features.get(name).copied()
    }

    /// The newest version that both sides know and that is no newer than `newest`.
    pub(super) fn choose(&self, api: ApiKey, newest: Option<i16>, address: &str) -> Result<i16, ClientError> {
        let (min, max) = (api.min_version(), newest.map_or(api.max_version(), |n| n.min(api.max_version())));
        let served = self.served.get(&api.code()).copied();
        let common = served.map(|(oldest, newest)| (oldest.max(min), newest.min(max)));
        match common {
            Some((oldest, newest)) if oldest <= newest => Ok(newest),
            _ => Err(ClientError::UnsupportedVersion { address: address.to_owned(), api, min, max, served }),
        }
    }
}

/// Asks the broker what it serves. A broker that does not know our version of the question answers
/// UNSUPPORTED_VERSION in version 0, with the range it does know; then the question is asked again.
pub(super) async fn negotiate(link: &Link) -> Result<ApiVersions, ClientError> {
    let response = match ask(link, NEWEST).await? {
        Heard::Versions(response) => response,
        Heard::AskAgain { version } => match ask(link, version).await? {
            Heard::Versions(response) => response,
            Heard::AskAgain { .. } => {
                return Err(ClientError::NotKafka {
                    address: link.shared.address.to_string(),
                    reason: "it refuses every version of ApiVersions".to_owned(),
                });
            }
        },
    };
    let served = response.api_keys.iter().map(|api| (api.api_key, (api.min_version, api.max_version)));
    let finalized = response.finalized_features.iter();
    let features = finalized.map(|feature| (feature.name.detach(), feature.max_version_level));
    Ok(ApiVersions { served: served.collect(), features: features.collect() })
}

enum Heard {
    Versions(ApiVersionsResponse),
    AskAgain { version: i16 },
}

async fn ask(link: &Link, version: i16) -> Result<Heard, ClientError> {
    let mut request = ApiVersionsRequest::default();
    if version >= NAMED_FROM {
        request.client_software_name = KStr::from_static("millstream");
        request.client_software_version = KStr::from_static(env!("CARGO_PKG_VERSION"));
    }
    let mut reply = link.send(&request, version, Duration::ZERO).await?;
    let frame = std::future::poll_fn(|cx| reply.poll_frame(cx)).await.map_err(first_reply_lost)?;
    interpret(&frame.unwrap_or_default(), version).map_err(reply.undecodable(ApiKey::ApiVersions))
}

/// Reads the answer. Its header has no tags in any version, so the error code is always in the same place.
fn interpret(frame: &Bytes, version: i16) -> Result<Heard, DecodeError> {
    let mut peek = Reader::new(frame);
    peek.i32()?;
    let code = ErrorCode::from_code(peek.i16()?);
    if version > 0 && code == Some(ErrorCode::UnsupportedVersion) {
        let mut reader = Reader::new(frame);
        reader.i32()?;
        // Some brokers list nothing here: version 0 is understood by all.
        let listed = ApiVersionsResponse::decode(&mut reader, 0).unwrap_or_default();
        let own = listed.api_keys.iter().find(|api| api.api_key == ApiKey::ApiVersions.code());
        let newest = own.map_or(0, |api| api.max_version);
        return Ok(Heard::AskAgain { version: newest.clamp(0, version - 1) });
    }
    if version > 0 && code == Some(ErrorCode::InvalidRequest) {
        return Ok(Heard::AskAgain { version: 0 });
    }
    let mut reader = Reader::new(frame);
    reader.i32()?;
    let response = ApiVersionsResponse::decode(&mut reader, version)?;
    reader.finish()?;
    match code {
        Some(ErrorCode::None) => Ok(Heard::Versions(response)),
        _ => Ok(Heard::AskAgain { version: 0 }),
    }
}

/// A connection that ends before its first reply tells something about who listens there.
fn first_reply_lost(error: ClientError) -> ClientError {
    match error {
        ClientError::Disconnected { address, reason, .. } => ClientError::Unreachable {
            attempts: vec![crate::error::Attempt {
                address,
                reason: format!(
                    "it closed the connection instead of saying which versions it speaks \
                                 ({reason}); is this port for TLS, or another service?"
                ),
            }],
        },
        ClientError::ReplyTooLarge { address, bytes, .. } => {
            let reason = match u32::try_from(bytes).unwrap_or(u32::MAX).to_be_bytes() {
                [0x15, 3, ..] => "it answers with a TLS alert: this port is for TLS".to_owned(),
                [b'H', b'T', b'T', b'P'] => "it answers in HTTP".to_owned(),
                head => format!("its first bytes are {}", head.escape_ascii()),
            };
            ClientError::NotKafka { address, reason }
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_protocol::Request;
    use millstream_protocol::messages::MetadataRequest;

    fn versions(min: i16, max: i16) -> ApiVersions {
        let served = HashMap::from([(MetadataRequest::KEY.code(), (min, max))]);
        ApiVersions { served, ..ApiVersions::default() }
    }

    #[test]
    fn the_newest_common_version_is_chosen() {
        let ours = MetadataRequest::KEY.max_version();
        assert_eq!(versions(0, 5).choose(ApiKey::Metadata, None, "b").unwrap(), 5);
        assert_eq!(versions(0, 99).choose(ApiKey::Metadata, None, "b").unwrap(), ours);
        assert_eq!(versions(0, 99).choose(ApiKey::Metadata, Some(3), "b").unwrap(), 3);
    }

    #[test]
    fn without_overlap_the_error_says_who_is_too_old() {
        let error = versions(90, 99).choose(ApiKey::Metadata, None, "b:1").unwrap_err().to_string();
        assert!(error.contains("b:1") && error.contains("use a newer client"), "{error}");
        let error = ApiVersions::default().choose(ApiKey::Metadata, None, "b:1").unwrap_err().to_string();
        assert!(error.contains("no version of it") && error.contains("use a newer broker"), "{error}");
    }
}
