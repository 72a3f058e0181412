//! Single steps; the simulation beside them walks many.

mod simulation;

use std::time::Duration;

use super::*;
use crate::error::Fate;

const WHO: Identity = Identity { id: 7, epoch: 3 };
const PLACE: Place = (0, 0);

/// A machine that has its id, and a clock.
pub(super) struct Bench {
    pub(super) machine: Machine,
    pub(super) now: Instant,
}

impl Bench {
    fn new(version: Version) -> Self {
        let mut bench = Self { machine: Machine::new("x"), now: Instant::now() };
        bench.machine.learn(version);
        let claim = bench.ask();
        assert!(matches!(claim, Ask::Claim { current: None }));
        bench.answer(&claim, Answer::Identified(WHO));
        bench
    }

    /// The same, with transaction 1 open and a batch of it written.
    fn open(version: Version) -> Self {
        let mut bench = Self::new(version);
        bench.machine.begin(1);
        if version == Version::One {
            assert_eq!(bench.machine.admit(PLACE), None);
            let join = bench.ask();
            assert!(matches!(&join, Ask::Join(places) if *places == [PLACE]));
            bench.answer(&join, Answer::Joined { joined: vec![PLACE], failed: None });
        }
        assert_eq!(bench.machine.admit(PLACE), Some(WHO));
        bench.machine.on_sent();
        bench.machine.on_written();
        bench.machine.take_notes();
        bench
    }

    fn ask(&mut self) -> Ask {
        self.machine.next(self.now).expect("it has something to ask")
    }

    fn answer(&mut self, ask: &Ask, answer: Answer) {
        self.machine.on_answer(ask, answer, self.now + Duration::from_millis(10));
    }

    fn refuse(&mut self, ask: &Ask, code: ErrorCode) {
        self.answer(ask, Answer::Refused(code));
    }

    fn commit(&mut self) -> Ask {
        self.machine.commit(1);
        self.machine.decide();
        self.ask()
    }

    fn wait(&mut self) {
        self.now += Duration::from_millis(10);
    }
}

pub(super) fn lost() -> Answer {
    Answer::Failed(ClientError::TimedOut {
        address: "b".to_owned(),
        api: millstream_protocol::ApiKey::EndTxn,
        after: Duration::from_secs(1),
        progress: millstream_client::Progress::MaybeSent,
    })
}

pub(super) fn failed(code: ErrorCode) -> ProduceError {
    let (topic, message, fate) = ("t".to_owned(), String::new(), Fate::PossiblyWritten);
    ProduceError::Refused { topic, partition: 0, code, message, fate }
}

#[test]
fn with_the_first_protocol_a_partition_joins_before_its_first_batch_and_the_epoch_stays() {
    let mut bench = Bench::open(Version::One);
    let end = bench.commit();
    assert!(matches!(end, Ask::End(Ending::Commit)));
    bench.answer(&end, Answer::Done);
    assert!(matches!(bench.machine.take_notes()[..], [Note::Ended(1, Ending::Commit), Note::Rests]));
    bench.machine.begin(2);
    assert_eq!(bench.machine.admit(PLACE), None, "it joins each transaction anew");
}

#[test]
fn with_the_second_protocol_nothing_joins_and_each_end_brings_an_epoch() {
    let mut bench = Bench::open(Version::Two);
    let end = bench.commit();
    let next = Identity { epoch: 4, ..WHO };
    bench.answer(&end, Answer::Identified(next));
    bench.machine.begin(2);
    assert_eq!(bench.machine.admit(PLACE), Some(next));
}

#[test]
fn the_protocol_of_an_open_transaction_stays() {
    let mut bench = Bench::open(Version::Two);
    bench.machine.learn(Version::One);
    assert_eq!(bench.machine.version(), Version::Two);
    let end = bench.commit();
    bench.answer(&end, Answer::Identified(Identity { epoch: 4, ..WHO }));
    bench.machine.begin(2);
    assert_eq!(bench.machine.version(), Version::One);
}

#[test]
fn an_empty_transaction_asks_for_nothing() {
    for version in [Version::One, Version::Two] {
        let mut bench = Bench::new(version);
        for number in 1..=2 {
            bench.machine.begin(number);
            match number {
                1 => bench.machine.commit(number),
                _ => bench.machine.abandon(number),
            }
            bench.machine.decide();
            bench.machine.on_quiet();
            assert!(bench.machine.next(bench.now).is_err() && bench.machine.rests());
        }
    }
}

