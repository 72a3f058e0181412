import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.clients.admin.ListOffsetsOptions;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.consumer.CommitFailedException;
import org.apache.kafka.clients.consumer.ConsumerGroupMetadata;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.IsolationLevel;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.ProducerFencedException;
import org.apache.kafka.common.errors.RecordTooLargeException;
import org.apache.kafka.common.errors.TimeoutException;

/** What a transactional producer and a consumer with read_committed may rely on. */
public final class TransactionCases {
    private static final Duration SOON = Duration.ofSeconds(2);

    private static Future<RecordMetadata> send(KafkaProducer<String, String> producer, String topic, int partition, String value) {
        return producer.send(new ProducerRecord<>(topic, partition, value, value));
    }

    /** Sends values in turn to the partitions and waits until they are written. */
    private static void write(KafkaProducer<String, String> producer, String topic, int partitions, String... values) throws Exception {
        List<Future<RecordMetadata>> sent = new ArrayList<>();
        for (int i = 0; i < values.length; i++) {
            sent.add(send(producer, topic, i % partitions, values[i]));
        }
        producer.flush();
        for (Future<RecordMetadata> each : sent) {
            each.get(Bed.PATIENCE.toSeconds(), TimeUnit.SECONDS);
        }
    }

    private static void transaction(KafkaProducer<String, String> producer, String topic, boolean commit, String... values) throws Exception {
        producer.beginTransaction();
        write(producer, topic, 1, values);
        if (commit) {
            producer.commitTransaction();
        } else {
            producer.abortTransaction();
        }
    }

    private static long end(Bed bed, String topic, IsolationLevel isolation) throws Exception {
        TopicPartition zero = new TopicPartition(topic, 0);
        var found = bed.admin.listOffsets(Map.of(zero, OffsetSpec.latest()), new ListOffsetsOptions(isolation)).all();
        return Bed.get(found).get(zero).offset();
    }

    private static ConsumerGroupMetadata anybody(String group) {
        return new ConsumerGroupMetadata(group);
    }

    public static void whatIsCommittedIsReadAndWhatIsAbortedIsNot(Bed bed) throws Exception {
        String topic = bed.topic("txn", 1);
        KafkaProducer<String, String> producer = bed.ready(bed.name("txn"));
        transaction(producer, topic, true, "a1", "a2");
        transaction(producer, topic, false, "b1", "b2");
        transaction(producer, topic, false, "c1");
        transaction(producer, topic, true, "d1", "d2", "d3");
        Bed.same(List.of("a1", "a2", "d1", "d2", "d3"), bed.committed(topic), "read_committed");
        Bed.same(List.of("a1", "a2", "b1", "b2", "c1", "d1", "d2", "d3"), bed.written(topic), "read_uncommitted");
        Bed.same(12L, end(bed, topic, IsolationLevel.READ_COMMITTED), "the end, with four markers");
    }

    public static void aTransactionSpansPartitionsAndTopics(Bed bed) throws Exception {
        String one = bed.topic("span-1", 30), two = bed.topic("span-2", 20);
        KafkaProducer<String, String> producer = bed.ready(bed.name("span"));
        for (boolean commit : new boolean[] {false, true}) {
            producer.beginTransaction();
            for (int i = 0; i < 100; i++) {
                send(producer, one, i % 30, "v" + i);
                send(producer, two, i % 20, "v" + i);
            }
            if (commit) {
                producer.commitTransaction();
            } else {
                producer.flush();
                producer.abortTransaction();
            }
        }
        for (var topic : Map.of(one, 30, two, 20).entrySet()) {
            List<String> values = new ArrayList<>();
            bed.readAll(topic.getKey(), topic.getValue(), "read_committed").values().forEach(values::addAll);
            Bed.same(100, values.size(), "records of " + topic);
            Bed.same(Bed.values(0, 100), new TreeSet<>(values), "each of them");
        }
    }

