//! The table of all settings. `docs/CONFIG.md` and DescribeConfigs are read off it.

use super::{Effect, Kind, Knob, Scope};

/// Read when the broker starts.
const fn broker(name: &'static str, kind: Kind, default: &'static str, doc: &'static str) -> Knob {
    Knob { name, scope: Scope::Broker, effect: Effect::AtStart, kind, default, doc }
}

/// Read from `Node::settings` whenever it is needed, so that it can be changed while the broker runs.
const fn live(name: &'static str, kind: Kind, default: &'static str, doc: &'static str) -> Knob {
    Knob { effect: Effect::AtOnce, ..broker(name, kind, default, doc) }
}

const fn topic(
    name: &'static str,
    topic_name: &'static str,
    kind: Kind,
    default: &'static str,
    doc: &'static str,
) -> Knob {
    Knob { name, scope: Scope::Topic(topic_name), effect: Effect::AtOnce, kind, default, doc }
}

const fn group(
    name: &'static str,
    group_name: &'static str,
    kind: Kind,
    default: &'static str,
    doc: &'static str,
) -> Knob {
    Knob { name, scope: Scope::Group(group_name), effect: Effect::AtOnce, kind, default, doc }
}

/// A coordinator whose record does not fit into a segment could never go on.
const COORDINATOR_SEGMENT_MIN: i32 = 2 << 20;

const fn int(min: i32) -> Kind {
    Kind::Int { min, max: i32::MAX }
}

const fn long(min: i64) -> Kind {
    Kind::Long { min, max: i64::MAX }
}

