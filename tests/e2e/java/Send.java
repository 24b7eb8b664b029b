import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.Base64;
import java.util.Map;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.errors.RecordTooLargeException;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * An idempotent producer that sends what it is given, and tells what became of it. Standard input: a line per record,
 * "NUMBER TOPIC PARTITION VALUE", the value in base 64. Standard output: "NUMBER acknowledged OFFSET" (-1 where the broker
 * told none), "NUMBER refused WHY" where it will never be written, or "NUMBER unknown WHY".
 * Usage: Send BOOTSTRAP TRY_MS
 */
public final class Send {
    private Send() {
    }

    public static void main(String[] args) throws Exception {
        Map<String, Object> config = Map.ofEntries(Map.entry("bootstrap.servers", args[0]), Map.entry("acks", "all"),
            Map.entry("enable.idempotence", "true"), Map.entry("linger.ms", "2"), Map.entry("delivery.timeout.ms", args[1]),
            Map.entry("max.block.ms", args[1]), Map.entry("request.timeout.ms", "2000"),
            Map.entry("retry.backoff.ms", "50"), Map.entry("retry.backoff.max.ms", "200"),
            Map.entry("reconnect.backoff.ms", "50"), Map.entry("reconnect.backoff.max.ms", "250"),
            Map.entry("socket.connection.setup.timeout.ms", "1000"), Map.entry("metadata.max.age.ms", "1000"));
        try (var producer = new KafkaProducer<>(config, new ByteArraySerializer(), new ByteArraySerializer())) {
            var lines = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.US_ASCII));
            for (String line = lines.readLine(); line != null; line = lines.readLine()) {
                String[] words = line.split(" ");
                byte[] value = Base64.getDecoder().decode(words[3]);
                var record = new ProducerRecord<byte[], byte[]>(words[1], Integer.valueOf(words[2]), null, value);
                producer.send(record, (told, error) -> tell(words[0], told, error));
            }
        }
    }

    private static void tell(String number, RecordMetadata told, Exception error) {
        String what = error == null ? "acknowledged " + (told.hasOffset() ? told.offset() : -1)
            : (error instanceof RecordTooLargeException ? "refused " : "unknown ") + error.getClass().getSimpleName();
        System.out.println(number + " " + what);
    }
}