    public static void anOpenTransactionHoldsBackWhatComesAfterIt(Bed bed) throws Exception {
        String topic = bed.topic("open", 1);
        KafkaProducer<String, String> first = bed.ready(bed.name("open-1")), second = bed.ready(bed.name("open-2"));
        transaction(second, topic, true, "before");
        first.beginTransaction();
        write(first, topic, 1, "open");
        transaction(second, topic, true, "after");
        bed.fill(topic, 1, 1);
        Bed.same(List.of("before"), bed.committed(topic), "while it is open");
        Bed.same(2L, end(bed, topic, IsolationLevel.READ_COMMITTED), "the last stable offset");
        Bed.same(6L, end(bed, topic, IsolationLevel.READ_UNCOMMITTED), "the high watermark");
        first.commitTransaction();
        Bed.same(List.of("before", "open", "after", "v0"), bed.committed(topic), "when it is committed");
    }

    public static void aReaderThatWaitsIsWokenByTheCommit(Bed bed) throws Exception {
        String topic = bed.topic("woken", 1);
        KafkaProducer<String, String> producer = bed.ready(bed.name("woken"));
        KafkaConsumer<String, String> reader = bed.consumer(null, "isolation.level", "read_committed", "fetch.max.wait.ms", "25000");
        reader.assign(Bed.partitions(topic, 1));
        producer.beginTransaction();
        write(producer, topic, 1, "x");
        Bed.check(reader.poll(SOON).isEmpty(), "nothing before the commit");
        producer.commitTransaction();
        long began = System.nanoTime();
        Bed.same(List.of("x"), Bed.poll(reader, 1), "what was committed");
        Bed.check(System.nanoTime() - began < Duration.ofSeconds(20).toNanos(), "not by its fetch.max.wait.ms");
        // Answers the fetch that is parked by now, for which closing the consumer would wait.
        transaction(producer, topic, true, "y");
    }

    public static void producersOfOnePartitionDoNotMix(Bed bed) throws Exception {
        String topic = bed.topic("mixed", 1);
        List<Future<?>> done = new ArrayList<>();
        var pool = java.util.concurrent.Executors.newFixedThreadPool(5);
        for (int p = 0; p < 5; p++) {
            int number = p;
            KafkaProducer<String, String> producer = bed.ready(bed.name("mixed-" + p));
            done.add(pool.submit(() -> {
                for (int t = 0; t < 20; t++) {
                    String name = number + "-" + t;
                    transaction(producer, topic, (t + number) % 3 != 0, name + "-a", name + "-b", name + "-c");
                }
                return null;
            }));
        }
        for (Future<?> each : done) {
            each.get(Bed.PATIENCE.toSeconds(), TimeUnit.SECONDS);
        }
        pool.shutdown();
        List<String> read = bed.committed(topic);
        for (int p = 0; p < 5; p++) {
            List<String> expected = new ArrayList<>();
            for (int t = 0; t < 20; t++) {
                if ((t + p) % 3 != 0) {
                    expected.addAll(List.of(p + "-" + t + "-a", p + "-" + t + "-b", p + "-" + t + "-c"));
                }
            }
            String prefix = p + "-";
            Bed.same(expected, read.stream().filter(value -> value.startsWith(prefix)).toList(), "of producer " + p);
        }
    }

    public static void anEmptyTransactionIsNoError(Bed bed) throws Exception {
        String topic = bed.topic("empty", 1);
        KafkaProducer<String, String> producer = bed.ready(bed.name("empty"));
        for (int i = 0; i < 3; i++) {
            producer.beginTransaction();
            producer.commitTransaction();
            producer.beginTransaction();
            producer.abortTransaction();
        }
        transaction(producer, topic, true, "x");
        Bed.same(List.of("x"), bed.committed(topic), "what came then");
    }

