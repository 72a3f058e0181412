import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Set;
import java.util.TreeSet;
import java.util.UUID;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.KafkaFuture;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/** What a case stands on: clients of one broker, topics and groups of its own, and everything closed at the end. */
public final class Bed implements AutoCloseable {
    /** Longer than anything takes. */
    static final Duration PATIENCE = Duration.ofSeconds(120);

    final String address;
    /** The group protocol of the consumers: classic or consumer. */
    final String protocol;
    final Admin admin;
    private final String unique = UUID.randomUUID().toString().substring(0, 8);
    private final List<AutoCloseable> open = new ArrayList<>();

    Bed(String address, String protocol) {
        this.address = address;
        this.protocol = protocol;
        this.admin = Admin.create(Map.of("bootstrap.servers", address, "client.id", "compat-admin"));
    }

    boolean isClassic() {
        return protocol.equals("classic");
    }

    /** A name that nobody else has. */
    String name(String what) {
        return what + "-" + unique;
    }

    /** Makes a topic. */
    String topic(String what, int partitions) throws Exception {
        String name = name(what);
        get(admin.createTopics(List.of(new NewTopic(name, partitions, (short) 1))).all());
        return name;
    }

    /** Writes records v0, v1 ... in turn to the partitions. */
    void fill(String topic, int partitions, int count) throws Exception {
        StringSerializer text = new StringSerializer();
        try (var producer = new KafkaProducer<>(Map.of("bootstrap.servers", (Object) address, "linger.ms", 5), text, text)) {
            for (int i = 0; i < count; i++) {
                producer.send(new ProducerRecord<>(topic, i % partitions, "k" + i, "v" + i));
            }
            producer.flush();
        }
    }

    /** A consumer of a group, reading from the start; the pairs come on top. */
    KafkaConsumer<String, String> consumer(String group, Object... pairs) {
        StringDeserializer text = new StringDeserializer();
        KafkaConsumer<String, String> consumer = new KafkaConsumer<>(settings(group, pairs), text, text);
        open.add(() -> consumer.close(Duration.ofSeconds(5)));
        return consumer;
    }

    /** A transactional producer that has not been initialized; the pairs come on top. Closing it late aborts what it left open. */
    KafkaProducer<String, String> transactional(String id, Object... pairs) {
        Map<String, Object> settings = new HashMap<>();
        settings.put("bootstrap.servers", address);
        settings.put("transactional.id", id);
        settings.put("max.block.ms", PATIENCE.toMillis());
        settings.put("delivery.timeout.ms", 60_000);
        settings.put("request.timeout.ms", 30_000);
        for (int i = 0; i < pairs.length; i += 2) {
            settings.put((String) pairs[i], pairs[i + 1]);
        }
        StringSerializer text = new StringSerializer();
        KafkaProducer<String, String> producer = new KafkaProducer<>(settings, text, text);
        open.add(() -> producer.close(Duration.ofSeconds(2)));
        return producer;
    }

    /** The same, ready for its first transaction. */
    KafkaProducer<String, String> ready(String id, Object... pairs) {
        KafkaProducer<String, String> producer = transactional(id, pairs);
        producer.initTransactions();
        return producer;
    }

    private Map<String, Object> settings(String group, Object... pairs) {
        Map<String, Object> settings = new HashMap<>();
        settings.put("bootstrap.servers", address);
        settings.put("auto.offset.reset", "earliest");
        settings.put("enable.auto.commit", "false");
        settings.put("metadata.max.age.ms", "500");
        if (group != null) {
            settings.put("group.id", group);
        }
        if (isClassic()) {
            settings.put("heartbeat.interval.ms", "300");
            settings.put("session.timeout.ms", "6000");
        } else {
            settings.put("group.protocol", "consumer");
        }
        for (int i = 0; i < pairs.length; i += 2) {
            settings.put((String) pairs[i], pairs[i + 1]);
        }
        return settings;
    }

    /** A member that polls in a thread of its own until it is closed. */
    Member member(String group, String topic, Object... pairs) {
        StringDeserializer text = new StringDeserializer();
        Member member = new Member(new KafkaConsumer<>(settings(group, pairs), text, text), List.of(topic));
        open.add(member);
        return member;
    }

    @Override
    public void close() throws Exception {
        for (int i = open.size() - 1; i >= 0; i--) {
            try {
                open.get(i).close();
            } catch (java.util.ConcurrentModificationException | IllegalStateException closedAlready) {
                continue;
            }
        }
        admin.close(Duration.ofSeconds(5));
    }

    static <T> T get(KafkaFuture<T> future) throws Exception {
        return future.get(PATIENCE.toSeconds(), TimeUnit.SECONDS);
    }

