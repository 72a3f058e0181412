//! The consumer's side of a group: takes over what its member was given, gives up what it has to, and calls the hook.
//!
//! Everything here happens while the program waits in `recv` and its likes. That it waits there means that it is done
//! with what it was handed before, unless a hook says otherwise.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use millstream_client::{ClientError, GroupMetadata};
use millstream_protocol::KStr;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::GroupSettings;
use super::commit::{CommitError, Committer};
use super::holdings::{Holdings, Serial};
use super::member::Identity;
use super::rebalance::{Assigned, Hook, Lost, Rebalance, Revoked, Starts, TopicPartition};
use super::shared::Shared;
use super::status::{GroupStatus, LossReason};
use crate::builder::StartAt;
use crate::consumer::Consumer;
use crate::error::ConsumeError;
use crate::fetching::Event;
use crate::offsets::{Offsets, Position};
use crate::partition::Partition;

/// A partition that the consumer has taken over from its member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Reading {
    serial: Serial,
    stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The hook is being told, or is about to be.
    Coming,
    /// It is read.
    Read,
    /// The hook is being told that it goes, or is about to be.
    Going,
}

/// What the hook is to be told, one after the other.
#[derive(Debug)]
pub(crate) enum Call {
    Assigned(Vec<(TopicPartition, Serial)>, Starts),
    Revoked(Vec<(TopicPartition, Serial)>, Instant),
    Lost(Vec<TopicPartition>),
}

/// How the consumer follows its member.
#[derive(Debug)]
pub(crate) struct Following {
    shared: Arc<Shared>,
    pub(crate) changes: watch::Receiver<()>,
    /// There may be something that has not been looked at.
    pub(crate) must_look: bool,
    reading: BTreeMap<TopicPartition, Reading>,
    calls: VecDeque<Call>,
    is_calling: bool,
    pub(crate) hook: Option<Hook>,
    committer: Committer,
    auto_commit: Option<Duration>,
    commit_at: Instant,
    is_committing: bool,
    /// What was committed last without being asked.
    committed: Offsets,
    instance_id: Option<KStr>,
    watches_program: bool,
    revocation_time: Duration,
    task: Option<JoinHandle<Result<(), ClientError>>>,
}

impl Following {
    pub(super) fn new(
        settings: GroupSettings,
        (shared, revocation_time): (Arc<Shared>, Duration),
        committer: Committer,
        task: JoinHandle<Result<(), ClientError>>,
    ) -> Self {
        Self {
            changes: shared.changes(),
            shared,
            must_look: true,
            reading: BTreeMap::new(),
            calls: VecDeque::new(),
            is_calling: false,
            hook: settings.hook,
            committer,
            commit_at: Instant::now() + settings.auto_commit.unwrap_or_default(),
            auto_commit: settings.auto_commit,
            is_committing: false,
            committed: Offsets::new(),
            instance_id: settings.instance_id,
            watches_program: settings.max_poll_interval.is_some(),
            revocation_time,
            task: Some(task),
        }
    }

    fn status(&self) -> GroupStatus {
        self.shared.view().status
    }

    /// Why it is out of the group for good.
    fn fatal(&self) -> Option<ConsumeError> {
        self.shared.fatal().map(ConsumeError::Group)
    }

    /// What of the next calls can be made now, if none is under way.
    fn next_call(&mut self) -> Option<Call> {
        if self.is_calling {
            return None;
        }
        self.calls.pop_front()
    }

    /// Those of them that are still what they were.
    fn current(
        &self,
        partitions: &[(TopicPartition, Serial)],
        stage: Stage,
    ) -> Vec<(TopicPartition, Serial)> {
        let is_current = |(partition, serial): &&(TopicPartition, Serial)| {
            self.reading.get(partition) == Some(&Reading { serial: *serial, stage })
        };
        partitions.iter().filter(is_current).cloned().collect()
    }
}

impl Drop for Following {
    /// The task leaves the group by itself; nobody waits for it.
    fn drop(&mut self) {
        self.shared.leave();
    }
}

/// While it lives the program waits for records, and is not busy.
pub(crate) struct Turn(Option<Arc<Shared>>);

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(shared) = &self.0 {
            shared.set_busy(Some(Instant::now()));
        }
    }
}

impl Consumer {
    /// The program is back for more.
    pub(crate) fn turn(&mut self) -> Turn {
        let Some(following) = &self.following else { return Turn(None) };
        let shared = following.watches_program.then(|| following.shared.clone());
        if let Some(shared) = &shared {
            shared.set_busy(None);
        }
        self.commit_if_due();
        Turn(shared)
    }

