//! All messages of the protocol crate behind one type, so that a test can walk over them.

use std::path::Path;

use bytes::Bytes;
use millstream_protocol::messages::*;
use millstream_protocol::wire::{Chunk, DecodeError, Reader, Writer};
use millstream_protocol::{ApiKey, Message, Request};
use millstream_protocol_gen::schema::{self, Api};

/// One message type.
#[derive(Clone, Copy)]
pub struct Codec {
    /// Decodes a whole body, encodes what came out, checks that this decodes to the same, and gives its bytes.
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
}

/// Every API of the protocol crate, in the order of their numbers.
#[must_use]
pub fn api_codecs() -> Vec<ApiCodec> {
    macro_rules! codecs {
        ($($request:ident,)*) => {
            [$((
                <$request as Request>::KEY,
                Codec::of::<$request>(),
                Codec::of::<<$request as Request>::Response>(),
            )),*]
        };
    }
    let codecs: Vec<(ApiKey, Codec, Codec)> = millstream_protocol::for_each_request!(codecs).into();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../protocol/schema");
    let apis = schema::read_folder(&folder).expect("the schema is readable: the generator has read it");
    assert_eq!(apis.len(), codecs.len(), "the generated code is not that of the schema");
    let join = |(api, (key, request, response)): (Api, (ApiKey, Codec, Codec))| {
        assert_eq!(api.key, key.code(), "the generated code is not that of the schema");
        ApiCodec { api, request, response }
    };
    apis.into_iter().zip(codecs).map(join).collect()
}

fn recode<M: Message>(body: &Bytes, version: i16) -> Result<Bytes, DecodeError> {
    let message: M = decode(body, version)?;
    let again = encode(&message, version);
    assert_eq!(
        decode::<M>(&again, version).as_ref(),
        Ok(&message),
        "what was encoded decodes to something else"
    );
    Ok(again)
}

fn decode<M: Message>(body: &Bytes, version: i16) -> Result<M, DecodeError> {
    let mut reader = Reader::new(body);
    let message = M::decode(&mut reader, version)?;
    reader.finish()?;
    Ok(message)
}

fn encode<M: Message>(message: &M, version: i16) -> Bytes {
    let mut writer = Writer::new();
    message.encode(&mut writer, version).expect("a message in a version of its own can be written");
    writer.into_chunks().into_iter().flat_map(Chunk::into_bytes).collect()
}