/// Every setting that this broker acts on, in the order of their names.
pub static REGISTRY: &[Knob] = &[
    broker(
        "advertised.listeners",
        Kind::Address,
        "",
        "HOST:PORT that clients are told to connect to. Empty: each client is told the address that it dialled itself.",
    ),
    live(
        "auto.create.topics.enable",
        Kind::Boolean,
        "true",
        "Whether asking for the metadata of a topic that does not exist creates it, if the client allows that.",
    ),
    topic(
        "compression.type",
        "compression.type",
        Kind::Choice(&["producer", "uncompressed", "gzip", "snappy", "lz4", "zstd"]),
        "producer",
        "How batches are compressed on disk. 'producer' keeps the bytes that the producer sent; anything else recompresses what comes in another form.",
    ),
    live(
        "connections.max.idle.ms",
        Kind::Long { min: 1000, max: i64::MAX / 1_000_000 },
        "600000",
        "A connection over which nothing was asked for this long is closed; so is one whose client does not take its replies.",
    ),
    live(
        "decompressed.batch.max.bytes",
        int(1024),
        "134217728",
        "The largest size to which a compressed batch may unpack. A batch that would exceed it is refused: it is a mistake or an attack.",
    ),
    live("delete.topic.enable", Kind::Boolean, "true", "Whether clients can delete topics."),
    live(
        "fetch.max.bytes",
        int(1024),
        "57671680",
        "The most bytes of records in one Fetch reply, whatever the consumer asks for. A single larger batch is still returned whole.",
    ),
    group(
        "group.consumer.assignment.interval.ms",
        "consumer.assignment.interval.ms",
        int(0),
        "200",
        "The least time between two assignments of a group of the new protocol. Members that come within it move partitions once.",
    ),
    live(
        "group.consumer.assignors",
        Kind::List(&["uniform", "range"]),
        "uniform,range",
        "Assignors that members of the new protocol may ask for. The first is that of groups whose members ask for none.",
    ),
    group(
        "group.consumer.heartbeat.interval.ms",
        "consumer.heartbeat.interval.ms",
        int(1),
        "5000",
        "How often members of the new protocol send heartbeats. While a group changes they are asked for more (each 300 ms). Unless it is set, members of quiet groups are asked for more too as long as they are few: each 750 ms up to about 1,500 members of all groups, then so that all of them together send at most some 2,000 a second. So a change reaches everybody soon.",
    ),
    live(
        "group.consumer.max.assignment.interval.ms",
        int(0),
        "15000",
        "The most that group.consumer.assignment.interval.ms may be, and the same of one group.",
    ),
    live(
        "group.consumer.max.heartbeat.interval.ms",
        int(1),
        "15000",
        "The most that group.consumer.heartbeat.interval.ms may be, and the same of one group.",
    ),
    live(
        "group.consumer.max.session.timeout.ms",
        int(1),
        "60000",
        "The most that group.consumer.session.timeout.ms may be, and the same of one group.",
    ),
    live(
        "group.consumer.max.size",
        Kind::Int { min: 1, max: i32::MAX },
        "2147483647",
        "The most members of a group of the new protocol.",
    ),
    live(
        "group.consumer.migration.policy",
        Kind::Choice(&["bidirectional", "upgrade", "downgrade", "disabled"]),
        "bidirectional",
        "Whether a group that has members may change its protocol: to the new one when the first member that speaks it joins (upgrade), back when the last of them leaves (downgrade), both or neither.",
    ),
    live(
        "group.consumer.min.assignment.interval.ms",
        int(0),
        "0",
        "The least that group.consumer.assignment.interval.ms may be, and the same of one group.",
    ),
    live(
        "group.consumer.min.heartbeat.interval.ms",
        int(1),
        "5000",
        "The least that group.consumer.heartbeat.interval.ms may be, and the same of one group.",
    ),
    live(
        "group.consumer.min.session.timeout.ms",
        int(1),
        "45000",
        "The least that group.consumer.session.timeout.ms may be, and the same of one group.",
    ),
    group(
        "group.consumer.session.timeout.ms",
        "consumer.session.timeout.ms",
        int(1),
        "45000",
        "How long a member of the new protocol may be silent before it is out.",
    ),
    live(
        "group.initial.rebalance.delay.ms",
        int(0),
        "3000",
        "How long the first members of a classic group wait for others, anew with each that comes, up to the rebalance timeout.",
    ),
    live(
        "group.max.session.timeout.ms",
        int(1),
        "1800000",
        "The longest session timeout that a member of a classic group may ask for.",
    ),
    live("group.max.size", int(1), "2147483647", "The most members that a classic group may have."),
    live(
        "group.min.session.timeout.ms",
        int(1),
        "6000",
        "The shortest session timeout that a member of a classic group may ask for.",
    ),
    live(
        "group.stuck.after.ms",
        Kind::Long { min: 1, max: i32::MAX as i64 },
        "300000",
        "A group counts as stuck in a partition when it has members, has committed nothing there for so long while records waited, and more wait now than at the beginning of that time.",
    ),
    broker(
        "http.listener",
        Kind::Address,
        "",
        "HOST:PORT for /metrics, /healthz and /readyz. Empty: no HTTP port.",
    ),
    broker(
        "listeners",
        Kind::Address,
        "127.0.0.1:9092",
        "HOST:PORT on which Kafka clients are served. Port 0 takes a free one.",
    ),
    live(
        "log.cleaner.backoff.ms",
        Kind::Long { min: 100, max: i32::MAX as i64 },
        "15000",
        "How long the cleaner of a data folder rests when no partition is dirty enough to be compacted.",
    ),
    live(
        "log.cleaner.dedupe.buffer.size",
        Kind::Long { min: 1 << 20, max: 1 << 40 },
        "134217728",
        "Memory for the keys of one run of compaction, in each data folder. A key takes 24 bytes; a run that meets more keys ends there, and the next goes on.",
    ),
    topic(
        "log.cleaner.delete.retention.ms",
        "delete.retention.ms",
        long(0),
        "86400000",
        "How long a compacted topic keeps a tombstone after compaction has been through it first: a consumer that reads from the start has this long to see it.",
    ),
    live(
        "log.cleaner.io.max.bytes.per.second",
        Kind::Long { min: 1 << 20, max: i64::MAX },
        "9223372036854775807",
        "Bytes that compaction reads and writes per second at most, in each data folder.",
    ),
    topic(
        "log.cleaner.max.compaction.lag.ms",
        "max.compaction.lag.ms",
        long(1),
        "9223372036854775807",
        "How long a record of a compacted topic waits for compaction at most, however little of the log is dirty. The segment that is written to is closed for it.",
    ),
    topic(
        "log.cleaner.min.cleanable.ratio",
        "min.cleanable.dirty.ratio",
        Kind::Ratio,
        "0.5",
        "A partition is compacted when this part of its closed segments is dirty: written since it was compacted last. Less means less waste and more work.",
    ),
    topic(
        "log.cleaner.min.compaction.lag.ms",
        "min.compaction.lag.ms",
        long(0),
        "0",
        "How long every record of a compacted topic is kept at least, also if a later one has its key.",
    ),
    topic(
        "log.cleanup.policy",
        "cleanup.policy",
        Kind::Subset(&["compact", "delete"]),
        "delete",
        "What becomes of old records. 'delete' removes them by age and size (log.retention.ms, log.retention.bytes), 'compact' keeps the last record of each key, 'compact,delete' does both. Empty: all stay, until somebody deletes them.",
    ),
    broker("log.dir", Kind::Text, "./millstream-data", "The folder in which everything durable is kept."),
    broker(
        "log.dirs",
        Kind::Text,
        "",
        "Several such folders, one for each disk, with commas between them; then log.dir may not be set. The first one has the metadata and must stay the first. A new partition goes to the folder that has the fewest; one whose folder cannot be used is refused until it can.",
    ),
    live(
        "log.disk.free.min.bytes",
        long(-1),
        "-1",
        "So many bytes stay free on the disk of each data folder: records that would use them are refused with a retriable error, everything else goes on, and records are taken again by themselves once there is room. -1: 256 MiB, or a twentieth of a small disk.",
    ),
    topic(
        "log.durability",
        "durability",
        Kind::Choice(&["fsync", "written"]),
        "fsync",
        "What acks=all waits for. 'fsync': the records are on the disk. 'written': they are written to the file, so that a killed broker loses none, but a power cut loses the newest; set log.flush.interval.ms to bound how many.",
    ),
    topic(
        "log.flush.interval.messages",
        "flush.messages",
        long(1),
        "9223372036854775807",
        "So many records may be written and not yet on the disk before they are brought there, though no producer waits for it.",
    ),
    topic(
        "log.flush.interval.ms",
        "flush.ms",
        long(0),
        "9223372036854775807",
        "A record is brought to the disk this long after it was written at the latest, though no producer waits for it. A power cut then loses only records that are younger than twice this. Whatever is set here, it happens each minute.",
    ),
    broker(
        "log.flusher.threads",
        Kind::Int { min: 1, max: 64 },
        "2",
        "Threads that bring written batches to the disk for producers that wait for it (acks=all).",
    ),
    topic(
        "log.index.interval.bytes",
        "index.interval.bytes",
        int(0),
        "4096",
        "Bytes of records between two entries of a segment's index.",
    ),
    topic(
        "log.index.size.max.bytes",
        "segment.index.bytes",
        int(4),
        "10485760",
        "The size at which an index is full; its segment is then closed and a new one begun.",
    ),
    topic(
        "log.message.timestamp.after.max.ms",
        "message.timestamp.after.max.ms",
        long(0),
        "3600000",
        "How far in the future a record's timestamp may lie. Not checked if the broker stamps the records.",
    ),
    topic(
        "log.message.timestamp.before.max.ms",
        "message.timestamp.before.max.ms",
        long(0),
        "9223372036854775807",
        "How far in the past a record's timestamp may lie. Not checked if the broker stamps the records.",
    ),
    topic(
        "log.message.timestamp.type",
        "message.timestamp.type",
        Kind::Choice(&["CreateTime", "LogAppendTime"]),
        "CreateTime",
        "Whether records keep the producer's timestamp or get the time at which they were appended.",
    ),
    topic(
        "log.preallocate",
        "preallocate",
        Kind::Boolean,
        "false",
        "Whether room is set aside on the disk, 64 MiB at a time, for a segment that has grown beyond 16 MiB. It makes large writes for which nobody waits cheaper, and small ones for which producers wait dearer.",
    ),
    topic(
        "log.retention.bytes",
        "retention.bytes",
        long(-1),
        "-1",
        "The size of a partition beyond which its oldest segments are deleted, as long as the others hold at least this much. -1: no limit.",
    ),
    live(
        "log.retention.check.interval.ms",
        Kind::Long { min: 100, max: i32::MAX as i64 },
        "10000",
        "How often partitions are looked through for records to delete.",
    ),
    broker(
        "log.retention.clock.hold.ms",
        Kind::Long { min: 0, max: i64::MAX / 1_000_000 },
        "86400000",
        "How long a wall clock that jumped ahead is not believed: until then ages go by the time before the jump, so that a wrong clock deletes nothing. At a start a clock counts as jumped if it is more than ten minutes ahead of when this broker was last alive. 0: it is always believed.",
    ),
    topic(
        "log.retention.ms",
        "retention.ms",
        long(-1),
        "604800000",
        "How long records are kept. They go by whole segments, when the newest record of one is older than this; so that this holds, a segment is closed after a tenth of it, at the earliest after 30 seconds. A timestamp that lies behind the append of its record counts as that. -1: for ever.",
    ),
    topic(
        "log.roll.jitter.ms",
        "segment.jitter.ms",
        Kind::Long { min: 0, max: 0 },
        "0",
        "How much earlier than after log.roll.ms a segment may be closed, at random. Always 0; tools ask for it.",
    ),
    topic(
        "log.roll.ms",
        "segment.ms",
        long(1),
        "604800000",
        "The age at which a segment is closed and a new one begun, even if it is not full and nothing comes any more.",
    ),
    broker(
        "log.scrub.max.bytes.per.second",
        long(0),
        "0",
        "Stored records are read and checked in the background at this rate for each data folder, over and over, so that damage is found while there is another copy. 0: never.",
    ),
    topic(
        "log.segment.bytes",
        "segment.bytes",
        int(1024),
        "1073741824",
        "The size of a segment file. A batch that is larger than this cannot be stored.",
    ),
    topic(
        "log.segment.delete.delay.ms",
        "file.delete.delay.ms",
        Kind::Long { min: 0, max: 0 },
        "0",
        "How long the file of a deleted segment stays. Always 0: it goes at once, and whoever reads it at that moment can finish; tools ask for it.",
    ),
    live(
        "max.connections",
        int(1),
        "10000",
        "The most Kafka connections at a time. Further ones are closed at once.",
    ),
    broker(
        "max.incremental.fetch.session.cache.slots",
        int(0),
        "1000",
        "Fetch sessions that are remembered. A consumer without a session repeats its whole list with each request.",
    ),
    topic(
        "message.max.bytes",
        "max.message.bytes",
        int(0),
        "1048588",
        "The size of the largest batch of records, as it was sent.",
    ),
    topic(
        "min.insync.replicas",
        "min.insync.replicas",
        Kind::Int { min: 1, max: 1 },
        "1",
        "How many replicas must have a record that is acknowledged with acks=all. There is one, so nothing else can be set; tools ask for it.",
    ),
    broker(
        "num.network.threads",
        Kind::Int { min: 0, max: 1024 },
        "0",
        "Threads that serve Kafka's connections. 0: one for each processor.",
    ),
    live(
        "num.partitions",
        Kind::Int { min: 1, max: 10_000 },
        "1",
        "Partitions of a topic that is created without a number of its own.",
    ),
    live(
        "offset.metadata.max.bytes",
        Kind::Int { min: 0, max: i16::MAX as i32 },
        "4096",
        "The longest text that a consumer may keep with a committed offset, in characters.",
    ),
    live(
        "offsets.retention.check.interval.ms",
        Kind::Long { min: 1, max: i32::MAX as i64 },
        "600000",
        "How often it is looked for committed offsets that have expired, and for groups that have neither members nor offsets.",
    ),
    live(
        "offsets.retention.minutes",
        int(-1),
        "-1",
        "How long committed offsets are kept that nobody uses: since their group has no members, or, for those committed from outside of a group, since the commit. -1: for ever. Kafka forgets them after 7 days (10080).",
    ),
    broker(
        "offsets.topic.num.partitions",
        Kind::Int { min: 1, max: 10_000 },
        "4",
        "Partitions of the internal topic __consumer_offsets, when it is made. More let more groups commit side by side, and share less of each write to the disk.",
    ),
    broker(
        "offsets.topic.segment.bytes",
        int(COORDINATOR_SEGMENT_MIN),
        "104857600",
        "The size of a segment file of __consumer_offsets, when it is made. Every record has to fit.",
    ),
    live(
        "producer.id.expiration.ms",
        Kind::Long { min: 1, max: i32::MAX as i64 },
        "86400000",
        "How long an idempotent producer's last batches are remembered after it went silent.",
    ),
    broker(
        "queued.max.request.bytes",
        Kind::Long { min: 1024, max: u32::MAX as i64 },
        "268435456",
        "The most bytes of requests in memory at a time, over all connections. Reading waits when it is reached.",
    ),
    live(
        "replication.factor.policy",
        Kind::Choice(&["strict", "virtual"]),
        "strict",
        "What happens to a topic that asks for more replicas than there are brokers. 'strict' refuses it, as Kafka does; 'virtual' creates it with one replica.",
    ),
    broker(
        "socket.request.max.bytes",
        int(1024),
        "104857600",
        "The largest request that is read. A connection that announces a larger one is closed.",
    ),
    broker(
        "transaction.max.timeout.ms",
        int(1),
        "900000",
        "The longest timeout that a transactional producer may ask for (transaction.timeout.ms).",
    ),
    broker(
        "transaction.state.log.num.partitions",
        Kind::Int { min: 1, max: 10_000 },
        "4",
        "Partitions of the internal topic __transaction_state, when it is made. More let more transactions end side by side, and share less of each write to the disk.",
    ),
    broker(
        "transaction.state.log.segment.bytes",
        int(COORDINATOR_SEGMENT_MIN),
        "104857600",
        "The size of a segment file of __transaction_state, when it is made. Every record has to fit.",
    ),
    broker(
        "transactional.id.expiration.ms",
        int(1),
        "604800000",
        "How long a transactional id is kept that nobody uses. A producer that comes back later has to begin anew.",
    ),
    topic(
        "unclean.leader.election.enable",
        "unclean.leader.election.enable",
        Kind::Never,
        "false",
        "Whether a replica that lacks records may lead. There is one replica, so never; tools ask for it.",
    ),
];

