import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.OptionalLong;
import java.util.Set;
import java.util.stream.Collectors;
import org.apache.kafka.clients.admin.AbortTransactionSpec;
import org.apache.kafka.clients.admin.ListTransactionsOptions;
import org.apache.kafka.clients.admin.ProducerState;
import org.apache.kafka.clients.admin.TransactionDescription;
import org.apache.kafka.clients.admin.TransactionState;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.InvalidProducerEpochException;
import org.apache.kafka.common.errors.ProducerFencedException;
import org.apache.kafka.common.errors.TransactionalIdNotFoundException;

/** What an administrator may ask of transactions; only new clients can. */
public final class TransactionAdminCases {
    private static void write(KafkaProducer<String, String> producer, String topic, int partition, String value) throws Exception {
        producer.send(new ProducerRecord<>(topic, partition, value, value)).get();
    }

    private static TransactionDescription describe(Bed bed, String id) throws Exception {
        return Bed.get(bed.admin.describeTransactions(List.of(id)).all()).get(id);
    }

    private static ProducerState writer(Bed bed, String topic) throws Exception {
        TopicPartition zero = new TopicPartition(topic, 0);
        var producers = Bed.get(bed.admin.describeProducers(List.of(zero)).all()).get(zero).activeProducers();
        Bed.same(1, producers.size(), "producers");
        return producers.get(0);
    }

    private static Set<String> list(Bed bed, ListTransactionsOptions options) throws Exception {
        var found = Bed.get(bed.admin.listTransactions(options).all());
        return found.stream().map(each -> each.transactionalId()).collect(Collectors.toSet());
    }

    public static void aTransactionIsDescribed(Bed bed) throws Exception {
        String topic = bed.topic("described", 3), id = bed.name("described");
        Bed.fails(TransactionalIdNotFoundException.class, bed.admin.describeTransactions(List.of(id)).all());
        KafkaProducer<String, String> producer = bed.ready(id, "transaction.timeout.ms", 34_567);
        Bed.same(TransactionState.EMPTY, describe(bed, id).state(), "before its first transaction");
        long before = System.currentTimeMillis();
        producer.beginTransaction();
        write(producer, topic, 0, "x");
        write(producer, topic, 2, "x");
        TransactionDescription open = describe(bed, id);
        Bed.same(TransactionState.ONGOING, open.state(), "the state");
        Bed.same(Set.of(new TopicPartition(topic, 0), new TopicPartition(topic, 2)), open.topicPartitions(), "its partitions");
        Bed.same(34_567L, open.transactionTimeoutMs(), "its timeout");
        Bed.check(open.producerId() >= 0 && open.producerEpoch() >= 0, "its producer: " + open);
        long started = open.transactionStartTimeMs().orElse(-1);
        Bed.check(started >= before - 1000 && started <= System.currentTimeMillis() + 1000, "its start: " + open);
        int node = Bed.get(bed.admin.describeCluster().nodes()).iterator().next().id();
        Bed.same(node, open.coordinatorId(), "its coordinator");
        producer.commitTransaction();
        Bed.await("it is complete", () -> describe(bed, id).state() == TransactionState.COMPLETE_COMMIT);
        Bed.same(Set.of(), describe(bed, id).topicPartitions(), "partitions when it is over");
        producer.beginTransaction();
        write(producer, topic, 1, "x");
        producer.abortTransaction();
        Bed.await("it is aborted", () -> describe(bed, id).state() == TransactionState.COMPLETE_ABORT);
    }

    public static void transactionsAreListedAndFiltered(Bed bed) throws Exception {
        String topic = bed.topic("listed", 1), open = bed.name("listed-open"), done = bed.name("listed-done");
        KafkaProducer<String, String> first = bed.ready(open), second = bed.ready(done);
        second.beginTransaction();
        write(second, topic, 0, "x");
        second.commitTransaction();
        first.beginTransaction();
        write(first, topic, 0, "x");
        Set<String> both = Set.of(open, done);
        Set<String> all = list(bed, new ListTransactionsOptions());
        Bed.check(all.containsAll(both), "both are among " + all);
        Set<String> ongoing = list(bed, new ListTransactionsOptions().filterStates(Set.of(TransactionState.ONGOING)));
        Bed.check(ongoing.contains(open) && !ongoing.contains(done), "only the open one is among " + ongoing);
        long producer = describe(bed, done).producerId();
        Bed.same(Set.of(done), list(bed, new ListTransactionsOptions().filterProducerIds(Set.of(producer))), "by its producer id");
        Bed.check(!list(bed, new ListTransactionsOptions().filterOnDuration(600_000)).contains(open), "it is not that old");
        Bed.await("it is a little old", () -> list(bed, new ListTransactionsOptions().filterOnDuration(500)).contains(open));
        Bed.same(Set.of(open), list(bed, new ListTransactionsOptions().filterOnTransactionalIdPattern(open.substring(0, 9) + ".*" + open.substring(open.length() - 8))), "by a pattern");
        Bed.check(list(bed, new ListTransactionsOptions().filterOnTransactionalIdPattern(".*" + open.substring(open.length() - 8))).equals(both), "by another");
        first.abortTransaction();
    }

