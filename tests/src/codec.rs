//! All messages of the protocol crate behind one type, so that a test can walk over them.

use std::path::Path;

use bytes::Bytes;
use millstream_protocol::messages::*;
use millstream_protocol::wire::{Chunk, DecodeError, Reader, Writer};
use millstream_protocol::{
    Message, Request, RequestHeader, decode_response, encode_request, encode_response,
};
use millstream_protocol_gen::schema::{self, Api};

/// One message type.
#[derive(Clone, Copy)]
pub struct Codec {
    /// Decodes a whole body, encodes what came out, checks that this comes back the same, and gives its bytes.
    pub recode: fn(&Bytes, i16) -> Result<Bytes, DecodeError>,
    /// The bytes of a message that nobody filled in.
    pub encode_default: fn(i16) -> Bytes,
}

impl Codec {
    fn of<M: Message>() -> Self {
        Self { recode: recode::<M>, encode_default: |version| encode(&M::default(), version) }
    }
}

/// One API: how it is defined, and how the protocol crate reads and writes it.
pub struct ApiCodec {
    /// Its definition in `protocol/schema`.
    pub api: Api,
    /// Its request.
    pub request: Codec,
    /// Its response.
    pub response: Codec,
    /// Decodes a whole request frame and encodes what came out. Frames are without their lengths here.
    pub reframe_request: fn(&Bytes) -> Result<Bytes, DecodeError>,
    /// The same for a response of a version.
    pub reframe_response: fn(&Bytes, i16) -> Result<Bytes, DecodeError>,
}

impl ApiCodec {
    fn of<R: Request>(api: Api) -> Self {
        assert_eq!(api.key, R::KEY.code(), "the generated code is not that of the schema");
        Self {
            api,
            request: Codec::of::<R>(),
            response: Codec::of::<R::Response>(),
            reframe_request: reframe_request::<R>,
            reframe_response: reframe_response::<R>,
        }
    }
}

/// Every API of the protocol crate, in the order of their numbers.
#[must_use]
pub fn api_codecs() -> Vec<ApiCodec> {
    macro_rules! codecs {
        ($($request:ident,)*) => { [$(ApiCodec::of::<$request>),*] };
    }
    let codecs = millstream_protocol::for_each_request!(codecs);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../protocol/schema");
    let apis = schema::read_folder(&folder).expect("the schema is readable: the generator has read it");
    assert_eq!(apis.len(), codecs.len(), "the generated code is not that of the schema");
    apis.into_iter().zip(codecs).map(|(api, codec)| codec(api)).collect()
}

fn recode<M: Message>(body: &Bytes, version: i16) -> Result<Bytes, DecodeError> {
    let again = encode(&decode::<M>(body, version)?, version);
    // Bytes are compared, not messages: a float that is not a number is not equal to itself.
    let twice = decode::<M>(&again, version).map(|message| encode(&message, version));
    assert_eq!(twice.as_ref(), Ok(&again), "what was encoded decodes to something else");
    Ok(again)
}

fn decode<M: Message>(body: &Bytes, version: i16) -> Result<M, DecodeError> {
    let mut reader = Reader::new(body);
    let message = M::decode(&mut reader, version)?;
    reader.finish()?;
    Ok(message)
}

fn reframe_request<R: Request>(frame: &Bytes) -> Result<Bytes, DecodeError> {
    let mut reader = Reader::new(frame);
    let header = RequestHeader::decode(&mut reader)?;
    let request = R::decode(&mut reader, header.api_version)?;
    reader.finish()?;
    let (version, id) = (header.api_version, header.correlation_id);
    let again = encode_request(version, id, header.client_id.as_deref(), &request);
    Ok(without_length(again.expect("what was decoded in a version can be written in it")))
}

fn reframe_response<R: Request>(frame: &Bytes, version: i16) -> Result<Bytes, DecodeError> {
    let (id, response) = decode_response::<R>(frame, version)?;
    let again = encode_response(R::KEY, version, id, &response);
    Ok(without_length(again.expect("what was decoded in a version can be written in it")))
}

fn without_length(frame: Vec<Chunk>) -> Bytes {
    let whole: Bytes = frame.into_iter().flat_map(Chunk::into_bytes).collect();
    whole.slice(4..)
}

fn encode<M: Message>(message: &M, version: i16) -> Bytes {
    let mut writer = Writer::new();
    message.encode(&mut writer, version).expect("a message in a version of its own can be written");
    writer.into_chunks().into_iter().flat_map(Chunk::into_bytes).collect()
}