    /** The error that a future must end with. */
    static void fails(Class<? extends Throwable> expected, KafkaFuture<?> future) throws Exception {
        try {
            get(future);
        } catch (ExecutionException error) {
            check(expected.isInstance(error.getCause()), "expected " + expected.getSimpleName() + ", got " + error.getCause());
            return;
        }
        throw new AssertionError("expected " + expected.getSimpleName() + ", but it succeeded");
    }

    interface Action {
        void run() throws Exception;
    }

    /** The error that an action must end with. */
    static <E extends Throwable> E throwsError(Class<E> expected, Action action) throws Exception {
        try {
            action.run();
        } catch (Throwable error) {
            check(expected.isInstance(error), "expected " + expected.getSimpleName() + ", got " + error);
            return expected.cast(error);
        }
        throw new AssertionError("expected " + expected.getSimpleName() + ", but it succeeded");
    }

    static void check(boolean holds, String what) {
        if (!holds) {
            throw new AssertionError(what);
        }
    }

    static void same(Object expected, Object actual, String what) {
        check(Objects.equals(expected, actual), what + ": expected " + expected + ", got " + actual);
    }

    /** Waits until it holds. */
    static void await(String what, Callable<Boolean> holds) throws Exception {
        long deadline = System.nanoTime() + PATIENCE.toNanos();
        while (!holds.call()) {
            if (System.nanoTime() > deadline) {
                throw new AssertionError("never came: " + what);
            }
            Thread.sleep(20);
        }
    }

    /** Polls until so many records came; answers their values. */
    static List<String> poll(KafkaConsumer<String, String> consumer, int count) {
        List<String> values = new ArrayList<>();
        long deadline = System.nanoTime() + PATIENCE.toNanos();
        while (values.size() < count) {
            if (System.nanoTime() > deadline) {
                throw new AssertionError(values.size() + " of " + count + " records came, assigned " + consumer.assignment());
            }
            for (ConsumerRecord<String, String> record : consumer.poll(Duration.ofMillis(100))) {
                values.add(record.value());
            }
        }
        return values;
    }

    /** Reads a topic from start to end; with read_committed its end is the last stable offset. Answers the values by partition. */
    Map<Integer, List<String>> readAll(String topic, int partitions, String isolation) throws Exception {
        Set<TopicPartition> all = partitions(topic, partitions);
        Map<Integer, List<String>> values = new HashMap<>();
        try (KafkaConsumer<String, String> reader = consumer(null, "isolation.level", isolation)) {
            reader.assign(all);
            reader.seekToBeginning(all);
            Map<TopicPartition, Long> ends = reader.endOffsets(all);
            await("the end of " + topic, () -> {
                for (ConsumerRecord<String, String> record : reader.poll(Duration.ofMillis(50))) {
                    values.computeIfAbsent(record.partition(), ignored -> new ArrayList<>()).add(record.value());
                }
                return all.stream().allMatch(each -> reader.position(each) >= ends.get(each));
            });
        }
        return values;
    }

    /** What read_committed gives of a topic with one partition. */
    List<String> committed(String topic) throws Exception {
        return readAll(topic, 1, "read_committed").getOrDefault(0, List.of());
    }

    /** What is there of a topic with one partition, committed or not. */
    List<String> written(String topic) throws Exception {
        return readAll(topic, 1, "read_uncommitted").getOrDefault(0, List.of());
    }

    /** Polls until it owns so many partitions. */
    static void pollUntilOwns(KafkaConsumer<String, String> consumer, int count) throws Exception {
        await("an assignment of " + count, () -> {
            consumer.poll(Duration.ofMillis(50));
            return consumer.assignment().size() == count;
        });
    }

    static Set<String> values(int from, int to) {
        Set<String> values = new TreeSet<>();
        for (int i = from; i < to; i++) {
            values.add("v" + i);
        }
        return values;
    }

    static Set<TopicPartition> partitions(String topic, int count) {
        Set<TopicPartition> partitions = new java.util.HashSet<>();
        for (int i = 0; i < count; i++) {
            partitions.add(new TopicPartition(topic, i));
        }
        return partitions;
    }

    /** Notes what a listener is told. */
    static final class Watch implements ConsumerRebalanceListener {
        final List<String> told = java.util.Collections.synchronizedList(new ArrayList<>());
        volatile int assigned;
        volatile int revoked;
        volatile int lost;

        @Override
        public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
            assigned += partitions.size();
            told.add("assigned " + partitions);
        }

        @Override
        public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
            revoked += partitions.size();
            told.add("revoked " + partitions);
        }

        @Override
        public void onPartitionsLost(Collection<TopicPartition> partitions) {
            lost += partitions.size();
            told.add("lost " + partitions);
        }
    }

    static Object[] with(Object[] pairs, Object... more) {
        Object[] all = Arrays.copyOf(pairs, pairs.length + more.length);
        System.arraycopy(more, 0, all, pairs.length, more.length);
        return all;
    }
}
