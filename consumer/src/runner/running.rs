//! The loop around the work: receives, starts handlers, commits, and lets go of partitions in order.

use std::collections::HashMap;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::stream::{FuturesUnordered, StreamExt};
use millstream_protocol::KStr;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};
use tokio::time::Instant;

use crate::consumer::{Consumer, TopicPartitionOffset};
use crate::error::ConsumeError;
use crate::group::{CommitError, Committer, Hook, Rebalance, TopicPartition};
use crate::offsets::Offsets;
use crate::panicked::Panicked;
use crate::record::ConsumerRecord;
use crate::runner::lanes::Tenure;
use crate::runner::parking::{ParkError, Parking};
use crate::runner::retry::Failure;
use crate::runner::work::{Due, GivenUp, Job, Outcome, Rules, Step, Ticket, Work};
use crate::runner::{RunError, RunReport};

/// What a program does with a record.
pub(super) type Handler = Arc<dyn Fn(ConsumerRecord) -> Handling + Send + Sync>;
pub(super) type Handling = Pin<Box<dyn Future<Output = Result<(), Failure>> + Send>>;
pub(super) type Until = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Everything about a run that does not change.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub(super) rules: Rules,
    pub(super) park_to: Option<KStr>,
    pub(super) timeout: Option<Duration>,
    pub(super) commit_every: Duration,
    pub(super) drain_timeout: Duration,
}

/// The share of the time until a deadline in which handlers may finish; the rest is for the commit.
const DRAIN_SHARE: f64 = 0.8;
/// How long a commit may take before the next one is tried.
const COMMIT_PATIENCE: Duration = Duration::from_secs(30);
/// How long handlers that were aborted may take to notice.
const ABORT_GRACE: Duration = Duration::from_secs(1);

/// What a handler's task comes back with.
struct Done {
    job: Job,
    result: Attempt,
}

/// How one step of a job ended.
enum Attempt {
    Finished,
    Failed(Failure),
    NotParked(ParkError),
}

/// What the hook tells the loop.
enum Change {
    Revoked { partitions: Vec<TopicPartition>, deadline: Instant, done: oneshot::Sender<()> },
    Lost(Vec<TopicPartition>),
}

/// Partitions that are being let go.
struct Revocation {
    tenures: Vec<Tenure>,
    /// Until then handlers may finish; the rest of the time is for the commit.
    drain_until: Instant,
    deadline: Instant,
    done: oneshot::Sender<()>,
}

/// A commit that came to its end.
struct Committed {
    due: Vec<Due>,
    /// None if its time was up.
    result: Option<Result<(), CommitError>>,
    /// The revocation that it was for.
    released: Option<(Vec<Tenure>, oneshot::Sender<()>)>,
}

type Commits = FuturesUnordered<Pin<Box<dyn Future<Output = Committed> + Send>>>;

/// Something that was waited for.
enum Event {
    Stop,
    Alarm,
    Changed(Change),
    Done(Result<(Id, Done), JoinError>),
    Committed(Committed),
    Received(Result<Vec<ConsumerRecord>, ConsumeError>),
}

/// How it ends.
struct Ending {
    error: Option<RunError>,
    drain_until: Instant,
}

pub(super) struct Running {
    consumer: Consumer,
    /// None without a group.
    committer: Option<Committer>,
    handler: Handler,
    parking: Option<Parking>,
    settings: Settings,
    until: Option<Until>,
    work: Work,
    tasks: JoinSet<Done>,
    /// The tasks of jobs that are under way.
    started: HashMap<Id, (Ticket, AbortHandle)>,
    changes: mpsc::UnboundedReceiver<Change>,
    revocations: Vec<Revocation>,
    commits: Commits,
    /// One commit at a time but for those of revocations.
    is_committing: bool,
    commit_at: Instant,
    /// There is nothing more to receive.
    is_exhausted: bool,
    ending: Option<Ending>,
    report: RunReport,
}

