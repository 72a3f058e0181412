//! A consumer as the input of transactions: what was handed out is committed by a producer, together with what it made of
//! it.

use std::collections::BTreeMap;

use millstream_client::{GroupMetadata, NewOffset, Source};

use crate::builder::StartAt;
use crate::consumer::Consumer;
use crate::error::ConsumeError;
use crate::group::TopicPartition;
use crate::record::ConsumerRecord;

/// What was handed out and is neither done nor to be handed out again.
#[derive(Debug, Default)]
pub(crate) struct Open {
    /// The first offset of each partition, and the one behind the last.
    offsets: BTreeMap<TopicPartition, (i64, i64)>,
    /// As whom it was handed out. Whoever has lost it since is refused under this name.
    group: Option<GroupMetadata>,
}

impl Open {
    fn of(records: &[ConsumerRecord], group: Option<GroupMetadata>) -> Self {
        let mut offsets = BTreeMap::new();
        for record in records {
            let of = TopicPartition { topic: record.topic.clone(), partition: record.partition };
            let (_, end) = offsets.entry(of).or_insert((record.offset, 0));
            *end = record.offset.saturating_add(1);
        }
        Self { offsets, group }
    }
}

/// A batch is what [`recv_batch`](Consumer::recv_batch) gives, and is committed for the consumer's group; without a group
/// nothing is committed. The end is that of a [stop](crate::ConsumerBuilder::stop).
///
/// ```no_run
/// # async fn example(client: millstream_client::Client) -> Result<(), Box<dyn std::error::Error>> {
/// use millstream_client::Source;
/// use millstream_consumer::{ConsumerExt, Isolation, StartAt};
///
/// let input = client.consumer("shouters").subscribe(["lines"]).start_at(StartAt::Beginning);
/// let mut input = input.isolation(Isolation::ReadCommitted).build().await?;
/// while let Some(records) = input.next_batch().await? {
///     // A transactional producer does this: `producer.run(&mut input, ..)`.
///     println!("{} records, to be committed as {:?}", records.len(), input.offsets());
///     input.done();
/// }
/// # Ok(())
/// # }
/// ```
impl Source for Consumer {
    type Batch = Vec<ConsumerRecord>;
    type Error = ConsumeError;

    /// Cancel safe, as `recv_batch`.
    async fn next_batch(&mut self) -> Result<Option<Self::Batch>, Self::Error> {
        let records = self.recv_batch().await?;
        // Whoever is not in its group is refused under the name of a stranger, and rightly so.
        let stranger = || self.settings.group.as_ref().map(|group| GroupMetadata::new(group.to_string()));
        self.open = Open::of(&records, self.group_metadata().or_else(stranger));
        Ok((!records.is_empty()).then_some(records))
    }

    fn offsets(&self) -> Vec<NewOffset> {
        let offset = |(of, (_, end)): (&TopicPartition, &(i64, i64))| NewOffset {
            topic: of.topic.to_string(),
            partition: of.partition,
            offset: *end,
            metadata: String::new(),
        };
        self.open.offsets.iter().map(offset).collect()
    }

    fn group(&self) -> Option<GroupMetadata> {
        self.open.group.clone()
    }

    fn done(&mut self) {
        self.open = Open::default();
    }

    fn rewind(&mut self) {
        for (TopicPartition { topic, partition }, (first, _)) in std::mem::take(&mut self.open).offsets {
            // What was taken away meanwhile is others' to read.
            let _ = self.seek(&topic, partition, StartAt::Offset(first));
        }
    }
}
