//! Incremental fetch sessions (KIP-227): the broker remembers what a consumer wants, so that a request
//! names only what changed and a reply only what is new.
//!
//! Pure bookkeeping: no sockets, no logs. `begin` turns a request into the list of wanted partitions,
//! `finish` turns what was found into what the reply carries.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use millstream_protocol::messages::FetchRequest;
use millstream_protocol::{ErrorCode, KStr, Uuid};
use parking_lot::Mutex;

/// Epoch of a request that wants a new session.
const EPOCH_INITIAL: i32 = 0;
/// Epoch of a request outside any session, or of one that closes its session.
const EPOCH_FINAL: i32 = -1;

/// A session that was not used for this long gives way to a new one when all slots are taken.
const EVICTABLE_AFTER: Duration = Duration::from_secs(120);

/// Partitions that one session remembers. A consumer of more repeats its list with each request.
const PARTITIONS_MAX: usize = 10_000;

/// One partition as a request names it: by topic name up to version 12, by topic id from 13.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct PartitionKey {
    pub(crate) topic: KStr,
    pub(crate) topic_id: Uuid,
    pub(crate) partition: i32,
}

/// What a consumer wants of one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) key: PartitionKey,
    pub(crate) fetch_offset: i64,
    pub(crate) max_bytes: i32,
    pub(crate) leader_epoch: i32,
    pub(crate) last_fetched_epoch: i32,
}

/// What was found for one partition, as far as sessions care.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) high_watermark: i64,
    pub(crate) log_start: i64,
    pub(crate) has_records: bool,
    /// An error, or a diverging epoch: always told.
    pub(crate) is_remarkable: bool,
}

/// How the reply is to be finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Context {
    Sessionless,
    /// A new session is wanted; by topic ids or by names.
    New {
        by_id: bool,
    },
    Incremental {
        id: i32,
    },
}

#[derive(Debug)]
struct Remembered {
    wanted: Wanted,
    /// What the consumer was last told; `None` before the first reply and after an error.
    told: Option<(i64, i64)>,
}

#[derive(Debug)]
struct FetchSession {
    /// Epoch that the next request must carry.
    epoch: i32,
    by_id: bool,
    used: Instant,
    /// In the order in which they are served: a partition that gave records moves to the end.
    partitions: BTreeMap<u64, Remembered>,
    places: HashMap<PartitionKey, u64>,
    next_place: u64,
}

impl FetchSession {
    fn new(by_id: bool, now: Instant) -> Self {
        let (partitions, places) = (BTreeMap::new(), HashMap::new());
        Self { epoch: 1, by_id, used: now, partitions, places, next_place: 0 }
    }

    fn want(&mut self, wanted: Wanted) {
        if let Some(place) = self.places.get(&wanted.key) {
            let known = self.partitions.get_mut(place).expect("places and partitions agree");
            known.wanted = wanted;
            return;
        }
        self.places.insert(wanted.key.clone(), self.next_place);
        self.partitions.insert(self.next_place, Remembered { wanted, told: None });
        self.next_place += 1;
    }

    fn forget(&mut self, key: &PartitionKey) {
        if let Some(place) = self.places.remove(key) {
            self.partitions.remove(&place);
        }
    }

    /// Notes what the consumer is about to be told; tells whether there is anything worth telling.
    fn tell(&mut self, key: &PartitionKey, found: Found) -> bool {
        let Some(place) = self.places.get_mut(key) else { return true };
        let mut known = self.partitions.remove(place).expect("places and partitions agree");
        let news = (found.high_watermark, found.log_start);
        let worth_telling = found.has_records || found.is_remarkable || known.told != Some(news);
        known.told = (!found.is_remarkable).then_some(news);
        if found.has_records {
            *place = self.next_place;
            self.next_place += 1;
        }
        self.partitions.insert(*place, known);
        worth_telling
    }
}

#[derive(Debug, Default)]
struct Sessions {
    by_id: HashMap<i32, FetchSession>,
    last_id: i32,
}

/// All fetch sessions of this node, bounded by a number of slots.
#[derive(Debug)]
pub(crate) struct FetchSessions {
    slots: usize,
    sessions: Mutex<Sessions>,
}

impl FetchSessions {
    pub(crate) fn new(slots: usize) -> Self {
        Self { slots, sessions: Mutex::default() }
    }

