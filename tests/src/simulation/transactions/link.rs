//! A client's way to the broker: connections come and go, answers are not waited for, requests arrive twice.

use std::rc::Rc;
use std::time::Duration;

use millstream_protocol::Request;

use super::bed::Bed;
use crate::simulation::chance::Chance;
use crate::simulation::wire::{Lost, Wire};
use crate::simulation::world::Phase;
use crate::transactional::{Attempt, Attempts, Line, Told, Unanswered};

/// One client's.
pub(super) struct Link {
    pub(super) bed: Rc<Bed>,
    pub(super) chance: Chance,
    wire: Option<Wire>,
}

impl Link {
    pub(super) fn new(bed: &Rc<Bed>, chance: Chance) -> Self {
        Self { bed: Rc::clone(bed), chance, wire: None }
    }

    pub(super) async fn pause(&mut self, max_ms: u64) {
        tokio::time::sleep(Duration::from_millis(1 + self.chance.below(max_ms))).await;
    }

    /// The connection is lost, and whatever was under way with it.
    pub(super) fn hang_up(&mut self) {
        self.wire = None;
    }

    /// Bad luck, which ends when the faults heal.
    fn strikes(&mut self, one_in: u64) -> bool {
        self.bed.phase.get() == Phase::Working && self.chance.one_in(one_in)
    }

    async fn try_ask<R: Request>(&mut self, version: i16, request: &R) -> Result<R::Response, Lost> {
        let (is_lost, is_doubled) = (self.strikes(40), self.strikes(30));
        let wire = self.wire.as_mut().ok_or(Lost)?;
        let id = wire.send(version, request).await?;
        if is_lost {
            self.bed.report.borrow_mut().lost_answers += 1;
            return Err(Lost);
        }
        if is_doubled {
            self.bed.report.borrow_mut().doubled += 1;
            let twin = wire.send(version, request).await?;
            let answer = wire.receive::<R>(version, id).await?;
            wire.receive::<R>(version, twin).await?;
            return Ok(answer);
        }
        wire.receive::<R>(version, id).await
    }
}

impl Line for Link {
    async fn ask<R: Request>(&mut self, version: i16, request: &R) -> Result<R::Response, Unanswered> {
        if self.wire.is_none() {
            self.wire = self.bed.broker.borrow().as_ref().map(|broker| Wire::new(broker.connect()));
        }
        let answer = self.try_ask(version, request).await;
        if answer.is_err() {
            // Some leave at once, with the request perhaps unread; some a little later.
            if self.strikes(2) {
                self.pause(5).await;
            }
            self.wire = None;
        }
        answer.map_err(|Lost| Unanswered)
    }
}

/// Goes on asking while that may help. The last answer, and what all of them say together.
pub(super) async fn insist<'a>(
    link: &'a mut Link,
    tries: u32,
    mut attempt: impl AsyncFnMut(&mut Link) -> Attempt,
) -> (Attempt, Attempts) {
    let mut attempts = Attempts::default();
    let mut last = Err(Unanswered);
    for _ in 0..tries {
        last = attempt(link).await;
        attempts.note(last);
        match last {
            Ok(Told::Done | Told::Fenced(_) | Told::Refused(_)) => break,
            Ok(Told::Again(_)) | Err(Unanswered) if link.bed.is_over() => break,
            Ok(Told::Again(_)) | Err(Unanswered) => link.pause(8).await,
        }
    }
    (last, attempts)
}
