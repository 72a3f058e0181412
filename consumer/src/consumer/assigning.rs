//! What is read, and from where on: partitions come and go, are paused, and are read from somewhere else.
//!
//! A partition that is taken away keeps its place, so that places stay what they are; as many are kept as there were
//! ever different ones.

use millstream_protocol::KStr;

use super::Consumer;
use crate::builder::StartAt;
use crate::error::NotAssigned;
use crate::partition::Partition;
use crate::session::Place;

impl Consumer {
    /// Reads one partition more, or one that is read already from somewhere else. A stop does not hold for it.
    ///
    /// Whether it exists is found out when it is read: that it does not is an error of [`recv`](Self::recv).
    pub fn assign(&mut self, topic: impl Into<KStr>, partition: i32, start: StartAt) {
        self.add(topic.into(), partition, start);
    }

    /// Reads a partition no more. What was fetched of it is dropped.
    ///
    /// # Errors
    /// [`NotAssigned`].
    pub fn unassign(&mut self, topic: &str, partition: i32) -> Result<(), NotAssigned> {
        let place = self.assigned(topic, partition)?;
        self.drop_fetched(place);
        self.partitions[place].take_away();
        Ok(())
    }

    /// The partitions that are assigned.
    pub fn assignment(&self) -> impl Iterator<Item = (&KStr, i32)> {
        let assigned = self.partitions.iter().filter(|partition| partition.is_assigned);
        assigned.map(|partition| (&partition.topic, partition.index))
    }

    /// The offset of the next record that will be handed out; none if the partition is not assigned, or
    /// while it is being looked up.
    #[must_use]
    pub fn position(&self, topic: &str, partition: i32) -> Option<i64> {
        self.partition(topic, partition)?.position()
    }

    /// The end of a partition as of the last answer that mentioned it.
    #[must_use]
    pub fn high_watermark(&self, topic: &str, partition: i32) -> Option<i64> {
        self.partition(topic, partition)?.high_watermark
    }

    /// Goes on reading a partition from somewhere else: an offset, a time, an end. What was fetched of it is dropped; a
    /// stop stays.
    ///
    /// # Errors
    /// [`NotAssigned`].
    pub fn seek(&mut self, topic: &str, partition: i32, to: StartAt) -> Result<(), NotAssigned> {
        let place = self.assigned(topic, partition)?;
        self.current.take_if(|current| current.place == place);
        self.partitions[place].jump(to.into());
        Ok(())
    }

    /// Hands out nothing of a partition until [`resume`](Self::resume). It stays assigned, and its position where it is;
    /// others are read on. What was fetched of it is dropped and fetched again later, so that what waits takes no
    /// memory from what does not.
    ///
    /// # Errors
    /// [`NotAssigned`].
    pub fn pause(&mut self, topic: &str, partition: i32) -> Result<(), NotAssigned> {
        let place = self.assigned(topic, partition)?;
        self.drop_fetched(place);
        self.partitions[place].is_paused = true;
        Ok(())
    }

    /// Goes on reading a partition that was paused, where it was. Of one that was not: nothing.
    ///
    /// # Errors
    /// [`NotAssigned`].
    pub fn resume(&mut self, topic: &str, partition: i32) -> Result<(), NotAssigned> {
        let place = self.assigned(topic, partition)?;
        self.partitions[place].is_paused = false;
        Ok(())
    }

    /// The partitions that are paused.
    pub fn paused(&self) -> impl Iterator<Item = (&KStr, i32)> {
        let paused = self.partitions.iter().filter(|partition| partition.is_assigned && partition.is_paused);
        paused.map(|partition| (&partition.topic, partition.index))
    }

    pub(crate) fn add(&mut self, topic: KStr, partition: i32, start: StartAt) -> Place {
        match self.places.get(&(topic.clone(), partition)).copied() {
            Some(place) => {
                self.drop_fetched(place);
                self.partitions[place].give_back(start.into());
                place
            }
            None => {
                let place = self.partitions.len();
                self.places.insert((topic.clone(), partition), place);
                self.partitions.push(Partition::new(topic, partition, start));
                place
            }
        }
    }

    /// Forgets what was fetched of a partition and not handed out.
    pub(crate) fn drop_fetched(&mut self, place: Place) {
        self.current.take_if(|current| current.place == place);
        self.partitions[place].rewind();
        let mut dropped = 0;
        self.fetched.retain(|fetched| {
            let is_of_it = fetched.place == place;
            dropped += if is_of_it { fetched.batch.len() } else { 0 };
            !is_of_it
        });
        self.fetched_bytes -= dropped;
    }

    pub(crate) fn assigned(&self, topic: &str, partition: i32) -> Result<Place, NotAssigned> {
        let place = self.places.get(&(KStr::from(topic), partition)).copied();
        let place = place.filter(|place| self.partitions[*place].is_assigned);
        place.ok_or_else(|| NotAssigned { topic: topic.to_owned(), partition })
    }

    fn partition(&self, topic: &str, partition: i32) -> Option<&Partition> {
        self.assigned(topic, partition).ok().map(|place| &self.partitions[place])
    }
}
