//! The transaction coordinator: which producer has a transactional id, and what belongs to its transaction.
//!
//! An id belongs to a partition of the internal topic `__transaction_state`. All that is known of the ids of one partition
//! is a [`Shard`]: a pure state machine behind a coordinator (`crate::coordinator`). Once a decision is
//! durable, [`markers`] has it written into the partitions of the transaction.

mod machine;
mod markers;
pub(crate) mod marking;
pub(crate) mod orphans;
mod record;
mod shard;
mod transaction;
mod turn;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use millstream_log::ProducerId;
use millstream_protocol::KStr;

use crate::coordinator::{Asked, Coordinators, Durable, NotReady};
use crate::dispatch::Boxed;
use crate::metadata::features::Feature;
use crate::node::Node;

use shard::Shard;
pub(crate) use shard::{Begin, Described, End, Listed, Standing};
use transaction::JobNumber;
pub(crate) use transaction::{Identity, Outcome, TopicPartition, Version};
use turn::{JobNumbers, Level};
pub(crate) use turn::{Refused, Stopped};

/// All transactional ids of this node.
#[derive(Debug)]
pub(crate) struct Transactions {
    coordinators: Coordinators<Shard>,
    jobs: JobNumbers,
    counts: Counts,
}

/// What is counted since the start.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) committed: AtomicU64,
    pub(crate) aborted: AtomicU64,
    pub(crate) timed_out: AtomicU64,
    pub(crate) fenced: AtomicU64,
}

/// A partition that a batch is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EnlistPartition {
    pub(crate) partition: TopicPartition,
    /// Whether its log has a transaction of this producer open, whatever its epoch.
    pub(crate) is_open: bool,
}

/// Whether a batch may bring its partition into the transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Adds {
    /// AddPartitionsToTxn has brought it.
    Never,
    /// The batch itself does (KIP-890).
    Implicitly,
}

/// Asks to let in a batch for each of some partitions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Enlist<'a> {
    pub(crate) transactional_id: &'a KStr,
    pub(crate) producer: ProducerId,
    pub(crate) epoch: i16,
    pub(crate) partitions: &'a [EnlistPartition],
    pub(crate) adds: Adds,
}

/// The batches may be appended; nobody may be told that they are before this is durable.
#[derive(Debug)]
pub(crate) struct Enlisted(Durable);

impl Enlisted {
    /// Whether there is nothing to wait for.
    pub(crate) fn is_durable(&self) -> bool {
        self.0.is_so()
    }

    /// Waits until it is durable.
    pub(crate) async fn durable(self) -> Result<(), NotReady> {
        self.0.so().await
    }
}

/// Whether the coordinator knows of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Knows {
    Yes,
    No,
    /// What it knew is still being read.
    NotLoaded,
}

impl Transactions {
    pub(crate) fn new() -> Self {
        Self { coordinators: Coordinators::new(), jobs: JobNumbers::default(), counts: Counts::default() }
    }

    /// Whether batches may be appended to these partitions, all or none: decided at once, in the order of the requests.
    pub(crate) fn enlist(&self, node: &Arc<Node>, wanted: Enlist<'_>) -> Result<Enlisted, Refused> {
        let Enlist { transactional_id: id, producer, epoch, partitions, adds } = wanted;
        if id.is_empty() {
            return Err(Refused::NoId);
        }
        let by = Identity { producer, epoch };
        let decided =
            self.coordinators.decide(node, id, |shard, turn| shard.enlist(turn, (id, by), partitions, adds));
        let (enlisted, durable) = match decided {
            // Without the topic nobody has ever had an id.
            Err(NotReady::NoTopic) => return Err(Refused::Unknown),
            Err(not_ready) => return Err(not_ready.into()),
            Ok(decided) => decided,
        };
        enlisted.map(|()| Enlisted(durable))
    }

    /// Whether this job is still to write the markers of this id.
    fn holds(&self, node: &Node, id: &str, job: JobNumber) -> bool {
        self.coordinators.look_at(node, id, |shard| shard.is_due(id, job)).unwrap_or(false)
    }

    /// Whether a transaction of this producer that is not ended in this partition has it: until its marker is durable.
    pub(crate) fn knows_open(&self, node: &Node, producer: ProducerId, partition: &TopicPartition) -> Knows {
        let all = self.coordinators.look_at_all(node, |shard| shard.has_open(producer, partition));
        if all.contains(&Some(true)) {
            Knows::Yes
        } else if all.contains(&None) {
            Knows::NotLoaded
        } else {
            Knows::No
        }
    }

    /// InitProducerId with a transactional id.
    pub(crate) fn begin(&self, node: &Arc<Node>, begin: Begin) -> Boxed<Result<Identity, Refused>> {
        with_fresh_id(node, begin, |node, begin| {
            let id = begin.id.clone();
            node.transactions.coordinators.ask(node, &id, move |shard, turn, ticket| {
                shard.begin(turn, ticket, &begin);
            })
        })
    }

    /// EndTxn.
    pub(crate) fn end(&self, node: &Arc<Node>, end: End) -> Boxed<Result<Identity, Refused>> {
        with_fresh_id(node, end, |node, end| {
            let id = end.id.clone();
            node.transactions.coordinators.ask(node, &id, move |shard, turn, ticket| {
                shard.end(turn, ticket, &end);
            })
        })
    }

