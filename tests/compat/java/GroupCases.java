import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.atomic.AtomicReference;
import java.util.regex.Pattern;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.consumer.CommitFailedException;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.NoOffsetForPartitionException;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.WakeupException;

/** What consumers of a group may ask of a broker, with either group protocol. */
public final class GroupCases {
    public static void aGroupReadsAllAndGoesOnWhereItCommitted(Bed bed) throws Exception {
        String topic = bed.topic("resume", 3), group = bed.name("resume");
        bed.fill(topic, 3, 90);
        try (var first = bed.consumer(group)) {
            first.subscribe(List.of(topic));
            Bed.same(Bed.values(0, 90), new TreeSet<>(Bed.poll(first, 90)), "what was read");
            first.commitSync();
        }
        bed.fill(topic, 3, 3);
        var second = bed.consumer(group);
        second.subscribe(List.of(topic));
        Bed.same(Bed.values(0, 3), new TreeSet<>(Bed.poll(second, 3)), "what came after the commit");
        Bed.same(31L, second.position(new TopicPartition(topic, 0)), "the position");
    }

    public static void twoMembersShareAndEachRecordIsReadOnce(Bed bed) throws Exception {
        String topic = bed.topic("share", 6), group = bed.name("share");
        Member one = bed.member(group, topic), two = bed.member(group, topic);
        Bed.await("three partitions each", () -> one.owned.size() == 3 && two.owned.size() == 3);
        Set<TopicPartition> both = new HashSet<>(one.owned);
        both.addAll(two.owned);
        Bed.same(Bed.partitions(topic, 6), both, "all partitions");
        bed.fill(topic, 6, 120);
        Bed.await("all records", () -> one.seen.size() + two.seen.size() >= 120);
        List<String> all = new ArrayList<>(one.seen);
        all.addAll(two.seen);
        Bed.same(120, all.size(), "records read, each once");
        Bed.same(Bed.values(0, 120), new TreeSet<>(all), "the records");
        Bed.check(!one.seen.isEmpty() && !two.seen.isEmpty(), "both members read");
    }

    public static void theOthersTakeOverFromAMemberThatLeaves(Bed bed) throws Exception {
        String topic = bed.topic("leave", 4), group = bed.name("leave");
        Member stays = bed.member(group, topic), leaves = bed.member(group, topic);
        Bed.await("two each", () -> stays.owned.size() == 2 && leaves.owned.size() == 2);
        int before = leaves.watch.revoked;
        leaves.close();
        Bed.await("all four", () -> stays.owned.size() == 4);
        Bed.check(leaves.watch.revoked == before + 2 && leaves.watch.lost == 0, "who leaves is told of what it gives up: " + leaves.watch.told);
        bed.fill(topic, 4, 40);
        Bed.await("all records", () -> new HashSet<>(stays.seen).size() == 40);
    }

    public static void aMemberThatStopsPollingLosesItsPartitions(Bed bed) throws Exception {
        String topic = bed.topic("stalled", 2), group = bed.name("stalled");
        var stalls = bed.consumer(group, "max.poll.interval.ms", "2000");
        stalls.subscribe(List.of(topic));
        Bed.pollUntilOwns(stalls, 2);
        bed.fill(topic, 2, 10);
        Bed.poll(stalls, 10);
        Member other = bed.member(group, topic);
        Bed.await("the other has both", () -> other.owned.size() == 2);
        // With the new protocol the consumer joins again in the background, so its commit may well be taken.
        if (bed.isClassic()) {
            Bed.throwsError(CommitFailedException.class, () -> stalls.commitSync());
        }
        Bed.await("what was not committed comes again", () -> new HashSet<>(other.seen).size() == 10);
        Bed.await("it comes back", () -> {
            stalls.poll(Duration.ofMillis(50));
            return stalls.assignment().size() == 1 && other.owned.size() == 1;
        });
    }

    public static void aStaticMemberComesBackWithoutARebalance(Bed bed) throws Exception {
        String topic = bed.topic("static", 4), group = bed.name("static");
        Object[] timeout = bed.isClassic() ? new Object[] {"session.timeout.ms", "30000"} : new Object[0];
        Member other = bed.member(group, topic, Bed.with(timeout, "group.instance.id", "other"));
        Member first = bed.member(group, topic, Bed.with(timeout, "group.instance.id", "restarts"));
        Bed.await("two each", () -> other.owned.size() == 2 && first.owned.size() == 2);
        Set<TopicPartition> owned = first.owned;
        int told = other.watch.told.size();
        first.close();
        Member again = bed.member(group, topic, Bed.with(timeout, "group.instance.id", "restarts"));
        Bed.await("its partitions again", () -> again.owned.equals(owned));
        Bed.same(told, other.watch.told.size(), "what the other was told: " + other.watch.told);
    }

