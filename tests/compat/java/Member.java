import java.time.Duration;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.TimeUnit;
import java.util.function.Function;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.TopicPartition;

/** A member of a group that polls in a thread of its own, notes what it reads and owns, and commits what it has read. */
final class Member implements AutoCloseable {
    final Bed.Watch watch = new Bed.Watch();
    final List<String> seen = Collections.synchronizedList(new ArrayList<>());
    volatile Set<TopicPartition> owned = Set.of();
    volatile Throwable wrong;
    private final ConcurrentLinkedQueue<Runnable> tasks = new ConcurrentLinkedQueue<>();
    private final KafkaConsumer<String, String> consumer;
    private final Thread thread;
    private volatile boolean enough;

    Member(KafkaConsumer<String, String> consumer, List<String> topics) {
        this.consumer = consumer;
        this.thread = new Thread(() -> work(topics), "member");
        thread.setDaemon(true);
        thread.start();
    }

    private void work(List<String> topics) {
        try {
            consumer.subscribe(topics, watch);
            while (!enough) {
                var records = consumer.poll(Duration.ofMillis(100));
                for (ConsumerRecord<String, String> record : records) {
                    seen.add(record.value());
                }
                owned = new HashSet<>(consumer.assignment());
                for (Runnable task = tasks.poll(); task != null; task = tasks.poll()) {
                    task.run();
                }
                if (!records.isEmpty()) {
                    commit();
                }
            }
        } catch (Throwable error) {
            wrong = error;
        } finally {
            owned = Set.of();
            consumer.close(Duration.ofSeconds(10));
        }
    }

    /** A rebalance in between is no error: the next commit carries what this one did not. */
    private void commit() {
        try {
            consumer.commitSync(Duration.ofSeconds(10));
        } catch (org.apache.kafka.common.errors.RebalanceInProgressException
                | org.apache.kafka.clients.consumer.CommitFailedException rebalanced) {
            return;
        }
    }

    /** Does something with the consumer between two polls. */
    <T> T ask(Function<KafkaConsumer<String, String>, T> question) throws Exception {
        CompletableFuture<T> answer = new CompletableFuture<>();
        tasks.add(() -> {
            try {
                answer.complete(question.apply(consumer));
            } catch (Throwable error) {
                answer.completeExceptionally(error);
            }
        });
        return answer.get(Bed.PATIENCE.toSeconds(), TimeUnit.SECONDS);
    }

    @Override
    public void close() throws Exception {
        enough = true;
        thread.join(20_000);
    }
}
