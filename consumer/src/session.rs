//! A fetch session: the broker remembers which partitions we want, and we only name what has changed (KIP-227).
//!
//! A pure part: what is wanted goes in, a request comes out. A broker that keeps no sessions answers with id 0,
//! and then every request names everything.

use std::collections::BTreeMap;

use millstream_protocol::messages::FetchRequest;
use millstream_protocol::messages::fetch_request::{FetchPartition, FetchTopic, ForgottenTopic};
use millstream_protocol::{KStr, Uuid};

/// A partition, by its place among those that are assigned.
pub(crate) type Place = usize;

/// What is wanted of one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) topic: KStr,
    pub(crate) topic_id: Uuid,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) leader_epoch: i32,
    pub(crate) max_bytes: i32,
}

/// One broker's session.
#[derive(Debug, Default)]
pub(crate) struct Session {
    id: i32,
    /// Counts the requests of the session; 0 opens one.
    epoch: i32,
    /// What the broker remembers.
    known: BTreeMap<Place, Wanted>,
}

impl Session {
    /// Starts over with the next request.
    pub(crate) fn reset(&mut self) {
        *self = Self::default();
    }

    /// Fills in the request that asks for exactly what is wanted.
    pub(crate) fn ask(&mut self, wanted: BTreeMap<Place, Wanted>, request: &mut FetchRequest) {
        request.session_id = self.id;
        request.session_epoch = self.epoch;
        let is_new = |(place, wanted): &(&Place, &Wanted)| self.known.get(place) != Some(*wanted);
        request.topics = topics(wanted.iter().filter(is_new).map(|(_, wanted)| wanted));
        // A topic that came back under another id is another topic to the broker.
        let is_gone = |(place, known): &(&Place, &Wanted)| {
            wanted.get(place).is_none_or(|wanted| wanted.topic_id != known.topic_id)
        };
        request.forgotten_topics_data = forgotten(self.known.iter().filter(is_gone).map(|(_, known)| known));
        self.known = wanted;
    }

    /// The broker accepted the request and said which session it belongs to.
    pub(crate) fn on_answer(&mut self, id: i32) {
        if id == 0 {
            self.reset();
            return;
        }
        self.epoch = if self.epoch == i32::MAX { 1 } else { self.epoch + 1 };
        self.id = id;
    }
}

fn topics<'a>(wanted: impl Iterator<Item = &'a Wanted>) -> Vec<FetchTopic> {
    let mut topics: Vec<FetchTopic> = Vec::new();
    for wanted in wanted {
        let partition = FetchPartition {
            partition: wanted.partition,
            current_leader_epoch: wanted.leader_epoch,
            fetch_offset: wanted.offset,
            partition_max_bytes: wanted.max_bytes,
            ..Default::default()
        };
        match topics.last_mut().filter(|topic| topic.topic == wanted.topic) {
            Some(topic) => topic.partitions.push(partition),
            None => topics.push(FetchTopic {
                topic: wanted.topic.clone(),
                topic_id: wanted.topic_id,
                partitions: vec![partition],
            }),
        }
    }
    topics
}

fn forgotten<'a>(gone: impl Iterator<Item = &'a Wanted>) -> Vec<ForgottenTopic> {
    let mut topics: Vec<ForgottenTopic> = Vec::new();
    for gone in gone {
        match topics.last_mut().filter(|topic| topic.topic == gone.topic && topic.topic_id == gone.topic_id) {
            Some(topic) => topic.partitions.push(gone.partition),
            None => topics.push(ForgottenTopic {
                topic: gone.topic.clone(),
                topic_id: gone.topic_id,
                partitions: vec![gone.partition],
            }),
        }
    }
    topics
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(offsets: &[i64]) -> BTreeMap<Place, Wanted> {
        let wanted = |(place, offset): (usize, &i64)| {
            let wanted = Wanted {
                topic: KStr::from("t"),
                topic_id: Uuid::nil(),
                partition: place as i32,
                offset: *offset,
                leader_epoch: 0,
                max_bytes: 1,
            };
            (place, wanted)
        };
        offsets.iter().enumerate().map(wanted).collect()
    }

    fn ask(session: &mut Session, offsets: &[i64]) -> (i32, Vec<i32>, Vec<i32>) {
        let mut request = FetchRequest::default();
        session.ask(wanted(offsets), &mut request);
        let named = request.topics.iter().flat_map(|topic| &topic.partitions).map(|p| p.partition);
        let forgotten = request.forgotten_topics_data.iter().flat_map(|topic| topic.partitions.clone());
        (request.session_epoch, named.collect(), forgotten.collect())
    }

    #[test]
    fn only_what_changed_is_named_and_what_is_not_wanted_any_more_is_forgotten() {
        let mut session = Session::default();
        assert_eq!(ask(&mut session, &[5, 5, 5]), (0, vec![0, 1, 2], vec![]));
        session.on_answer(77);
        assert_eq!(ask(&mut session, &[5, 6, 5]), (1, vec![1], vec![]));
        session.on_answer(77);
        assert_eq!(ask(&mut session, &[5, 6]), (2, vec![], vec![2]));
    }

    #[test]
    fn without_a_session_every_request_names_everything() {
        let mut session = Session::default();
        ask(&mut session, &[5, 5]);
        session.on_answer(0);
        assert_eq!(ask(&mut session, &[5, 5]), (0, vec![0, 1], vec![]));
    }
}
