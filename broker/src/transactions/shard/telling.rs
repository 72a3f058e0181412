//! What is told of transactions: DescribeTransactions, ListTransactions, metrics.

use millstream_protocol::KStr;

use super::Shard;
use crate::coordinator::Ticket;
use crate::transactions::transaction::{Status, Stored};
use crate::transactions::turn::Turn;

/// One transactional id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Described(pub(crate) Stored);

/// One of many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) id: KStr,
    pub(crate) producer_id: i64,
    pub(crate) status: Status,
    /// When its transaction began; -1 if there was none.
    pub(crate) started_ms: i64,
}

/// How the transactions of a partition stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) empty: usize,
    pub(crate) ongoing: usize,
    pub(crate) prepared: usize,
    pub(crate) complete: usize,
    /// When the oldest began that is not complete.
    pub(crate) oldest_ms: Option<i64>,
}

impl Shard {
    /// DescribeTransactions.
    pub(crate) fn describe(&self, turn: &mut Turn<'_>, ticket: Ticket, id: &str) {
        let found = self.transactions.get(id);
        turn.fx.reply(ticket, found.map(|transaction| Described(transaction.stored.clone())));
    }

    /// ListTransactions: all, by id.
    pub(crate) fn list(&self, turn: &mut Turn<'_>, ticket: Ticket) {
        let all = self.transactions.iter().map(|(id, transaction)| Listed {
            id: id.clone(),
            producer_id: transaction.stored.identity.producer.get(),
            status: transaction.stored.status,
            started_ms: transaction.stored.started_ms,
        });
        let mut listed: Vec<Listed> = all.collect();
        listed.sort_unstable_by(|one, other| one.id.cmp(&other.id));
        turn.fx.reply(ticket, listed);
    }

    /// Counts them.
    pub(crate) fn standing(&self) -> Standing {
        let mut standing = Standing::default();
        for transaction in self.transactions.values() {
            let count = match transaction.stored.status {
                Status::Empty => &mut standing.empty,
                Status::Ongoing => &mut standing.ongoing,
                Status::Prepared(_) => &mut standing.prepared,
                Status::Complete(_) => &mut standing.complete,
            };
            *count += 1;
            if !transaction.stored.status.is_idle() {
                let began = transaction.stored.started_ms;
                standing.oldest_ms = Some(standing.oldest_ms.map_or(began, |oldest| oldest.min(began)));
            }
        }
        standing
    }
}
