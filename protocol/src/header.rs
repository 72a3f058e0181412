//! What precedes every message body, and whole frames made of both.
//!
//! ```text
//! request   length i32 | api_key i16 | api_version i16 | correlation_id i32 | client_id nullable string | tags*
//! response  length i32 | correlation_id i32 | tags*
//! ```
//! Tags come with flexible bodies (header versions 2 and 1). Two exceptions are Kafka's own: `client_id` keeps
//! its two-byte length, and the reply to ApiVersions never has tags, so that a client can read it before it
//! knows the broker.

use bytes::Bytes;

use crate::messages::ApiKey;
use crate::wire::{Chunk, DecodeError, EncodeError, Form, Reader, Writer};
use crate::{KStr, Message, Request};

/// The header of a request.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RequestHeader {
    /// Number of the API; it may be one that is not known here.
    pub api_key: i16,
    /// Version of the body.
    pub api_version: i16,
    /// Comes back in the reply.
    pub correlation_id: i32,
    /// What the client calls itself.
    pub client_id: Option<KStr>,
}

impl RequestHeader {
    /// Reads a header of any API and version. For an API or version that is not known here the tags, if there
    /// are any, are left unread: what follows has no meaning then.
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (api_key, api_version) = (reader.i16()?, reader.i16()?);
        let correlation_id = reader.i32()?;
        let client_id = reader.nullable_string(Form::Classic)?;
        if let Some(api) = ApiKey::from_code(api_key) {
            reader.tags(api.request_form(api_version), |_, _| Ok(false))?;
        }
        Ok(Self { api_key, api_version, correlation_id, client_id })
    }
}

/// A whole request frame, with its length.
pub fn encode_request<R: Request>(
    version: i16,
    correlation_id: i32,
    client_id: Option<&str>,
    request: &R,
) -> Result<Vec<Chunk>, EncodeError> {
    let mut writer = Writer::framed();
    writer.i16(R::KEY.code());
    writer.i16(version);
    writer.i32(correlation_id);
    writer.nullable_string(Form::Classic, client_id)?;
    writer.tag_count(R::KEY.request_form(version), 0);
    request.encode(&mut writer, version)?;
    writer.into_frame()
}

/// A whole response frame, with its length.
pub fn encode_response<M: Message>(
    api: ApiKey,
    version: i16,
    correlation_id: i32,
    response: &M,
) -> Result<Vec<Chunk>, EncodeError> {
    let mut writer = Writer::framed();
    writer.i32(correlation_id);
    writer.tag_count(response_header_form(api, version), 0);
    response.encode(&mut writer, version)?;
    writer.into_frame()
}

/// The correlation id and body of a response frame (without its length).
pub fn decode_response<R: Request>(frame: &Bytes, version: i16) -> Result<(i32, R::Response), DecodeError> {
    let mut reader = Reader::new(frame);
    let correlation_id = reader.i32()?;
    reader.tags(response_header_form(R::KEY, version), |_, _| Ok(false))?;
    let response = R::Response::decode(&mut reader, version)?;
    reader.finish()?;
    Ok((correlation_id, response))
}

fn response_header_form(api: ApiKey, version: i16) -> Form {
    match api {
        ApiKey::ApiVersions => Form::Classic,
        api => api.response_form(version),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::{ApiVersionsRequest, ApiVersionsResponse, MetadataRequest};

    fn body(chunks: &[Chunk]) -> Bytes {
        let [Chunk::Bytes(frame)] = chunks else { panic!("one chunk") };
        frame.slice(4..)
    }

    #[test]
    fn a_flexible_request_header_keeps_the_old_client_id_and_gains_tags() {
        let request = MetadataRequest { topics: None, ..Default::default() };
        let frame = body(&encode_request(9, 7, Some("me"), &request).unwrap());
        assert_eq!(frame[..13], [0, 3, 0, 9, 0, 0, 0, 7, 0, 2, b'm', b'e', 0]);
        let mut reader = Reader::new(&frame);
        let header = RequestHeader::decode(&mut reader).unwrap();
        assert_eq!((header.api_key, header.api_version, header.correlation_id), (3, 9, 7));
        assert_eq!(header.client_id.as_deref(), Some("me"));
        assert_eq!(MetadataRequest::decode(&mut reader, 9), Ok(request));
        assert_eq!(reader.finish(), Ok(()));
    }

    #[test]
    fn the_reply_to_api_versions_never_has_header_tags() {
        let response = ApiVersionsResponse { error_code: 35, ..Default::default() };
        let frame = body(&encode_response(ApiKey::ApiVersions, 3, 7, &response).unwrap());
        assert_eq!(frame[..6], [0, 0, 0, 7, 0, 35]);
        assert_eq!(decode_response::<ApiVersionsRequest>(&frame, 3), Ok((7, response)));
    }

    #[test]
    fn an_unknown_api_still_has_a_header() {
        let frame = Bytes::from_static(&[0x7f, 0xff, 0, 3, 0, 0, 0, 9, 0xff, 0xff, 1, 2, 3]);
        let header = RequestHeader::decode(&mut Reader::new(&frame)).unwrap();
        assert_eq!((header.api_key, header.client_id), (0x7fff, None));
    }
}