    public static void theProducersOfAPartitionAreDescribed(Bed bed) throws Exception {
        String topic = bed.topic("writers", 1), id = bed.name("writers");
        KafkaProducer<String, String> producer = bed.ready(id);
        bed.fill(bed.topic("other", 1), 1, 1);
        producer.beginTransaction();
        write(producer, topic, 0, "a");
        write(producer, topic, 0, "b");
        ProducerState open = writer(bed, topic);
        TransactionDescription known = describe(bed, id);
        Bed.same(known.producerId(), open.producerId(), "the producer id");
        Bed.same(known.producerEpoch(), open.producerEpoch(), "the epoch");
        Bed.same(OptionalLong.of(0), open.currentTransactionStartOffset(), "where its transaction starts");
        Bed.same(1, open.lastSequence(), "its last sequence");
        producer.commitTransaction();
        Bed.await("no open transaction", () -> writer(bed, topic).currentTransactionStartOffset().isEmpty());
        ProducerState over = writer(bed, topic);
        Bed.check(over.coordinatorEpoch().isPresent(), "the coordinator's epoch is known by the marker: " + over);
    }

    public static void aProducerIsFencedByAnAdministrator(Bed bed) throws Exception {
        String topic = bed.topic("admin-fence", 1), id = bed.name("admin-fence"), fresh = bed.name("admin-fence-fresh");
        KafkaProducer<String, String> producer = bed.ready(id);
        producer.beginTransaction();
        write(producer, topic, 0, "zombie");
        var fenced = bed.admin.fenceProducers(List.of(id, fresh));
        Bed.get(fenced.all());
        Bed.check(Bed.get(fenced.producerId(id)) >= 0 && Bed.get(fenced.epochId(id)) > 0, "its producer id and epoch");
        Bed.check(Bed.get(fenced.producerId(fresh)) >= 0, "an id that nobody used");
        Bed.throwsError(ProducerFencedException.class, producer::commitTransaction);
        Bed.await("the abort", () -> writer(bed, topic).currentTransactionStartOffset().isEmpty());
        Bed.same(List.of(), bed.committed(topic), "read_committed");
        KafkaProducer<String, String> next = bed.ready(id);
        next.beginTransaction();
        write(next, topic, 0, "next");
        next.commitTransaction();
        Bed.same(List.of("next"), bed.committed(topic), "the next instance's");
    }

    public static void aTransactionIsTerminatedByAnAdministrator(Bed bed) throws Exception {
        String topic = bed.topic("terminate", 1), id = bed.name("terminate");
        KafkaProducer<String, String> producer = bed.ready(id);
        producer.beginTransaction();
        write(producer, topic, 0, "x");
        Bed.get(bed.admin.forceTerminateTransaction(id).result());
        Bed.await("the abort", () -> writer(bed, topic).currentTransactionStartOffset().isEmpty());
        Bed.same(List.of(), bed.committed(topic), "read_committed");
        Bed.throwsError(KafkaException.class, producer::commitTransaction);
    }

    public static void aTransactionIsAbortedOnOnePartition(Bed bed) throws Exception {
        String topic = bed.topic("hanging", 1), id = bed.name("hanging");
        TopicPartition zero = new TopicPartition(topic, 0);
        bed.ready(id);
        KafkaProducer<String, String> producer = bed.ready(id);
        producer.beginTransaction();
        write(producer, topic, 0, "hangs");
        bed.fill(topic, 1, 1);
        Bed.same(List.of(), bed.committed(topic), "it holds back what comes after");
        ProducerState open = writerOf(bed, zero, describe(bed, id).producerId());
        int coordinator = open.coordinatorEpoch().orElse(0);
        short older = (short) (open.producerEpoch() - 1);
        Bed.fails(InvalidProducerEpochException.class, bed.admin.abortTransaction(new AbortTransactionSpec(zero, open.producerId(), older, coordinator)).all());
        Bed.get(bed.admin.abortTransaction(new AbortTransactionSpec(zero, open.producerId(), (short) open.producerEpoch(), coordinator)).all());
        Bed.await("it is over", () -> writerOf(bed, zero, open.producerId()).currentTransactionStartOffset().isEmpty());
        Bed.same(List.of("v0"), bed.committed(topic), "what comes after");
        producer.close(Duration.ZERO);
    }

    private static ProducerState writerOf(Bed bed, TopicPartition partition, long id) throws Exception {
        var producers = Bed.get(bed.admin.describeProducers(List.of(partition)).all()).get(partition).activeProducers();
        return producers.stream().filter(each -> each.producerId() == id).findFirst().orElseThrow();
    }

    public static void theVersionOfTransactionsIsTold(Bed bed) throws Exception {
        var features = Bed.get(bed.admin.describeFeatures().featureMetadata());
        Bed.same((short) 2, features.finalizedFeatures().get("transaction.version").maxVersionLevel(), "the finalized version");
        Bed.check(features.supportedFeatures().get("transaction.version").maxVersion() >= 2, "the supported versions");
    }

    public static void theTransactionsTopicIsInternal(Bed bed) throws Exception {
        bed.ready(bed.name("internal"));
        String name = "__transaction_state";
        var described = Bed.get(bed.admin.describeTopics(List.of(name)).allTopicNames()).get(name);
        Bed.check(described.isInternal(), "it is marked");
        Bed.check(!Bed.get(bed.admin.listTopics().names()).contains(name), "it is not listed among the others");
    }
}