    public static void offsetsComeWithTheTransaction(Bed bed) throws Exception {
        String input = bed.topic("in", 2), output = bed.topic("out", 1), group = bed.name("etl");
        bed.fill(input, 2, 10);
        KafkaProducer<String, String> producer = bed.ready(bed.name("etl"));
        KafkaConsumer<String, String> consumer = bed.consumer(group, "isolation.level", "read_committed");
        consumer.subscribe(List.of(input));
        List<String> values = Bed.poll(consumer, 10);
        Map<TopicPartition, OffsetAndMetadata> offsets = Map.of(
                new TopicPartition(input, 0), new OffsetAndMetadata(5, "five"), new TopicPartition(input, 1), new OffsetAndMetadata(5));
        Set<TopicPartition> all = Bed.partitions(input, 2);
        producer.beginTransaction();
        write(producer, output, 1, values.toArray(String[]::new));
        producer.sendOffsetsToTransaction(offsets, consumer.groupMetadata());
        producer.abortTransaction();
        Bed.check(consumer.committed(all).values().stream().allMatch(each -> each == null), "none after the abort");
        producer.beginTransaction();
        write(producer, output, 1, values.toArray(String[]::new));
        producer.sendOffsetsToTransaction(offsets, consumer.groupMetadata());
        producer.commitTransaction();
        var committed = consumer.committed(all);
        Bed.same(5L, committed.get(new TopicPartition(input, 0)).offset(), "the committed offset");
        Bed.same("five", committed.get(new TopicPartition(input, 0)).metadata(), "its metadata");
        Bed.same(values, bed.committed(output), "the output");
        consumer.close();
        bed.fill(input, 2, 2);
        KafkaConsumer<String, String> next = bed.consumer(group);
        next.subscribe(List.of(input));
        Bed.same(2, Bed.poll(next, 1).size() + next.poll(SOON).count(), "only what came since");
    }

    public static void pendingOffsetsAreWaitedFor(Bed bed) throws Exception {
        String input = bed.topic("pending", 1), group = bed.name("pending");
        TopicPartition zero = new TopicPartition(input, 0);
        bed.fill(input, 1, 3);
        bed.admin.alterConsumerGroupOffsets(group, Map.of(zero, new OffsetAndMetadata(1))).all().get();
        KafkaProducer<String, String> producer = bed.ready(bed.name("pending"));
        KafkaConsumer<String, String> consumer = bed.consumer(group, "isolation.level", "read_committed");
        producer.beginTransaction();
        producer.sendOffsetsToTransaction(Map.of(zero, new OffsetAndMetadata(3)), anybody(group));
        Bed.throwsError(TimeoutException.class, () -> consumer.committed(Set.of(zero), SOON));
        Bed.same(1L, Bed.get(bed.admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata()).get(zero).offset(), "who asks for any");
        producer.commitTransaction();
        Bed.same(3L, consumer.committed(Set.of(zero)).get(zero).offset(), "after the commit");
    }

    public static void aMemberThatIsGoneCommitsNothing(Bed bed) throws Exception {
        String input = bed.topic("gone", 1), output = bed.topic("gone-out", 1), group = bed.name("gone");
        TopicPartition zero = new TopicPartition(input, 0);
        bed.fill(input, 1, 3);
        KafkaConsumer<String, String> consumer = bed.consumer(group);
        consumer.subscribe(List.of(input));
        Bed.poll(consumer, 3);
        ConsumerGroupMetadata old = consumer.groupMetadata();
        consumer.close();
        Member next = bed.member(group, input);
        Bed.await("the next member", () -> next.owned.size() == 1);
        KafkaProducer<String, String> producer = bed.ready(bed.name("gone"));
        producer.beginTransaction();
        write(producer, output, 1, "lost");
        Bed.throwsError(CommitFailedException.class, () -> {
            producer.sendOffsetsToTransaction(Map.of(zero, new OffsetAndMetadata(77)), old);
            producer.commitTransaction();
        });
        producer.abortTransaction();
        transaction(producer, output, true, "kept");
        Bed.same(List.of("kept"), bed.committed(output), "the output");
        Bed.check(Bed.get(bed.admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata()).get(zero).offset() != 77, "the offset");
    }

    public static void aSecondInstanceFencesTheFirst(Bed bed) throws Exception {
        String topic = bed.topic("fence", 1), id = bed.name("fence");
        KafkaProducer<String, String> first = bed.ready(id);
        transaction(first, topic, true, "a");
        first.beginTransaction();
        write(first, topic, 1, "zombie");
        KafkaProducer<String, String> second = bed.ready(id);
        Bed.same(List.of("a"), bed.committed(topic), "the open transaction was aborted at once");
        Bed.same(3L, end(bed, topic, IsolationLevel.READ_COMMITTED) - 1, "nothing is held back");
        Bed.throwsError(ProducerFencedException.class, first::commitTransaction);
        transaction(second, topic, true, "b");
        Bed.same(List.of("a", "b"), bed.committed(topic), "read_committed");
    }

