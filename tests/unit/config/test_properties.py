"""server.properties, environment and overrides: what comes out, and what each mistake says."""

from __future__ import annotations

from pathlib import Path

import pytest

from tierlog.config.broker import BrokerConfig, Listener
from tierlog.config.problems import WrongConfig
from tierlog.config.properties import load, property_of_variable, with_dynamic
from tierlog.errors import UserError

# The shape of the file that Kafka 4.4 ships for a combined node.
KAFKA_OWN = """\
process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=localhost:9093
listeners=PLAINTEXT://:9092,CONTROLLER://:9093
inter.broker.listener.name=PLAINTEXT
advertised.listeners=PLAINTEXT://localhost:9092,CONTROLLER://localhost:9093
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT
num.network.threads=3
num.io.threads=8
socket.send.buffer.bytes=102400
socket.receive.buffer.bytes=102400
socket.request.max.bytes=104857600
log.dirs=/tmp/kraft-combined-logs
num.partitions=1
num.recovery.threads.per.data.dir=2
offsets.topic.replication.factor=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
log.retention.hours=168
log.segment.bytes=1073741824
log.retention.check.interval.ms=300000
"""


def test_nothing_said_gives_the_defaults() -> None:
    assert load() == BrokerConfig() == load({})


def test_kafkas_own_file_works_and_what_means_nothing_is_listed(tmp_path: Path) -> None:
    path = tmp_path / "server.properties"
    path.write_text(KAFKA_OWN)
    config = load(path)
    assert config.listeners == (Listener("PLAINTEXT", "", 9092),)
    assert config.advertised_listeners == (Listener("PLAINTEXT", "localhost", 9092),)
    assert config.log_dir == "/tmp/kraft-combined-logs"
    assert config.metadata_store == "sqlite:/tmp/kraft-combined-logs/tierlog/metadata.db"
    assert config.offsets_topic_replication_factor == 1
    assert "num.io.threads" in config.meaningless
    assert "process.roles" in config.meaningless
    assert "log.retention.hours" not in config.meaningless


def test_override_over_environment_over_file_over_default(tmp_path: Path) -> None:
    path = tmp_path / "server.properties"
    path.write_text("num.partitions=2\ndefault.replication.factor=2\nfetch.max.bytes=2048\n")
    env = {"KAFKA_NUM_PARTITIONS": "3", "KAFKA_DEFAULT_REPLICATION_FACTOR": "3", "PATH": "/bin"}
    config = load(path, env=env, overrides={"num.partitions": "4"}, defaults={"node.id": "7"})
    assert (config.num_partitions, config.default_replication_factor, config.fetch_max_bytes) == (4, 3, 2048)
    assert config.node_id == 7
    assert config.max_connections == 2**31 - 1


@pytest.mark.parametrize(
    ("given", "retention_ms"),
    [
        ({}, 604_800_000),
        ({"log.retention.hours": "2"}, 7_200_000),
        ({"log.retention.hours": "2", "log.retention.minutes": "5"}, 300_000),
        ({"log.retention.hours": "2", "log.retention.minutes": "5", "log.retention.ms": "7"}, 7),
        ({"log.retention.hours": "-1"}, -1),
        ({"log.retention.ms": "-5"}, -1),
    ],
)
def test_retention_in_three_units(given: dict[str, str], retention_ms: int) -> None:
    assert load(given).topic_defaults.retention_ms == retention_ms


def test_a_stronger_layer_wins_whatever_unit_it_speaks() -> None:
    config = load({"log.retention.ms": "7"}, env={"KAFKA_LOG_RETENTION_HOURS": "2"})
    assert config.topic_defaults.retention_ms == 7_200_000


