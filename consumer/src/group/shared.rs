//! What a consumer, those who commit and the task of a member tell each other.
//!
//! It is state, not a queue, so it is bounded by the partitions that are held, and whoever looks late sees the present.
//! The lock is held for a look, never across an await.

use std::sync::{Mutex, MutexGuard, PoisonError};

use millstream_protocol::KStr;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::holdings::{Holdings, Serial};
use super::member::{Identity, Member};
use super::rebalance::TopicPartition;
use super::status::{GroupError, GroupStatus, LossReason, MemberState};

/// How a member stands.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct View {
    pub(crate) status: GroupStatus,
    pub(crate) identity: Option<Identity>,
    pub(crate) holdings: Holdings,
    pub(crate) loss: LossReason,
}

impl View {
    pub(super) fn of(member: &Member, group: &KStr) -> Self {
        let identity = member.identity();
        let status = GroupStatus {
            group: group.clone(),
            state: member.state(),
            protocol: member.protocol(),
            member_id: identity.as_ref().map(|identity| identity.member_id.clone()),
            generation: identity.as_ref().map(|identity| identity.generation),
            trouble: member.trouble().map(str::to_owned),
        };
        Self { status, identity, holdings: member.holdings().clone(), loss: member.loss() }
    }

    /// Whether no rebalance is under way.
    pub(super) fn is_settled(&self) -> bool {
        matches!(self.status.state, MemberState::Stable | MemberState::Revoking)
    }
}

/// What the task is to do.
#[derive(Debug, Default)]
pub(super) struct Orders {
    pub(super) released: Vec<(TopicPartition, Serial)>,
    pub(super) is_suspicious: bool,
    pub(super) leaves: bool,
}

#[derive(Debug)]
struct State {
    view: View,
    report: Option<GroupError>,
    /// Why the member is out for good.
    fatal: Option<GroupError>,
    orders: Orders,
    /// Since when the program has been busy with what it was handed.
    busy_since: Option<Instant>,
}

/// The place where they meet.
#[derive(Debug)]
pub(crate) struct Shared {
    state: Mutex<State>,
    changed: watch::Sender<()>,
    wake: Notify,
}

impl Shared {
    pub(super) fn new(view: View) -> Self {
        let busy_since = Some(Instant::now());
        let state = State { view, report: None, fatal: None, orders: Orders::default(), busy_since };
        Self { state: Mutex::new(state), changed: watch::Sender::default(), wake: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How the member stands now.
    pub(crate) fn view(&self) -> View {
        self.lock().view.clone()
    }

    /// What the program has to be told, once.
    pub(super) fn take_report(&self) -> Option<GroupError> {
        self.lock().report.take()
    }

    /// Why the member is out for good.
    pub(super) fn fatal(&self) -> Option<GroupError> {
        self.lock().fatal.clone()
    }

    /// Tells of every change of the view, and of reports.
    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// The program has given these up.
    pub(super) fn release(&self, released: Vec<(TopicPartition, Serial)>) {
        self.lock().orders.released.extend(released);
        self.wake.notify_one();
    }

    /// A commit was told that the generation or epoch is not the present one.
    pub(super) fn suspect(&self) {
        self.lock().orders.is_suspicious = true;
        self.wake.notify_one();
    }

    /// The member is to leave.
    pub(super) fn leave(&self) {
        self.lock().orders.leaves = true;
        self.wake.notify_one();
    }

    /// The program has gone with what it was handed, or is back for more.
    pub(super) fn set_busy(&self, since: Option<Instant>) {
        let mut state = self.lock();
        state.busy_since = since;
        let is_back = since.is_none() && state.view.status.state == MemberState::Away;
        drop(state);
        if is_back {
            self.wake.notify_one();
        }
    }

    pub(super) fn busy_since(&self) -> Option<Instant> {
        self.lock().busy_since
    }

    /// For the task: what it is to do.
    pub(super) fn take_orders(&self) -> Orders {
        let mut state = self.lock();
        let leaves = state.orders.leaves;
        let taken = std::mem::take(&mut state.orders);
        state.orders.leaves = leaves;
        taken
    }

    /// For the task: shows how the member stands.
    pub(super) fn show(&self, member: &mut Member, group: &KStr) {
        let (view, report) = (View::of(member, group), member.take_report());
        let mut state = self.lock();
        state.fatal = member.fatal().cloned();
        let has_changed = state.view != view || report.is_some();
        if has_changed {
            state.view = view;
            state.report = report.or(state.report.take());
        }
        drop(state);
        if has_changed {
            self.changed.send_replace(());
        }
    }

    /// For the task: the member leaves, and holds nothing any more.
    pub(super) fn end(&self) {
        let mut state = self.lock();
        state.view.holdings = Holdings::default();
        state.view.identity = None;
        state.view.status.state = MemberState::Away;
        drop(state);
        self.changed.send_replace(());
    }

    /// For the task: waits for orders.
    pub(super) async fn ordered(&self) {
        self.wake.notified().await;
    }
}