#[test]
fn a_commit_whose_answer_is_lost_is_asked_for_again_and_cannot_be_taken_back() {
    let mut bench = Bench::open(Version::Two);
    let end = bench.commit();
    bench.answer(&end, lost());
    bench.machine.abandon(1);
    bench.machine.on_quiet();
    assert_eq!(bench.machine.next(bench.now).unwrap_err(), Some(bench.now + Duration::from_millis(10)));
    bench.wait();
    let again = bench.ask();
    assert!(matches!(again, Ask::End(Ending::Commit)));
    bench.answer(&again, Answer::Identified(Identity { epoch: 4, ..WHO }));
    assert!(matches!(bench.machine.take_notes()[..], [Note::Ended(1, Ending::Commit), Note::Rests]));
}

#[test]
fn what_is_fenced_dies_and_says_whether_it_may_be_committed() {
    for (is_lost_before, version) in [(false, Version::One), (true, Version::Two)] {
        let mut bench = Bench::open(version);
        let mut end = bench.commit();
        if is_lost_before {
            bench.answer(&end, lost());
            bench.wait();
            end = bench.ask();
        }
        bench.refuse(&end, ErrorCode::ProducerFenced);
        let notes = bench.machine.take_notes();
        let [Note::Dead(error)] = &notes[..] else { panic!("{notes:?}") };
        assert!(error.is_fenced() && error.is_fatal() && !error.is_retriable(), "{error}");
        assert_eq!(error.possibly_committed(), is_lost_before);
        assert!(bench.machine.is_dead() && bench.machine.next(bench.now).is_err());
    }
}

#[test]
fn errors_mean_what_they_mean_to_kafkas_own_client() {
    use ErrorCode as Code;
    use Meaning::{Abort, Fatal, Fenced, Forgotten, Retry};
    let offsets = Offsets { ticket: 1, group: GroupMetadata::new("g"), offsets: Vec::new() };
    let asks = [
        Ask::Claim { current: None },
        Ask::Join(vec![PLACE]),
        Ask::JoinGroup("g".to_owned()),
        Ask::Offsets(offsets),
        Ask::End(Ending::Commit),
        Ask::End(Ending::Abort),
    ];
    let table = [
        (Code::NotCoordinator, [Retry; 6]),
        (Code::CoordinatorNotAvailable, [Retry; 6]),
        (Code::CoordinatorLoadInProgress, [Retry; 6]),
        (Code::ConcurrentTransactions, [Retry; 6]),
        (Code::RequestTimedOut, [Retry; 6]),
        (Code::UnknownTopicOrPartition, [Retry; 6]),
        (Code::ProducerFenced, [Fenced; 6]),
        (Code::InvalidProducerEpoch, [Fenced; 6]),
        (Code::TransactionAbortable, [Retry, Abort, Abort, Abort, Abort, Retry]),
        (Code::UnknownProducerId, [Fatal, Forgotten, Forgotten, Forgotten, Forgotten, Forgotten]),
        (Code::InvalidProducerIdMapping, [Fatal, Forgotten, Forgotten, Forgotten, Forgotten, Forgotten]),
        (Code::TransactionalIdAuthorizationFailed, [Fatal; 6]),
        (Code::ClusterAuthorizationFailed, [Fatal; 6]),
        (Code::InvalidTxnState, [Fatal; 6]),
        (Code::UnsupportedVersion, [Fatal; 6]),
        (Code::TopicAuthorizationFailed, [Fatal, Abort, Abort, Abort, Fatal, Fatal]),
        (Code::GroupAuthorizationFailed, [Fatal, Abort, Abort, Abort, Fatal, Fatal]),
        (Code::IllegalGeneration, [Fatal, Abort, Abort, Abort, Fatal, Fatal]),
        (Code::UnknownMemberId, [Fatal, Abort, Abort, Abort, Fatal, Fatal]),
        (Code::FencedInstanceId, [Fatal, Abort, Abort, Abort, Fatal, Fatal]),
        (Code::UnknownServerError, [Fatal, Abort, Abort, Abort, Fatal, Fatal]),
    ];
    for (code, meanings) in table {
        for (ask, meaning) in asks.iter().zip(meanings) {
            assert_eq!(ask.meaning(code), meaning, "{code:?} in an answer to {}", ask.name());
        }
    }
}

