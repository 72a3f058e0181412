//! One connection's protocol rules, without the connection: bytes in, decisions out.
//!
//! Refuses to know sockets, tasks and handlers. Everything here is decided from the bytes seen so far, so
//! that a hostile peer can be played in a unit test.

use millstream_protocol::wire::{DecodeError, Reader};
use millstream_protocol::{ApiKey, RequestHeader};

use bytes::Bytes;

/// The four length bytes that precede every frame.
pub(crate) const LENGTH_BYTES: usize = 4;

/// The shortest frame that can hold a request header: key, version, correlation id, null client id.
const HEADER_BYTES_MIN: usize = 10;

/// What is wrong with a connection, and why it is closed.
#[derive(Debug, thiserror::Error, PartialEq)]
pub(crate) enum Refusal {
    #[error(
        "this is a TLS handshake, but this listener speaks plaintext: set security.protocol=PLAINTEXT in the client"
    )]
    Tls,
    #[error("this is an HTTP request, but this is the Kafka port")]
    Http,
    #[error("the frame says it is {length} bytes long; a Kafka request has at least {HEADER_BYTES_MIN}")]
    FrameTooShort { length: i32 },
    #[error("the frame says it is {length} bytes long; the limit is {limit} (socket.request.max.bytes)")]
    FrameTooLong { length: i32, limit: usize },
    #[error("the request header cannot be read: {0}")]
    Header(DecodeError),
    #[error("unknown api key {key} (version {version}, client id {client:?})")]
    UnknownApi { key: i16, version: i16, client: String },
}

/// A request whose header has been read and whose body waits in `body`.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub(crate) api: ApiKey,
    pub(crate) version: i16,
    pub(crate) header: RequestHeader,
    /// The whole frame without its length; the body starts at `body_at`.
    pub(crate) frame: Bytes,
    pub(crate) body_at: usize,
}

impl Incoming {
    /// The body's bytes: a slice of the frame, nothing copied.
    pub(crate) fn body(&self) -> Bytes {
        self.frame.slice(self.body_at..)
    }
}

/// Judges frames of one connection.
#[derive(Debug)]
pub(crate) struct Session {
    frame_bytes_max: usize,
}

impl Session {
    pub(crate) fn new(frame_bytes_max: usize) -> Self {
        Self { frame_bytes_max }
    }

    /// Judges the length of the next frame, before any of its body is read.
    pub(crate) fn on_length(&self, prefix: [u8; LENGTH_BYTES]) -> Result<usize, Refusal> {
        let length = i32::from_be_bytes(prefix);
        match usize::try_from(length) {
            Ok(bytes) if bytes > self.frame_bytes_max => Err(foreign_protocol(prefix)
                .unwrap_or(Refusal::FrameTooLong { length, limit: self.frame_bytes_max })),
            Ok(bytes) if bytes >= HEADER_BYTES_MIN => Ok(bytes),
            _ => Err(foreign_protocol(prefix).unwrap_or(Refusal::FrameTooShort { length })),
        }
    }

    /// Reads the header of a whole frame (without its length).
    pub(crate) fn on_frame(&self, frame: Bytes) -> Result<Incoming, Refusal> {
        let mut reader = Reader::new(&frame);
        let header = RequestHeader::decode(&mut reader).map_err(Refusal::Header)?;
        let body_at = frame.len() - reader.remaining();
        let (key, version) = (header.api_key, header.api_version);
        let Some(api) = ApiKey::from_code(key) else {
            let client = header.client_id.as_deref().unwrap_or_default().to_owned();
            return Err(Refusal::UnknownApi { key, version, client });
        };
        Ok(Incoming { api, version, header, frame, body_at })
    }
}

/// Other protocols betray themselves in their first four bytes, all of them absurd as a length: TLS
/// handshakes start `16 03`, HTTP requests with a method in capitals.
fn foreign_protocol(prefix: [u8; LENGTH_BYTES]) -> Option<Refusal> {
    match &prefix {
        [0x16, 0x03, 0x00..=0x04, _] => Some(Refusal::Tls),
        b"GET " | b"HEAD" | b"POST" | b"PUT " | b"DELE" | b"OPTI" | b"PATC" | b"CONN" | b"PRI " => {
            Some(Refusal::Http)
        }
        _ => None,
    }
}

/// What a browser or `curl` on the Kafka port is told.
pub(crate) fn http_page(http_address: Option<std::net::SocketAddr>) -> String {
    let pointer = match http_address {
        Some(address) => format!("Metrics and health are served on http://{address}/ instead.\n"),
        None => "This broker was started without an HTTP port (--http HOST:PORT opens one).\n".to_owned(),
    };
    let body = format!(
        "This is the Kafka port of a Millstream broker; it does not speak HTTP.\n\
         Point a Kafka client at it, for example: kcat -b HOST:PORT -L\n{pointer}"
    );
    format!(
        "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session() -> Session {
        Session::new(1000)
    }

    #[test]
    fn lengths_outside_the_limits_are_refused_before_anything_is_read() {
        assert_eq!(session().on_length(0i32.to_be_bytes()), Err(Refusal::FrameTooShort { length: 0 }));
        assert_eq!(session().on_length((-1i32).to_be_bytes()), Err(Refusal::FrameTooShort { length: -1 }));
        assert_eq!(session().on_length(9i32.to_be_bytes()), Err(Refusal::FrameTooShort { length: 9 }));
        assert_eq!(session().on_length(10i32.to_be_bytes()), Ok(10));
        assert_eq!(session().on_length(1000i32.to_be_bytes()), Ok(1000));
        let refused = Err(Refusal::FrameTooLong { length: 1001, limit: 1000 });
        assert_eq!(session().on_length(1001i32.to_be_bytes()), refused);
    }

    #[test]
    fn other_protocols_are_named() {
        assert_eq!(session().on_length([0x16, 0x03, 0x01, 0x02]), Err(Refusal::Tls));
        assert_eq!(session().on_length(*b"GET "), Err(Refusal::Http));
        assert_eq!(session().on_length(*b"POST"), Err(Refusal::Http));
    }

    #[test]
    fn an_unknown_api_is_named_with_its_client() {
        let mut frame = vec![0x7f, 0xff, 0, 3, 0, 0, 0, 9, 0, 2];
        frame.extend(b"me");
        let refused = session().on_frame(Bytes::from(frame)).unwrap_err();
        assert_eq!(refused, Refusal::UnknownApi { key: 0x7fff, version: 3, client: "me".into() });
    }

    #[test]
    fn a_header_that_ends_early_is_malformed() {
        let frame = Bytes::from_static(&[0, 0, 0, 3, 0, 0, 0, 9, 0, 200]);
        assert!(matches!(session().on_frame(frame), Err(Refusal::Header(_))));
    }
}