    /// AddPartitionsToTxn and AddOffsetsToTxn.
    pub(crate) fn add(
        &self,
        node: &Arc<Node>,
        id: &KStr,
        by: Identity,
        partitions: Vec<EnlistPartition>,
        version: Version,
    ) -> Boxed<Result<(), Refused>> {
        let open = partitions.iter().filter(|one| one.is_open).map(|one| one.partition.clone());
        let (node_too, named, open) = (Arc::clone(node), id.detach(), open.collect::<Vec<_>>());
        let asked: Asked<Result<(), Refused>> =
            self.coordinators.ask(node, id, move |shard, turn, ticket| {
                shard.add(turn, ticket, (&named, by), &partitions, version);
            });
        Box::pin(async move {
            let added = asked.await?;
            if added == Err(Refused::Orphan) {
                // The client asks again and again until it is gone.
                open.iter().for_each(|one| orphans::look_at(&node_too, one));
            }
            added
        })
    }

    /// AddPartitionsToTxn that only asks.
    pub(crate) fn verify(
        &self,
        node: &Arc<Node>,
        id: &KStr,
        by: Identity,
        partitions: Vec<EnlistPartition>,
    ) -> Boxed<Result<Vec<Result<(), Refused>>, Refused>> {
        let named = id.detach();
        let asked: Asked<Result<Vec<Result<(), Refused>>, Refused>> =
            self.coordinators.ask(node, id, move |shard, turn, ticket| {
                shard.verify_each(turn, ticket, (&named, by), &partitions);
            });
        Box::pin(async move { asked.await? })
    }

    /// DescribeTransactions; `None` for an id that nobody has.
    pub(crate) fn describe(&self, node: &Arc<Node>, id: &KStr) -> Boxed<Result<Option<Described>, NotReady>> {
        let named = id.detach();
        self.coordinators.ask(node, id, move |shard, turn, ticket| shard.describe(turn, ticket, &named))
    }

    /// ListTransactions.
    pub(crate) fn list(&self, node: &Arc<Node>) -> Boxed<Result<Vec<Listed>, NotReady>> {
        let asked = self.coordinators.ask_all(node, |shard, turn, ticket| shard.list(turn, ticket));
        Box::pin(async move {
            let listed: Result<Vec<Vec<Listed>>, NotReady> = asked.await.into_iter().collect();
            Ok(listed?.into_iter().flatten().collect())
        })
    }

    /// Makes the topic if it is not there.
    pub(crate) async fn prepare(&self, node: &Arc<Node>) -> Result<(), NotReady> {
        self.coordinators.prepare(node).await
    }

    /// Begins to read what is on disk.
    pub(crate) fn warm_up(&self, node: &Arc<Node>) {
        self.coordinators.warm_up(node);
    }

    /// How the transactions stand, of the partitions that are there.
    pub(crate) fn standing(&self, node: &Node) -> Vec<Standing> {
        self.coordinators.look_at_all(node, Shard::standing).into_iter().flatten().collect()
    }

    pub(crate) fn counts(&self) -> &Counts {
        &self.counts
    }
}

/// What `transaction.version` says.
fn level(node: &Node) -> Level {
    Level(node.features.level(Feature::TransactionVersion))
}

/// Does what is due, until the broker stops.
pub(crate) async fn keep_time(node: Arc<Node>) {
    let coordinators = &node.transactions.coordinators;
    let mut cleaned = coordinators.now(&node).steady;
    loop {
        let clean_up_at = cleaned.after(node.settings().transactions.clean_up_each());
        let wait = coordinators.due(&node).map_or(clean_up_at, |due| due.min(clean_up_at));
        tokio::select! {
            biased;
            () = node.stopped() => break,
            () = coordinators.alarm().notified() => {}
            () = tokio::time::sleep_until(coordinators.instant(wait)) => {}
        }
        let now = coordinators.now(&node).steady;
        if clean_up_at <= now {
            cleaned = now;
            let now_ms = node.time.now_ms();
            coordinators.tell_all(&node, |shard, turn| shard.clean_up(turn, now_ms));
        }
        coordinators.tick(&node);
    }
    coordinators.close(&node);
}

/// Writes markers, until the broker stops.
pub(crate) use markers::write as write_markers;

/// Asks, and asks once more with a producer id that nobody had before, if one is needed: few requests do, and one in many
/// has to wait for the disk.
fn with_fresh_id<E: TakesFreshId>(
    node: &Arc<Node>,
    event: E,
    ask: impl Fn(&Arc<Node>, E) -> Asked<Result<Identity, Stopped>> + Send + 'static,
) -> Boxed<Result<Identity, Refused>> {
    let (node, asked) = (Arc::clone(node), ask(node, event.clone()));
    Box::pin(async move {
        match asked.await? {
            Err(Stopped::NeedsProducerId) => {}
            Err(Stopped::Refused(refused)) => return Err(refused),
            Ok(identity) => return Ok(identity),
        }
        let maker = Arc::clone(&node);
        let reserving = node.control.spawn_blocking(move || maker.producer_ids.next());
        let fresh = reserving.await.expect("reserving a producer id does not panic").map_err(|error| {
            tracing::error!(%error, "no producer id could be handed out");
            Refused::NoProducerId
        })?;
        match ask(&node, event.with(fresh)).await? {
            Err(Stopped::NeedsProducerId) => unreachable!("it has one"),
            Err(Stopped::Refused(refused)) => Err(refused),
            Ok(identity) => Ok(identity),
        }
    })
}

/// An event that may need a producer id that nobody had before.
trait TakesFreshId: Clone + Send + 'static {
    fn with(self, fresh: ProducerId) -> Self;
}

impl TakesFreshId for Begin {
    fn with(self, fresh: ProducerId) -> Self {
        Self { fresh: Some(fresh), ..self }
    }
}

impl TakesFreshId for End {
    fn with(self, fresh: ProducerId) -> Self {
        Self { fresh: Some(fresh), ..self }
    }
}
