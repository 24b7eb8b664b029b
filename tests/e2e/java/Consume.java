import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/**
 * A consumer of a classic group, from the earliest offset, committing by hand. Reads COUNT records or gives up after a
 * minute, checks that offsets and each key's values only grow, commits, and asks for what it has committed.
 * Usage: Consume BOOTSTRAP TOPIC GROUP COUNT
 */
public final class Consume {
    private Consume() {
    }

    public static void main(String[] args) {
        int count = Integer.parseInt(args[3]);
        Map<String, Object> config = Map.of("bootstrap.servers", args[0], "group.id", args[2], "group.protocol", "classic",
            "auto.offset.reset", "earliest", "enable.auto.commit", "false", "client.id", "java-" + args[2]);
        try (var consumer = new KafkaConsumer<>(config, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            consumer.subscribe(List.of(args[1]));
            long deadline = System.nanoTime() + Duration.ofMinutes(1).toNanos();
            long read = 0;
            long sum = 0;
            boolean ordered = true;
            Map<Integer, Long> offsets = new HashMap<>();
            Map<String, Long> latest = new HashMap<>();
            while (read < count && System.nanoTime() < deadline) {
                for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(500))) {
                    long n = Long.parseLong(text(record.value()).substring("value ".length()));
                    Long before = offsets.put(record.partition(), record.offset());
                    Long older = latest.put(text(record.key()), n);
                    ordered &= (before == null || before < record.offset()) && (older == null || older < n);
                    ordered &= record.timestamp() == 1_700_000_000_000L + n;
                    ordered &= text(record.headers().lastHeader("n").value()).equals(String.valueOf(n));
                    read++;
                    sum += n;
                }
            }
            consumer.commitSync();
            Set<TopicPartition> partitions = consumer.assignment();
            long committed = consumer.committed(partitions).values().stream().mapToLong(OffsetAndMetadata::offset).sum();
            System.out.println("read\t" + read);
            System.out.println("sum\t" + sum);
            System.out.println("ordered\t" + ordered);
            System.out.println("committed\t" + committed);
            System.out.println("end\t" + consumer.endOffsets(partitions).values().stream().mapToLong(n -> n).sum());
            System.out.println("generation\t" + (consumer.groupMetadata().generationId() > 0));
        }
    }

    private static String text(byte[] bytes) {
        return new String(bytes, StandardCharsets.UTF_8);
    }
}
