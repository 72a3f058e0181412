//! Order, sequences and retries of one partition: verdicts in, batches out.

use millstream_protocol::KStr;
use millstream_protocol::records::Compression;

use super::*;

const ID: Identity = Identity { id: 9, epoch: 0 };

/// A lane with a producer id, and what it has settled, by the number of the batch.
struct Bench {
    lane: Lane,
    now: Instant,
    settled: Vec<Settled>,
    gathered: u64,
}

impl Bench {
    fn new() -> Self {
        let mut lane = Lane::new(Numbering::Idempotent);
        lane.identify(ID);
        Self { lane, now: Instant::now(), settled: Vec::new(), gathered: 0 }
    }

    /// A batch of two records.
    fn admit(&mut self) {
        let mut builder = BatchBuilder::new(Compression::None);
        for _ in 0..2 {
            builder.append(&NewRecord::default());
        }
        let outcome = Outcome::open(KStr::from_static("t"), 0);
        let (id, born, room) = (self.gathered, self.now, 100);
        self.gathered += 1;
        self.lane.admit(Gathering { builder, outcome, id, born, room });
    }

    /// Sends the next batch; says under which number, epoch and sequence.
    fn send(&mut self) -> (u64, i16, i32) {
        assert!(self.lane.can_send(self.now));
        let (order, bytes) = self.lane.send_next().unwrap();
        let view = BatchView::parse(&bytes).unwrap();
        assert!(view.crc_is_valid());
        (order, view.producer_epoch(), view.base_sequence())
    }

    fn send_new(&mut self) -> (u64, i16, i32) {
        self.admit();
        self.send()
    }

    fn answer(&mut self, order: u64, verdict: Verdict) {
        let retry_at = self.now + Duration::from_millis(10);
        self.lane.on_answer(order, verdict, retry_at, &mut self.settled);
    }

    fn acknowledge(&mut self, order: u64) {
        self.answer(order, Verdict::Written(Written { base_offset: Some(0), append_time: None }));
    }

    /// The first batch is through, so that several may follow at once.
    fn establish(&mut self) {
        let (order, ..) = self.send_new();
        self.acknowledge(order);
    }

    fn wait(&mut self) {
        self.now += Duration::from_millis(10);
    }

    fn failed(&self) -> Vec<(u64, bool)> {
        let failed = self.settled.iter().filter_map(|settled| {
            settled.result.as_ref().err().map(|error| (settled.held.id, error.possibly_written()))
        });
        failed.collect()
    }
}

fn lost() -> Verdict {
    Verdict::Again(refused(ErrorCode::RequestTimedOut, Fate::PossiblyWritten))
}

fn not_leader() -> Verdict {
    Verdict::Again(refused(ErrorCode::NotLeaderOrFollower, Fate::NotWritten))
}

fn refused(code: ErrorCode, fate: Fate) -> ProduceError {
    ProduceError::Refused { topic: "t".to_owned(), partition: 0, code, message: String::new(), fate }
}

#[test]
fn the_first_goes_alone_and_five_may_follow() {
    let mut bench = Bench::new();
    let (order, _, sequence) = bench.send_new();
    assert_eq!(sequence, 0);
    bench.admit();
    assert!(!bench.lane.can_send(bench.now));
    bench.acknowledge(order);
    assert_eq!(bench.send().2, 2);
    for sequence in [4, 6, 8, 10] {
        assert_eq!(bench.send_new().2, sequence);
    }
    bench.admit();
    assert!(!bench.lane.can_send(bench.now), "five are under way");
}