    /// Takes over what has changed. Cheap if nothing has.
    pub(crate) fn follow_group(&mut self) {
        let Some(following) = &mut self.following else { return };
        // The sender is in what we hold, so there is no error.
        if !following.must_look && !following.changes.has_changed().unwrap_or(false) {
            return;
        }
        following.must_look = false;
        following.changes.mark_unchanged();
        let report = following.shared.take_report();
        let view = following.shared.view();
        self.lose(&view.holdings, view.loss);
        self.errors.extend(report.map(ConsumeError::Group));
        let Some(following) = &mut self.following else { return };
        let mut coming = Vec::new();
        let mut going: BTreeMap<Instant, Vec<(TopicPartition, Serial)>> = BTreeMap::new();
        for (partition, held) in view.holdings.iter() {
            let serial = held.serial;
            match (following.reading.get_mut(partition), held.revoke_by) {
                // What goes before it came is not shown to the program at all.
                (None, Some(_)) => following.shared.release(vec![(partition.clone(), serial)]),
                (None, None) => {
                    following.reading.insert(partition.clone(), Reading { serial, stage: Stage::Coming });
                    coming.push((partition.clone(), serial));
                }
                (Some(reading), Some(by)) if reading.stage != Stage::Going => {
                    reading.stage = Stage::Going;
                    going.entry(by).or_default().push((partition.clone(), serial));
                }
                (Some(_), _) => {}
            }
        }
        for (deadline, partitions) in going {
            self.stop_handing_out(&partitions);
            self.call(Call::Revoked(partitions, deadline));
        }
        if !coming.is_empty() {
            self.call(Call::Assigned(coming, Starts::default()));
        }
        self.make_calls();
    }

    /// What was taken away without asking.
    fn lose(&mut self, held: &Holdings, reason: LossReason) {
        let Some(following) = &mut self.following else { return };
        let is_lost = |(partition, reading): &(&TopicPartition, &Reading)| {
            held.get(partition).is_none_or(|held| held.serial != reading.serial)
        };
        let lost: Vec<_> =
            following.reading.iter().filter(is_lost).map(|(p, r)| (p.clone(), r.stage)).collect();
        if lost.is_empty() {
            return;
        }
        let group = following.status().group.to_string();
        let mut missed = Vec::new();
        for (partition, stage) in &lost {
            following.reading.remove(partition);
            // One of which nothing was handed out yet is not missed by the program, but the hook was told of it.
            if *stage != Stage::Coming {
                missed.push(partition.clone());
            }
        }
        missed.iter().for_each(|partition| self.take_away(partition));
        if !missed.is_empty() {
            self.errors.push_back(ConsumeError::PartitionsLost { group, partitions: missed, reason });
        }
        self.call(Call::Lost(lost.into_iter().map(|(partition, _)| partition).collect()));
    }

    fn call(&mut self, call: Call) {
        if let Some(following) = &mut self.following {
            following.calls.push_back(call);
        }
    }

    /// Makes the calls that are due, one at a time; without a hook they are done at once.
    pub(crate) fn make_calls(&mut self) {
        while let Some(following) = &mut self.following
            && let Some(call) = following.next_call()
        {
            let rebalance = match &call {
                Call::Assigned(partitions, starts) => {
                    Rebalance::Assigned(Assigned::new(named(partitions), starts.clone()))
                }
                Call::Revoked(partitions, deadline) => Rebalance::Revoked(Revoked::new(
                    named(partitions),
                    *deadline,
                    following.committer.clone(),
                )),
                Call::Lost(partitions) => Rebalance::Lost(Lost::new(partitions.clone())),
            };
            let hook = following.hook.clone();
            let offsets = self.offsets_to_commit(&call);
            if hook.is_none() && offsets.is_none() {
                self.on_called(call);
                continue;
            }
            let Some(following) = &mut self.following else { return };
            following.is_calling = true;
            let committer = following.committer.clone();
            self.events.push(Box::pin(async move {
                let mut committed = Ok(());
                if let Some(hook) = hook {
                    hook.call(rebalance).await;
                }
                if let Some(offsets) = offsets {
                    committed = committer.commit(offsets).await;
                }
                Event::Called(call, committed)
            }));
        }
    }

    /// What is committed without being asked before partitions are given up.
    fn offsets_to_commit(&self, call: &Call) -> Option<Offsets> {
        let Call::Revoked(partitions, _) = call else { return None };
        self.following.as_ref()?.auto_commit?;
        let mut offsets = self.positions();
        offsets.retain(|partition| partitions.iter().any(|(going, _)| going == partition));
        (!offsets.is_empty()).then_some(offsets)
    }

