//! Faults for tests of clients: a closure for each API decides what becomes of a request.
//!
//! Sits in front of `dispatch`, and is not there at all without the feature `fault-hooks`.

mod refusal;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use millstream_protocol::{ApiKey, ErrorCode};
use parking_lot::Mutex;

use crate::connection::session::Incoming;
use crate::dispatch::{self, Meanwhile, Outcome, Peer};
use crate::node::Node;

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// Nothing out of the ordinary.
    None,
    /// It is handled at once, and its answer is held back for so long by the clock of the runtime that serves the
    /// connection; those that follow on the connection wait behind it.
    Delay(Duration),
    /// It is not handled, and answered with this error: Produce, ListOffsets, OffsetCommit and TxnOffsetCommit for each
    /// partition, FindCoordinator, Fetch from version 7 on, and the other APIs of groups and transactions as a whole.
    /// An API that is none of these is not answered: the connection is closed, and the log says so.
    Refuse(ErrorCode),
    /// It is not handled, and the connection is closed.
    Disconnect,
    /// It is handled, and the connection is closed in place of an answer: the client cannot know.
    LoseAnswer,
    /// It is handled and never answered; the connection stays open, and what follows is answered.
    Swallow,
}

/// A request, as a hook sees it.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct FaultyRequest<'a> {
    /// The API.
    pub api: ApiKey,
    /// Its version.
    pub version: i16,
    /// What the client calls itself; empty if it does not.
    pub client_id: &'a str,
}

type Hook = Box<dyn FnMut(&FaultyRequest<'_>) -> Fault + Send>;

/// The hooks of one broker; clones share them. See [`Broker::faults`](crate::Broker::faults).
#[derive(Clone, Default)]
pub struct Faults {
    hooks: Arc<Mutex<HashMap<ApiKey, Arc<Mutex<Hook>>>>>,
}

impl Faults {
    /// Asks `hook` about every request of this API from now on, in place of the hook that was asked before. It is
    /// called by the tasks that serve connections, one at a time, and must not wait.
    ///
    /// ```
    /// # use millstream_broker::protocol::ApiKey;
    /// # use millstream_broker::{Broker, Fault};
    /// let broker = Broker::builder().in_memory().no_listener().start()?;
    /// // The first two answers to Produce are lost.
    /// let mut left = 2;
    /// broker.faults().on(ApiKey::Produce, move |_| match left {
    ///     0 => Fault::None,
    ///     _ => {
    ///         left -= 1;
    ///         Fault::LoseAnswer
    ///     }
    /// });
    /// # Ok::<(), millstream_broker::StartError>(())
    /// ```
    pub fn on(&self, api: ApiKey, hook: impl FnMut(&FaultyRequest<'_>) -> Fault + Send + 'static) {
        self.hooks.lock().insert(api, Arc::new(Mutex::new(Box::new(hook))));
    }

    /// Requests are handled as ever from now on. Answers that are being held back stay so.
    pub fn clear(&self) {
        self.hooks.lock().clear();
    }

    fn decide(&self, incoming: &Incoming) -> Fault {
        // Not under the lock: a hook may set another.
        let hook = self.hooks.lock().get(&incoming.api).map(Arc::clone);
        let Some(hook) = hook else { return Fault::None };
        let client_id = incoming.header.client_id.as_deref().unwrap_or_default();
        let request = FaultyRequest { api: incoming.api, version: incoming.version, client_id };
        (hook.lock())(&request)
    }
}

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Faults").finish_non_exhaustive()
    }
}

/// Answers one request, or does to it what its hook says.
pub(crate) fn dispatch(
    node: &Arc<Node>,
    peer: &Arc<Peer>,
    incoming: &Incoming,
    meanwhile: Meanwhile,
) -> Outcome {
    let name = incoming.api.name();
    let handle = || dispatch::dispatch(node, peer, incoming, meanwhile);
    match node.faults.decide(incoming) {
        Fault::None => handle(),
        Fault::Delay(delay) => {
            let outcome = handle();
            Outcome::Later(Box::pin(async move {
                let settled = settle(outcome).await;
                tokio::time::sleep(delay).await;
                settled
            }))
        }
        Fault::Refuse(code) => refusal::of(incoming, code),
        Fault::Disconnect => Outcome::Close(format!("a fault hook refuses {name}")),
        Fault::LoseAnswer => {
            let outcome = handle();
            Outcome::Later(Box::pin(async move {
                settle(outcome).await;
                Outcome::Close(format!("a fault hook loses the answer to {name}"))
            }))
        }
        Fault::Swallow => {
            let outcome = handle();
            Outcome::Later(Box::pin(async move {
                settle(outcome).await;
                Outcome::Silent
            }))
        }
    }
}

async fn settle(outcome: Outcome) -> Outcome {
    match outcome {
        Outcome::Later(work) => work.await,
        settled @ (Outcome::Reply(_) | Outcome::Silent | Outcome::Close(_)) => settled,
    }
}
