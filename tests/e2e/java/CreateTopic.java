import java.util.List;
import java.util.Map;
import java.util.Optional;
import org.apache.kafka.clients.admin.AdminClient;
import org.apache.kafka.clients.admin.NewTopic;

/** Creates one topic. Usage: CreateTopic BOOTSTRAP TOPIC PARTITIONS */
public final class CreateTopic {
    private CreateTopic() {
    }

    public static void main(String[] args) throws Exception {
        try (AdminClient admin = AdminClient.create(Map.of("bootstrap.servers", args[0]))) {
            var topic = new NewTopic(args[1], Optional.of(Integer.parseInt(args[2])), Optional.empty());
            System.out.println("created\t" + admin.createTopics(List.of(topic)).numPartitions(args[1]).get());
        }
    }
}
