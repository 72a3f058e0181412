//! A folder of transactions, and what a reader of committed records is told of it.

use std::sync::{Arc, LazyLock};

use millstream_log::{
    Acks, Append, EpochRule, FirstBatch, FirstSequence, InTransaction, Isolation, Log, Marker, Offset,
    ProducerId, ReadFrom, SimDisk, TransactionOutcome,
};
use millstream_protocol::records::{BatchBuilder, BatchView, Compression, NewRecord};

use crate::open;

/// Of each offset: whether there is anything to read, and what is to be skipped as (producer, first offset).
pub type Told = Vec<(bool, Vec<(i64, i64)>)>;

/// Producers whose transactions interleave over several segments; some commit, some abort, one is open.
static TRANSACTIONS: LazyLock<SimDisk> = LazyLock::new(|| {
    let disk = SimDisk::new();
    let log = open(&disk, 1).expect("an empty disk opens").0;
    for round in 0..12 {
        for producer in 1..4 {
            write(&log, producer, i32::from(round));
        }
        for producer in 1..4 {
            if (round + producer as i16) % 3 != 0 {
                end(&log, producer, (round + producer as i16) % 2 == 0);
            }
        }
        if round == 6 {
            log.checkpoint().expect("the disk is well");
        }
    }
    for producer in 1..4 {
        end(&log, producer, true);
    }
    write(&log, 1, 12);
    log.flush().expect("the disk is well");
    disk
});

/// What the unharmed folder tells.
pub static TOLD: LazyLock<Told> = LazyLock::new(|| told(&open(&transactions(), 3).expect("it is whole").0));

/// A copy of the folder.
pub fn transactions() -> SimDisk {
    TRANSACTIONS.fork()
}

/// What a reader of committed records is told at each offset.
pub fn told(log: &Log) -> Told {
    let ask = |offset| {
        let (max_bytes, first_batch, isolation) = (1, FirstBatch::Whole, Isolation::ReadCommitted);
        let read = log.read(ReadFrom { offset: Offset::new(offset), max_bytes, first_batch, isolation });
        let read = read.expect("an index keeps nobody from reading");
        let skip = read.aborted().iter().map(|one| (one.producer.get(), one.first_offset.get()));
        let mut skip: Vec<_> = skip.collect();
        skip.sort_unstable();
        (read.records.is_some(), skip)
    };
    let offsets = log.offsets();
    (offsets.log_start.get()..offsets.last_stable.get()).map(ask).collect()
}

fn write(log: &Arc<Log>, producer: i64, sequence: i32) {
    let mut batch = BatchBuilder::new(Compression::None);
    batch.producer(producer, 0, sequence).transactional();
    batch.append(&NewRecord { value: Some(&[7; 40]), ..NewRecord::default() });
    let batch = batch.build();
    let header = BatchView::parse(&batch).expect("just built").header();
    let done = Box::new(|result: Result<_, _>| assert!(result.is_ok(), "{result:?}"));
    let guard = log.transaction_guard(ProducerId::new(producer));
    let transaction = Some(InTransaction { guard, first_sequence: FirstSequence::Any });
    drop(log.append(Append { batch, header, acks: Acks::Written, transaction }, done));
}

fn end(log: &Arc<Log>, producer: i64, commits: bool) {
    let outcome = if commits { TransactionOutcome::Commit } else { TransactionOutcome::Abort };
    let marker = Marker {
        producer: ProducerId::new(producer),
        epoch: 0,
        coordinator_epoch: 0,
        outcome,
        rule: EpochRule::NotOlder,
        only_if: None,
    };
    // The flusher works when it is told to, so whoever waits for it is answered later.
    drop(log.append_marker(marker, Box::new(|_| {})));
}
