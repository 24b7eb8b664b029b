import java.util.ArrayList;
import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.function.Predicate;
import org.apache.kafka.clients.admin.AdminClient;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.ListConfigResourcesOptions;
import org.apache.kafka.clients.admin.ListConsumerGroupOffsetsSpec;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * A tour through AdminClient 4.4: every call prints one line "name TAB answer", where a refusal is the name of its
 * exception. The topic PREFIX-a is made here. Usage: Admin BOOTSTRAP PREFIX
 */
public final class Admin {
    private final AdminClient admin;
    private final String bootstrap;
    private final String topic;
    private final String other;

    private Admin(AdminClient admin, String bootstrap, String prefix) {
        this.admin = admin;
        this.bootstrap = bootstrap;
        this.topic = prefix + "-a";
        this.other = prefix + "-b";
    }

    public static void main(String[] args) throws Exception {
        Map<String, Object> config = Map.of("bootstrap.servers", args[0], "default.api.timeout.ms", "30000");
        try (AdminClient admin = AdminClient.create(config)) {
            Admin tour = new Admin(admin, args[0], args[1]);
            tour.cluster();
            tour.topics();
            tour.configs();
            tour.offsets();
            tour.groups();
            tour.ends();
        }
    }

    private static void say(String name, Callable<?> call) throws Exception {
        Object answer;
        try {
            answer = call.call();
        } catch (ExecutionException refused) {
            answer = refused.getCause().getClass().getSimpleName();
        }
        System.out.println(name + "\t" + answer);
    }

    /** What a call answers once the cluster has learnt of a change: Kafka's brokers do so a moment after its controller. */
    private static <T> T eventually(Callable<T> call, Predicate<T> wanted) throws Exception {
        long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(10);
        T answer = call.call();
        while (!wanted.test(answer) && System.nanoTime() < deadline) {
            Thread.sleep(20);
            answer = call.call();
        }
        return answer;
    }

    private void cluster() throws Exception {
        var cluster = admin.describeCluster();
        say("cluster.nodes", () -> cluster.nodes().get().size());
        say("cluster.has.id", () -> !cluster.clusterId().get().isEmpty());
        say("cluster.controller", () -> cluster.controller().get() != null);
    }

