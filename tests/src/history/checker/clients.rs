//! What each client saw in its own order.

use std::collections::{BTreeMap, HashMap};

use super::log::KeyLog;
use super::{Anomaly, Kind, Verdict};
use crate::history::{Action, Isolation, Key, Op, Outcome, Process, Value};

/// Follows every client through the history, with the finished logs at hand.
#[derive(Debug)]
pub(super) struct Clients<'a> {
    keys: &'a BTreeMap<Key, KeyLog>,
    clients: HashMap<Process, Client>,
}

/// Where a client stands in each key.
#[derive(Debug, Default)]
struct Client {
    read_to: HashMap<Key, i64>,
    written_to: HashMap<Key, i64>,
}

/// A step of a client from one record of a key to its next.
#[derive(Debug, Clone, Copy)]
struct Step {
    key: Key,
    from: i64,
    to: i64,
    value: Option<Value>,
    /// Both are of one operation.
    is_within: bool,
}

impl<'a> Clients<'a> {
    pub(super) fn new(keys: &'a BTreeMap<Key, KeyLog>) -> Self {
        Self { keys, clients: HashMap::new() }
    }

    pub(super) fn follow(&mut self, op: &Op, verdict: &mut Verdict) {
        let client = self.clients.entry(op.process).or_default();
        match &op.action {
            Action::Send { records, .. } => {
                let places = records.iter().filter_map(|sent| {
                    Some((sent.key, self.keys.get(&sent.key)?.position(sent.value)?, Some(sent.value)))
                });
                for step in steps(&mut client.written_to, places) {
                    let kind = match (step.to < step.from, step.is_within) {
                        (true, true) => Kind::IntNonmonotonicSend,
                        (true, false) => Kind::NonmonotonicSend,
                        (false, _) => {
                            let is_skip = step.is_within && step.skips(self.keys, Isolation::Uncommitted);
                            verdict.figures.send_skips += usize::from(is_skip);
                            continue;
                        }
                    };
                    verdict.anomalies.push(step.anomaly(kind, op.process));
                }
            }
            Action::Poll { records, isolation, .. } => {
                let places = records.iter().map(|polled| (polled.key, polled.offset, polled.value));
                for step in steps(&mut client.read_to, places) {
                    let kind = match (step.to <= step.from, step.is_within) {
                        (true, true) => Kind::IntNonmonotonicPoll,
                        (true, false) => Kind::NonmonotonicPoll,
                        (false, _) if !step.skips(self.keys, *isolation) => continue,
                        (false, true) => Kind::IntPollSkip,
                        (false, false) => Kind::PollSkip,
                    };
                    verdict.anomalies.push(step.anomaly(kind, op.process));
                }
                if op.outcome != Outcome::Ok {
                    // Where a reader stands after a poll that failed is not known.
                    client.read_to.clear();
                }
            }
            Action::Assign { keys } => client.read_to.retain(|key, _| keys.contains(key)),
            Action::Crash => {
                self.clients.remove(&op.process);
            }
            Action::Mark { .. } | Action::Claim { .. } | Action::Begin { .. } | Action::End { .. } => {}
        }
    }
}

/// The steps that an operation's records make, which move where the client stands.
fn steps(
    stands: &mut HashMap<Key, i64>,
    places: impl Iterator<Item = (Key, i64, Option<Value>)>,
) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut within = Vec::new();
    for (key, to, value) in places {
        let is_within = within.contains(&key);
        if let Some(from) = stands.insert(key, to) {
            steps.push(Step { key, from, to, value, is_within });
        }
        if !is_within {
            within.push(key);
        }
    }
    steps
}

impl Step {
    /// Whether there is a record between, which somebody read and this client is to see.
    fn skips(&self, keys: &BTreeMap<Key, KeyLog>, isolation: Isolation) -> bool {
        keys.get(&self.key).is_some_and(|log| log.has_record_between(self.from, self.to, isolation))
    }

    fn anomaly(&self, kind: Kind, process: Process) -> Anomaly {
        Anomaly { kind, key: self.key, offset: Some(self.to), value: self.value, process: Some(process) }
    }
}