    /// What a request wants, in the order in which it is to be served.
    ///
    /// # Errors
    /// FETCH_SESSION_ID_NOT_FOUND, INVALID_FETCH_SESSION_EPOCH or FETCH_SESSION_TOPIC_ID_ERROR: the
    /// consumer starts a new session.
    pub(crate) fn begin(
        &self,
        request: &FetchRequest,
        version: i16,
        now: Instant,
    ) -> Result<(Context, Vec<Wanted>), ErrorCode> {
        let (id, epoch) = (request.session_id, request.session_epoch);
        let by_id = version >= 13;
        let mut sessions = self.sessions.lock();
        if epoch == EPOCH_FINAL || epoch == EPOCH_INITIAL {
            sessions.by_id.remove(&id);
            let context = match epoch {
                EPOCH_INITIAL => Context::New { by_id },
                _ => Context::Sessionless,
            };
            return Ok((context, named(request).collect()));
        }
        let session = sessions.by_id.get_mut(&id).ok_or(ErrorCode::FetchSessionIdNotFound)?;
        if session.epoch != epoch {
            return Err(ErrorCode::InvalidFetchSessionEpoch);
        }
        if session.by_id != by_id {
            return Err(ErrorCode::FetchSessionTopicIdError);
        }
        session.epoch = if epoch == i32::MAX { 1 } else { epoch + 1 };
        session.used = now;
        for key in forgotten(request) {
            session.forget(&key);
        }
        for wanted in named(request) {
            session.want(wanted);
        }
        if session.partitions.len() > PARTITIONS_MAX {
            sessions.by_id.remove(&id);
            return Err(ErrorCode::FetchSessionIdNotFound);
        }
        let wanted = session.partitions.values().map(|known| known.wanted.clone()).collect();
        Ok((Context::Incremental { id }, wanted))
    }

    /// Keeps in `found` only what the reply must carry; returns the session id for the reply (0: none).
    pub(crate) fn finish<F>(
        &self,
        context: Context,
        found: &mut Vec<F>,
        now: Instant,
        describe: impl Fn(&F) -> (&Wanted, Found),
    ) -> i32 {
        let mut sessions = self.sessions.lock();
        match context {
            Context::Sessionless => 0,
            Context::New { by_id } => {
                let fits = (1..=PARTITIONS_MAX).contains(&found.len());
                if !fits || !sessions.make_room(self.slots, now) {
                    return 0;
                }
                let mut session = FetchSession::new(by_id, now);
                for (wanted, _) in found.iter().map(&describe) {
                    session.want(wanted.clone());
                }
                for (wanted, found) in found.iter().map(&describe) {
                    session.tell(&wanted.key, found);
                }
                sessions.insert(session)
            }
            Context::Incremental { id } => {
                if let Some(session) = sessions.by_id.get_mut(&id) {
                    found.retain(|one| {
                        let (wanted, found) = describe(one);
                        session.tell(&wanted.key, found)
                    });
                }
                id
            }
        }
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.sessions.lock().by_id.len()
    }
}

impl Sessions {
    fn make_room(&mut self, slots: usize, now: Instant) -> bool {
        if self.by_id.len() < slots {
            return true;
        }
        let oldest = self.by_id.iter().min_by_key(|(_, session)| session.used);
        match oldest.map(|(id, session)| (*id, session.used)) {
            Some((id, used)) if now.duration_since(used) > EVICTABLE_AFTER => {
                self.by_id.remove(&id);
                true
            }
            _ => false,
        }
    }

    fn insert(&mut self, session: FetchSession) -> i32 {
        loop {
            self.last_id = if self.last_id == i32::MAX { 1 } else { self.last_id + 1 };
            if !self.by_id.contains_key(&self.last_id) {
                self.by_id.insert(self.last_id, session);
                return self.last_id;
            }
        }
    }
}

fn named(request: &FetchRequest) -> impl Iterator<Item = Wanted> {
    request.topics.iter().flat_map(|topic| {
        // A long poll, and a session all the more, outlives the frame that named the topic.
        let name = topic.topic.detach();
        topic.partitions.iter().map(move |partition| Wanted {
            key: PartitionKey {
                topic: name.clone(),
                topic_id: topic.topic_id,
                partition: partition.partition,
            },
            fetch_offset: partition.fetch_offset,
            max_bytes: partition.partition_max_bytes,
            leader_epoch: partition.current_leader_epoch,
            last_fetched_epoch: partition.last_fetched_epoch,
        })
    })
}

fn forgotten(request: &FetchRequest) -> impl Iterator<Item = PartitionKey> {
    request.forgotten_topics_data.iter().flat_map(|topic| {
        topic.partitions.iter().map(|partition| PartitionKey {
            topic: topic.topic.clone(),
            topic_id: topic.topic_id,
            partition: *partition,
        })
    })
}

#[cfg(test)]
mod tests;