impl Running {
    pub(super) fn new(
        mut consumer: Consumer,
        (handler, until): (Handler, Option<Until>),
        settings: Settings,
    ) -> Self {
        let (tell, changes) = mpsc::unbounded_channel();
        consumer.hook_into(|own| Hook::new(move |rebalance| tell_of(tell.clone(), rebalance, own.clone())));
        let park = |topic: KStr| Parking::new(&consumer.client, topic);
        Self {
            committer: consumer.has_group().then(|| consumer.committer()),
            parking: settings.park_to.clone().map(park),
            consumer,
            handler,
            until,
            work: Work::new(settings.rules.clone()),
            tasks: JoinSet::new(),
            started: HashMap::new(),
            changes,
            revocations: Vec::new(),
            commits: Commits::new(),
            is_committing: false,
            commit_at: Instant::now() + settings.commit_every,
            is_exhausted: false,
            ending: None,
            report: RunReport::default(),
            settings,
        }
    }

    pub(super) async fn run(mut self) -> Result<RunReport, RunError> {
        loop {
            self.start();
            self.let_go();
            self.commit_if_due();
            if self.is_exhausted && self.work.is_empty() {
                self.end(None);
            }
            if self.is_over() {
                break;
            }
            let event = self.next().await;
            self.on_event(event);
        }
        self.report.positions = self.work.positions().into_iter().collect();
        let error = self.ending.take().and_then(|ending| ending.error);
        // What is not committed comes again, and that is worth an error; but the first one tells more.
        let committed = self.commit_rest().await;
        // Nothing is under way any more: the hook need not wait for anybody when the group is left.
        self.revocations.clear();
        drop(self.changes);
        let left = self.consumer.close().await;
        match error {
            Some(error) => Err(error),
            None => {
                committed?;
                left?;
                Ok(self.report)
            }
        }
    }

    /// Begins with what can be begun.
    fn start(&mut self) {
        while let Some(job) = self.work.take(Instant::now()) {
            let ticket = job.ticket;
            let task = match &self.parking {
                Some(parking) if matches!(job.step, Step::Park(_)) => {
                    self.tasks.spawn(park(parking.clone(), job))
                }
                Some(_) | None => self.tasks.spawn(handle(self.handler.clone(), job, self.settings.timeout)),
            };
            self.started.insert(task.id(), (ticket, task));
        }
    }

    /// Whether all that was begun has ended.
    fn is_over(&self) -> bool {
        let Some(ending) = &self.ending else { return false };
        let is_idle = self.tasks.is_empty() && self.commits.is_empty() && self.revocations.is_empty();
        // A handler that never waits cannot be ended.
        is_idle || ending.drain_until + ABORT_GRACE <= Instant::now()
    }

    async fn next(&mut self) -> Event {
        let is_ending = self.ending.is_some();
        let has_room = !is_ending && !self.is_exhausted && self.work.has_room();
        let alarm = self.alarm();
        let Self { consumer, until, changes, tasks, commits, .. } = self;
        let until = async {
            match until {
                Some(until) if !is_ending => until.await,
                Some(_) | None => std::future::pending().await,
            }
        };
        let receive = async {
            match has_room {
                true => consumer.recv_batch().await,
                false => Err(consumer.attend().await),
            }
        };
        tokio::select! {
            () = until => Event::Stop,
            () = tokio::time::sleep_until(alarm) => Event::Alarm,
            // The hook has the other end, and the consumer has the hook.
            Some(change) = changes.recv() => Event::Changed(change),
            Some(done) = tasks.join_next_with_id(), if !tasks.is_empty() => Event::Done(done),
            Some(committed) = commits.next(), if !commits.is_empty() => Event::Committed(committed),
            received = receive => Event::Received(received),
        }
    }

