import java.lang.reflect.Method;
import java.time.Duration;
import java.util.Collection;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.stream.Collectors;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.Config;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.CreateTopicsOptions;
import org.apache.kafka.clients.admin.DescribeConfigsOptions;
import org.apache.kafka.clients.admin.ListConsumerGroupsOptions;
import org.apache.kafka.clients.admin.ListTopicsOptions;
import org.apache.kafka.clients.admin.MemberToRemove;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.admin.RemoveMembersFromConsumerGroupOptions;
import org.apache.kafka.clients.admin.TopicDescription;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.ElectionType;
import org.apache.kafka.common.KafkaFuture;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.ElectionNotNeededException;
import org.apache.kafka.common.errors.GroupIdNotFoundException;
import org.apache.kafka.common.errors.GroupNotEmptyException;
import org.apache.kafka.common.errors.GroupSubscribedToTopicException;
import org.apache.kafka.common.errors.InvalidConfigurationException;
import org.apache.kafka.common.errors.InvalidPartitionsException;
import org.apache.kafka.common.errors.InvalidReplicaAssignmentException;
import org.apache.kafka.common.errors.InvalidRequestException;
import org.apache.kafka.common.errors.InvalidTopicException;
import org.apache.kafka.common.errors.NoReassignmentInProgressException;
import org.apache.kafka.common.errors.OffsetOutOfRangeException;
import org.apache.kafka.common.errors.RecordTooLargeException;
import org.apache.kafka.common.errors.TopicExistsException;
import org.apache.kafka.common.errors.UnknownMemberIdException;
import org.apache.kafka.common.errors.UnknownTopicOrPartitionException;

/** What an admin client may ask of a broker. */
public final class AdminCases {
    private static ConfigResource topicResource(String topic) {
        return new ConfigResource(ConfigResource.Type.TOPIC, topic);
    }

    private static TopicDescription describe(Bed bed, String topic) throws Exception {
        return Bed.get(topics(bed, topic)).get(topic);
    }

    /** What was asked of the controller reaches brokers a little later. */
    private static void awaitPartitions(Bed bed, String topic, int count) throws Exception {
        Bed.await(count + " partitions of " + topic, () -> {
            try {
                return describe(bed, topic).partitions().size() == count;
            } catch (java.util.concurrent.ExecutionException notYet) {
                return false;
            }
        });
    }

    /** Client 3.1 renamed it. */
    @SuppressWarnings("unchecked")
    private static KafkaFuture<Map<String, TopicDescription>> topics(Bed bed, String topic) throws Exception {
        Object result = bed.admin.describeTopics(List.of(topic));
        Method all;
        try {
            all = result.getClass().getMethod("allTopicNames");
        } catch (NoSuchMethodException older) {
            all = result.getClass().getMethod("all");
        }
        return (KafkaFuture<Map<String, TopicDescription>>) all.invoke(result);
    }

    private static ConfigEntry config(Bed bed, ConfigResource resource, String name) throws Exception {
        DescribeConfigsOptions options = new DescribeConfigsOptions().includeSynonyms(true).includeDocumentation(true);
        Config config = Bed.get(bed.admin.describeConfigs(List.of(resource), options).all()).get(resource);
        ConfigEntry entry = config.get(name);
        Bed.check(entry != null, "no setting " + name + " among " + config.entries().size());
        return entry;
    }

    private static void alter(Bed bed, ConfigResource resource, AlterConfigOp.OpType kind, String name, String value) throws Exception {
        Collection<AlterConfigOp> ops = List.of(new AlterConfigOp(new ConfigEntry(name, value), kind));
        Bed.get(bed.admin.incrementalAlterConfigs(Map.of(resource, ops)).all());
    }

    public static void theClusterIsDescribed(Bed bed) throws Exception {
        var cluster = bed.admin.describeCluster();
        Bed.same(1, Bed.get(cluster.nodes()).size(), "nodes");
        Bed.check(!Bed.get(cluster.clusterId()).isEmpty(), "a cluster id");
        String[] parts = bed.address.split(":");
        Bed.same(Integer.parseInt(parts[1]), Bed.get(cluster.controller()).port(), "the controller's port");
    }

    public static void aTopicIsCreatedDescribedAndDeleted(Bed bed) throws Exception {
        String name = bed.name("topic");
        var created = bed.admin.createTopics(List.of(new NewTopic(name, 3, (short) 1).configs(Map.of("retention.ms", "1234567"))));
        Bed.same(3, Bed.get(created.numPartitions(name)), "partitions in the answer");
        Bed.same(1, Bed.get(created.replicationFactor(name)), "replicas in the answer");
        Bed.same("1234567", Bed.get(created.config(name)).get("retention.ms").value(), "the setting in the answer");
        Bed.await("it is listed", () -> Bed.get(bed.admin.listTopics().names()).contains(name));
        TopicDescription described = describe(bed, name);
        Bed.same(3, described.partitions().size(), "partitions");
        Bed.check(!described.isInternal(), "it is not internal");
        Bed.check(described.partitions().stream().allMatch(p -> p.leader() != null && p.isr().size() == 1), "leaders: " + described);
        Bed.fails(TopicExistsException.class, bed.admin.createTopics(List.of(new NewTopic(name, 1, (short) 1))).all());
        Bed.get(bed.admin.deleteTopics(List.of(name)).all());
        Bed.await("it is gone", () -> !Bed.get(bed.admin.listTopics().names()).contains(name));
        Bed.fails(UnknownTopicOrPartitionException.class, bed.admin.deleteTopics(List.of(name)).all());
        Bed.fails(UnknownTopicOrPartitionException.class, topics(bed, name));
    }