    public static void aFencedInstanceWritesNothing(Bed bed) throws Exception {
        String topic = bed.topic("fenced-write", 1), id = bed.name("fenced-write");
        KafkaProducer<String, String> first = bed.ready(id);
        transaction(first, topic, true, "a");
        KafkaProducer<String, String> second = bed.ready(id);
        transaction(second, topic, true, "b");
        first.beginTransaction();
        Bed.throwsError(ExecutionException.class, () -> write(first, topic, 1, "zombie"));
        Bed.throwsError(KafkaException.class, first::commitTransaction);
        transaction(second, topic, true, "c");
        Bed.same(List.of("a", "b", "c"), bed.written(topic), "all that was written");
    }

    public static void aFencedInstanceCommitsNoOffsets(Bed bed) throws Exception {
        String topic = bed.topic("fenced-offsets", 1), id = bed.name("fenced-offsets"), group = bed.name("fenced-offsets");
        TopicPartition zero = new TopicPartition(topic, 0);
        KafkaProducer<String, String> first = bed.ready(id);
        first.beginTransaction();
        first.sendOffsetsToTransaction(Map.of(zero, new OffsetAndMetadata(1)), anybody(group));
        KafkaProducer<String, String> second = bed.ready(id);
        Bed.throwsError(KafkaException.class, () -> {
            first.sendOffsetsToTransaction(Map.of(zero, new OffsetAndMetadata(2)), anybody(group));
            first.commitTransaction();
        });
        Bed.check(!Bed.get(bed.admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata()).containsKey(zero), "nothing committed");
        second.beginTransaction();
        second.sendOffsetsToTransaction(Map.of(zero, new OffsetAndMetadata(3)), anybody(group));
        second.commitTransaction();
        Bed.same(3L, Bed.get(bed.admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata()).get(zero).offset(), "the second's");
    }

    public static void aTransactionThatTakesTooLongIsAborted(Bed bed) throws Exception {
        String topic = bed.topic("timeout", 1), id = bed.name("timeout");
        KafkaProducer<String, String> slow = bed.ready(id, "transaction.timeout.ms", 6000);
        slow.beginTransaction();
        write(slow, topic, 1, "late");
        bed.fill(topic, 1, 1);
        Bed.same(List.of(), bed.committed(topic), "while it is open");
        Bed.await("the abort", () -> end(bed, topic, IsolationLevel.READ_COMMITTED) == 3);
        Bed.same(List.of("v0"), bed.committed(topic), "after the abort");
        Bed.throwsError(KafkaException.class, slow::commitTransaction);
        KafkaProducer<String, String> next = bed.ready(id);
        transaction(next, topic, true, "next");
        Bed.same(List.of("v0", "next"), bed.committed(topic), "the next one's");
    }

    public static void aTimeoutAboveTheMaximumIsRefused(Bed bed) throws Exception {
        KafkaProducer<String, String> producer = bed.transactional(bed.name("too-long"), "transaction.timeout.ms", 900_001);
        KafkaException error = Bed.throwsError(KafkaException.class, producer::initTransactions);
        Bed.check(error.getMessage().contains("transaction timeout is larger than the maximum"), "it names the timeout: " + error);
        bed.ready(bed.name("just-so"), "transaction.timeout.ms", 900_000);
    }

    public static void anErrorOfOneRecordAbortsOnlyItsTransaction(Bed bed) throws Exception {
        String topic = bed.topic("too-large", 1);
        KafkaProducer<String, String> producer = bed.ready(bed.name("too-large"), "max.request.size", 20_000_000, "buffer.memory", 64_000_000L);
        producer.beginTransaction();
        write(producer, topic, 1, "with it");
        Future<RecordMetadata> large = send(producer, topic, 0, "x".repeat(8_000_000));
        ExecutionException refused = Bed.throwsError(ExecutionException.class, () -> large.get(Bed.PATIENCE.toSeconds(), TimeUnit.SECONDS));
        Bed.check(refused.getCause() instanceof RecordTooLargeException, "the record: " + refused.getCause());
        Bed.throwsError(KafkaException.class, producer::commitTransaction);
        producer.abortTransaction();
        for (int i = 0; i < 3; i++) {
            transaction(producer, topic, true, "next" + i);
        }
        Bed.same(List.of("next0", "next1", "next2"), bed.committed(topic), "read_committed");
    }

