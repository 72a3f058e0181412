import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.stream.Collectors;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.ListConsumerGroupOffsetsSpec;
import org.apache.kafka.clients.admin.ListGroupsOptions;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.consumer.SubscriptionPattern;
import org.apache.kafka.common.GroupType;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.InvalidRegularExpression;
import org.apache.kafka.common.errors.UnreleasedInstanceIdException;
import org.apache.kafka.common.errors.UnsupportedAssignorException;

/** What only new clients have: the group protocol of KIP-848, and younger admin requests. */
public final class NewCases {
    private static final Object[] NEW = {"group.protocol", "consumer"};

    private static Bed modern(Bed bed) {
        return new Bed(bed.address, "consumer");
    }

    public static void aModernGroupIsDescribed(Bed outer) throws Exception {
        try (Bed bed = modern(outer)) {
            String topic = bed.topic("modern", 4), group = bed.name("modern");
            Member one = bed.member(group, topic), two = bed.member(group, topic, "group.instance.id", "two");
            Bed.await("two each", () -> one.owned.size() == 2 && two.owned.size() == 2);
            var described = Bed.get(bed.admin.describeConsumerGroups(List.of(group)).all()).get(group);
            Bed.same(GroupType.CONSUMER, described.type(), "the type");
            Bed.same("uniform", described.partitionAssignor(), "the assignor");
            Bed.same("Stable", described.groupState().toString(), "the state");
            Bed.check(described.groupEpoch().orElse(0) > 0, "the epoch: " + described.groupEpoch());
            Bed.same(described.groupEpoch(), described.targetAssignmentEpoch(), "the target's epoch");
            for (var member : described.members()) {
                Bed.same(member.assignment(), member.targetAssignment().orElseThrow(), "target and assignment");
                Bed.same(described.groupEpoch(), member.memberEpoch(), "the member's epoch");
            }
            Set<Optional<String>> instances = described.members().stream().map(member -> member.groupInstanceId()).collect(Collectors.toSet());
            Bed.same(Set.of(Optional.empty(), Optional.of("two")), instances, "instances");
        }
    }

    public static void theAssignorIsTheClientsChoice(Bed outer) throws Exception {
        try (Bed bed = modern(outer)) {
            String topic = bed.topic("assignor", 4), group = bed.name("assignor");
            Member one = bed.member(group, topic, "group.remote.assignor", "range");
            Bed.await("all", () -> one.owned.size() == 4);
            Bed.same("range", Bed.get(bed.admin.describeConsumerGroups(List.of(group)).all()).get(group).partitionAssignor(), "the assignor");
            var wrong = bed.consumer(bed.name("no-assignor"), "group.remote.assignor", "nosuch");
            wrong.subscribe(List.of(topic));
            Bed.throwsError(UnsupportedAssignorException.class, () -> Bed.poll(wrong, 1));
        }
    }

    public static void theBrokerResolvesAPattern(Bed outer) throws Exception {
        try (Bed bed = modern(outer)) {
            String first = bed.topic("re2-a", 1), group = bed.name("re2");
            String tail = first.substring(first.length() - 8);
            var consumer = bed.consumer(group);
            consumer.subscribe(new SubscriptionPattern("re2-[a-c]-" + tail));
            Bed.pollUntilOwns(consumer, 1);
            String second = bed.topic("re2-b", 2);
            bed.topic("re2-z", 2);
            Bed.pollUntilOwns(consumer, 3);
            bed.fill(second, 2, 10);
            Bed.same(10, Bed.poll(consumer, 10).size(), "records of the topic that came later");
            var wrong = bed.consumer(bed.name("re2-wrong"));
            wrong.subscribe(new SubscriptionPattern("(unclosed"));
            Bed.throwsError(InvalidRegularExpression.class, () -> Bed.poll(wrong, 1));
        }
    }

    public static void aModernInstanceIsNotTakenWhileItLives(Bed outer) throws Exception {
        try (Bed bed = modern(outer)) {
            String topic = bed.topic("unreleased", 1), group = bed.name("unreleased");
            Member first = bed.member(group, topic, "group.instance.id", "twin");
            Bed.await("it", () -> first.owned.size() == 1);
            Member second = bed.member(group, topic, "group.instance.id", "twin");
            Bed.await("the second is refused", () -> second.wrong instanceof UnreleasedInstanceIdException);
            Bed.same(1, first.owned.size(), "the first was not disturbed");
        }
    }

