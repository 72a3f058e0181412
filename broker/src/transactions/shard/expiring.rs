//! Transactional ids that nobody uses any more.

use millstream_protocol::KStr;

use super::Shard;
use crate::transactions::record::TransactionRecord;
use crate::transactions::turn::{Note, Turn};

impl Shard {
    /// Forgets the ids that were not used for so long, if nothing of theirs is open. `now_ms` is the time that is
    /// believed: a clock that jumps ahead makes nothing old.
    pub(crate) fn clean_up(&mut self, turn: &mut Turn<'_>, now_ms: i64) {
        let expiration = i64::try_from(turn.settings.id_expiration.as_millis()).unwrap_or(i64::MAX);
        let oldest = now_ms.saturating_sub(expiration);
        let all = self.transactions.iter();
        let is_expired = all.filter(|(_, transaction)| {
            transaction.stored.status.is_idle() && transaction.stored.updated_ms <= oldest
        });
        let mut expired: Vec<KStr> = is_expired.map(|(id, _)| id.clone()).collect();
        if expired.is_empty() {
            return;
        }
        // The same order in each run: a simulation repeats.
        expired.sort_unstable();
        turn.fx.notes.push(Note::Expired { count: expired.len() });
        for id in expired {
            self.forget(&id);
            turn.fx.records.push(TransactionRecord { id, value: None, form: turn.level.form() });
        }
    }
}