    public static void aDeletedTopicDoesNotHoldTheTransaction(Bed bed) throws Exception {
        String gone = bed.topic("deleted", 1), stays = bed.topic("stays", 1);
        KafkaProducer<String, String> producer = bed.ready(bed.name("deleted"));
        producer.beginTransaction();
        write(producer, gone, 1, "x");
        write(producer, stays, 1, "y");
        Bed.get(bed.admin.deleteTopics(List.of(gone)).all());
        producer.commitTransaction();
        transaction(producer, stays, true, "z");
        Bed.same(List.of("y", "z"), bed.committed(stays), "the topic that stays");
    }

    public static void recordsThatAreNotTransactionalGoBetween(Bed bed) throws Exception {
        String topic = bed.topic("between", 1);
        KafkaProducer<String, String> producer = bed.ready(bed.name("between"));
        bed.fill(topic, 1, 2);
        transaction(producer, topic, false, "no");
        bed.fill(topic, 1, 2);
        transaction(producer, topic, true, "yes");
        Bed.same(List.of("v0", "v1", "v0", "v1", "yes"), bed.committed(topic), "read_committed");
    }

    public static void deletedRecordsTakeTheirTransactionsAlong(Bed bed) throws Exception {
        String topic = bed.topic("trimmed", 1);
        TopicPartition zero = new TopicPartition(topic, 0);
        KafkaProducer<String, String> producer = bed.ready(bed.name("trimmed"));
        transaction(producer, topic, false, "a1", "a2", "a3");
        transaction(producer, topic, true, "b1", "b2");
        Bed.get(bed.admin.deleteRecords(Map.of(zero, org.apache.kafka.clients.admin.RecordsToDelete.beforeOffset(2))).all());
        Bed.same(List.of("b1", "b2"), bed.committed(topic), "the start lies inside the aborted one");
        Bed.get(bed.admin.deleteRecords(Map.of(zero, org.apache.kafka.clients.admin.RecordsToDelete.beforeOffset(5))).all());
        Bed.same(List.of("b2"), bed.committed(topic), "the start lies inside the committed one");
    }

    public static void aRunOfAbortedRecordsIsPassedOver(Bed bed) throws Exception {
        String topic = bed.topic("aborted-run", 1);
        KafkaProducer<String, String> producer = bed.ready(bed.name("aborted-run"));
        String[] large = new String[100];
        java.util.Arrays.fill(large, "x".repeat(1000));
        for (int i = 0; i < 5; i++) {
            transaction(producer, topic, false, large);
        }
        transaction(producer, topic, true, "end");
        // Each fetch gets a batch or two, and of most of them nothing is given to the application.
        KafkaConsumer<String, String> reader = bed.consumer(null, "isolation.level", "read_committed", "max.partition.fetch.bytes", 1000);
        reader.assign(Bed.partitions(topic, 1));
        Bed.same(List.of("end"), Bed.poll(reader, 1), "what comes after the aborted ones");
        Bed.same(507L, reader.position(new TopicPartition(topic, 0)), "its position");
    }

    public static void aHundredTransactionsFollowOneAnother(Bed bed) throws Exception {
        String topic = bed.topic("hundred", 3);
        KafkaProducer<String, String> producer = bed.ready(bed.name("hundred"));
        for (int i = 0; i < 100; i++) {
            producer.beginTransaction();
            for (int p = 0; p < 3; p++) {
                send(producer, topic, p, "v" + i);
            }
            producer.commitTransaction();
        }
        List<String> expected = new ArrayList<>();
        for (int i = 0; i < 100; i++) {
            expected.add("v" + i);
        }
        Bed.same(Map.of(0, expected, 1, expected, 2, expected), bed.readAll(topic, 3, "read_committed"), "each once and in order");
    }
}
