//! A client's end of a connection: frames out, frames in.

use std::time::Duration;

use bytes::Bytes;
use millstream_broker::InProcessStream;
use millstream_protocol::{Request, decode_response, encode_request};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// How long a reply is waited for. Long polls are shorter.
const PATIENCE: Duration = Duration::from_secs(5);

/// The connection is gone, or nothing came over it in time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lost;

#[derive(Debug)]
pub(super) struct Wire {
    stream: InProcessStream,
    last_id: i32,
}

impl Wire {
    pub(super) fn new(stream: InProcessStream) -> Self {
        Self { stream, last_id: 0 }
    }

    /// Sends a request; the reply is taken by `receive`, in the same order.
    pub(super) async fn send<R: Request>(&mut self, version: i16, request: &R) -> Result<i32, Lost> {
        self.last_id += 1;
        let chunks = encode_request(version, self.last_id, Some("simulated"), request)
            .expect("requests of the simulation have a form in their version");
        let frame: Vec<u8> = chunks.into_iter().flat_map(|chunk| chunk.into_bytes().to_vec()).collect();
        self.stream.write_all(&frame).await.map_err(|_| Lost)?;
        Ok(self.last_id)
    }

    pub(super) async fn receive<R: Request>(&mut self, version: i16, id: i32) -> Result<R::Response, Lost> {
        let frame = tokio::time::timeout(PATIENCE, self.frame()).await.map_err(|_| Lost)??;
        let (answered, response) =
            decode_response::<R>(&frame, version).expect("the broker's replies can be read");
        assert_eq!(answered, id, "replies come in the order of their requests");
        Ok(response)
    }

    pub(super) async fn call<R: Request>(&mut self, version: i16, request: &R) -> Result<R::Response, Lost> {
        let id = self.send(version, request).await?;
        self.receive::<R>(version, id).await
    }

    async fn frame(&mut self) -> Result<Bytes, Lost> {
        let length = self.stream.read_u32().await.map_err(|_| Lost)?;
        let mut frame = vec![0; usize::try_from(length).expect("32 bits fit")];
        self.stream.read_exact(&mut frame).await.map_err(|_| Lost)?;
        Ok(Bytes::from(frame))
    }
}