    public static void offsetsCarryMetadataAndAreReadBack(Bed bed) throws Exception {
        String topic = bed.topic("metadata", 2), group = bed.name("metadata");
        TopicPartition zero = new TopicPartition(topic, 0), one = new TopicPartition(topic, 1);
        var consumer = bed.consumer(group);
        consumer.assign(List.of(zero, one));
        var nothing = consumer.committed(Set.of(zero));
        Bed.check(nothing.get(zero) == null, "nothing is committed yet: " + nothing);
        consumer.commitSync(Map.of(zero, new OffsetAndMetadata(7, Optional.of(0), "a note \u00e9")));
        var committed = consumer.committed(Set.of(zero, one));
        Bed.same(new OffsetAndMetadata(7, Optional.of(0), "a note \u00e9"), committed.get(zero), "what was committed");
        Bed.check(committed.get(one) == null, "the other partition has none");
        AtomicReference<Object> called = new AtomicReference<>();
        consumer.commitAsync(Map.of(one, new OffsetAndMetadata(9)), (offsets, error) -> called.set(error == null ? offsets : error));
        Bed.await("the callback", () -> {
            consumer.poll(Duration.ofMillis(10));
            return called.get() != null;
        });
        Bed.same(Map.of(one, new OffsetAndMetadata(9)), called.get(), "what the callback was told");
        Bed.throwsError(Exception.class, () -> consumer.commitSync(Map.of(zero, new OffsetAndMetadata(8, "x".repeat(5000)))));
        Bed.same(7L, consumer.committed(Set.of(zero)).get(zero).offset(), "a commit that was refused changed nothing");
    }

    public static void autoCommitCommitsWhatWasPolled(Bed bed) throws Exception {
        String topic = bed.topic("auto", 1), group = bed.name("auto");
        TopicPartition zero = new TopicPartition(topic, 0);
        bed.fill(topic, 1, 10);
        var consumer = bed.consumer(group, "enable.auto.commit", "true", "auto.commit.interval.ms", "200");
        consumer.subscribe(List.of(topic));
        Bed.poll(consumer, 10);
        Bed.await("a commit in passing", () -> {
            consumer.poll(Duration.ofMillis(50));
            var committed = consumer.committed(Set.of(zero)).get(zero);
            return committed != null && committed.offset() == 10;
        });
        bed.fill(topic, 1, 5);
        Bed.poll(consumer, 5);
        consumer.close();
        var next = bed.consumer(group);
        Bed.same(15L, next.committed(Set.of(zero)).get(zero).offset(), "closing commits");
    }

    public static void pauseHoldsBackAndResumeGoesOn(Bed bed) throws Exception {
        String topic = bed.topic("pause", 2), group = bed.name("pause");
        TopicPartition zero = new TopicPartition(topic, 0);
        var consumer = bed.consumer(group);
        consumer.subscribe(List.of(topic));
        Bed.pollUntilOwns(consumer, 2);
        consumer.pause(List.of(zero));
        bed.fill(topic, 2, 20);
        List<String> seen = Bed.poll(consumer, 10);
        for (int i = 0; i < 5; i++) {
            Bed.check(consumer.poll(Duration.ofMillis(100)).isEmpty(), "nothing comes of a paused partition");
        }
        Bed.check(seen.stream().allMatch(value -> Integer.parseInt(value.substring(1)) % 2 == 1), "only the other partition: " + seen);
        consumer.resume(List.of(zero));
        Bed.same(10, Bed.poll(consumer, 10).size(), "the rest");
    }

    public static void seekGoesWhereItIsTold(Bed bed) throws Exception {
        String topic = bed.topic("seek", 1), group = bed.name("seek");
        TopicPartition zero = new TopicPartition(topic, 0);
        bed.fill(topic, 1, 20);
        var consumer = bed.consumer(group);
        consumer.subscribe(List.of(topic));
        Bed.pollUntilOwns(consumer, 1);
        consumer.seek(zero, 15);
        Bed.same(List.of("v15", "v16", "v17", "v18", "v19"), Bed.poll(consumer, 5), "from 15");
        consumer.seekToBeginning(List.of(zero));
        Bed.same("v0", Bed.poll(consumer, 20).get(0), "from the start");
        consumer.seekToEnd(List.of(zero));
        Bed.same(20L, consumer.position(zero), "the end");
        Bed.same(Map.of(zero, 0L), consumer.beginningOffsets(List.of(zero)), "first offsets");
        Bed.same(Map.of(zero, 20L), consumer.endOffsets(List.of(zero)), "end offsets");
        var at = consumer.offsetsForTimes(Map.of(zero, 0L)).get(zero);
        Bed.same(0L, at.offset(), "the first record since 1970");
        var never = consumer.offsetsForTimes(Map.of(zero, System.currentTimeMillis() + 3_600_000)).get(zero);
        Bed.check(never == null, "no record of the future: " + never);
        consumer.seek(zero, 500);
        Bed.same("v0", Bed.poll(consumer, 20).get(0), "an offset out of range is reset");
    }