    public static void validateOnlyCreatesNothing(Bed bed) throws Exception {
        String name = bed.name("validate");
        CreateTopicsOptions only = new CreateTopicsOptions().validateOnly(true);
        Bed.get(bed.admin.createTopics(List.of(new NewTopic(name, 2, (short) 1)), only).all());
        Bed.check(!Bed.get(bed.admin.listTopics().names()).contains(name), "it was not created");
        NewTopic wrong = new NewTopic(name, 2, (short) 1).configs(Map.of("retention.ms", "soon"));
        Bed.fails(InvalidConfigurationException.class, bed.admin.createTopics(List.of(wrong), only).all());
        String topic = bed.topic("validate-more", 1);
        var more = new org.apache.kafka.clients.admin.CreatePartitionsOptions().validateOnly(true);
        Bed.get(bed.admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(5)), more).all());
        awaitPartitions(bed, topic, 1);
    }

    public static void defaultsAreTakenWhereNothingIsSaid(Bed bed) throws Exception {
        String name = bed.name("defaults");
        Bed.get(bed.admin.createTopics(List.of(new NewTopic(name, Optional.empty(), Optional.empty()))).all());
        Bed.await("it", () -> Bed.get(bed.admin.listTopics().names()).contains(name));
        Bed.check(!describe(bed, name).partitions().isEmpty(), "it has partitions");
    }

    public static void aManualAssignmentIsTaken(Bed bed) throws Exception {
        String name = bed.name("manual");
        int node = Bed.get(bed.admin.describeCluster().nodes()).iterator().next().id();
        Bed.get(bed.admin.createTopics(List.of(new NewTopic(name, Map.of(0, List.of(node), 1, List.of(node))))).all());
        awaitPartitions(bed, name, 2);
        NewTopic gap = new NewTopic(bed.name("gap"), Map.of(0, List.of(node), 2, List.of(node)));
        Bed.fails(InvalidReplicaAssignmentException.class, bed.admin.createTopics(List.of(gap)).all());
        NewTopic stranger = new NewTopic(bed.name("stranger"), Map.of(0, List.of(node + 77)));
        Bed.fails(InvalidReplicaAssignmentException.class, bed.admin.createTopics(List.of(stranger)).all());
        NewTopic twice = new NewTopic(bed.name("twice"), Map.of(0, List.of(node, node)));
        Bed.fails(InvalidReplicaAssignmentException.class, bed.admin.createTopics(List.of(twice)).all());
    }

    public static void wrongTopicsAreRefused(Bed bed) throws Exception {
        for (String name : List.of("a/b", "..", "x".repeat(250), "")) {
            Bed.fails(InvalidTopicException.class, bed.admin.createTopics(List.of(new NewTopic(name, 1, (short) 1))).all());
        }
        Bed.fails(InvalidPartitionsException.class, bed.admin.createTopics(List.of(new NewTopic(bed.name("p"), 0, (short) 1))).all());
        NewTopic unknown = new NewTopic(bed.name("c"), 1, (short) 1).configs(Map.of("no.such.setting", "1"));
        Bed.fails(InvalidConfigurationException.class, bed.admin.createTopics(List.of(unknown)).all());
    }

    public static void partitionsAreAddedAndNeverTaken(Bed bed) throws Exception {
        String topic = bed.topic("partitions", 2);
        Bed.get(bed.admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(5))).all());
        awaitPartitions(bed, topic, 5);
        Bed.fails(InvalidPartitionsException.class, bed.admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(3))).all());
        Bed.fails(InvalidPartitionsException.class, bed.admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(5))).all());
    }

    public static void aTopicsSettingsAreDescribedInFull(Bed bed) throws Exception {
        String topic = bed.topic("settings", 1);
        DescribeConfigsOptions options = new DescribeConfigsOptions().includeSynonyms(true).includeDocumentation(true);
        Config config = Bed.get(bed.admin.describeConfigs(List.of(topicResource(topic)), options).all()).get(topicResource(topic));
        Set<String> names = config.entries().stream().map(ConfigEntry::name).collect(Collectors.toSet());
        for (String name : List.of("cleanup.policy", "compression.type", "delete.retention.ms", "file.delete.delay.ms",
                "flush.messages", "flush.ms", "index.interval.bytes", "max.message.bytes", "max.compaction.lag.ms",
                "message.timestamp.type", "min.cleanable.dirty.ratio", "min.compaction.lag.ms", "min.insync.replicas",
                "preallocate", "retention.bytes", "retention.ms", "segment.bytes", "segment.index.bytes",
                "segment.jitter.ms", "segment.ms", "unclean.leader.election.enable")) {
            Bed.check(names.contains(name), name + " is missing of " + names);
        }
        ConfigEntry retention = config.get("retention.ms");
        Bed.same("604800000", retention.value(), "a default");
        Bed.same(ConfigEntry.ConfigSource.DEFAULT_CONFIG, retention.source(), "its source");
        Bed.same(ConfigEntry.ConfigType.LONG, retention.type(), "its type");
        Bed.check(retention.documentation() != null && !retention.documentation().isEmpty(), "its documentation");
        Bed.same(ConfigEntry.ConfigType.LIST, config.get("cleanup.policy").type(), "the type of a list");
    }

    public static void aTopicsSettingIsSetAndTakenBack(Bed bed) throws Exception {
        String topic = bed.topic("alter", 1);
        ConfigResource resource = topicResource(topic);
        alter(bed, resource, AlterConfigOp.OpType.SET, "retention.ms", "3600000");
        Bed.await("the value", () -> config(bed, resource, "retention.ms").value().equals("3600000"));
        ConfigEntry entry = config(bed, resource, "retention.ms");
        Bed.same(ConfigEntry.ConfigSource.DYNAMIC_TOPIC_CONFIG, entry.source(), "the source");
        Bed.same("3600000", entry.synonyms().get(0).value(), "the first synonym");
        alter(bed, resource, AlterConfigOp.OpType.SET, "segment.bytes", "2000000");
        Bed.await("the default stands behind a setting", () -> config(bed, resource, "segment.bytes").synonyms().size() == 2);
        ConfigEntry.ConfigSynonym behind = config(bed, resource, "segment.bytes").synonyms().get(1);
        Bed.same("log.segment.bytes", behind.name(), "the name of what stands behind it");
        alter(bed, resource, AlterConfigOp.OpType.DELETE, "retention.ms", "");
        Bed.await("the default again", () -> config(bed, resource, "retention.ms").value().equals("604800000"));
        Bed.same(ConfigEntry.ConfigSource.DEFAULT_CONFIG, config(bed, resource, "retention.ms").source(), "its source");
    }

    public static void aListIsAddedToAndTakenFrom(Bed bed) throws Exception {
        String topic = bed.topic("list", 1);
        ConfigResource resource = topicResource(topic);
        alter(bed, resource, AlterConfigOp.OpType.APPEND, "cleanup.policy", "compact");
        Bed.await("both", () -> Set.of("delete", "compact").equals(Set.of(config(bed, resource, "cleanup.policy").value().split(","))));
        alter(bed, resource, AlterConfigOp.OpType.SUBTRACT, "cleanup.policy", "delete");
        Bed.await("the rest", () -> config(bed, resource, "cleanup.policy").value().equals("compact"));
        Collection<AlterConfigOp> wrong = List.of(new AlterConfigOp(new ConfigEntry("retention.ms", "1"), AlterConfigOp.OpType.APPEND));
        Bed.fails(InvalidConfigurationException.class, bed.admin.incrementalAlterConfigs(Map.of(resource, wrong)).all());
    }

    public static void wrongSettingsAreRefused(Bed bed) throws Exception {
        String topic = bed.topic("refused", 1);
        ConfigResource resource = topicResource(topic);
        for (var pair : Map.of("retention.ms", "soon", "segment.bytes", "-5", "cleanup.policy", "shred", "no.such.setting", "1").entrySet()) {
            Collection<AlterConfigOp> ops = List.of(new AlterConfigOp(new ConfigEntry(pair.getKey(), pair.getValue()), AlterConfigOp.OpType.SET));
            Bed.fails(InvalidConfigurationException.class, bed.admin.incrementalAlterConfigs(Map.of(resource, ops)).all());
        }
        Collection<AlterConfigOp> fine = List.of(new AlterConfigOp(new ConfigEntry("retention.ms", "1"), AlterConfigOp.OpType.SET));
        Bed.fails(UnknownTopicOrPartitionException.class, bed.admin.incrementalAlterConfigs(Map.of(topicResource(bed.name("nowhere")), fine)).all());
        Bed.fails(UnknownTopicOrPartitionException.class, bed.admin.describeConfigs(List.of(topicResource(bed.name("nowhere")))).all());
    }

    public static void aChangedSettingTakesEffect(Bed bed) throws Exception {
        String topic = bed.topic("effect", 1);
        alter(bed, topicResource(topic), AlterConfigOp.OpType.SET, "max.message.bytes", "1000");
        var text = new org.apache.kafka.common.serialization.StringSerializer();
        try (var producer = new org.apache.kafka.clients.producer.KafkaProducer<>(Map.of("bootstrap.servers", (Object) bed.address), text, text)) {
            var sent = producer.send(new org.apache.kafka.clients.producer.ProducerRecord<>(topic, "x".repeat(5000)));
            Throwable error = Bed.throwsError(java.util.concurrent.ExecutionException.class, () -> sent.get());
            Bed.check(error.getCause() instanceof RecordTooLargeException, "too large: " + error.getCause());
        }
    }

    public static void theBrokersSettingsAreDescribed(Bed bed) throws Exception {
        int node = Bed.get(bed.admin.describeCluster().nodes()).iterator().next().id();
        ConfigResource resource = new ConfigResource(ConfigResource.Type.BROKER, Integer.toString(node));
        for (String name : List.of("log.retention.ms", "num.partitions", "auto.create.topics.enable", "message.max.bytes",
                "offsets.topic.num.partitions", "group.initial.rebalance.delay.ms", "group.max.session.timeout.ms")) {
            ConfigEntry entry = config(bed, resource, name);
            Bed.check(!entry.isSensitive(), name + " is no secret");
        }
        DescribeConfigsOptions options = new DescribeConfigsOptions();
        Config some = Bed.get(bed.admin.describeConfigs(List.of(resource), options).all()).get(resource);
        Bed.check(some.entries().size() > 20, some.entries().size() + " settings");
    }

    public static void aBrokersSettingIsSetAndTakenBack(Bed bed) throws Exception {
        int node = Bed.get(bed.admin.describeCluster().nodes()).iterator().next().id();
        ConfigResource one = new ConfigResource(ConfigResource.Type.BROKER, Integer.toString(node));
        ConfigResource all = new ConfigResource(ConfigResource.Type.BROKER, "");
        String before = config(bed, one, "log.retention.ms").value();
        alter(bed, all, AlterConfigOp.OpType.SET, "log.retention.ms", "86400000");
        Bed.await("the default for all brokers", () -> config(bed, one, "log.retention.ms").source()
                == ConfigEntry.ConfigSource.DYNAMIC_DEFAULT_BROKER_CONFIG);
        alter(bed, one, AlterConfigOp.OpType.SET, "log.retention.ms", "96400000");
        Bed.await("this broker's", () -> config(bed, one, "log.retention.ms").value().equals("96400000"));
        Bed.same(ConfigEntry.ConfigSource.DYNAMIC_BROKER_CONFIG, config(bed, one, "log.retention.ms").source(), "its source");
        String topic = bed.topic("inherits", 1);
        Bed.same("96400000", config(bed, topicResource(topic), "retention.ms").value(), "a topic follows");
        alter(bed, one, AlterConfigOp.OpType.DELETE, "log.retention.ms", "");
        alter(bed, all, AlterConfigOp.OpType.DELETE, "log.retention.ms", "");
        Bed.await("as before", () -> java.util.Objects.equals(config(bed, one, "log.retention.ms").value(), before));
    }

    public static void offsetsAreListed(Bed bed) throws Exception {
        String topic = bed.topic("offsets", 1);
        TopicPartition zero = new TopicPartition(topic, 0);
        bed.fill(topic, 1, 12);
        Bed.same(12L, Bed.get(bed.admin.listOffsets(Map.of(zero, OffsetSpec.latest())).all()).get(zero).offset(), "the end");
        Bed.same(0L, Bed.get(bed.admin.listOffsets(Map.of(zero, OffsetSpec.earliest())).all()).get(zero).offset(), "the start");
        Bed.same(0L, Bed.get(bed.admin.listOffsets(Map.of(zero, OffsetSpec.forTimestamp(1))).all()).get(zero).offset(), "since 1970");
        long future = System.currentTimeMillis() + 3_600_000;
        Bed.same(-1L, Bed.get(bed.admin.listOffsets(Map.of(zero, OffsetSpec.forTimestamp(future))).all()).get(zero).offset(), "the future");
    }

    public static void recordsAreDeleted(Bed bed) throws Exception {
        String topic = bed.topic("records", 1);
        TopicPartition zero = new TopicPartition(topic, 0);
        bed.fill(topic, 1, 12);
        var deleted = bed.admin.deleteRecords(Map.of(zero, RecordsToDelete.beforeOffset(5)));
        Bed.same(5L, Bed.get(deleted.lowWatermarks().get(zero)).lowWatermark(), "the first that is left");
        Bed.same(5L, Bed.get(bed.admin.listOffsets(Map.of(zero, OffsetSpec.earliest())).all()).get(zero).offset(), "the start");
        Bed.fails(OffsetOutOfRangeException.class, bed.admin.deleteRecords(Map.of(zero, RecordsToDelete.beforeOffset(50))).all());
        Bed.get(bed.admin.deleteRecords(Map.of(zero, RecordsToDelete.beforeOffset(-1))).all());
        Bed.same(12L, Bed.get(bed.admin.listOffsets(Map.of(zero, OffsetSpec.earliest())).all()).get(zero).offset(), "all are gone");
    }

    public static void logDirsTellTheirSizes(Bed bed) throws Exception {
        String topic = bed.topic("dirs", 1);
        bed.fill(topic, 1, 100);
        int node = Bed.get(bed.admin.describeCluster().nodes()).iterator().next().id();
        var dirs = Bed.get(bed.admin.describeLogDirs(List.of(node)).allDescriptions()).get(node);
        Bed.same(1, dirs.size(), "folders");
        var replica = dirs.values().iterator().next().replicaInfos().get(new TopicPartition(topic, 0));
        Bed.check(replica != null && replica.size() > 100, "the partition's size: " + replica);
    }

    public static void aLiveGroupIsListedAndDescribed(Bed bed) throws Exception {
        String topic = bed.topic("live", 4), group = bed.name("live");
        Member one = bed.member(group, topic, "client.id", "one"), two = bed.member(group, topic, "client.id", "two");
        Bed.await("two each", () -> one.owned.size() == 2 && two.owned.size() == 2);
        var listed = Bed.get(bed.admin.listConsumerGroups().all());
        Bed.check(listed.stream().anyMatch(found -> found.groupId().equals(group)), "it is listed");
        var described = Bed.get(bed.admin.describeConsumerGroups(List.of(group)).all()).get(group);
        Bed.same("Stable", described.state().toString(), "its state");
        Bed.same(2, described.members().size(), "its members");
        Bed.same(Set.of("one", "two"), described.members().stream().map(member -> member.clientId()).collect(Collectors.toSet()), "their clients");
        Set<TopicPartition> assigned = new HashSet<>();
        described.members().forEach(member -> assigned.addAll(member.assignment().topicPartitions()));
        Bed.same(Bed.partitions(topic, 4), assigned, "what they have");
        Bed.check(described.members().stream().allMatch(member -> member.host().contains("127.0.0.1")), "their hosts");
        Bed.check(described.coordinator() != null && !described.partitionAssignor().isEmpty(), "coordinator and assignor");
        Bed.same(false, described.isSimpleConsumerGroup(), "it is no simple group");
    }

    public static void groupsAreListedByState(Bed bed) throws Exception {
        String topic = bed.topic("states", 1), live = bed.name("states-live"), empty = bed.name("states-empty");
        Member member = bed.member(live, topic);
        Bed.await("it", () -> member.owned.size() == 1);
        Bed.get(bed.admin.alterConsumerGroupOffsets(empty, Map.of(new TopicPartition(topic, 0), new OffsetAndMetadata(0))).all());
        for (var pair : Map.of("Stable", live, "Empty", empty).entrySet()) {
            var state = org.apache.kafka.common.ConsumerGroupState.parse(pair.getKey());
            var found = Bed.get(bed.admin.listConsumerGroups(new ListConsumerGroupsOptions().inStates(Set.of(state))).all());
            Set<String> names = found.stream().map(group -> group.groupId()).collect(Collectors.toSet());
            Bed.check(names.contains(pair.getValue()), pair + " is among " + names);
            Bed.check(!names.contains(pair.getValue().equals(live) ? empty : live), "the other is not among " + names);
        }
    }

    public static void aGroupsOffsetsAreReadSetAndDeleted(Bed bed) throws Exception {
        String topic = bed.topic("admin-offsets", 2), group = bed.name("admin-offsets");
        TopicPartition zero = new TopicPartition(topic, 0), one = new TopicPartition(topic, 1);
        Bed.check(Bed.get(bed.admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata()).isEmpty(), "nothing yet");
        Map<TopicPartition, OffsetAndMetadata> offsets = Map.of(zero, new OffsetAndMetadata(3, Optional.empty(), "m"), one, new OffsetAndMetadata(4));
        Bed.get(bed.admin.alterConsumerGroupOffsets(group, offsets).all());
        Bed.same(offsets, Bed.get(bed.admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata()), "the offsets");
        Bed.same("Empty", Bed.get(bed.admin.describeConsumerGroups(List.of(group)).all()).get(group).state().toString(), "the state");
        Bed.get(bed.admin.deleteConsumerGroupOffsets(group, Set.of(zero)).all());
        Bed.same(Set.of(one), Bed.get(bed.admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata()).keySet(), "the rest");
        Bed.get(bed.admin.deleteConsumerGroups(List.of(group)).all());
        Bed.check(Bed.get(bed.admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata()).isEmpty(), "nothing again");
        Bed.fails(GroupIdNotFoundException.class, bed.admin.deleteConsumerGroups(List.of(group)).all());
        Bed.fails(UnknownTopicOrPartitionException.class, bed.admin.alterConsumerGroupOffsets(group,
                Map.of(new TopicPartition(bed.name("nowhere"), 0), new OffsetAndMetadata(1))).all());
    }

    public static void aLiveGroupIsProtected(Bed bed) throws Exception {
        String topic = bed.topic("protected", 1), group = bed.name("protected");
        TopicPartition zero = new TopicPartition(topic, 0);
        Member member = bed.member(group, topic);
        Bed.await("it", () -> member.owned.size() == 1);
        bed.fill(topic, 1, 1);
        Bed.await("a commit", () -> !Bed.get(bed.admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata()).isEmpty());
        Bed.fails(GroupNotEmptyException.class, bed.admin.deleteConsumerGroups(List.of(group)).all());
        Bed.fails(UnknownMemberIdException.class, bed.admin.alterConsumerGroupOffsets(group, Map.of(zero, new OffsetAndMetadata(0))).all());
        Bed.fails(GroupSubscribedToTopicException.class, bed.admin.deleteConsumerGroupOffsets(group, Set.of(zero)).all());
        member.close();
        Bed.await("it is empty", () -> Bed.get(bed.admin.describeConsumerGroups(List.of(group)).all()).get(group).state().toString().equals("Empty"));
        Bed.get(bed.admin.deleteConsumerGroups(List.of(group)).all());
    }

    public static void membersAreRemoved(Bed bed) throws Exception {
        String topic = bed.topic("removed", 2), group = bed.name("removed");
        String[] timeout = {"session.timeout.ms", "30000"};
        Member one = bed.member(group, topic, "group.instance.id", "one", timeout[0], timeout[1]);
        Member two = bed.member(group, topic, "group.instance.id", "two", timeout[0], timeout[1]);
        Bed.await("one each", () -> one.owned.size() == 1 && two.owned.size() == 1);
        two.close();
        var options = new RemoveMembersFromConsumerGroupOptions(Set.of(new MemberToRemove("two")));
        Bed.get(bed.admin.removeMembersFromConsumerGroup(group, options).all());
        Bed.await("both", () -> one.owned.size() == 2);
        Bed.fails(UnknownMemberIdException.class, bed.admin.removeMembersFromConsumerGroup(group, options).memberResult(new MemberToRemove("two")));
        one.close();
        Bed.get(bed.admin.removeMembersFromConsumerGroup(group, new RemoveMembersFromConsumerGroupOptions()).all());
        Bed.same("Empty", Bed.get(bed.admin.describeConsumerGroups(List.of(group)).all()).get(group).state().toString(), "the state");
    }

    public static void theInternalTopicIsMarked(Bed bed) throws Exception {
        String topic = bed.topic("marked", 1);
        Bed.get(bed.admin.alterConsumerGroupOffsets(bed.name("marked"), Map.of(new TopicPartition(topic, 0), new OffsetAndMetadata(0))).all());
        Bed.check(describe(bed, "__consumer_offsets").isInternal(), "__consumer_offsets is internal");
        Bed.check(!Bed.get(bed.admin.listTopics().names()).contains("__consumer_offsets"), "it is not listed");
        Bed.check(Bed.get(bed.admin.listTopics(new ListTopicsOptions().listInternal(true)).names()).contains("__consumer_offsets"), "but on demand");
        Bed.same("compact", config(bed, topicResource("__consumer_offsets"), "cleanup.policy").value(), "it is compacted");
    }

    public static void leadersNeedNoElection(Bed bed) throws Exception {
        String topic = bed.topic("leaders", 1);
        TopicPartition zero = new TopicPartition(topic, 0);
        var elected = Bed.get(bed.admin.electLeaders(ElectionType.PREFERRED, Set.of(zero)).partitions());
        Bed.check(elected.get(zero).orElseThrow() instanceof ElectionNotNeededException, "the answer: " + elected);
        TopicPartition nowhere = new TopicPartition(bed.name("nowhere"), 0);
        var unknown = Bed.get(bed.admin.electLeaders(ElectionType.PREFERRED, Set.of(nowhere)).partitions());
        Bed.check(unknown.get(nowhere).orElseThrow() instanceof UnknownTopicOrPartitionException, "the answer: " + unknown);
    }

    public static void nothingIsReassigned(Bed bed) throws Exception {
        String topic = bed.topic("reassign", 1);
        TopicPartition zero = new TopicPartition(topic, 0);
        Bed.check(Bed.get(bed.admin.listPartitionReassignments().reassignments()).isEmpty(), "nothing is under way");
        Bed.fails(NoReassignmentInProgressException.class, bed.admin.alterPartitionReassignments(Map.of(zero, Optional.empty())).all());
        int node = Bed.get(bed.admin.describeCluster().nodes()).iterator().next().id();
        var here = Optional.of(new org.apache.kafka.clients.admin.NewPartitionReassignment(List.of(node)));
        Bed.get(bed.admin.alterPartitionReassignments(Map.of(zero, here)).all());
        var elsewhere = Optional.of(new org.apache.kafka.clients.admin.NewPartitionReassignment(List.of(node + 77)));
        Bed.fails(InvalidReplicaAssignmentException.class, bed.admin.alterPartitionReassignments(Map.of(zero, elsewhere)).all());
    }

    public static void featuresAreTold(Bed bed) throws Exception {
        var features = Bed.get(bed.admin.describeFeatures().featureMetadata());
        Bed.check(features.finalizedFeatures() != null, "features: " + features);
    }

    public static void groupsOfNobodyAreDead(Bed bed) throws Exception {
        String group = bed.name("nobody");
        try {
            var described = Bed.get(bed.admin.describeConsumerGroups(List.of(group)).all()).get(group);
            Bed.same("Dead", described.state().toString(), "its state");
        } catch (java.util.concurrent.ExecutionException error) {
            Bed.check(error.getCause() instanceof GroupIdNotFoundException, "newer clients are told so: " + error.getCause());
        }
    }

    // What consoles such as AKHQ and Kafbat ask for, a page at a time.

    private static Map<TopicPartition, Long> ends(Bed bed, Set<TopicPartition> partitions, OffsetSpec spec) throws Exception {
        var asked = partitions.stream().collect(Collectors.toMap(each -> each, each -> spec));
        return Bed.get(bed.admin.listOffsets(asked).all()).entrySet().stream()
                .collect(Collectors.toMap(each -> each.getKey(), each -> each.getValue().offset()));
    }

    public static void aConsolesClusterPageIsFilled(Bed bed) throws Exception {
        String topic = bed.topic("page-cluster", 3);
        bed.fill(topic, 3, 30);
        var options = new org.apache.kafka.clients.admin.DescribeClusterOptions().includeAuthorizedOperations(true);
        var cluster = bed.admin.describeCluster(options);
        var nodes = Bed.get(cluster.nodes());
        int node = Bed.get(cluster.controller()).id();
        Bed.check(nodes.stream().anyMatch(each -> each.id() == node), "the controller is among " + nodes);
        Bed.get(cluster.authorizedOperations());
        ConfigResource broker = new ConfigResource(ConfigResource.Type.BROKER, Integer.toString(node));
        var described = new DescribeConfigsOptions().includeSynonyms(true).includeDocumentation(true);
        for (ConfigEntry entry : Bed.get(bed.admin.describeConfigs(List.of(broker), described).all()).get(broker).entries()) {
            Bed.check(entry.type() != ConfigEntry.ConfigType.UNKNOWN, entry.name() + " has a type");
            Bed.check(entry.source() != ConfigEntry.ConfigSource.UNKNOWN, entry.name() + " has a source");
            Bed.check(entry.documentation() != null, entry.name() + " has a documentation");
        }
        var dirs = Bed.get(bed.admin.describeLogDirs(List.of(node)).allDescriptions()).get(node);
        long replicas = dirs.values().stream().flatMap(dir -> dir.replicaInfos().keySet().stream())
                .filter(each -> each.topic().equals(topic)).count();
        Bed.same(3L, replicas, "replicas of the topic");
        var where = new org.apache.kafka.common.TopicPartitionReplica(topic, 0, node);
        var replica = Bed.get(bed.admin.describeReplicaLogDirs(List.of(where)).all()).get(where);
        Bed.check(dirs.containsKey(replica.getCurrentReplicaLogDir()), "its folder: " + replica);
    }

    public static void aConsolesTopicsPageIsFilled(Bed bed) throws Exception {
        List<String> topics = List.of(bed.topic("page-a", 2), bed.topic("page-b", 3));
        for (String topic : topics) {
            bed.fill(topic, 2, 20);
        }
        var listed = Bed.get(bed.admin.listTopics(new ListTopicsOptions().listInternal(true)).namesToListings());
        Bed.check(listed.keySet().containsAll(topics), "both are among " + listed.keySet());
        Set<TopicPartition> partitions = new HashSet<>();
        for (String topic : topics) {
            TopicDescription described = describe(bed, topic);
            described.partitions().forEach(each -> partitions.add(new TopicPartition(topic, each.partition())));
            Bed.check(described.partitions().stream().allMatch(each -> each.replicas().size() == 1 && each.isr().size() == 1), "replicas");
        }
        List<ConfigResource> resources = topics.stream().map(AdminCases::topicResource).collect(Collectors.toList());
        var configs = Bed.get(bed.admin.describeConfigs(resources).all());
        Bed.check(configs.values().stream().allMatch(config -> config.get("retention.ms") != null), "settings of both at once");
        Map<TopicPartition, Long> starts = ends(bed, partitions, OffsetSpec.earliest()), ends = ends(bed, partitions, OffsetSpec.latest());
        Bed.same(40L, partitions.stream().mapToLong(each -> ends.get(each) - starts.get(each)).sum(), "records");

        String group = bed.name("page");
        var committed = partitions.stream().collect(Collectors.toMap(each -> each, each -> new OffsetAndMetadata(ends.get(each) / 2)));
        Bed.get(bed.admin.alterConsumerGroupOffsets(group, committed).all());
        var groups = Bed.get(bed.admin.listConsumerGroups().all()).stream().map(each -> each.groupId()).collect(Collectors.toList());
        Bed.check(groups.contains(group), "the group is among " + groups);
        // Groups that end meanwhile are told as dead or as unknown: a console shows the rest.
        for (var each : bed.admin.describeConsumerGroups(groups).describedGroups().entrySet()) {
            try {
                Bed.check(Bed.get(each.getValue()).coordinator() != null, each.getKey() + " has a coordinator");
            } catch (java.util.concurrent.ExecutionException error) {
                Bed.check(error.getCause() instanceof GroupIdNotFoundException, each.getKey() + ": " + error.getCause());
            }
        }
        var offsets = Bed.get(bed.admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata());
        Bed.same(20L, offsets.entrySet().stream().mapToLong(each -> ends.get(each.getKey()) - each.getValue().offset()).sum(), "the lag");
    }

    public static void aConsolesMessagesPageBrowses(Bed bed) throws Exception {
        String topic = bed.topic("page-messages", 2);
        bed.fill(topic, 2, 20);
        long between = System.currentTimeMillis() + 1;
        Bed.await("a later millisecond", () -> System.currentTimeMillis() > between);
        bed.fill(topic, 2, 4);
        // No group: a console leaves no trace.
        var consumer = bed.consumer(null, "max.poll.records", "7");
        Bed.check(consumer.listTopics().containsKey(topic), "it is listed");
        Set<TopicPartition> partitions = consumer.partitionsFor(topic).stream()
                .map(each -> new TopicPartition(each.topic(), each.partition())).collect(Collectors.toSet());
        Bed.same(Bed.partitions(topic, 2), partitions, "its partitions");
        Map<TopicPartition, Long> starts = consumer.beginningOffsets(partitions), ends = consumer.endOffsets(partitions);
        Bed.same(Set.of(0L), Set.copyOf(starts.values()), "where they start");
        Bed.same(Set.of(12L), Set.copyOf(ends.values()), "where they end");
        consumer.assign(partitions);
        consumer.seekToBeginning(partitions);
        Bed.same(24, Bed.poll(consumer, 24).size(), "the oldest first");
        partitions.forEach(each -> consumer.seek(each, ends.get(each) - 3));
        Bed.same(6, Bed.poll(consumer, 6).size(), "the newest three of each");
        var since = consumer.offsetsForTimes(partitions.stream().collect(Collectors.toMap(each -> each, each -> between)));
        since.forEach((partition, found) -> consumer.seek(partition, found.offset()));
        Bed.same(4, Bed.poll(consumer, 4).size(), "since a time");
        Bed.same(Set.of(10L), since.values().stream().map(each -> each.offset()).collect(Collectors.toSet()), "where that is");
    }

    public static void aConsolesGroupPageResets(Bed bed) throws Exception {
        String topic = bed.topic("page-group", 2), group = bed.name("page-group");
        Set<TopicPartition> partitions = Bed.partitions(topic, 2);
        bed.fill(topic, 2, 20);
        Member member = bed.member(group, topic);
        Bed.await("20 records", () -> member.seen.size() >= 20);
        Bed.await("commits of both", () -> Bed.get(bed.admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata()).size() == 2);
        member.close();
        Bed.await("it is empty", () -> Bed.get(bed.admin.describeConsumerGroups(List.of(group)).all()).get(group).state().toString().equals("Empty"));
        long now = System.currentTimeMillis();
        var resets = Map.of("to the start", OffsetSpec.earliest(), "to the end", OffsetSpec.latest(),
                "to a time", OffsetSpec.forTimestamp(1), "to a time to come", OffsetSpec.forTimestamp(now + 3_600_000));
        for (var reset : resets.entrySet()) {
            Map<TopicPartition, Long> ends = ends(bed, partitions, OffsetSpec.latest());
            var wanted = ends(bed, partitions, reset.getValue()).entrySet().stream().collect(Collectors.toMap(each -> each.getKey(),
                    each -> new OffsetAndMetadata(each.getValue() < 0 ? ends.get(each.getKey()) : each.getValue())));
            Bed.get(bed.admin.alterConsumerGroupOffsets(group, wanted).all());
            Bed.same(wanted, Bed.get(bed.admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata()), reset.getKey());
        }
        var shifted = partitions.stream().collect(Collectors.toMap(each -> each, each -> new OffsetAndMetadata(7)));
        Bed.get(bed.admin.alterConsumerGroupOffsets(group, shifted).all());
        Member again = bed.member(group, topic);
        Bed.await("three of each again", () -> again.seen.size() >= 6);
        Bed.same(6, again.seen.size(), "what is read again");
    }

    /** A console tries these when it starts, and hides the page if it is told no. */
    public static void whatIsNotServedIsRefusedAtOnce(Bed bed) throws Exception {
        var all = org.apache.kafka.common.acl.AclBindingFilter.ANY;
        var quotas = org.apache.kafka.common.quota.ClientQuotaFilter.all();
        Map<String, KafkaFuture<?>> asked = Map.of("ACLs", bed.admin.describeAcls(all).values(),
                "SCRAM users", bed.admin.describeUserScramCredentials().all(),
                "quotas", bed.admin.describeClientQuotas(quotas).entities(),
                "tokens", bed.admin.describeDelegationToken().delegationTokens());
        long began = System.nanoTime();
        for (var each : asked.entrySet()) {
            try {
                Bed.get(each.getValue());
            } catch (java.util.concurrent.ExecutionException error) {
                Throwable cause = error.getCause();
                Bed.check(cause instanceof org.apache.kafka.common.errors.UnsupportedVersionException
                        || cause instanceof org.apache.kafka.common.errors.SecurityDisabledException
                        || cause instanceof org.apache.kafka.common.errors.UnsupportedByAuthenticationException
                        || cause instanceof org.apache.kafka.common.errors.DelegationTokenDisabledException, each.getKey() + ": " + cause);
            }
        }
        Bed.check(System.nanoTime() - began < Duration.ofSeconds(20).toNanos(), "it takes too long");
    }
}
