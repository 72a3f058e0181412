//! Consumers with fetch sessions, and the reading of a whole partition.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::time::Duration;

use millstream_protocol::messages::FetchRequest;
use millstream_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use millstream_protocol::messages::fetch_response::PartitionData;
use millstream_protocol::records::{BatchView, batches, records};
use millstream_protocol::{Chunk, ErrorCode};

use super::chance::Chance;
use super::oracle::{PartitionId, Placed};
use super::records::number_of;
use super::wire::{Lost, Wire};
use super::world::{Connected, Phase, Shared, World};

/// Consumers ask by topic id.
const VERSION: i16 = 15;
const DECOMPRESSED_BYTES_MAX: usize = 1 << 24;

/// What a reply says of one partition.
pub(super) struct Read {
    pub(super) placed: Vec<Placed>,
    /// The offset after the last whole batch.
    pub(super) next: i64,
}

/// Reads what a reply holds and checks it against what was sent, byte by byte.
pub(super) fn judge_reply(
    world: &World,
    id: PartitionId,
    position: i64,
    data: &PartitionData,
) -> Result<Read, String> {
    let bytes = data.records.clone().map(Chunk::into_bytes).unwrap_or_default();
    let mut read = Read { placed: Vec::new(), next: position };
    let mut epoch_before = -1;
    let compacts = world.oracle.borrow().policy(id.topic).is_some_and(|policy| policy.compacts);
    for batch in batches(bytes) {
        // A slice may end in the middle of a batch.
        let Ok(batch) = batch else { break };
        let view = BatchView::parse(&batch).map_err(|error| format!("{id:?} at {position}: {error}"))?;
        let header = view.header();
        let (base, last) = (header.base_offset, header.last_offset());
        if !view.crc_is_valid() {
            return Err(format!("the batch at {base} of {id:?} was served with a wrong checksum"));
        }
        if last < read.next {
            return Err(format!("the batch {base} to {last} of {id:?} was served for {}", read.next));
        }
        let epoch = header.partition_leader_epoch;
        if epoch < epoch_before {
            return Err(format!(
                "the batch at {base} of {id:?} has epoch {epoch}, after one of {epoch_before}"
            ));
        }
        epoch_before = epoch;
        let is_first = read.next == position;
        if base > read.next && !compacts || !is_first && base < read.next {
            return Err(format!(
                "the batch {base} to {last} of {id:?} was served where {} is next",
                read.next
            ));
        }
        for record in
            records(&batch, DECOMPRESSED_BYTES_MAX).map_err(|error| format!("{id:?} at {base}: {error}"))?
        {
            let record = record.map_err(|error| format!("{id:?} at {base}: {error}"))?;
            if record.offset < position {
                continue;
            }
            let number = number_of(&record)
                .ok_or_else(|| format!("a strange record at {} of {id:?}", record.offset))?;
            let placed = Placed { number, offset: record.offset };
            let mut oracle = world.oracle.borrow_mut();
            oracle.read(id, placed, epoch)?;
            if !oracle.sent_as(number).is_some_and(|sent| sent.is(&record)) {
                return Err(format!("record {number} at {} of {id:?} is not as it was sent", record.offset));
            }
            read.placed.push(placed);
        }
        read.next = last + 1;
    }
    Ok(read)
}

/// A Fetch outside any session.
pub(super) fn plain_fetch(id: PartitionId, position: i64) -> FetchRequest {
    FetchRequest {
        max_wait_ms: 0,
        min_bytes: 1,
        max_bytes: 1 << 20,
        session_epoch: -1,
        topics: vec![FetchTopic {
            topic_id: id.topic,
            partitions: vec![want(id, position)],
            ..Default::default()
        }],
        ..Default::default()
    }
}

pub(super) async fn fetch_one(
    wire: &mut Wire,
    id: PartitionId,
    position: i64,
) -> Result<Option<PartitionData>, Lost> {
    let response = wire.call(VERSION, &plain_fetch(id, position)).await?;
    Ok(response.responses.into_iter().flat_map(|topic| topic.partitions).next())
}

fn want(id: PartitionId, fetch_offset: i64) -> FetchPartition {
    FetchPartition {
        partition: id.index,
        fetch_offset,
        current_leader_epoch: -1,
        last_fetched_epoch: -1,
        log_start_offset: -1,
        partition_max_bytes: 2000,
        ..Default::default()
    }
}

struct Consumer {
    world: Shared,
    chance: Chance,
    positions: BTreeMap<PartitionId, i64>,
    session: (i32, i32),
    /// Partitions whose position the session does not know yet.
    changed: Vec<PartitionId>,
    high_watermarks: BTreeMap<PartitionId, i64>,
    /// Losses when those were seen.
    losses: u64,
}

