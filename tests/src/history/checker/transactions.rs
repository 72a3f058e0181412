//! What became of each transaction, and whether readers of committed records saw just that.

use std::collections::{BTreeMap, HashMap};

use super::log::{KeyLog, Read, Send};
use super::{Anomaly, Kind, Verdict};
use crate::history::{Action, Ending, Isolation, Key, Name, Op, Outcome, Process, Transaction, Value};

/// What became of a transaction, as its client knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// Its commit was acknowledged.
    Committed,
    /// Its commit may have happened.
    Undecided,
    /// Nobody asked for its commit, or that was refused.
    Aborted,
}

/// All transactions of a history.
#[derive(Debug, Default)]
pub(super) struct Transactions {
    known: HashMap<Transaction, Known>,
    longest_ms: Option<u64>,
}

#[derive(Debug, Default)]
struct Known {
    name: Option<Name>,
    has_committed: bool,
    has_aborted: bool,
    may_have_committed: bool,
    /// When its commit was first asked for.
    commit_began_us: Option<u64>,
}

impl Known {
    fn fate(&self) -> Fate {
        match (self.has_committed, self.has_aborted, self.may_have_committed) {
            (true, _, _) => Fate::Committed,
            (false, false, true) => Fate::Undecided,
            (false, true, _) | (false, false, false) => Fate::Aborted,
        }
    }
}

/// The records of one transaction in all keys.
type Records<'a> = Vec<(Key, Value, &'a Send, &'a KeyLog)>;

impl Transactions {
    pub(super) fn of(history: &[Op]) -> Self {
        let mut all = Self::default();
        for op in history {
            match &op.action {
                Action::Begin { transaction, name, timeout_ms } => {
                    all.longest_ms = all.longest_ms.max(Some(*timeout_ms));
                    all.known.entry(*transaction).or_default().name = Some(*name);
                }
                Action::End { transaction, ending } => {
                    let known = all.known.entry(*transaction).or_default();
                    match (ending, op.outcome) {
                        (Ending::Commit, Outcome::Ok) => known.has_committed = true,
                        (Ending::Commit, Outcome::Info) => known.may_have_committed = true,
                        (Ending::Abort, Outcome::Ok) => known.has_aborted = true,
                        (Ending::Commit, Outcome::Fail) | (Ending::Abort, Outcome::Fail | Outcome::Info) => {}
                    }
                    if *ending == Ending::Commit {
                        let began = known.commit_began_us.get_or_insert(op.began_us);
                        *began = op.began_us.min(*began);
                    }
                }
                Action::Send { transaction: Some(transaction), .. } => {
                    all.known.entry(*transaction).or_default();
                }
                Action::Send { transaction: None, .. }
                | Action::Poll { .. }
                | Action::Claim { .. }
                | Action::Assign { .. }
                | Action::Crash
                | Action::Mark { .. } => {}
            }
        }
        all
    }

    pub(super) fn fate(&self, transaction: Transaction) -> Fate {
        self.known.get(&transaction).map_or(Fate::Aborted, Known::fate)
    }

    /// The longest that any of them may be open.
    pub(super) fn longest_us(&self) -> Option<u64> {
        self.longest_ms.map(|ms| ms * 1000)
    }

    /// Holds each against what was seen of it.
    pub(super) fn judge(&self, keys: &BTreeMap<Key, KeyLog>, verdict: &mut Verdict) {
        let mut records: HashMap<Transaction, Records<'_>> = HashMap::new();
        for (key, log) in keys {
            for (value, send) in &log.sends {
                if let Some(transaction) = send.transaction {
                    records.entry(transaction).or_default().push((*key, *value, send, log));
                }
            }
        }
        for (transaction, known) in &self.known {
            let records = records.remove(transaction).unwrap_or_default();
            let is_proven = || records.iter().any(|(_, _, send, _)| send.is_read_committed);
            match known.fate() {
                Fate::Aborted => {
                    verdict.figures.aborted += 1;
                    judge_aborted(&records, verdict);
                }
                Fate::Undecided if !is_proven() => verdict.figures.undecided += 1,
                Fate::Undecided | Fate::Committed => {
                    verdict.figures.committed += 1;
                    judge_committed(&records, verdict);
                    judge_early(known, &records, verdict);
                }
            }
        }
    }