    fn alarm(&self) -> Instant {
        let now = Instant::now();
        let revocations = self.revocations.iter().map(|revocation| revocation.drain_until);
        let ending = self.ending.iter().map(|ending| match ending.drain_until > now {
            true => ending.drain_until,
            false => ending.drain_until + ABORT_GRACE,
        });
        let alarms = revocations.chain(ending).chain(self.work.alarm());
        let next_commit = if self.is_committing { None } else { Some(self.commit_at) };
        alarms.chain(next_commit).min().unwrap_or(now + self.settings.commit_every)
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Alarm => {}
            Event::Stop => {
                // A future that is done must not be asked again.
                self.until = None;
                self.end(None);
            }
            Event::Changed(change) => self.on_change(change),
            Event::Done(done) => {
                self.on_done(done);
                while let Some(done) = self.tasks.try_join_next_with_id() {
                    self.on_done(done);
                }
            }
            Event::Committed(committed) => self.on_committed(committed),
            // With a stop: everything up to it has been received.
            Event::Received(Ok(records)) if records.is_empty() => self.is_exhausted = true,
            Event::Received(Ok(records)) => {
                records.into_iter().for_each(|record| self.work.receive(record));
            }
            Event::Received(Err(error)) if passes(&error) => tracing::warn!(%error, "the runner waits"),
            Event::Received(Err(error)) => self.end(Some(error.into())),
        }
    }

    /// Begins nothing more. What is under way may finish.
    fn end(&mut self, error: Option<RunError>) {
        if self.ending.is_some() {
            return;
        }
        for tenure in self.work.tenures() {
            self.work.close(tenure);
        }
        let drain_until = Instant::now() + self.settings.drain_timeout;
        self.ending = Some(Ending { error, drain_until });
    }

    fn on_change(&mut self, change: Change) {
        let tenures = |of: &[TopicPartition]| -> Vec<Tenure> {
            of.iter().filter_map(|of| self.work.tenure(&of.topic, of.partition)).collect()
        };
        match change {
            Change::Revoked { partitions, deadline, done } => {
                let tenures = tenures(&partitions);
                tenures.iter().for_each(|tenure| self.work.close(*tenure));
                let now = Instant::now();
                let left = deadline.saturating_duration_since(now);
                let drain_until = now + left.mul_f64(DRAIN_SHARE);
                self.revocations.push(Revocation { tenures, drain_until, deadline, done });
            }
            Change::Lost(partitions) => {
                let tenures = tenures(&partitions);
                tenures.iter().for_each(|tenure| self.work.close(*tenure));
                self.abort(&tenures);
                tenures.iter().for_each(|tenure| self.work.release(*tenure));
            }
        }
    }

    /// Commits and lets go of what is revoked and has finished, or whose time is up.
    fn let_go(&mut self) {
        let now = Instant::now();
        if self.ending.as_ref().is_some_and(|ending| ending.drain_until <= now) {
            self.abort(&self.work.tenures());
        }
        let is_due = |revocation: &mut Revocation| {
            revocation.drain_until <= now || self.work.is_idle(&revocation.tenures)
        };
        let due: Vec<_> = self.revocations.extract_if(.., is_due).collect();
        for Revocation { tenures, deadline, done, .. } in due {
            self.abort(&tenures);
            let commit = self.work.due(Some(&tenures));
            self.commit(commit, deadline, Some((tenures, done)));
        }
    }

    /// Ends handlers at the next point at which they wait. Their records are not finished.
    fn abort(&self, tenures: &[Tenure]) {
        let tickets = self.work.under_way(tenures);
        for (ticket, task) in self.started.values() {
            if tickets.contains(ticket) {
                task.abort();
            }
        }
    }

    fn commit_if_due(&mut self) {
        let now = Instant::now();
        if self.is_committing || self.commit_at > now {
            return;
        }
        self.commit_at = now + self.settings.commit_every;
        let due = self.work.due(None);
        if !due.is_empty() && self.committer.is_some() {
            self.is_committing = true;
            self.commit(due, now + COMMIT_PATIENCE, None);
        }
    }

    fn commit(&self, due: Vec<Due>, deadline: Instant, released: Option<(Vec<Tenure>, oneshot::Sender<()>)>) {
        let committer = self.committer.clone();
        let offsets: Offsets = due.iter().map(|due| due.offset.clone()).collect();
        self.commits.push(Box::pin(async move {
            let commit = async {
                match committer {
                    Some(committer) => committer.commit(offsets).await,
                    None => Ok(()),
                }
            };
            // After the deadline nobody would take it any more.
            let result = tokio::time::timeout_at(deadline, commit).await.ok();
            Committed { due, result, released }
        }));
    }

    fn on_committed(&mut self, Committed { due, result, released }: Committed) {
        match &result {
            Some(Ok(())) => self.work.on_committed(&due),
            Some(Err(error)) => tracing::warn!(%error, "offsets are not committed"),
            None => tracing::warn!("offsets are not committed: the broker did not answer in time"),
        }
        match released {
            None => self.is_committing = false,
            Some((tenures, done)) => {
                tenures.iter().for_each(|tenure| self.work.release(*tenure));
                // The hook may have been dropped with its consumer.
                let _ = done.send(());
            }
        }
    }

    /// Commits what is finished and not committed, at the end.
    async fn commit_rest(&mut self) -> Result<(), RunError> {
        let Some(committer) = &self.committer else { return Ok(()) };
        let offsets: Offsets = self.work.due(None).into_iter().map(|due| due.offset).collect();
        committer.commit(offsets).await.map_err(RunError::Commit)
    }

    fn on_done(&mut self, done: Result<(Id, Done), JoinError>) {
        let (job, result) = match done {
            Ok((id, Done { job, result })) => {
                self.started.remove(&id);
                (job, result)
            }
            Err(error) => {
                // It was aborted; what a handler panics with is caught before it gets here.
                if let Some((ticket, _)) = self.started.remove(&error.id()) {
                    self.work.aborted(ticket);
                }
                return;
            }
        };
        let outcome = match result {
            Attempt::Finished => {
                match job.step {
                    Step::Handle => self.report.handled += 1,
                    Step::Park(_) => self.report.parked += 1,
                }
                Outcome::Finished
            }
            Attempt::Failed(failure) => {
                let ConsumerRecord { topic, partition, offset, .. } = &job.record;
                let (reason, attempts) = (failure.reason(), job.attempts);
                tracing::warn!(%topic, partition, offset, attempts, reason, "a record was not handled");
                self.report.failed_attempts += 1;
                Outcome::Failed(failure)
            }
            Attempt::NotParked(error) => {
                let ConsumerRecord { topic, partition, offset, .. } = &job.record;
                tracing::warn!(%topic, partition, offset, %error, "a record could not be parked");
                if !error.is_retriable() {
                    let at = place(&job.record);
                    self.end(Some(RunError::Park { at, source: error }));
                }
                Outcome::NotParked
            }
        };
        if let Some(GivenUp { record, attempts, failure }) = self.work.returned(job, outcome, Instant::now())
        {
            let reason = failure.reason().to_owned();
            self.end(Some(RunError::Failed { at: place(&record), attempts, reason }));
        }
    }
}

