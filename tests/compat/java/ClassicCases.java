import java.time.Duration;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import org.apache.kafka.clients.consumer.ConsumerPartitionAssignor;
import org.apache.kafka.clients.consumer.CooperativeStickyAssignor;
import org.apache.kafka.clients.consumer.RangeAssignor;
import org.apache.kafka.clients.consumer.RoundRobinAssignor;
import org.apache.kafka.clients.consumer.StickyAssignor;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.FencedInstanceIdException;
import org.apache.kafka.common.errors.GroupMaxSizeReachedException;
import org.apache.kafka.common.errors.InconsistentGroupProtocolException;
import org.apache.kafka.common.errors.InvalidSessionTimeoutException;

/** What only the classic group protocol has. */
public final class ClassicCases {
    private static final String STRATEGY = "partition.assignment.strategy";

    private static void shared(Bed bed, Class<? extends ConsumerPartitionAssignor> assignor) throws Exception {
        String what = assignor.getSimpleName().toLowerCase();
        String topic = bed.topic(what, 6), group = bed.name(what);
        Member one = bed.member(group, topic, STRATEGY, assignor.getName());
        Member two = bed.member(group, topic, STRATEGY, assignor.getName());
        Member three = bed.member(group, topic, STRATEGY, assignor.getName());
        Bed.await("two each", () -> List.of(one, two, three).stream().allMatch(member -> member.owned.size() == 2));
        bed.fill(topic, 6, 60);
        Bed.await("all records", () -> one.seen.size() + two.seen.size() + three.seen.size() >= 60);
        three.close();
        Bed.await("three each", () -> one.owned.size() == 3 && two.owned.size() == 3);
    }

    public static void rangeShares(Bed bed) throws Exception {
        shared(bed, RangeAssignor.class);
    }

    public static void roundRobinShares(Bed bed) throws Exception {
        shared(bed, RoundRobinAssignor.class);
    }

    public static void stickyShares(Bed bed) throws Exception {
        shared(bed, StickyAssignor.class);
    }

    public static void cooperativeStickyShares(Bed bed) throws Exception {
        shared(bed, CooperativeStickyAssignor.class);
    }

    public static void cooperativeMembersKeepWhatTheyNeedNotGiveUp(Bed bed) throws Exception {
        String topic = bed.topic("keeps", 4), group = bed.name("keeps");
        Member first = bed.member(group, topic, STRATEGY, CooperativeStickyAssignor.class.getName());
        Bed.await("all", () -> first.owned.size() == 4);
        Set<TopicPartition> before = first.owned;
        Member second = bed.member(group, topic, STRATEGY, CooperativeStickyAssignor.class.getName());
        Bed.await("two each", () -> first.owned.size() == 2 && second.owned.size() == 2);
        Bed.same(2, first.watch.revoked, "only what goes is revoked, " + first.watch.told);
        Bed.check(before.containsAll(first.owned), "the rest stayed");
    }

    public static void groupsMoveFromRangeToCooperativeOneByOne(Bed bed) throws Exception {
        String topic = bed.topic("moves", 4), group = bed.name("moves");
        String both = CooperativeStickyAssignor.class.getName() + "," + RangeAssignor.class.getName();
        Member old = bed.member(group, topic, STRATEGY, RangeAssignor.class.getName());
        Bed.await("all", () -> old.owned.size() == 4);
        Member moved = bed.member(group, topic, STRATEGY, both);
        Bed.await("two each", () -> old.owned.size() == 2 && moved.owned.size() == 2);
        Bed.same("range", Bed.get(bed.admin.describeConsumerGroups(List.of(group)).all()).get(group).partitionAssignor(), "the protocol");
        old.close();
        Bed.await("all", () -> moved.owned.size() == 4);
        Bed.await("the protocol that the rest prefers", () -> Bed.get(bed.admin.describeConsumerGroups(List.of(group)).all())
                .get(group).partitionAssignor().equals("cooperative-sticky"));
    }

    public static void membersWithoutACommonProtocolAreRefused(Bed bed) throws Exception {
        String topic = bed.topic("apart", 1), group = bed.name("apart");
        Member first = bed.member(group, topic, STRATEGY, RangeAssignor.class.getName());
        Bed.await("it", () -> first.owned.size() == 1);
        var second = bed.consumer(group, STRATEGY, RoundRobinAssignor.class.getName());
        second.subscribe(List.of(topic));
        Bed.throwsError(InconsistentGroupProtocolException.class, () -> Bed.poll(second, 1));
        Bed.same(1, first.owned.size(), "the first was not disturbed");
    }

    public static void aSecondMemberOfTheSameInstanceFencesTheFirst(Bed bed) throws Exception {
        String topic = bed.topic("fenced", 1), group = bed.name("fenced");
        Member first = bed.member(group, topic, "group.instance.id", "twin");
        Bed.await("it", () -> first.owned.size() == 1);
        Member second = bed.member(group, topic, "group.instance.id", "twin");
        Bed.await("the first is fenced", () -> first.wrong instanceof FencedInstanceIdException);
        Bed.await("the second has it", () -> second.owned.size() == 1);
    }

    public static void aSessionTimeoutOutOfBoundsIsRefused(Bed bed) throws Exception {
        String topic = bed.topic("session", 1);
        for (String timeout : List.of("500", "3600000")) {
            var consumer = bed.consumer(bed.name("session"), "session.timeout.ms", timeout, "heartbeat.interval.ms", "100");
            consumer.subscribe(List.of(topic));
            Bed.throwsError(InvalidSessionTimeoutException.class, () -> Bed.poll(consumer, 1));
        }
    }

    public static void enforceRebalanceAsksForOne(Bed bed) throws Exception {
        String topic = bed.topic("enforce", 2), group = bed.name("enforce");
        Member member = bed.member(group, topic);
        Bed.await("both", () -> member.owned.size() == 2);
        int generation = member.ask(consumer -> consumer.groupMetadata().generationId());
        member.ask(consumer -> {
            consumer.enforceRebalance();
            return null;
        });
        Bed.await("the next generation", () -> member.ask(consumer -> consumer.groupMetadata().generationId()) == generation + 1);
        Bed.await("both again", () -> member.owned.size() == 2);
    }

    public static void whoStaysInTheGroupIsKnownAfterItsSilence(Bed bed) throws Exception {
        String topic = bed.topic("silent", 2), group = bed.name("silent");
        // A static member says nothing when it closes, so only its session's end can tell.
        Member silent = bed.member(group, topic, "group.instance.id", "silent");
        Member other = bed.member(group, topic);
        Bed.await("one each", () -> silent.owned.size() == 1 && other.owned.size() == 1);
        silent.close();
        Set<TopicPartition> kept = new HashSet<>(other.owned);
        Thread.sleep(1000);
        Bed.same(kept, other.owned, "nothing moves while the session lasts");
        Bed.await("both after it", () -> other.owned.size() == 2);
    }

    public static void twentyMembersSettle(Bed bed) throws Exception {
        String topic = bed.topic("crowd", 20), group = bed.name("crowd");
        List<Member> members = new java.util.ArrayList<>();
        for (int i = 0; i < 20; i++) {
            members.add(bed.member(group, topic));
        }
        Bed.await("one each", () -> members.stream().allMatch(member -> member.owned.size() == 1));
        Set<TopicPartition> all = new HashSet<>();
        members.forEach(member -> all.addAll(member.owned));
        Bed.same(Bed.partitions(topic, 20), all, "all partitions");
    }
}