    /// Who claims a transactional id fences who had it: of what that one begins afterwards nothing is acknowledged.
    pub(super) fn judge_zombies(&self, history: &[Op], verdict: &mut Verdict) {
        let mut claims: HashMap<Name, Vec<(Process, u64)>> = HashMap::new();
        for op in history.iter().filter(|op| op.outcome == Outcome::Ok) {
            match &op.action {
                Action::Claim { name } => claims.entry(*name).or_default().push((op.process, op.ended_us)),
                Action::Send { records, transaction: Some(transaction) } => {
                    let name = self.known.get(transaction).and_then(|known| known.name);
                    let claims = name.and_then(|name| claims.get(&name)).map_or(&[][..], Vec::as_slice);
                    let own = claims.iter().rposition(|(process, _)| *process == op.process);
                    let later = own.map_or(&[][..], |own| &claims[own + 1..]);
                    if later.iter().any(|(_, ended_us)| *ended_us < op.began_us) {
                        verdict.anomalies.extend(records.iter().map(|record| Anomaly {
                            kind: Kind::ZombieWrote,
                            key: record.key,
                            offset: record.offset,
                            value: Some(record.value),
                            process: Some(op.process),
                        }));
                    }
                }
                Action::Send { .. }
                | Action::Poll { .. }
                | Action::Begin { .. }
                | Action::End { .. }
                | Action::Assign { .. }
                | Action::Crash
                | Action::Mark { .. } => {}
            }
        }
    }
}

fn anomaly(kind: Kind, key: Key, offset: Option<i64>, value: Value) -> Anomaly {
    Anomaly { kind, key, offset, value: Some(value), process: None }
}

fn committed_reads(log: &KeyLog, value: Value) -> impl Iterator<Item = &Read> {
    log.reads.iter().filter(move |read| read.value == Some(value) && read.isolation == Isolation::Committed)
}

fn judge_aborted(records: &Records<'_>, verdict: &mut Verdict) {
    let mut acknowledged = records.iter().filter(|(_, _, send, _)| send.outcome == Outcome::Ok).peekable();
    let kind =
        match acknowledged.peek().is_some() && acknowledged.all(|(_, _, send, _)| send.is_read_committed) {
            true => Kind::Resurrected,
            false => Kind::AbortedRead,
        };
    for (key, value, _, log) in records.iter().filter(|(_, _, send, _)| send.is_read_committed) {
        let reads = committed_reads(log, *value);
        verdict.anomalies.extend(reads.map(|read| anomaly(kind, *key, Some(read.offset), *value)));
    }
}

fn judge_committed(records: &Records<'_>, verdict: &mut Verdict) {
    let is_any_seen = records.iter().any(|(_, _, send, log)| log.is_seen(send));
    for (key, value, send, log) in records {
        if send.outcome != Outcome::Ok || log.is_seen(send) || log.is_deleted(send.offset) {
            continue;
        }
        let is_passed = send.offset.is_some_and(|offset| log.bound().is_some_and(|bound| offset <= bound));
        let kind = match (is_passed, is_any_seen) {
            (false, _) => Kind::Unseen,
            (true, true) => Kind::Torn,
            (true, false) => Kind::LostTransaction,
        };
        verdict.anomalies.push(anomaly(kind, *key, send.offset, *value));
    }
}

fn judge_early(known: &Known, records: &Records<'_>, verdict: &mut Verdict) {
    for (key, value, _, log) in records {
        let is_early = |read: &&Read| known.commit_began_us.is_some_and(|began| read.ended_us < began);
        for read in committed_reads(log, *value).filter(is_early) {
            verdict.anomalies.push(anomaly(Kind::PrecommittedRead, *key, Some(read.offset), *value));
        }
    }
}