    public static void withoutAResetPolicyAMissingOffsetIsAnError(Bed bed) throws Exception {
        String topic = bed.topic("none", 1), group = bed.name("none");
        var consumer = bed.consumer(group, "auto.offset.reset", "none");
        consumer.subscribe(List.of(topic));
        Bed.throwsError(NoOffsetForPartitionException.class, () -> Bed.poll(consumer, 1));
    }

    public static void aPatternFollowsTopicsAsTheyCome(Bed bed) throws Exception {
        String first = bed.topic("pattern-a", 1), group = bed.name("pattern");
        var consumer = bed.consumer(group);
        consumer.subscribe(Pattern.compile("pattern-.*" + first.substring(first.length() - 8)));
        Bed.pollUntilOwns(consumer, 1);
        String second = bed.topic("pattern-b", 2);
        bed.topic("no-pattern", 2);
        Bed.pollUntilOwns(consumer, 3);
        bed.fill(second, 2, 10);
        Bed.same(10, Bed.poll(consumer, 10).size(), "records of the topic that came later");
    }

    public static void newPartitionsAreAssigned(Bed bed) throws Exception {
        String topic = bed.topic("grows", 1), group = bed.name("grows");
        var consumer = bed.consumer(group);
        consumer.subscribe(List.of(topic));
        Bed.pollUntilOwns(consumer, 1);
        Bed.get(bed.admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(4))).all());
        Bed.pollUntilOwns(consumer, 4);
        bed.fill(topic, 4, 40);
        Bed.same(Bed.values(0, 40), new TreeSet<>(Bed.poll(consumer, 40)), "the records");
    }

    public static void aDeletedTopicGoesAndTheOtherStays(Bed bed) throws Exception {
        String kept = bed.topic("kept", 2), deleted = bed.topic("deleted", 2), group = bed.name("deleted");
        var consumer = bed.consumer(group, "allow.auto.create.topics", "false");
        consumer.subscribe(List.of(kept, deleted));
        Bed.pollUntilOwns(consumer, 4);
        Bed.get(bed.admin.deleteTopics(List.of(deleted)).all());
        Bed.await("only the other", () -> {
            try {
                consumer.poll(Duration.ofMillis(50));
            } catch (org.apache.kafka.common.errors.UnknownTopicOrPartitionException gone) {
                return false;
            }
            return consumer.assignment().equals(Bed.partitions(kept, 2));
        });
        bed.fill(kept, 2, 10);
        Bed.same(10, Bed.poll(consumer, 10).size(), "records of the other topic");
    }

    public static void aSubscriptionCanChange(Bed bed) throws Exception {
        String one = bed.topic("change-1", 2), two = bed.topic("change-2", 3), group = bed.name("change");
        Bed.Watch watch = new Bed.Watch();
        var consumer = bed.consumer(group);
        consumer.subscribe(List.of(one), watch);
        Bed.pollUntilOwns(consumer, 2);
        consumer.subscribe(List.of(two), watch);
        Bed.await("the other topic", () -> {
            consumer.poll(Duration.ofMillis(50));
            return consumer.assignment().equals(Bed.partitions(two, 3));
        });
        Bed.same(2, watch.revoked, "what was taken away, " + watch.told);
        consumer.unsubscribe();
        Bed.check(consumer.assignment().isEmpty(), "nothing after unsubscribe");
        Bed.same(5, watch.revoked, "what was taken away in the end, " + watch.told);
        consumer.subscribe(List.of(one, two), watch);
        Bed.pollUntilOwns(consumer, 5);
    }

    public static void listenersMayCommitAndSeek(Bed bed) throws Exception {
        String topic = bed.topic("listener", 2), group = bed.name("listener");
        bed.fill(topic, 2, 20);
        var consumer = bed.consumer(group);
        consumer.subscribe(List.of(topic), new org.apache.kafka.clients.consumer.ConsumerRebalanceListener() {
            @Override
            public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
                consumer.commitSync();
            }

            @Override
            public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
                partitions.forEach(partition -> consumer.seek(partition, 5));
            }
        });
        Bed.same(10, Bed.poll(consumer, 10).size(), "records after the seek");
        consumer.close();
        var reader = bed.consumer(group);
        var committed = reader.committed(Bed.partitions(topic, 2));
        committed.forEach((partition, offset) -> Bed.same(10L, offset.offset(), "committed while closing at " + partition));
        Bed.same(2, committed.size(), "partitions committed");
    }

    public static void wakeupEndsAPoll(Bed bed) throws Exception {
        String topic = bed.topic("wakeup", 1), group = bed.name("wakeup");
        var consumer = bed.consumer(group);
        consumer.subscribe(List.of(topic));
        Bed.pollUntilOwns(consumer, 1);
        new Thread(consumer::wakeup).start();
        Bed.throwsError(WakeupException.class, () -> consumer.poll(Duration.ofSeconds(20)));
        bed.fill(topic, 1, 1);
        Bed.same(List.of("v0"), Bed.poll(consumer, 1), "it goes on");
    }

    public static void tenMembersComeAndGoAndNothingIsMissed(Bed bed) throws Exception {
        String topic = bed.topic("churn", 12), group = bed.name("churn");
        List<Member> members = new ArrayList<>();
        for (int i = 0; i < 6; i++) {
            members.add(bed.member(group, topic));
        }
        bed.fill(topic, 12, 240);
        for (int i = 0; i < 4; i++) {
            members.get(i).close();
            members.add(bed.member(group, topic));
            bed.fill(topic, 12, 60);
        }
        Bed.await("two each", () -> members.stream().skip(4).allMatch(member -> member.owned.size() == 2));
        Bed.await("every record, of " + members.size(), () -> {
            Set<String> seen = new HashSet<>();
            members.forEach(member -> seen.addAll(List.copyOf(member.seen)));
            return seen.equals(Bed.values(0, 240));
        });
        for (Member member : members) {
            Bed.check(member.wrong == null, "a member failed: " + member.wrong);
        }
    }

    public static void aMemberAnswersWhoItIs(Bed bed) throws Exception {
        String topic = bed.topic("who", 1), group = bed.name("who");
        var consumer = bed.consumer(group, "group.instance.id", "me");
        consumer.subscribe(List.of(topic));
        Bed.pollUntilOwns(consumer, 1);
        var metadata = consumer.groupMetadata();
        Bed.same(group, metadata.groupId(), "the group");
        Bed.same(Optional.of("me"), metadata.groupInstanceId(), "the instance");
        Bed.check(!metadata.memberId().isEmpty(), "a member id");
        Bed.check(metadata.generationId() > 0, "a generation: " + metadata.generationId());
    }

    public static void fiftyPartitionsInTwoTopicsAreShared(Bed bed) throws Exception {
        String one = bed.topic("many-1", 25), two = bed.topic("many-2", 25), group = bed.name("many");
        var first = bed.consumer(group);
        first.subscribe(List.of(one, two));
        Bed.pollUntilOwns(first, 50);
        var second = bed.consumer(group);
        second.subscribe(List.of(one, two));
        Bed.await("a share each", () -> {
            first.poll(Duration.ofMillis(20));
            second.poll(Duration.ofMillis(20));
            Set<TopicPartition> both = new HashSet<>(first.assignment());
            both.addAll(second.assignment());
            return first.assignment().size() + second.assignment().size() == 50 && both.size() == 50 && second.assignment().size() >= 24;
        });
    }

    public static void groupsAreIndependent(Bed bed) throws Exception {
        String topic = bed.topic("apart", 2);
        bed.fill(topic, 2, 10);
        for (String name : List.of("apart-1", "apart 2 \u00fc", "apart/../3")) {
            KafkaConsumer<String, String> consumer = bed.consumer(bed.name(name));
            consumer.subscribe(List.of(topic));
            Bed.same(10, Bed.poll(consumer, 10).size(), "records for " + name);
            consumer.commitSync();
            consumer.close();
        }
    }

    public static void recordsOfAPartitionComeInOrder(Bed bed) throws Exception {
        String topic = bed.topic("order", 3), group = bed.name("order");
        bed.fill(topic, 3, 300);
        var consumer = bed.consumer(group, "max.poll.records", "7", "fetch.max.bytes", "500");
        consumer.subscribe(List.of(topic));
        Map<Integer, Long> next = new java.util.HashMap<>();
        int read = 0;
        while (read < 300) {
            for (ConsumerRecord<String, String> record : consumer.poll(Duration.ofSeconds(5))) {
                Bed.same(next.getOrDefault(record.partition(), 0L), record.offset(), "the next offset of " + record.partition());
                next.put(record.partition(), record.offset() + 1);
                read++;
            }
        }
    }
}