#[test]
fn a_batch_that_is_lost_aborts_and_the_first_protocol_asks_for_a_new_epoch() {
    for version in [Version::One, Version::Two] {
        let mut bench = Bench::open(version);
        bench.machine.on_batch_failed(&failed(ErrorCode::InvalidProducerEpoch));
        let notes = bench.machine.take_notes();
        assert!(matches!(&notes[..], [Note::Broken(1, TransactionError::Failed(_))]), "{notes:?}");
        assert!(
            bench.machine.drops_batches() && bench.machine.next(bench.now).is_err(),
            "not while any is under way"
        );
        bench.machine.commit(1);
        assert_eq!(bench.machine.ready_to_commit(), None);
        bench.machine.on_quiet();
        let end = bench.ask();
        assert!(matches!(end, Ask::End(Ending::Abort)));
        let next = Identity { epoch: 4, ..WHO };
        match version {
            Version::One => {
                bench.answer(&end, Answer::Done);
                let claim = bench.ask();
                assert!(matches!(claim, Ask::Claim { current: Some(WHO) }));
                bench.answer(&claim, Answer::Identified(next));
            }
            Version::Two => bench.answer(&end, Answer::Identified(next)),
        }
        assert!(bench.machine.rests());
        assert_eq!(bench.machine.identity(), Some(next));
    }
}

#[test]
fn an_id_that_the_coordinator_has_forgotten_is_claimed_anew() {
    let mut bench = Bench::open(Version::One);
    let end = bench.commit();
    bench.refuse(&end, ErrorCode::InvalidProducerIdMapping);
    let notes = bench.machine.take_notes();
    let [Note::Broken(1, error), Note::Ended(1, Ending::Abort)] = &notes[..] else { panic!("{notes:?}") };
    assert!(error.is_retriable() && !error.is_fatal() && error.had_no_effect(), "{error}");
    let claim = bench.ask();
    bench.answer(&claim, Answer::Identified(Identity { id: 8, epoch: 0 }));
    assert!(bench.machine.rests());
}

#[test]
fn what_never_reached_the_coordinator_needs_no_abort() {
    let mut bench = Bench::new(Version::One);
    bench.machine.begin(1);
    bench.machine.admit(PLACE);
    let join = bench.ask();
    bench.machine.abandon(1);
    bench.answer(&join, lost());
    bench.machine.on_quiet();
    bench.wait();
    let end = bench.ask();
    bench.refuse(&end, ErrorCode::InvalidTxnState);
    let notes = bench.machine.take_notes();
    assert!(notes.iter().any(|note| matches!(note, Note::Ended(1, Ending::Abort))), "{notes:?}");
    assert!(!bench.machine.is_dead());
}

#[test]
fn offsets_are_there_before_the_commit_and_a_group_joins_once() {
    let mut bench = Bench::open(Version::One);
    for ticket in [1, 2] {
        bench.machine.add_offsets(Offsets { ticket, group: GroupMetadata::new("g"), offsets: Vec::new() });
    }
    bench.machine.commit(1);
    assert_eq!(bench.machine.ready_to_commit(), None);
    let join = bench.ask();
    assert!(matches!(&join, Ask::JoinGroup(group) if group == "g"));
    bench.answer(&join, Answer::Done);
    for expected in [1, 2] {
        let offsets = bench.ask();
        bench.answer(&offsets, Answer::Done);
        let notes = bench.machine.take_notes();
        assert!(matches!(notes[..], [Note::Taken { ticket }] if ticket == expected), "{notes:?}");
    }
    assert_eq!(bench.machine.ready_to_commit(), Some(1));
}

#[test]
fn offsets_of_a_member_that_was_replaced_abort_the_transaction_only() {
    let mut bench = Bench::open(Version::Two);
    bench.machine.add_offsets(Offsets { ticket: 1, group: GroupMetadata::new("g"), offsets: Vec::new() });
    let offsets = bench.ask();
    bench.refuse(&offsets, ErrorCode::IllegalGeneration);
    let notes = bench.machine.take_notes();
    let [Note::Broken(1, error)] = &notes[..] else { panic!("{notes:?}") };
    assert!(!error.is_fatal() && !error.possibly_committed(), "{error}");
}