/// What the hook does: tells the loop, waits until it has let go, and then asks the program's own hook.
async fn tell_of(tell: mpsc::UnboundedSender<Change>, rebalance: Rebalance, own: Option<Hook>) {
    match &rebalance {
        Rebalance::Assigned(_) => {}
        Rebalance::Revoked(revoked) => {
            let (done, released) = oneshot::channel();
            let (partitions, deadline) = (revoked.partitions().to_vec(), revoked.deadline());
            // If the loop is gone, nothing is under way.
            let _ = tell.send(Change::Revoked { partitions, deadline, done });
            let _ = released.await;
        }
        Rebalance::Lost(lost) => {
            let _ = tell.send(Change::Lost(lost.partitions().to_vec()));
        }
    }
    if let Some(own) = own {
        own.call(rebalance).await;
    }
}

/// One attempt to handle a record. A panic is a failure, and so is taking too long.
async fn handle(handler: Handler, job: Job, timeout: Option<Duration>) -> Done {
    let record = job.record.clone();
    let call = AssertUnwindSafe(async move { handler(record).await }).catch_unwind();
    let result = match timeout {
        Some(timeout) => tokio::time::timeout(timeout, call).await.map_err(|_| timeout),
        None => Ok(call.await),
    };
    let result = match result {
        Ok(Ok(Ok(()))) => Attempt::Finished,
        Ok(Ok(Err(failure))) => Attempt::Failed(failure),
        Ok(Err(payload)) => Attempt::Failed(Failure::passing(Panicked::new(&*payload))),
        Err(timeout) => Attempt::Failed(Failure::passing(format!("no result within {timeout:?}"))),
    };
    Done { job, result }
}

/// One attempt to park a record.
async fn park(parking: Parking, job: Job) -> Done {
    let Step::Park(failure) = &job.step else { unreachable!("the caller looked at the step") };
    let result = match parking.park(&job.record, (failure.reason(), job.attempts)).await {
        Ok(()) => Attempt::Finished,
        Err(error) => Attempt::NotParked(error),
    };
    Done { job, result }
}

/// Whether going on will do, as opposed to giving up.
fn passes(error: &ConsumeError) -> bool {
    // What was lost is somebody else's now; the rest is still here.
    error.is_retriable() || matches!(error, ConsumeError::PartitionsLost { .. })
}

fn place(record: &ConsumerRecord) -> TopicPartitionOffset {
    let (topic, partition) = (record.topic.clone(), record.partition);
    TopicPartitionOffset { topic, partition, offset: record.offset }
}
