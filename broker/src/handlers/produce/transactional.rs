//! Batches of a transaction: its coordinator is asked about all partitions of a request before any batch is appended.
//!
//! What the log knew before is kept as a guard: if a marker comes between the coordinator's answer and the append, the log
//! refuses the batch. All this happens in the order of the connection's requests, without waiting; the reply waits for
//! what the coordinator wrote as well as for the batches.
//!
//! Errors of the coordinator become those that producers expect of Produce, as in Kafka: older clients would take some of
//! them for final.

use millstream_log::{FirstSequence, InTransaction, ProducerId, TransactionGuard};
use millstream_protocol::messages::ProduceRequest;
use millstream_protocol::records::BatchView;
use millstream_protocol::{Chunk, ErrorCode, KStr};

use super::{Pending, PendingReply, Refused, submit};
use crate::transactions::{Adds, Enlist, EnlistPartition, Refused as NotEnlisted, TopicPartition, orphans};

/// From here on clients know TRANSACTION_ABORTABLE.
const KNOWS_ABORTABLE: i16 = 11;

/// From here on Produce adds partitions to the transaction.
const ADDS: i16 = 12;

/// Whether any batch says that it belongs to a transaction.
pub(super) fn has_transactional(request: &ProduceRequest) -> bool {
    let data = request.topic_data.iter().flat_map(|topic| &topic.partition_data);
    let batches = data.filter_map(|data| match &data.records {
        Some(Chunk::Bytes(bytes)) => BatchView::parse(bytes).ok(),
        Some(Chunk::File(_)) | None => None,
    });
    { batches }.any(|batch| batch.is_transactional())
}

/// A batch whose transaction is asked.
struct Asking {
    /// Its place in the reply.
    at: (usize, usize),
    producer: ProducerId,
    epoch: i16,
    guard: TransactionGuard,
    partition: TopicPartition,
}

impl PendingReply {
    /// Asks the transaction about those batches that belong to it, and appends all that may be.
    pub(super) fn admit(&mut self, transactional_id: &KStr) {
        let asking = self.asking();
        let is_of_another = |one: &Asking| (one.producer, one.epoch) != (asking[0].producer, asking[0].epoch);
        if asking.iter().any(is_of_another) {
            return self.refuse_checked();
        }
        // Clients of before KIP-890 have said which partitions; each is judged alone.
        let (adds, together) = match self.call.version {
            ADDS.. => (Adds::Implicitly, asking.len()),
            _ => (Adds::Never, 1),
        };
        // As Kafka does, the log is asked first: it knows of zombies that the coordinator has forgotten.
        let (asking, refused): (Vec<_>, Vec<_>) =
            asking.into_iter().partition(|one| one.guard.admits(one.epoch));
        for one in refused {
            self.refuse_stale(&one);
        }
        for asking in asking.chunks(together.max(1)) {
            self.enlist(transactional_id, adds, asking);
        }
        self.submit_checked();
    }

    fn asking(&self) -> Vec<Asking> {
        let topics = self.topics.iter().enumerate();
        let all = topics.flat_map(|(topic, pending)| {
            pending.partitions.iter().enumerate().map(move |(at, (_, pending))| ((topic, at), pending))
        });
        let asking = all.filter_map(|(at, pending)| {
            let Pending::Checked(checked) = pending else { return None };
            let header = &checked.append.header;
            let producer = ProducerId::new(header.producer_id);
            header.is_transactional().then(|| Asking {
                at,
                producer,
                epoch: header.producer_epoch,
                guard: checked.log.transaction_guard(producer),
                partition: checked.place.clone(),
            })
        });
        asking.collect()
    }

