//! A function over records whose position is committed together with its result.
//!
//! A [`Sink`] keeps both in one place: a database that stores the position in the transaction of the records
//! ([`Sink`] written by the program), or a file that holds a state and its position ([`Snapshot`], for a
//! [`View`] in memory). A [`Projection`] reads on from there, first what has gathered, then what arrives, in
//! one loop. So every record counts exactly once in the result, whatever crashes when: there is no group
//! and no offset elsewhere that could disagree.
//!
//! Never a silent gap: a position that the log no longer holds, or not yet, or that lies in another log of
//! the same name, is an error. [`ProjectionBuilder::rebuild`] starts over.
//!
//! ```no_run
//! # async fn example(client: millstream_client::Client) -> Result<(), Box<dyn std::error::Error>> {
//! use millstream_consumer::ConsumerRecord;
//! use millstream_consumer::projection::{Projection, Snapshot, View};
//!
//! #[derive(Default)]
//! struct Count(u64);
//!
//! impl View for Count {
//!     const NAME: &'static str = "count";
//!     const VERSION: u32 = 1;
//!     type Error = std::array::TryFromSliceError;
//!
//!     fn apply(&mut self, _: &ConsumerRecord) -> Result<(), Self::Error> {
//!         self.0 += 1;
//!         Ok(())
//!     }
//!     fn encode(&self) -> Vec<u8> {
//!         self.0.to_be_bytes().to_vec()
//!     }
//!     fn decode(bytes: &[u8]) -> Result<Self, Self::Error> {
//!         Ok(Self(u64::from_be_bytes(bytes.try_into()?)))
//!     }
//! }
//!
//! let snapshot = Snapshot::<Count>::file("/var/lib/shop/count.snapshot");
//! let count = snapshot.reader();
//! let projection = Projection::builder(client, "orders").open(snapshot).await?;
//! let handle = projection.handle();
//! let running = tokio::spawn(projection.run());
//! handle.caught_up().await?;
//! println!("{} orders", count.read(|count| count.0)?);
//! handle.stop();
//! running.await??;
//! # Ok(())
//! # }
//! ```
//!
//! In reading order: `positions`, `sink` (what a program writes), `running` (the loop), `progress` (what can be
//! seen of it), `snapshot` and `snapshot/file` (state and position in one file).

mod error;
mod positions;
mod progress;
mod running;
mod sink;
mod snapshot;

pub use error::{CatchUpError, ProjectionError, SinkOperation};
pub use positions::{Anchor, Position, Positions};
pub use progress::{Phase, Progress, ProjectionHandle};
pub use running::{History, Projection, ProjectionBuilder};
pub use sink::{Batch, Sink};
pub use snapshot::{Snapshot, SnapshotError, SnapshotReader, View, ViewFailed};

#[cfg(test)]
mod tests;