    /// The hook is done, or there is none.
    pub(crate) fn on_called(&mut self, call: Call) {
        let Some(following) = &mut self.following else { return };
        match call {
            Call::Assigned(partitions, starts) => {
                let starts = std::mem::take(&mut *starts.lock().unwrap_or_else(PoisonError::into_inner));
                for (partition, serial) in following.current(&partitions, Stage::Coming) {
                    let start = starts.iter().rev().find(|(of, _)| *of == partition).map(|(_, at)| *at);
                    let Some(following) = &mut self.following else { return };
                    following.reading.insert(partition.clone(), Reading { serial, stage: Stage::Read });
                    let TopicPartition { topic, partition } = partition;
                    self.add(topic, partition, start.unwrap_or(StartAt::Committed));
                }
            }
            Call::Revoked(partitions, _) => {
                let given_up = following.current(&partitions, Stage::Going);
                for (partition, _) in &given_up {
                    following.reading.remove(partition);
                }
                for (partition, _) in &given_up {
                    self.take_away(partition);
                }
                if let Some(following) = &mut self.following {
                    following.shared.release(given_up);
                }
            }
            Call::Lost(_) => {}
        }
    }

    /// A call to the hook has ended.
    pub(crate) fn on_event_called(&mut self, call: Call, committed: Result<(), CommitError>) {
        if let Some(following) = &mut self.following {
            following.is_calling = false;
        }
        self.on_auto_commit(committed);
        self.on_called(call);
        self.make_calls();
    }

    /// Has a runner told of every change; it asks the program's own hook itself. What is committed is the runner's
    /// business from now on, too: what was handed out is not finished.
    pub(crate) fn hook_into(&mut self, hook: impl FnOnce(Option<Hook>) -> Hook) {
        if let Some(following) = &mut self.following {
            following.auto_commit = None;
            following.hook = Some(hook(following.hook.take()));
        }
    }

    /// Whether there is a group to commit for.
    pub(crate) fn has_group(&self) -> bool {
        self.settings.group.is_some()
    }

    fn take_away(&mut self, partition: &TopicPartition) {
        if let Ok(place) = self.assigned(&partition.topic, partition.partition) {
            self.drop_fetched(place);
            self.partitions[place].take_away();
        }
    }

    /// Nothing more of these is handed out; how far they are is still known.
    fn stop_handing_out(&mut self, partitions: &[(TopicPartition, Serial)]) {
        for (partition, _) in partitions {
            if let Ok(place) = self.assigned(&partition.topic, partition.partition) {
                self.drop_fetched(place);
                self.partitions[place].is_going = true;
            }
        }
    }

    /// How far everything is that was handed out: what [`commit`](Self::commit) takes when all of it is done.
    ///
    /// Of each assigned partition from which something was handed out, the offset of the next record; it lies behind what
    /// nobody sees, such as markers of transactions.
    #[must_use]
    pub fn positions(&self) -> Offsets {
        let mut offsets = Offsets::new();
        for partition in self.partitions.iter().filter(|partition| partition.is_assigned) {
            if let (Some(offset), Some(epoch)) = (partition.position(), partition.consumed) {
                let position =
                    Position { offset, leader_epoch: (epoch >= 0).then_some(epoch), ..Default::default() };
                offsets.set(partition.name(), position);
            }
        }
        offsets
    }

    /// Commits what has been handed out before this call, if that is wanted and due.
    fn commit_if_due(&mut self) {
        let Some(following) = &self.following else { return };
        let Some(every) = following.auto_commit else { return };
        if following.is_committing || Instant::now() < following.commit_at {
            return;
        }
        let offsets = self.positions();
        let Some(following) = &mut self.following else { return };
        if offsets == following.committed {
            return;
        }
        following.commit_at = Instant::now() + every;
        following.is_committing = true;
        following.committed = offsets.clone();
        let committer = following.committer.clone();
        self.events.push(Box::pin(async move { Event::Committed(committer.commit(offsets).await) }));
    }

    pub(crate) fn on_event_committed(&mut self, committed: Result<(), CommitError>) {
        if let Some(following) = &mut self.following {
            following.is_committing = false;
        }
        self.on_auto_commit(committed);
    }

    fn on_auto_commit(&mut self, committed: Result<(), CommitError>) {
        match committed {
            Ok(()) => {}
            // That partitions are gone is told by itself.
            Err(error @ CommitError::NotOwned { .. }) => tracing::debug!(%error, "not committed"),
            Err(error) => self.errors.push_back(ConsumeError::AutoCommit(error)),
        }
    }