    public static void aLiveGroupMovesToTheNewProtocolAndBack(Bed bed) throws Exception {
        String topic = bed.topic("upgrade", 4), group = bed.name("upgrade");
        Member old = bed.member(group, topic), older = bed.member(group, topic);
        Bed.await("two each", () -> old.owned.size() == 2 && older.owned.size() == 2);
        bed.fill(topic, 4, 40);
        Bed.await("40 records", () -> old.seen.size() + older.seen.size() >= 40);
        try (Bed modern = modern(bed)) {
            Member fresh = modern.member(group, topic);
            Bed.await("a share", () -> fresh.owned.size() >= 1 && old.owned.size() + older.owned.size() + fresh.owned.size() == 4);
            Bed.same(GroupType.CONSUMER, Bed.get(bed.admin.describeConsumerGroups(List.of(group)).all()).get(group).type(), "the type");
            old.close();
            older.close();
            Bed.await("all", () -> fresh.owned.size() == 4);
            Member back = bed.member(group, topic);
            Bed.await("two each", () -> fresh.owned.size() == 2 && back.owned.size() == 2);
            fresh.close();
            Bed.await("all", () -> back.owned.size() == 4);
            Bed.await("it is classic again", () ->
                    Bed.get(bed.admin.describeConsumerGroups(List.of(group)).all()).get(group).type() == GroupType.CLASSIC);
            bed.fill(topic, 4, 8);
            Bed.await("the records since", () -> back.seen.size() >= 8);
            Bed.same(8, back.seen.size(), "offsets went along");
        }
    }

    public static void groupsAreListedByType(Bed bed) throws Exception {
        String topic = bed.topic("types", 1), classic = bed.name("types-classic"), consumer = bed.name("types-consumer");
        Member one = bed.member(classic, topic);
        try (Bed modern = modern(bed)) {
            Member two = modern.member(consumer, topic);
            Bed.await("both", () -> one.owned.size() == 1 && two.owned.size() == 1);
            for (var pair : Map.of(GroupType.CLASSIC, classic, GroupType.CONSUMER, consumer).entrySet()) {
                var found = Bed.get(bed.admin.listGroups(new ListGroupsOptions().withTypes(Set.of(pair.getKey()))).all());
                Set<String> names = found.stream().map(group -> group.groupId()).collect(Collectors.toSet());
                Bed.check(names.contains(pair.getValue()), pair + " is among " + names);
                Bed.check(!names.contains(pair.getValue().equals(classic) ? consumer : classic), "the other is not among " + names);
            }
            var described = Bed.get(bed.admin.describeClassicGroups(List.of(classic)).all()).get(classic);
            Bed.same("range", described.protocolData(), "the protocol");
        }
    }

    public static void offsetsOfManyGroupsComeAtOnce(Bed bed) throws Exception {
        String topic = bed.topic("batched", 1), one = bed.name("batched-1"), two = bed.name("batched-2"), none = bed.name("batched-3");
        TopicPartition zero = new TopicPartition(topic, 0);
        for (var pair : Map.of(one, 11L, two, 22L).entrySet()) {
            Bed.get(bed.admin.alterConsumerGroupOffsets(pair.getKey(), Map.of(zero, new org.apache.kafka.clients.consumer.OffsetAndMetadata(pair.getValue()))).all());
        }
        ListConsumerGroupOffsetsSpec all = new ListConsumerGroupOffsetsSpec();
        var found = Bed.get(bed.admin.listConsumerGroupOffsets(Map.of(one, all, two, all, none, all)).all());
        Bed.same(11L, found.get(one).get(zero).offset(), "the first group's");
        Bed.same(22L, found.get(two).get(zero).offset(), "the second group's");
        Bed.check(found.get(none).isEmpty(), "none of the third: " + found);
    }

    public static void theRecordWithTheLatestTimeIsFound(Bed bed) throws Exception {
        String topic = bed.topic("max-timestamp", 1);
        TopicPartition zero = new TopicPartition(topic, 0);
        Bed.same(-1L, Bed.get(bed.admin.listOffsets(Map.of(zero, OffsetSpec.maxTimestamp())).all()).get(zero).offset(), "of nothing");
        bed.fill(topic, 1, 3);
        Bed.check(Bed.get(bed.admin.listOffsets(Map.of(zero, OffsetSpec.maxTimestamp())).all()).get(zero).offset() >= 0, "of three");
    }