pub(super) async fn consume(world: Shared, chance: Chance) {
    let mut consumer = Consumer {
        world,
        chance,
        positions: BTreeMap::new(),
        session: (0, 0),
        changed: Vec::new(),
        high_watermarks: BTreeMap::new(),
        losses: 0,
    };
    while let Some(mut connected) = consumer.world.connected().await {
        consumer.session = (0, 0);
        while consumer.world.phase.get() != Phase::Over && !consumer.world.has_failed() {
            if consumer.turn(&mut connected).await.is_err() {
                break;
            }
            let ms = 1 + consumer.chance.below(20);
            tokio::time::sleep(Duration::from_millis(ms)).await;
        }
    }
}

impl Consumer {
    async fn turn(&mut self, connected: &mut Connected) -> Result<(), Lost> {
        self.follow_topics();
        let request = self.request();
        if self.chance.one_in(100) {
            let _ = connected.wire.send(VERSION, &request).await;
            self.world.report.borrow_mut().dropped += 1;
            return Err(Lost);
        }
        let response = connected.wire.call(VERSION, &request).await?;
        match ErrorCode::from_code(response.error_code) {
            Some(ErrorCode::None) => {}
            Some(code) if code.is_retriable() => {
                self.session = (0, 0);
                return Ok(());
            }
            code => self.world.fail(format!("a Fetch was answered with {code:?} ({})", response.error_code)),
        }
        let epoch = if response.session_id == 0 { 0 } else { self.session.1 + 1 };
        self.session = (response.session_id, epoch);
        self.changed.clear();
        let losses = self.world.oracle.borrow().losses();
        if connected.losses != losses {
            // What was on its way when something was lost proves nothing.
            return Err(Lost);
        }
        for topic in response.responses {
            for data in topic.partitions {
                let id = PartitionId { topic: topic.topic_id, index: data.partition_index };
                self.on_partition(id, &data, losses);
            }
        }
        Ok(())
    }

    fn on_partition(&mut self, id: PartitionId, data: &PartitionData, losses: u64) {
        let Some(position) = self.positions.get(&id).copied() else { return };
        match ErrorCode::from_code(data.error_code) {
            Some(ErrorCode::None) => {
                self.on_high_watermark(id, data.high_watermark, losses);
                match judge_reply(&self.world, id, position, data) {
                    Ok(read) if !read.placed.is_empty() => {
                        self.world.note(&format!("read {id:?} {position} to {}", read.next));
                        self.world.report.borrow_mut().read += read.placed.len() as u64;
                        self.move_to(id, read.next);
                    }
                    Ok(_) => {}
                    Err(what) => self.world.fail(what),
                }
            }
            Some(ErrorCode::OffsetOutOfRange) => {
                self.world.note(&format!("out of range {id:?} {position}"));
                self.move_to(id, data.log_start_offset.max(0));
            }
            Some(ErrorCode::CorruptMessage) if self.world.oracle.borrow().is_rotten(id, position) => {
                self.move_to(id, position + 1);
            }
            Some(ErrorCode::UnknownTopicId) => {
                self.positions.remove(&id);
                self.session = (0, 0);
            }
            Some(code) if code.is_retriable() && code != ErrorCode::CorruptMessage => {
                self.world.note(&format!("fetch {id:?} {code:?}"));
            }
            code => self.world.fail(format!("a Fetch of {id:?} at {position} was answered with {code:?}")),
        }
    }

    /// It never falls, unless something was lost.
    fn on_high_watermark(&mut self, id: PartitionId, seen: i64, losses: u64) {
        if self.losses != losses {
            self.high_watermarks.clear();
            self.losses = losses;
        }
        let before = self.high_watermarks.insert(id, seen).unwrap_or(0);
        if seen < before && !self.world.oracle.borrow().is_in_trouble() {
            self.world.fail(format!("the high watermark of {id:?} fell from {before} to {seen}"));
        }
    }

    fn move_to(&mut self, id: PartitionId, position: i64) {
        // From the start again now and then: old records have readers, too.
        let position = if self.chance.one_in(40) { 0 } else { position };
        self.positions.insert(id, position);
        self.changed.push(id);
    }

    fn follow_topics(&mut self) {
        let topics = self.world.topics.borrow();
        for topic in topics.iter() {
            let Some(id) = topic.id else { continue };
            for index in 0..topic.partitions {
                let id = PartitionId { topic: id, index };
                if let Entry::Vacant(unknown) = self.positions.entry(id) {
                    unknown.insert(0);
                    self.changed.push(id);
                }
            }
        }
    }

    fn request(&mut self) -> FetchRequest {
        let is_new = self.session.1 == 0;
        let named = self.positions.iter().filter(|(id, _)| is_new || self.changed.contains(id));
        let named = named.map(|(id, position)| FetchTopic {
            topic_id: id.topic,
            partitions: vec![want(*id, *position)],
            ..Default::default()
        });
        let max_wait_ms = i32::try_from(self.chance.below(30)).expect("small");
        FetchRequest {
            max_wait_ms,
            min_bytes: 1,
            max_bytes: 1 << 20,
            session_id: self.session.0,
            session_epoch: self.session.1,
            topics: named.collect(),
            ..Default::default()
        }
    }
}