    /// Why no record will ever come, if that is so.
    pub(crate) fn is_out(&self) -> Option<ConsumeError> {
        match &self.following {
            Some(following) => following.fatal(),
            None if self.partitions.iter().any(|partition: &Partition| partition.is_assigned) => None,
            None => Some(ConsumeError::NothingAssigned),
        }
    }

    /// Commits what the program is done with: a record, records, or [`positions`](Self::positions).
    ///
    /// The future borrows nothing; [`Committer`] says how it behaves, and is what other tasks commit with.
    ///
    /// ```no_run
    /// # async fn example(mut consumer: millstream_consumer::Consumer) -> Result<(), Box<dyn std::error::Error>> {
    /// let records = consumer.recv_batch().await?;
    /// println!("{} records are done", records.len());
    /// consumer.commit(&records).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`CommitError`].
    pub fn commit<O: Into<Offsets>>(
        &self,
        offsets: O,
    ) -> impl Future<Output = Result<(), CommitError>> + Send + use<O> {
        let (committer, offsets) = (self.committer(), offsets.into());
        async move { committer.commit(offsets).await }
    }

    /// Commits for this consumer's group, from wherever it is needed.
    #[must_use]
    pub fn committer(&self) -> Committer {
        match &self.following {
            Some(following) => following.committer.clone(),
            None => self.committer.clone(),
        }
    }

    /// How the consumer stands with its group: whether it is in it, and if not, what keeps it out. None if it did not
    /// subscribe.
    #[must_use]
    pub fn status(&self) -> Option<GroupStatus> {
        self.following.as_ref().map(Following::status)
    }

    /// As whom offsets of this consumer's group are committed, for a producer that commits them in a transaction. None
    /// without a group, and while its member is not in it.
    #[must_use]
    pub fn group_metadata(&self) -> Option<GroupMetadata> {
        let group = GroupMetadata::new(self.settings.group.as_ref()?.to_string());
        let Some(following) = &self.following else { return Some(group) };
        let Identity { member_id, generation } = following.shared.view().identity?;
        let group = group.member(member_id.to_string(), generation);
        Some(match &following.instance_id {
            Some(name) => group.instance(name.to_string()),
            None => group,
        })
    }

    /// Leaves the group, if there is one, and ends.
    ///
    /// The hook is told that everything is revoked, and waited for until its deadline. Nothing is committed but what
    /// [`auto_commit`](crate::ConsumerBuilder::auto_commit) would have. A static member does not leave: its partitions wait
    /// for it until its session ends. Dropping a consumer leaves too, in the background and without calling the hook.
    ///
    /// Cancel safe in that the group is left all the same, in the background.
    ///
    /// # Errors
    /// That what was left to commit was not, or that the coordinator did not hear that we left: it will find out when the
    /// session ends.
    pub async fn close(mut self) -> Result<(), ConsumeError> {
        self.give_up_all().await;
        let committed = self.errors.drain(..).find(|error| matches!(error, ConsumeError::AutoCommit(_)));
        let task = self.following.take().and_then(|mut following| following.task.take());
        drop(self);
        if let Some(task) = task {
            // A runtime that is shutting down ends the task; so does a panic, which is reported by itself.
            task.await.unwrap_or(Ok(())).map_err(ConsumeError::Topic)?;
        }
        committed.map_or(Ok(()), Err)
    }

    /// Has the hook give up everything, as long as that may take.
    async fn give_up_all(&mut self) {
        self.follow_group();
        let Some(following) = &mut self.following else { return };
        let deadline = Instant::now() + following.revocation_time;
        let mut all = Vec::new();
        for (partition, reading) in &mut following.reading {
            if reading.stage == Stage::Read {
                reading.stage = Stage::Going;
                all.push((partition.clone(), reading.serial));
            }
        }
        if !all.is_empty() {
            self.stop_handing_out(&all);
            self.call(Call::Revoked(all, deadline));
            self.make_calls();
        }
        let given_up = async {
            while self.following.as_ref().is_some_and(|following| following.is_calling) {
                self.step().await;
            }
        };
        if tokio::time::timeout_at(deadline, given_up).await.is_err() {
            tracing::warn!("the hook did not give everything up in time: leaving all the same");
        }
    }
}

fn named(partitions: &[(TopicPartition, Serial)]) -> Vec<TopicPartition> {
    partitions.iter().map(|(partition, _)| partition.clone()).collect()
}

#[cfg(test)]
mod tests;