#[test]
fn what_was_lost_goes_again_in_order_with_the_same_sequence_before_anything_new() {
    let mut bench = Bench::new();
    bench.establish();
    let sent: Vec<_> = (0..3).map(|_| bench.send_new()).collect();
    bench.admit();
    // The answers are lost in any order; nothing goes out before the last one.
    for (order, ..) in [sent[1], sent[2], sent[0]] {
        assert!(bench.lane.has_queued());
        bench.answer(order, lost());
    }
    assert!(!bench.lane.can_send(bench.now), "not before the pause is over");
    assert_eq!(bench.lane.retry_at(), Some(bench.now + Duration::from_millis(10)));
    bench.wait();
    for again in sent {
        assert_eq!(bench.send(), again);
        bench.acknowledge(again.0);
    }
    assert_eq!(bench.send().2, 8, "the new one comes last");
    assert!(bench.failed().is_empty());
}

#[test]
fn one_that_was_only_out_of_order_waits_for_the_one_before_it() {
    let mut bench = Bench::new();
    bench.establish();
    let (first, second) = (bench.send_new(), bench.send_new());
    bench.answer(first.0, not_leader());
    bench.answer(second.0, Verdict::Broken(ErrorCode::OutOfOrderSequenceNumber));
    bench.wait();
    assert_eq!(bench.send(), first, "same epoch, same sequence");
    bench.acknowledge(first.0);
    assert_eq!(bench.send(), second);
}

#[test]
fn behind_a_batch_that_is_refused_the_rest_starts_a_new_epoch() {
    let mut bench = Bench::new();
    bench.establish();
    let (large, next, last) = (bench.send_new(), bench.send_new(), bench.send_new());
    bench.answer(large.0, Verdict::Refused(refused(ErrorCode::MessageTooLarge, Fate::NotWritten)));
    bench.answer(next.0, Verdict::Broken(ErrorCode::OutOfOrderSequenceNumber));
    bench.answer(last.0, Verdict::Broken(ErrorCode::OutOfOrderSequenceNumber));
    bench.wait();
    assert_eq!(bench.send(), (next.0, 1, 0));
    bench.acknowledge(next.0);
    assert_eq!(bench.send(), (last.0, 1, 2));
    assert_eq!(bench.failed(), [(1, false)]);
}

#[test]
fn one_that_is_too_large_becomes_two_that_keep_its_numbers() {
    let mut bench = Bench::new();
    bench.establish();
    let (large, next) = (bench.send_new(), bench.send_new());
    let too_large = || Verdict::TooLarge(refused(ErrorCode::MessageTooLarge, Fate::NotWritten));
    bench.answer(large.0, too_large());
    bench.answer(next.0, Verdict::Broken(ErrorCode::OutOfOrderSequenceNumber));
    bench.wait();
    let first = bench.send();
    assert_eq!((first.1, first.2), (0, 2));
    bench.acknowledge(first.0);
    let second = bench.send();
    assert_eq!((second.1, second.2), (0, 3));
    // One record is not divided any further.
    bench.answer(second.0, too_large());
    assert_eq!(bench.failed(), [(1, false)]);
    let room: usize = bench.settled.iter().filter(|s| s.held.id == 1).map(|s| s.held.room).sum();
    assert_eq!(room, 100, "no room is lost");
}

#[test]
fn one_that_may_be_written_is_never_numbered_anew() {
    let mut bench = Bench::new();
    bench.establish();
    let (first, second) = (bench.send_new(), bench.send_new());
    bench.answer(first.0, lost());
    bench.answer(second.0, not_leader());
    bench.wait();
    assert_eq!(bench.send(), first);
    // The broker has forgotten the producer in the meantime.
    bench.answer(first.0, Verdict::Broken(ErrorCode::UnknownProducerId));
    assert!(matches!(bench.settled.last().unwrap().result, Err(ProduceError::SequenceLost { .. })));
    assert_eq!(bench.failed(), [(1, true)]);
    bench.wait();
    assert_eq!(bench.send(), (second.0, 1, 0));
}