/// Settings of Kafka that this version does not act on: accepting them would promise what is not done.
pub(super) static NOT_SERVED: &[(&[&str], &str)] = &[
    (
        &[
            "log.cleaner.enable",
            "log.cleaner.threads",
            "log.cleaner.io.buffer.size",
            "log.cleaner.io.buffer.load.factor",
        ],
        "each data folder has one cleaner, whose buffers have a fixed size",
    ),
    (
        &[
            "default.replication.factor",
            "transaction.state.log.replication.factor",
            "transaction.state.log.min.isr",
            "follower.replication.throttled.replicas",
            "leader.replication.throttled.replicas",
        ],
        "there is one broker, hence one replica",
    ),
    (
        &[
            "remote.storage.enable",
            "remote.log.copy.disable",
            "remote.log.delete.on.disable",
            "local.retention.ms",
            "local.retention.bytes",
        ],
        "there is no remote storage",
    ),
    (
        &["compression.gzip.level", "compression.lz4.level", "compression.zstd.level"],
        "the levels of the codecs are fixed",
    ),
    (&["message.format.version", "message.downconversion.enable"], "it has no meaning here"),
    (
        &[
            "transaction.abort.timed.out.transaction.cleanup.interval.ms",
            "transaction.remove.expired.transaction.cleanup.interval.ms",
        ],
        "transactions are aborted when their time is up, and ids are looked through each hour",
    ),
    (&["transaction.partition.verification.enable"], "partitions are always verified"),
    (&["transaction.two.phase.commit.enable"], "no transaction is without a timeout"),
];
