//! The Millstream broker as a library.
//!
//! ```no_run
//! use millstream_broker::Broker;
//! let broker = Broker::builder().data_dir("./millstream-data").listen("127.0.0.1:0").start()?;
//! println!("Kafka clients may connect to {}", broker.kafka_address());
//! drop(broker); // stops it, and waits until everything is on disk
//! # Ok::<(), millstream_broker::StartError>(())
//! ```
//!
//! This crate knows sockets, Kafka's requests and who owns which partition. It does not know how a
//! segment file is written (`millstream-log`), nor how a field is encoded (`millstream-protocol`),
//! and it never reads a record for its meaning.
//!
//! The modules below stand in the order in which a request passes through them; `ARCHITECTURE.md`
//! follows one Produce and one Fetch file by file.

mod broker;
mod connection;
mod dispatch;
mod handlers;

mod coordinator;
mod fetch_session;
mod groups;
mod machine;
mod meta_store;
mod metadata;
mod node;
pub mod settings;
mod storage;
mod transactions;

mod metrics;

pub use broker::{Broker, BrokerBuilder, InProcess, StartError};
#[cfg(feature = "sim")]
pub use broker::{SimBroker, SimOptions};
pub use connection::pipe::InProcessStream;
#[cfg(feature = "fault-hooks")]
pub use dispatch::faults::{Fault, Faults, FaultyRequest};
pub use meta_store::MetaError;
pub use metadata::cluster_view::IN_PROCESS;
pub use metadata::topics::RecoverySummary;
pub use settings::SettingError;
pub use storage::data_dir::DataDirError;

pub use millstream_protocol as protocol;
