//! Clients of ours under whom the broker comes and goes, and what they note.

mod raw;
mod reader;
mod writer;

pub(in crate::proof) use raw::RawWriter;
pub(in crate::proof) use reader::{follow, marks, read_all, wander};
pub(in crate::proof) use writer::{Writer, write};

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Result;
use millstream_client::{Backoff, Client};
use parking_lot::Mutex;

use super::recorder::Recorder;

/// What all clients of one load share.
#[derive(Debug, Clone)]
pub(in crate::proof) struct Load {
    pub(in crate::proof) recorder: Recorder,
    pub(in crate::proof) bootstrap: Arc<str>,
    pub(in crate::proof) topic: Arc<str>,
    pub(in crate::proof) partitions: u32,
    /// How long a client waits for one answer.
    request_timeout: Duration,
    enough: Arc<AtomicBool>,
    wrong: Arc<Mutex<Vec<String>>>,
}

/// How far a writer is, for whoever decides when to do harm.
#[derive(Debug, Default)]
pub(in crate::proof) struct Progress {
    pub(in crate::proof) acknowledged: AtomicUsize,
    pub(in crate::proof) in_flight: AtomicUsize,
}

impl Load {
    pub(in crate::proof) fn new(bootstrap: &str, topic: &str, partitions: u32) -> Self {
        Self {
            recorder: Recorder::new(),
            bootstrap: bootstrap.into(),
            topic: topic.into(),
            partitions,
            request_timeout: Duration::from_secs(20),
            enough: Arc::default(),
            wrong: Arc::default(),
        }
    }

    /// The same with clients that do not wait long for an answer: on a bad network it may be lost.
    pub(in crate::proof) fn impatient(self) -> Self {
        Self { request_timeout: Duration::from_millis(400), ..self }
    }

    /// A client that finds the broker again soon after it is back.
    pub(in crate::proof) async fn client(&self) -> Result<Client> {
        let backoff = Backoff { first: Duration::from_millis(5), most: Duration::from_millis(50) };
        let builder = Client::builder(&*self.bootstrap).backoff(backoff);
        Ok(builder.request_timeout(self.request_timeout).connect().await?)
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
    pub(in crate::proof) fn finish(&self) {
        self.enough.store(true, Ordering::Relaxed);
    }

    fn is_enough(&self) -> bool {
        self.enough.load(Ordering::Relaxed)
    }

    /// Something that no history shows, and that must not happen.
    pub(in crate::proof) fn wrong(&self, what: String) {
        self.wrong.lock().push(what);
    }

    /// All of that.
    pub(in crate::proof) fn wrongs(&self) -> Vec<String> {
        self.wrong.lock().clone()
    }
}