    private void topics() throws Exception {
        var one = new NewTopic(topic, Optional.of(2), Optional.empty())
            .configs(Map.of("segment.bytes", "1048576", "retention.ms", "-1"));
        say("create", () -> admin.createTopics(List.of(one)).numPartitions(topic).get());
        say("create.again", () -> admin.createTopics(List.of(one)).all().get());
        say("create.bad.name", () -> admin.createTopics(List.of(new NewTopic("no spaces", 1, (short) 1))).all().get());
        say("create.bad.count", () -> admin.createTopics(List.of(new NewTopic(other, 0, (short) 1))).all().get());
        say("create.bad.factor", () -> admin.createTopics(List.of(new NewTopic(other, 1, (short) 7))).all().get());
        var bad = new NewTopic(other, 1, (short) 1).configs(Map.of("retention.ms", "soon"));
        say("create.bad.config", () -> admin.createTopics(List.of(bad)).all().get());
        say("grow", () -> admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(3))).all().get());
        say("shrink", () -> admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(1))).all().get());
        say("list", () -> admin.listTopics().names().get().contains(topic));
        say("describe", () -> {
            var description = eventually(() -> admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic),
                found -> found.partitions().size() == 3);
            List<String> rows = new ArrayList<>();
            description.partitions().forEach(p -> rows.add(p.partition() + ":" + p.replicas().size() + ":" + p.isr().size()));
            return description.name() + " " + rows + " " + description.isInternal();
        });
        say("describe.absent", () -> admin.describeTopics(List.of("absent-topic")).allTopicNames().get());
    }

    private void configs() throws Exception {
        var resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
        var bytes = new AlterConfigOp(new ConfigEntry("retention.bytes", "123456789"), AlterConfigOp.OpType.SET);
        var gone = new AlterConfigOp(new ConfigEntry("retention.ms", ""), AlterConfigOp.OpType.DELETE);
        say("alter", () -> admin.incrementalAlterConfigs(Map.of(resource, List.of(bytes, gone))).all().get());
        say("configs", () -> {
            var config = eventually(() -> admin.describeConfigs(List.of(resource)).all().get().get(resource),
                found -> found.get("retention.bytes").value().equals("123456789"));
            List<String> rows = new ArrayList<>();
            for (String name : List.of("segment.bytes", "retention.bytes", "retention.ms", "cleanup.policy")) {
                ConfigEntry entry = config.get(name);
                rows.add(name + "=" + entry.value() + ":" + entry.source());
            }
            return rows;
        });
        var nonsense = new AlterConfigOp(new ConfigEntry("no.such.config", "1"), AlterConfigOp.OpType.SET);
        say("alter.unknown", () -> admin.incrementalAlterConfigs(Map.of(resource, List.of(nonsense))).all().get());
        var absent = new ConfigResource(ConfigResource.Type.TOPIC, "absent-topic");
        say("configs.absent", () -> admin.describeConfigs(List.of(absent)).all().get());
        var broker = new ConfigResource(ConfigResource.Type.BROKER, "1");
        say("configs.broker", () -> admin.describeConfigs(List.of(broker)).all().get().get(broker).get("node.id").value());
        say("resources", () -> admin.listConfigResources(Set.of(ConfigResource.Type.TOPIC), new ListConfigResourcesOptions())
            .all().get().contains(resource));
    }

    private void offsets() throws Exception {
        Map<String, Object> config = Map.of("bootstrap.servers", bootstrap, "acks", "all");
        try (var producer = new KafkaProducer<>(config, new ByteArraySerializer(), new ByteArraySerializer())) {
            for (int n = 0; n < 10; n++) {
                // The greatest timestamp stands in the middle, so that max-timestamp differs from latest.
                long timestamp = 1_700_000_000_000L + (n == 4 ? 1000 : n);
                producer.send(new ProducerRecord<>(topic, 0, timestamp, null, new byte[10])).get();
            }
        }
        var partition = new TopicPartition(topic, 0);
        var specs = Map.of("earliest", OffsetSpec.earliest(), "latest", OffsetSpec.latest(),
            "max", OffsetSpec.maxTimestamp(), "time", OffsetSpec.forTimestamp(1_700_000_000_003L),
            "future", OffsetSpec.forTimestamp(4_000_000_000_000L), "local", OffsetSpec.earliestLocal(),
            "tiered", OffsetSpec.latestTiered(), "pending", OffsetSpec.earliestPendingUpload());
        for (var each : specs.entrySet()) {
            say("offset." + each.getKey(), () -> {
                var found = admin.listOffsets(Map.of(partition, each.getValue())).all().get().get(partition);
                return found.offset() + ":" + found.timestamp();
            });
        }
        say("delete.records", () -> admin.deleteRecords(Map.of(partition, RecordsToDelete.beforeOffset(3)))
            .lowWatermarks().get(partition).get().lowWatermark());
        say("delete.beyond", () -> admin.deleteRecords(Map.of(partition, RecordsToDelete.beforeOffset(99))).all().get());
        say("offset.after.delete", () -> admin.listOffsets(Map.of(partition, OffsetSpec.earliest())).all().get()
            .get(partition).offset());
        say("log.dirs", () -> admin.describeLogDirs(List.of(1)).allDescriptions().get().get(1).values().stream()
            .mapToLong(dir -> dir.replicaInfos().keySet().stream().filter(p -> p.topic().equals(topic)).count()).sum());
        say("log.dirs.bytes", () -> admin.describeLogDirs(List.of(1)).allDescriptions().get().get(1).values().stream()
            .allMatch(dir -> dir.replicaInfos().get(partition).size() > 0 && dir.totalBytes().getAsLong() > 0));
    }

    private void groups() throws Exception {
        String group = topic + "-group";
        var zero = new TopicPartition(topic, 0);
        var one = new TopicPartition(topic, 1);
        var offsets = Map.of(zero, new OffsetAndMetadata(5, "five"), one, new OffsetAndMetadata(0));
        say("group.alter", () -> admin.alterConsumerGroupOffsets(group, offsets).all().get());
        say("group.offsets", () -> {
            var spec = Map.of(group, new ListConsumerGroupOffsetsSpec());
            var found = admin.listConsumerGroupOffsets(spec).partitionsToOffsetAndMetadata(group).get();
            return found.get(zero).offset() + ":" + found.get(zero).metadata() + " " + found.get(one).offset();
        });
        say("group.describe", () -> admin.describeConsumerGroups(List.of(group)).all().get().get(group).groupState());
        say("group.list", () -> names(admin.listGroups().all().get().stream().map(g -> g.groupId()).toList(), group));
        say("group.offset.delete", () -> admin.deleteConsumerGroupOffsets(group, Set.of(one)).all().get());
        say("group.offsets.after", () -> admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get().size());
        say("group.delete", () -> admin.deleteConsumerGroups(List.of(group)).all().get());
        say("group.delete.again", () -> admin.deleteConsumerGroups(List.of(group)).all().get());
        say("group.absent", () -> admin.describeConsumerGroups(List.of("absent-group")).all().get());
    }

    private static boolean names(Collection<String> all, String wanted) {
        return all.contains(wanted);
    }

    private void ends() throws Exception {
        say("delete", () -> admin.deleteTopics(List.of(topic)).all().get());
        say("delete.again", () -> admin.deleteTopics(List.of(topic)).all().get());
        say("list.after.delete", () -> eventually(() -> admin.listTopics().names().get().contains(topic), found -> !found));
    }
}