    /// Lets in those that the transaction takes in, and refuses the others.
    fn enlist(&mut self, transactional_id: &KStr, adds: Adds, asking: &[Asking]) {
        let partitions: Vec<EnlistPartition> = asking
            .iter()
            .map(|one| EnlistPartition { partition: one.partition.clone(), is_open: one.guard.is_open() })
            .collect();
        let node = &self.call.node;
        let (producer, epoch) = (asking[0].producer, asking[0].epoch);
        let wanted = Enlist { transactional_id, producer, epoch, partitions: &partitions, adds };
        match node.transactions.enlist(node, wanted) {
            Ok(enlisted) => {
                let first_sequence = match adds {
                    Adds::Implicitly => FirstSequence::Zero,
                    Adds::Never => FirstSequence::Any,
                };
                for one in asking {
                    if let Pending::Checked(checked) = self.pending_mut(one.at) {
                        checked.append.transaction = Some(InTransaction { guard: one.guard, first_sequence });
                    }
                }
                if !enlisted.is_durable() {
                    self.enlisted.push(enlisted);
                }
            }
            Err(refused) => {
                if refused == NotEnlisted::Orphan {
                    let open = asking.iter().filter(|one| one.guard.is_open());
                    open.for_each(|one| orphans::look_at(node, &one.partition));
                }
                let code = self.code(refused);
                asking.iter().for_each(|one| self.refuse(one, code));
            }
        }
    }

    /// A newer instance of the producer has written, or what an older one left open here was not ended: only an orphan is
    /// like that. Either way the client has to abort.
    fn refuse_stale(&mut self, one: &Asking) {
        if one.guard.is_open() {
            orphans::look_at(&self.call.node, &one.partition);
        }
        self.refuse(one, ErrorCode::InvalidProducerEpoch);
    }

    /// What producers of this version expect. Those of before KIP-890 send the batch again on NOT_ENOUGH_REPLICAS only.
    fn code(&self, refused: NotEnlisted) -> ErrorCode {
        let version = self.call.version;
        if refused == NotEnlisted::Orphan {
            // As after its marker: the batch is refused for good, and the client aborts.
            return ErrorCode::InvalidProducerEpoch;
        }
        match refused.code() {
            ErrorCode::ProducerFenced => ErrorCode::InvalidProducerEpoch,
            ErrorCode::TransactionAbortable if version < KNOWS_ABORTABLE => ErrorCode::InvalidTxnState,
            ErrorCode::ConcurrentTransactions if version < ADDS => ErrorCode::NotEnoughReplicas,
            ErrorCode::CoordinatorLoadInProgress
            | ErrorCode::CoordinatorNotAvailable
            | ErrorCode::NotCoordinator => ErrorCode::NotEnoughReplicas,
            other => other,
        }
    }

    fn refuse(&mut self, one: &Asking, code: ErrorCode) {
        self.call.node.metrics.refused_batch();
        *self.pending_mut(one.at) = Pending::Settled(Err(code.into()));
    }

    /// No batch of the request is appended.
    fn refuse_checked(&mut self) {
        let message = "all batches of a request that belong to a transaction are of one producer and epoch";
        for pending in self.all_mut() {
            if let Pending::Checked(_) = pending {
                *pending = Pending::Settled(Err(Refused::new(ErrorCode::InvalidProducerIdMapping, message)));
            }
        }
    }

    /// Appends what was let in, and what belongs to no transaction.
    fn submit_checked(&mut self) {
        let call = &self.call;
        for topic in &mut self.topics {
            let submitted = std::mem::take(&mut topic.partitions).into_iter().map(|(index, pending)| {
                let pending = match pending {
                    Pending::Checked(checked) => submit(call, &checked.log, checked.append),
                    pending @ (Pending::Settled(_) | Pending::Waiting(_)) => pending,
                };
                (index, pending)
            });
            topic.partitions = submitted.collect();
        }
    }

    /// Waits for what the coordinator wrote. If that is lost, nobody may be told that a batch is there: it is an orphan.
    pub(super) async fn settle_enlisted(&mut self) {
        let mut is_lost = false;
        for enlisted in std::mem::take(&mut self.enlisted) {
            is_lost |= enlisted.durable().await.is_err();
        }
        if is_lost {
            for pending in self.all_mut() {
                if let Pending::Settled(Ok(_)) = pending {
                    let message =
                        "what the transaction's coordinator wrote for the batch is lost; send it again";
                    *pending = Pending::Settled(Err(Refused::new(ErrorCode::NotEnoughReplicas, message)));
                }
            }
        }
    }

    fn all_mut(&mut self) -> impl Iterator<Item = &mut Pending> {
        self.topics.iter_mut().flat_map(|topic| &mut topic.partitions).map(|(_, pending)| pending)
    }

    fn pending_mut(&mut self, (topic, partition): (usize, usize)) -> &mut Pending {
        &mut self.topics[topic].partitions[partition].1
    }
}