#[test]
fn a_producer_id_that_is_turned_down_is_replaced() {
    let mut bench = Bench::new();
    bench.establish();
    let (order, ..) = bench.send_new();
    bench.answer(order, Verdict::Broken(ErrorCode::InvalidProducerEpoch));
    assert!(bench.lane.wants_identity() && !bench.lane.accepts(ID));
    let fresh = Identity { id: 10, epoch: 0 };
    assert!(bench.lane.accepts(fresh));
    bench.lane.identify(fresh);
    bench.wait();
    assert_eq!(bench.send(), (order, 0, 0));
    assert!(bench.failed().is_empty());
}

#[test]
fn a_refusal_after_a_lost_answer_still_says_that_it_may_be_written() {
    let mut bench = Bench::new();
    bench.establish();
    let (order, ..) = bench.send_new();
    bench.answer(order, lost());
    bench.wait();
    bench.send();
    bench.answer(order, Verdict::Refused(refused(ErrorCode::TopicAuthorizationFailed, Fate::NotWritten)));
    assert_eq!(bench.failed(), [(1, true)]);
}

#[test]
fn without_sequences_nothing_is_repeated_that_may_be_written() {
    let mut bench = Bench::new();
    bench.lane = Lane::new(Numbering::None);
    bench.establish();
    let (first, second) = (bench.send_new(), bench.send_new());
    assert_eq!((first.1, first.2), (-1, -1), "no producer");
    bench.answer(first.0, lost());
    bench.answer(second.0, not_leader());
    assert_eq!(bench.failed(), [(1, true)]);
    bench.wait();
    assert_eq!(bench.send(), second);
}

#[test]
fn what_takes_too_long_fails_and_says_whether_it_was_sent() {
    let mut bench = Bench::new();
    bench.establish();
    bench.send_new();
    bench.admit();
    bench.now += Duration::from_secs(60);
    let late = bench.lane.expire(bench.now, Duration::from_secs(60), Some("no leader"), &mut bench.settled);
    assert_eq!(bench.failed(), [(2, false)], "the one that was never sent");
    let [(_, held, error)] = &late[..] else { panic!("one is under way") };
    assert!(held.id == 1 && error.possibly_written());
    let error = bench.settled.last().unwrap().result.as_ref().unwrap_err().to_string();
    assert!(error.contains("within 60s; last error: no leader"), "{error}");
}

#[test]
fn sequences_go_on_with_0_behind_the_largest() {
    let mut bench = Bench::new();
    bench.lane.next_sequence = i32::MAX - 2;
    bench.establish();
    assert_eq!(bench.send_new().2, i32::MAX);
    assert_eq!(bench.lane.next_sequence, 1);
}

#[test]
fn the_pause_before_a_repetition_is_over_when_there_is_nothing_to_repeat() {
    let mut bench = Bench::new();
    bench.establish();
    let (order, ..) = bench.send_new();
    bench.answer(order, not_leader());
    bench.admit();
    assert!(!bench.lane.can_send(bench.now));
    bench
        .lane
        .fail_queued(|_| refused(ErrorCode::UnknownTopicOrPartition, Fate::NotWritten), &mut bench.settled);
    assert!(bench.lane.can_send(bench.now), "nobody would look again when the pause is over");
}

#[test]
fn within_a_transaction_a_broken_sequence_fails_and_the_next_one_starts_anew() {
    let mut bench = Bench::new();
    bench.lane = Lane::new(Numbering::Transactional);
    assert!(!bench.lane.wants_identity(), "its transaction says who it is");
    bench.lane.enter(ID, true);
    let (first, second) = (bench.send_new(), bench.send_new());
    assert_eq!((first.2, second.2), (0, 2), "several at once from the start");
    bench.answer(second.0, Verdict::Broken(ErrorCode::OutOfOrderSequenceNumber));
    bench.answer(first.0, Verdict::Broken(ErrorCode::InvalidProducerEpoch));
    assert_eq!(bench.failed(), [(0, false)], "the second came before its turn, and waits");
    bench.lane.enter(Identity { epoch: 1, ..ID }, false);
    assert_eq!(bench.lane.next_sequence, 0);
}
