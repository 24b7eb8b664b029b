import java.time.Duration;
import java.util.Collection;
import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/**
 * A member of a classic group that reads until it is ended, ten records at a time, and commits after each ten. Tells what
 * it does, a line each: "assigned COUNT", "read PARTITION OFFSET", "commit" once the last commit is acknowledged, and
 * "refused WHY".
 * Usage: Follow BOOTSTRAP TOPIC GROUP
 */
public final class Follow {
    private Follow() {
    }

    public static void main(String[] args) {
        Map<String, Object> config = Map.of("bootstrap.servers", args[0], "group.id", args[2], "group.protocol", "classic",
            "auto.offset.reset", "earliest", "enable.auto.commit", "false", "max.poll.records", "10",
            "session.timeout.ms", "6000", "heartbeat.interval.ms", "500", "reconnect.backoff.max.ms", "200");
        try (var consumer = new KafkaConsumer<>(config, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            consumer.subscribe(List.of(args[1]), new Assignments());
            while (true) {
                boolean any = false;
                for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(200))) {
                    System.out.println("read " + record.partition() + " " + record.offset());
                    any = true;
                }
                if (any) {
                    commit(consumer);
                }
            }
        }
    }

    private static void commit(KafkaConsumer<byte[], byte[]> consumer) {
        try {
            consumer.commitSync();
            System.out.println("commit");
        } catch (KafkaException refusal) {
            System.out.println("refused " + refusal.getClass().getSimpleName());
        }
    }

    private static final class Assignments implements ConsumerRebalanceListener {
        @Override
        public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
            System.out.println("assigned " + partitions.size());
        }

        @Override
        public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
        }
    }
}