    public static void producersAreDescribed(Bed bed) throws Exception {
        String topic = bed.topic("producers", 1);
        TopicPartition zero = new TopicPartition(topic, 0);
        bed.fill(topic, 1, 3);
        var producers = Bed.get(bed.admin.describeProducers(List.of(zero)).all()).get(zero).activeProducers();
        Bed.same(1, producers.size(), "producers");
        var producer = producers.iterator().next();
        Bed.check(producer.producerId() >= 0 && producer.lastSequence() == 2, "it: " + producer);
        Bed.check(producer.currentTransactionStartOffset().isEmpty(), "no transaction");
    }

    public static void theQuorumIsOneNode(Bed bed) throws Exception {
        var quorum = Bed.get(bed.admin.describeMetadataQuorum().quorumInfo());
        Bed.same(1, quorum.voters().size(), "voters");
        Bed.same(quorum.leaderId(), quorum.voters().get(0).replicaId(), "the leader");
    }

    public static void resourcesWithSettingsAreListed(Bed bed) throws Exception {
        String topic = bed.topic("resources", 1);
        var all = Bed.get(bed.admin.listConfigResources(Set.of(ConfigResource.Type.TOPIC), new org.apache.kafka.clients.admin.ListConfigResourcesOptions()).all());
        Bed.check(all.contains(new ConfigResource(ConfigResource.Type.TOPIC, topic)), "the topic is among " + all);
        var brokers = Bed.get(bed.admin.listConfigResources(Set.of(ConfigResource.Type.BROKER), new org.apache.kafka.clients.admin.ListConfigResourcesOptions()).all());
        Bed.same(1, brokers.size(), "brokers: " + brokers);
    }

    public static void aGroupsSettingIsSetAndTakenBack(Bed bed) throws Exception {
        ConfigResource group = new ConfigResource(ConfigResource.Type.GROUP, bed.name("settings"));
        var set = new AlterConfigOp(new ConfigEntry("consumer.session.timeout.ms", "50000"), AlterConfigOp.OpType.SET);
        Bed.get(bed.admin.incrementalAlterConfigs(Map.of(group, List.of(set))).all());
        var entry = Bed.get(bed.admin.describeConfigs(List.of(group)).all()).get(group).get("consumer.session.timeout.ms");
        Bed.same("50000", entry.value(), "the value");
        Bed.same(ConfigEntry.ConfigSource.DYNAMIC_GROUP_CONFIG, entry.source(), "the source");
        var unset = new AlterConfigOp(new ConfigEntry("consumer.session.timeout.ms", ""), AlterConfigOp.OpType.DELETE);
        Bed.get(bed.admin.incrementalAlterConfigs(Map.of(group, List.of(unset))).all());
        entry = Bed.get(bed.admin.describeConfigs(List.of(group)).all()).get(group).get("consumer.session.timeout.ms");
        Bed.same("45000", entry.value(), "the default again");
    }

    public static void topicsAreDescribedByTheirIds(Bed bed) throws Exception {
        String topic = bed.topic("ids", 2);
        var id = Bed.get(bed.admin.describeTopics(List.of(topic)).allTopicNames()).get(topic).topicId();
        var byId = Bed.get(bed.admin.describeTopics(org.apache.kafka.common.TopicCollection.ofTopicIds(List.of(id))).allTopicIds());
        Bed.same(topic, byId.get(id).name(), "its name");
        Bed.get(bed.admin.deleteTopics(org.apache.kafka.common.TopicCollection.ofTopicIds(List.of(id))).all());
        Bed.await("it is gone", () -> !Bed.get(bed.admin.listTopics().names()).contains(topic));
    }

    public static void lagIsKnownToTheConsumer(Bed bed) throws Exception {
        String topic = bed.topic("lag", 1);
        TopicPartition zero = new TopicPartition(topic, 0);
        bed.fill(topic, 1, 10);
        var consumer = bed.consumer(bed.name("lag"), "max.poll.records", "4");
        consumer.assign(List.of(zero));
        Bed.poll(consumer, 4);
        Bed.same(6L, consumer.currentLag(zero).orElse(-1), "the lag");
    }
}
