import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Future;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * The usual Java producer: idempotent, acks=all, lz4. Record n has key n % 7, value "value n", header "n" and timestamp
 * 1700000000000 + n. Usage: Produce BOOTSTRAP TOPIC COUNT
 */
public final class Produce {
    private Produce() {
    }

    public static void main(String[] args) throws Exception {
        int count = Integer.parseInt(args[2]);
        Map<String, Object> config = Map.of("bootstrap.servers", args[0], "acks", "all", "enable.idempotence", "true",
            "compression.type", "lz4", "linger.ms", "5");
        try (var producer = new KafkaProducer<>(config, new ByteArraySerializer(), new ByteArraySerializer())) {
            List<Future<RecordMetadata>> sent = new ArrayList<>();
            for (int n = 0; n < count; n++) {
                var record = new ProducerRecord<>(args[1], null, 1_700_000_000_000L + n, bytes(n % 7), bytes("value " + n));
                record.headers().add("n", bytes(n));
                sent.add(producer.send(record));
            }
            long acknowledged = 0;
            for (Future<RecordMetadata> each : sent) {
                if (each.get().hasOffset()) acknowledged++;
            }
            System.out.println("acknowledged\t" + acknowledged);
            System.out.println("partitions\t" + producer.partitionsFor(args[1]).size());
        }
    }

    private static byte[] bytes(Object text) {
        return String.valueOf(text).getBytes(StandardCharsets.UTF_8);
    }
}