def test_topic_defaults_come_from_the_log_properties() -> None:
    given = {
        "log.segment.bytes": "2097152",
        "log.roll.hours": "3",
        "log.roll.jitter.ms": "9",
        "log.cleanup.policy": "compact,delete",
        "log.flush.scheduler.interval.ms": "77",
        "message.max.bytes": "1000",
        "log.local.retention.bytes": "10",
        "flush.mode": "ack",
    }
    defaults = load(given).topic_defaults
    assert defaults.segment_bytes == 2_097_152
    assert defaults.segment_ms == 10_800_000
    assert defaults.segment_jitter_ms == 9
    assert defaults.cleanup_policy == {"compact", "delete"}
    assert defaults.flush_ms == 77
    assert defaults.max_message_bytes == 1000
    assert defaults.local_retention_bytes == 10
    assert defaults.flush_mode == "ack"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x=1", "server.properties:1: x: unknown"),
        ("\nnum.partition=3", "server.properties:2: num.partition: unknown; did you mean num.partitions?"),
        ("segment.bytes=3", "a topic's config; the broker's default for it is log.segment.bytes"),
        ("port=9092", "server.properties:1: port: removed in Kafka 3.0; set listeners=PLAINTEXT://HOST:PORT"),
        (
            "num.partitions=three",
            "server.properties:1: num.partitions=three: Not a number of type INT; allowed is",
        ),
        (
            "num.partitions=0",
            "num.partitions=0: Value must be at least 1; allowed is a whole number, at least 1",
        ),
        ("log.segment.bytes=1000", "at least 1048576"),
        ("log.retention.ms=0", "log.retention.ms=0: 0 would delete everything"),
        ("auto.create.topics.enable=yes", "true or false"),
        ("log.dirs=/a,/b,/a/", "names a directory twice"),
        ("log.dirs=", "log.dir"),
        ("node.id=1\nbroker.id=2", "server.properties:2: broker.id=2: node.id says 1"),
        ("process.roles=controller", "no controller process"),
        ("listeners=SASL_SSL://:9092", "SASL_SSL is not supported yet"),
        ("listeners=nonsense", "is not NAME://host:port"),
        ("listeners=", "no listener is left"),
        ("listeners=PLAINTEXT://:99999", "a port is at most 65535"),
        ("listeners=A://:9092", "listener.security.protocol.map has no protocol for A"),
        (
            "listeners=PLAINTEXT://:9092\nadvertised.listeners=PLAINTEXT://0.0.0.0:9092",
            "clients cannot reach",
        ),
        ("listeners=PLAINTEXT://0.0.0.0:9092", "clients cannot reach 0.0.0.0"),
        ("advertised.listeners=SSL://h:9092", "listeners has only PLAINTEXT"),
        ("inter.broker.listener.name=SSL", "SSL is not an advertised listener"),
        (
            "inter.broker.listener.name=PLAINTEXT\nsecurity.inter.broker.protocol=PLAINTEXT",
            "leave one of them out",
        ),
        ("ssl.keystore.location=/k", "not supported yet; remove it"),
        ("sasl.enabled.mechanisms=PLAIN", "not supported yet"),
        ("authorizer.class.name=A", "not supported yet"),
        ("compression.type=zstd", "only producer is"),
        ("listener.name.plaintext.ssl.keystore.location=/k", "single listeners are not supported yet"),
        ("metadata.store=etcd:h", "metadata.store=etcd:h: expected etcd://HOST[:PORT]"),
        ("metadata.store=etcd://", "expected etcd://HOST[:PORT]"),
        ("metadata.store=etcd://h1,,h2", "'' is not HOST or HOST:PORT"),
        ("metadata.store=etcd://h1:0", "'h1:0' is not HOST or HOST:PORT"),
        ("metadata.store=etcd://fe80::1", "'fe80::1' is not HOST or HOST:PORT"),
        ("metadata.store=etcd://h/prefix", "the rest is told by tierlog.etcd.*"),
        ("tierlog.etcd.prefix=a/", "server.properties:1: tierlog.etcd.prefix=a/: begins with a slash"),
        ("tierlog.etcd.user=me", "tierlog.etcd.user=me: needs tierlog.etcd.password as well"),
        ("tierlog.etcd.key.file=/k", "needs tierlog.etcd.cert.file as well"),
        (
            "tierlog.etcd.key.file=/k\ntierlog.etcd.cert.file=/c",
            "needs tierlog.etcd.ca.file, which switches TLS on",
        ),
        ("metadata.store=sqlite:", "expected sqlite: or etcd:// or memory:"),
        ("tierlog.object.store=gs://b?token=x", "set GOOGLE_APPLICATION_CREDENTIALS in the environment"),
        ("tierlog.object.store=/var/objects", "expected dir: or s3: or gs: or memory:"),
        ("flush.mode=fsync", "os, ack"),
        ("replica.fetch.wait.max.ms=40000", "must be at most replica.socket.timeout.ms, which is 30000"),
        ("broker.session.timeout.ms=1000", "two heartbeat intervals"),
        ("queued.max.request.bytes=5", "less than socket.request.max.bytes"),
        ("max.connections.per.ip=0", "needs max.connections.per.ip.overrides"),
        ("max.connections.per.ip.overrides=host", "is not host:limit"),
        ("log.cleaner.dedupe.buffer.size=5", "at least 1 MiB"),
        ("log.cleaner.min.compaction.lag.ms=5\nlog.cleaner.max.compaction.lag.ms=3", "less than"),
        ("log.local.retention.ms=99999999999", "more than log.retention.ms, which is 604800000"),
        ("a=\\uzzzz", "line 1"),
    ],
)
def test_each_mistake_is_one_line_that_says_where_and_what(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "server.properties"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        load(path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.properties: cannot be read: No such file"):
        load(tmp_path / "none.properties")
    (tmp_path / "wide.properties").write_bytes("node.id=1".encode("utf-16"))
    with pytest.raises(UserError, match="UTF-16; save it as UTF-8"):
        load(tmp_path / "wide.properties")


def test_a_mistake_in_the_environment_names_the_variable() -> None:
    with pytest.raises(UserError, match=r"^KAFKA_NUM_PARTITIONS: num.partitions=x: Not a number"):
        load(env={"KAFKA_NUM_PARTITIONS": "x"})


@pytest.mark.parametrize(
    ("variable", "name"),
    [
        ("KAFKA_LOG_RETENTION_HOURS", "log.retention.hours"),
        ("KAFKA_A__B___C_D", "a_b-c.d"),
        ("KAFKA_TIERLOG_OBJECT_STORE", "tierlog.object.store"),
        ("KAFKA_HEAP_OPTS", None),
        ("KAFKA_JVM_PERFORMANCE_OPTS", None),
        ("KAFKA_LOG4J_ROOT_LOGLEVEL", None),
        ("KAFKA_SERVICE_HOST", None),
        ("KAFKA_PORT_9092_TCP_ADDR", None),
        ("KAFKA_BOOTSTRAP_SERVICE_PORT_PLAIN", None),
        ("LOG_DIRS", None),
    ],
)
def test_variables(variable: str, name: str | None) -> None:
    assert property_of_variable(variable) == name


def test_several_listeners() -> None:
    given = {
        "listeners": "in://127.0.0.1:9092,OUT://[::1]:9092,CONTROLLER://:9093",
        "advertised.listeners": "IN://broker:9092,OUT://example.org:19092",
        "listener.security.protocol.map": "IN:PLAINTEXT,OUT:PLAINTEXT",
        "inter.broker.listener.name": "in",
        "controller.listener.names": "CONTROLLER",
        "tierlog.http.listeners": "127.0.0.1:9644,http://:9645",
    }
    config = load(given)
    assert [str(listener) for listener in config.listeners] == ["IN://127.0.0.1:9092", "OUT://[::1]:9092"]
    assert str(config.advertised("OUT")) == "OUT://example.org:19092"
    assert config.listener("IN").port == 9092
    assert [listener.port for listener in config.tierlog_http_listeners] == [9644, 9645]
    with pytest.raises(KeyError):
        config.listener("NONE")
    with pytest.raises(UserError, match=r"IN,? ?OUT|IN, OUT"):
        load(given | {"inter.broker.listener.name": "CONTROLLER"})


@pytest.mark.parametrize(
    "listeners", ["A://:9092,B://:9092", "A://:1,A://:2", "A://:9092,B://127.0.0.1:9092", "A://h:5,B://g:5"]
)
def test_listeners_need_names_and_ports_of_their_own(listeners: str) -> None:
    with pytest.raises(UserError, match="each listener needs its own"):
        load({"listeners": listeners, "listener.security.protocol.map": "A:PLAINTEXT,B:PLAINTEXT"})


def test_several_listeners_on_port_zero() -> None:
    given = {"listeners": "A://:0,B://:0", "listener.security.protocol.map": "A:PLAINTEXT,B:PLAINTEXT"}
    assert len(load(given | {"inter.broker.listener.name": "A"}).listeners) == 2


def test_a_single_listener_is_the_inter_broker_one() -> None:
    given = {"listeners": "X://:9092", "listener.security.protocol.map": "X:PLAINTEXT"}
    assert load(given).listeners[0].name == "X"


def test_limits_per_address() -> None:
    config = load({"max.connections.per.ip.overrides": "127.0.0.1:10,::1:5", "max.connections.per.ip": "0"})
    assert dict(config.max_connections_per_ip_overrides) == {"127.0.0.1": 10, "::1": 5}


def test_broker_id_alone_is_the_node_id() -> None:
    assert load({"broker.id": "5"}).node_id == 5
    assert load({"broker.id": "-1"}).node_id == 0


def test_a_file_of_the_days_of_zookeeper_is_taken() -> None:
    config = load({"broker.id": "3", "zookeeper.connect": "localhost:2181", "num.network.threads": "3"})
    assert (config.node_id, config.meaningless) == (3, ("num.network.threads", "zookeeper.connect"))


def test_settings_of_plugins_are_refused_whatever_their_prefix() -> None:
    given = {
        "rsm.config.dir": "/x",
        "remote.log.storage.manager.impl.prefix": "mine.",
        "mine.storage.s3.bucket.name": "b",
    }
    with pytest.raises(WrongConfig) as caught:
        load(given)
    assert len(caught.value.lines) == 3
    assert all("tierlog.object.store" in line for line in caught.value.lines)


def test_a_plugin_for_google_is_told_its_bucket_here() -> None:
    given = {
        "remote.log.storage.manager.class.name": "io.aiven.X",
        "rsm.config.storage.gcs.bucket.name": "b",
        "rsm.config.key.prefix": "some/where/",
    }
    with pytest.raises(WrongConfig) as caught:
        load(given)
    assert all("set tierlog.object.store=gs://b/some/where" in line for line in caught.value.lines)


def test_a_refused_property_may_say_its_default() -> None:
    load({"sasl.enabled.mechanisms": "GSSAPI", "ssl.client.auth": "none", "compression.type": "producer"})


def test_config_providers(tmp_path: Path) -> None:
    secret = tmp_path / "secret.properties"
    secret.write_text("rack=zone-b\n")
    given = {
        "config.providers": "file,env",
        "config.providers.file.class": "org.apache.kafka.common.config.provider.FileConfigProvider",
        "broker.rack": f"${{file:{secret}:rack}}",
        "tierlog.host": "h-${env:NUMBER}",
    }
    config = load(given, env={"NUMBER": "3"})
    assert (config.broker_rack, config.tierlog_host) == ("zone-b", "h-3")
    with pytest.raises(UserError, match="the environment has no NUMBER"):
        load(given)
    with pytest.raises(UserError, match="vault not known"):
        load({"config.providers": "vault"})


def test_a_reference_without_providers_is_a_text() -> None:
    assert load({"broker.rack": "${env:X}"}).broker_rack == "${env:X}"


def test_dynamic_configs_lie_over_the_file_and_keep_their_origin() -> None:
    base = load({"log.retention.hours": "2", "num.partitions": "3"})
    config = with_dynamic(
        base, default={"log.retention.ms": "9", "fetch.max.bytes": "2048"}, own={"fetch.max.bytes": "4096"}
    )
    assert config.topic_defaults.retention_ms == 9
    assert config.fetch_max_bytes == 4096
    assert dict(config.given) == {"log.retention.hours": "2", "num.partitions": "3"}
    assert config.dynamic == {"fetch.max.bytes": "4096"}
    assert with_dynamic(config) == base


def test_only_selectors_that_exist_choose_the_replica_to_read_from() -> None:
    package = "org.apache.kafka.common.replica"
    for name in ("RackAwareReplicaSelector", "LeaderSelector"):
        config = load({"replica.selector.class": f"{package}.{name}"})
        assert config.replica_selector_class == f"{package}.{name}"
        assert not config.meaningless
    assert load({}).replica_selector_class is None
    with pytest.raises(UserError, match="RackAwareReplicaSelector"):
        load({"replica.selector.class": "com.example.Nearest"})


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"dir": "/c"}, "tierlog.remote.cache.max.bytes: is missing: tierlog.remote.cache.dir needs a limit"),
        (
            {"max.bytes": "16777216"},
            "tierlog.remote.cache.dir: is missing: tierlog.remote.cache.max.bytes needs",
        ),
        ({"dir": "/c", "max.bytes": "1000"}, "allowed is"),
        ({"dir": "/logs/a/c", "max.bytes": "16777216"}, "a log directory, /logs/a, lie in one another"),
        ({"dir": "/logs", "max.bytes": "16777216"}, "a log directory, /logs/a, lie in one another"),
        ({"dir": "/objects/", "max.bytes": "0"}, "the object store, /objects, lie in one another"),
    ],
)
def test_a_disk_cache_needs_a_directory_of_its_own_and_a_limit(given: dict[str, str], said: str) -> None:
    places = {"log.dirs": "/logs/a", "tierlog.object.store": "dir:/objects?part.bytes=1"}
    with pytest.raises(WrongConfig) as caught:
        load(places | {f"tierlog.remote.cache.{name}": value for name, value in given.items()})
    (line,) = caught.value.lines
    assert said in line


def test_a_disk_cache() -> None:
    config = load({"tierlog.remote.cache.dir": "/c", "tierlog.remote.cache.max.bytes": str(1 << 40)})
    assert (config.tierlog_remote_cache_dir, config.tierlog_remote_cache_max_bytes) == ("/c", 1 << 40)
