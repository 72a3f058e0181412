//! What callers want of transactions, for the sender to take; and what they must know without asking.
//!
//! Owner: shared by handles and sender. One lock, held for a look, never across an await.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use millstream_client::{GroupMetadata, NewOffset};
use tokio::sync::oneshot;

use super::{Ending, TransactionError, gone};
use crate::buffer::Buffer;

/// Tells somebody who waits.
pub(crate) type Reply = oneshot::Sender<Result<(), TransactionError>>;

/// Something that is wanted.
pub(crate) enum Command {
    /// To know when no transaction is open or ending.
    Rest {
        reply: Reply,
    },
    Begin {
        number: u64,
        reply: Reply,
    },
    Offsets {
        number: u64,
        group: GroupMetadata,
        offsets: Vec<NewOffset>,
        reply: Reply,
    },
    Commit {
        number: u64,
        reply: Reply,
    },
    /// To know when this transaction, which was closed, has ended.
    Abort {
        number: u64,
        reply: Reply,
    },
    /// The transaction is not wanted any more.
    Close {
        number: u64,
    },
}

#[derive(Default)]
struct State {
    /// Each was put here by a caller who waits, or who has gone: at most a few.
    commands: VecDeque<Command>,
    next_number: u64,
    /// The one transaction that a caller holds.
    held: Option<u64>,
    /// Why the one with this number cannot be committed.
    broken: Option<(u64, TransactionError)>,
    /// The commit of this one is asked for.
    decided: Option<u64>,
    dead: Option<TransactionError>,
    last_ending: Option<Ending>,
    trouble: Option<String>,
}

pub(crate) struct Desk {
    buffer: Arc<Buffer>,
    state: Mutex<State>,
}

impl Desk {
    pub(crate) fn new(buffer: Arc<Buffer>) -> Arc<Self> {
        Arc::new(Self { buffer, state: Mutex::default() })
    }

    /// The number of a new transaction, which the caller holds from now on.
    pub(super) fn open(&self) -> Result<u64, TransactionError> {
        let mut state = self.lock();
        if let Some(dead) = &state.dead {
            return Err(dead.clone());
        }
        if state.held.is_some() {
            return Err(TransactionError::AlreadyOpen);
        }
        state.next_number += 1;
        state.held = Some(state.next_number);
        Ok(state.next_number)
    }

    /// The caller lets go of a transaction.
    pub(super) fn close(&self, number: u64) {
        let mut state = self.lock();
        state.held.take_if(|held| *held == number);
        state.commands.push_back(Command::Close { number });
        drop(state);
        self.buffer.wake();
    }

    /// Closes it, and says whether its commit has been asked for already.
    pub(super) fn withdraw(&self, number: u64) -> bool {
        self.close(number);
        self.lock().decided == Some(number)
    }

    /// Why the transaction cannot be committed, if it cannot.
    pub(crate) fn check(&self, number: u64) -> Result<(), TransactionError> {
        let state = self.lock();
        match (&state.dead, &state.broken) {
            (Some(dead), _) => Err(dead.clone()),
            (None, Some((broken, error))) if *broken == number => Err(error.clone()),
            (None, _) => Ok(()),
        }
    }

    /// Puts a command on the desk and waits for the reply.
    pub(super) async fn ask(
        &self,
        request: &'static str,
        patience: Duration,
        command: impl FnOnce(Reply) -> Command,
    ) -> Result<(), TransactionError> {
        let (reply, answer) = oneshot::channel();
        {
            let mut state = self.lock();
            // Nobody may be there to answer.
            if let Some(dead) = &state.dead {
                return Err(dead.clone());
            }
            state.commands.push_back(command(reply));
        }
        self.buffer.wake();
        match tokio::time::timeout(patience, answer).await {
            Ok(answer) => answer.map_err(gone)?,
            Err(_) => Err(TransactionError::TimedOut {
                request,
                after: patience,
                last: self.lock().trouble.clone(),
                possibly_committed: false,
            }),
        }
    }

    pub(super) fn last_ending(&self) -> Option<Ending> {
        self.lock().last_ending
    }

    /// What is wanted, for the sender.
    pub(crate) fn take_commands(&self) -> VecDeque<Command> {
        std::mem::take(&mut self.lock().commands)
    }

    /// Decides to commit, unless the caller has gone. After this nobody can turn it into an abort.
    pub(crate) fn decide(&self, number: u64) -> bool {
        let mut state = self.lock();
        let is_closed = state.held != Some(number);
        if !is_closed {
            state.decided = Some(number);
        }
        !is_closed
    }

    pub(crate) fn break_off(&self, number: u64, error: TransactionError) {
        self.lock().broken = Some((number, error));
    }

    pub(crate) fn ended(&self, ending: Ending) {
        self.lock().last_ending = Some(ending);
    }

    pub(crate) fn die(&self, error: TransactionError) {
        self.lock().dead.get_or_insert(error);
    }

    /// What is in the way at the moment, for those whose patience ends.
    pub(crate) fn trouble(&self, trouble: Option<&str>) {
        self.lock().trouble = trouble.map(str::to_owned);
    }

    /// The sender is gone: nobody will answer what is on the desk.
    pub(crate) fn abandon(&self) {
        let mut state = self.lock();
        state.dead.get_or_insert(TransactionError::Closed);
        state.commands.clear();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
