//! EndTxn: a transaction is decided, its markers are written, and it is over.
//!
//! The reply leaves when the markers are durable, so that what is committed can be read by then. If a partition cannot take
//! its marker it leaves all the same after a while: the decision is durable and final.
//!
//! Under the second version each end has a new epoch, so an epoch tells whether a request is a repetition of the last one.

use std::time::Duration;

use millstream_log::ProducerId;
use millstream_protocol::KStr;

use super::{Shard, hand_out, store};
use crate::coordinator::Ticket;
use crate::transactions::transaction::{
    Bump, Identity, JobNumber, LAST_EPOCH, Outcome, Status, Stored, Transaction, Version,
};
use crate::transactions::turn::{Note, Refused, Stopped, Turn};

/// How long an answer waits for markers.
const PATIENCE: Duration = Duration::from_secs(1);

/// What is asked for.
#[derive(Clone, Debug)]
pub(crate) struct End {
    pub(crate) id: KStr,
    pub(crate) by: Identity,
    pub(crate) outcome: Outcome,
    pub(crate) version: Version,
    /// A producer id that nobody had before, if one was needed.
    pub(crate) fresh: Option<ProducerId>,
}

/// What becomes of a request.
enum Step {
    Prepare(Bump),
    /// It is being ended like this already.
    Wait,
    /// It has ended like this.
    Done,
}

impl Shard {
    /// EndTxn.
    pub(crate) fn end(&mut self, turn: &mut Turn<'_>, ticket: Ticket, end: &End) {
        let step = match self.transactions.get(end.id.as_str()) {
            _ if end.id.is_empty() => Err(Refused::NoId.into()),
            None => Err(Refused::Unknown.into()),
            Some(transaction) => match end.version {
                Version::One => transaction.judge_end(end),
                Version::Two => transaction.judge_end_with_bump(end),
            },
        };
        let Some(transaction) = self.transactions.get_mut(end.id.as_str()) else {
            let stopped = step.err().unwrap_or(Refused::Unknown.into());
            return turn.fx.reply(ticket, Err(stopped));
        };
        match step {
            Ok(Step::Prepare(bump)) => {
                transaction.prepare(end.outcome, end.version, bump, turn.moment.now.wall_ms);
                store(&end.id, &transaction.stored, turn);
                transaction.waiting.push(ticket);
                transaction.reply_by = Some(turn.moment.now.steady.after(PATIENCE));
                hand_out(&end.id, transaction, turn);
            }
            Ok(Step::Wait) => {
                transaction.waiting.push(ticket);
                transaction.reply_by.get_or_insert(turn.moment.now.steady.after(PATIENCE));
            }
            Ok(Step::Done) => turn.fx.reply(ticket, Ok(transaction.stored.identity)),
            Err(stopped) => turn.fx.reply(ticket, Err(stopped)),
        }
        self.reschedule(&end.id);
    }

    /// All markers of this job are durable.
    pub(crate) fn on_finished(&mut self, turn: &mut Turn<'_>, (id, job): (&KStr, JobNumber)) {
        let Some(transaction) = self.transactions.get_mut(id.as_str()) else { return };
        if transaction.job != Some(job) {
            return;
        }
        let (Status::Prepared(outcome), before) = (transaction.stored.status, transaction.stored.identity)
        else {
            unreachable!("a job is there only for what is decided")
        };
        transaction.complete(turn.moment.now.wall_ms);
        let identity = transaction.stored.identity;
        store(id, &transaction.stored, turn);
        // What it says follows from the decision and the markers, and those are durable.
        let waiting = transaction.waiting.drain(..).map(|ticket| (ticket, Ok::<_, Stopped>(identity).into()));
        turn.fx.safe_replies.extend(waiting);
        transaction.reply_by = None;
        turn.fx.notes.push(Note::Ended { id: id.detach(), identity: before, outcome });
        self.reindex(&id.detach(), before.producer, identity.producer);
        self.reschedule(id);
    }
}

impl Transaction {
    /// Those who wait are told what is decided, though not everything of it is done.
    pub(super) fn answer_early(&mut self, turn: &mut Turn<'_>) {
        let coming = self.stored.coming();
        for ticket in self.waiting.drain(..) {
            turn.fx.reply(ticket, Ok::<_, Stopped>(coming));
        }
        self.reply_by = None;
    }

    /// A client that keeps its epoch.
    fn judge_end(&self, end: &End) -> Result<Step, Stopped> {
        let Stored { identity, status, .. } = self.stored;
        if end.by.producer != identity.producer {
            return Err(Refused::Unknown.into());
        }
        if end.by.epoch != identity.epoch {
            return Err(Refused::Fenced.into());
        }
        match status {
            Status::Ongoing => Ok(Step::Prepare(Bump::None)),
            Status::Prepared(outcome) if outcome == end.outcome => Ok(Step::Wait),
            Status::Prepared(_) => Err(Refused::Concurrent.into()),
            Status::Complete(outcome) if outcome == end.outcome => Ok(Step::Done),
            Status::Complete(_) | Status::Empty => Err(Refused::State.into()),
        }
    }

    /// A client that gets a new epoch.
    fn judge_end_with_bump(&self, end: &End) -> Result<Step, Stopped> {
        let Stored { identity, previous, status, version, .. } = self.stored;
        // Only an end under this version has given it the next epoch; else somebody else has it.
        let is_next = version == Version::Two && identity.epoch.checked_sub(1) == Some(end.by.epoch);
        let is_rotated = version == Version::Two
            && previous == Some(end.by.producer)
            && end.by.epoch == LAST_EPOCH
            && identity.epoch == 0;
        if let Status::Prepared(outcome) = status {
            let is_repeated = is_next && end.by.producer == identity.producer && outcome == end.outcome;
            return if is_repeated { Ok(Step::Wait) } else { Err(Refused::Concurrent.into()) };
        }
        if end.by.producer != identity.producer && !is_rotated {
            return Err(Refused::Unknown.into());
        }
        let is_current = end.by == identity && identity.epoch <= LAST_EPOCH;
        let is_repeated = (is_next || is_rotated) && matches!(status, Status::Complete(_));
        if !is_current && !is_repeated {
            return Err(Refused::Fenced.into());
        }
        match (status, end.outcome) {
            (Status::Ongoing, _) => self.bump(end).map(Step::Prepare),
            (Status::Complete(outcome), wanted) if is_repeated && outcome == wanted => {
                // Fenced with the very last epoch: nobody is given that one.
                if identity.epoch > LAST_EPOCH { Err(Refused::Fenced.into()) } else { Ok(Step::Done) }
            }
            (Status::Complete(_), _) if is_repeated => Err(Refused::State.into()),
            // A client may abort what it has not begun: its first batch may have got lost.
            (Status::Complete(_) | Status::Empty, Outcome::Abort) => self.bump(end).map(Step::Prepare),
            (Status::Complete(_) | Status::Empty, Outcome::Commit) => Err(Refused::State.into()),
            (Status::Prepared(_), _) => unreachable!("answered above"),
        }
    }

    fn bump(&self, end: &End) -> Result<Bump, Stopped> {
        if self.stored.identity.is_exhausted() {
            return end.fresh.map(Bump::Rotate).ok_or(Stopped::NeedsProducerId);
        }
        Ok(Bump::One)
    }
}
