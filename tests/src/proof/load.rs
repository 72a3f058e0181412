//! Clients of ours under whom the broker comes and goes, and what they note.

mod raw;
mod reader;
mod writer;

pub(super) use raw::RawWriter;
pub(super) use reader::{follow, marks, read_all, wander};
pub(super) use writer::{Writer, write};

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Result;
use millstream_client::{Backoff, Client};
use parking_lot::Mutex;

use super::recorder::Recorder;

/// What all clients of one load share.
#[derive(Debug, Clone)]
pub(super) struct Load {
    pub(super) recorder: Recorder,
    pub(super) bootstrap: Arc<str>,
    pub(super) topic: Arc<str>,
    pub(super) partitions: u32,
    enough: Arc<AtomicBool>,
    wrong: Arc<Mutex<Vec<String>>>,
}

/// How far a writer is, for whoever decides when to do harm.
#[derive(Debug, Default)]
pub(super) struct Progress {
    pub(super) acknowledged: AtomicUsize,
    pub(super) in_flight: AtomicUsize,
}

impl Load {
    pub(super) fn new(bootstrap: &str, topic: &str, partitions: u32) -> Self {
        Self {
            recorder: Recorder::new(),
            bootstrap: bootstrap.into(),
            topic: topic.into(),
            partitions,
            enough: Arc::default(),
            wrong: Arc::default(),
        }
    }

    /// A client that finds the broker again soon after it is back.
    pub(super) async fn client(&self) -> Result<Client> {
        let backoff = Backoff { first: Duration::from_millis(5), most: Duration::from_millis(50) };
        let builder = Client::builder(&*self.bootstrap).backoff(backoff);
        Ok(builder.request_timeout(Duration::from_secs(20)).connect().await?)
    }

    /// A client, though the broker may be away just now. None once it is enough.
    async fn patient_client(&self) -> Option<Client> {
        let mut again = tokio::time::interval(Duration::from_millis(20));
        while !self.is_enough() {
            again.tick().await;
            if let Ok(client) = self.client().await {
                return Some(client);
            }
        }
        None
    }

    /// Tells all clients to finish.
    pub(super) fn finish(&self) {
        self.enough.store(true, Ordering::Relaxed);
    }

    fn is_enough(&self) -> bool {
        self.enough.load(Ordering::Relaxed)
    }

    /// Something that no history shows, and that must not happen.
    pub(super) fn wrong(&self, what: String) {
        self.wrong.lock().push(what);
    }

    /// All of that.
    pub(super) fn wrongs(&self) -> Vec<String> {
        self.wrong.lock().clone()
    }
}
