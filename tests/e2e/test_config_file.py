"""``tierlog broker --config``: the files that Kafka's users have start a broker; a mistake is one line and exit code 1."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType

from tests.patience import PATIENT_S
from tests.servers.parents import die_with_parent
from tests.servers.ports import free_ports

START_TIMEOUT_S = PATIENT_S

# What stands in the files that Kafka ships: for a combined KRaft node, and for a broker beside ZooKeeper.
KRAFT = """
process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=localhost:{other}
listeners=PLAINTEXT://localhost:{port},CONTROLLER://localhost:{other}
inter.broker.listener.name=PLAINTEXT
advertised.listeners=PLAINTEXT://localhost:{port},CONTROLLER://localhost:{other}
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT,SASL_SSL:SASL_SSL
num.network.threads=3
num.io.threads=8
socket.send.buffer.bytes=102400
socket.receive.buffer.bytes=102400
socket.request.max.bytes=104857600
log.dirs={logs}
num.partitions=1
num.recovery.threads.per.data.dir=2
offsets.topic.replication.factor=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
# The log
#log.flush.interval.messages=10000
log.retention.hours=168
log.segment.bytes=1073741824
log.retention.check.interval.ms=300000
"""
CLASSIC = """
broker.id=0
listeners=PLAINTEXT://localhost:{port}
num.network.threads=3
num.io.threads=8
socket.send.buffer.bytes=102400
socket.receive.buffer.bytes=102400
socket.request.max.bytes=104857600
log.dirs={logs}
num.partitions=1
num.recovery.threads.per.data.dir=1
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
log.flush.interval.messages=10000
log.flush.interval.ms=1000
log.retention.hours=168
log.retention.bytes=1073741824
log.segment.bytes=1073741824
log.retention.check.interval.ms=300000
zookeeper.connect=localhost:2181
zookeeper.connection.timeout.ms=18000
group.initial.rebalance.delay.ms=0
"""
LISTED = "properties of Kafka that have no effect here"


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("KAFKA_")}


def command(config: Path) -> list[str]:
    return [sys.executable, "-m", "tierlog", "broker", "--config", str(config)]


@contextmanager
def running(config: Path, log: Path) -> Iterator[None]:
    """The broker from its start line to a clean stop."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command(config),
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment() | {"TIERLOG_FATAL_BUGS": "1"},
            preexec_fn=die_with_parent,
        )
    try:
        deadline = time.monotonic() + START_TIMEOUT_S
        while "broker started" not in log.read_text():
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.02)
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        code = process.wait(START_TIMEOUT_S)
    assert code == 0, log.read_text()


@pytest.mark.parametrize(
    ("text", "node_id", "meaningless"),
    [
        (KRAFT, 1, ("process.roles", "controller.quorum.bootstrap.servers", "num.io.threads")),
        (CLASSIC, 0, ("zookeeper.connect", "num.network.threads", "transaction.state.log.min.isr")),
    ],
    ids=["kraft", "classic"],
)
def test_kafkas_own_files_start_a_broker(
    tmp_path: Path, text: str, node_id: int, meaningless: tuple[str, ...]
) -> None:
    port, other = free_ports(2)
    config, log = tmp_path / "server.properties", tmp_path / "broker.log"
    config.write_text(text.format(port=port, other=other, logs=tmp_path / "logs"))
    with running(config, log):
        bootstrap = f"localhost:{port}"
        write_and_read(bootstrap)
        assert static_configs(bootstrap, node_id)["socket.send.buffer.bytes"] == "102400"
    (listed,) = [line for line in log.read_text().splitlines() if LISTED in line]
    assert all(name in listed for name in meaningless)
    for name in ("log.retention.hours", "socket.send.buffer.bytes", "num.recovery.threads.per.data.dir"):
        assert name not in listed
    assert (tmp_path / "logs" / "meta.properties").exists()


def write_and_read(bootstrap: str) -> None:
    producer = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True})
    producer.produce("t", b"v", b"k")
    assert producer.flush(15) == 0
    consumer = Consumer(
        {"bootstrap.servers": bootstrap, "group.id": "g", "auto.offset.reset": "earliest"},
    )
    consumer.subscribe(["t"])
    (message,) = consumer.consume(1, 15)
    assert (message.error(), message.value()) == (None, b"v")
    consumer.close()


def static_configs(bootstrap: str, node_id: int) -> dict[str, str]:
    """What the broker says that its file says."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    (future,) = admin.describe_configs([ConfigResource(ResourceType.BROKER, str(node_id))]).values()
    return {name: entry.value for name, entry in future.result(15).items() if entry.source == 4}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("node.id=1\nnum.partitons=3\n", "server.properties:2: num.partitons: unknown; did you mean num.partitions?"),
        ("\n\nnum.partitions=three\n", "server.properties:3: num.partitions=three: Not a number of type INT"),
        ("auto.create.topics.enable=yes\n", "auto.create.topics.enable=yes: Expected value to be either true or false"),
        ("node.id=1\nlog.segment.bytes=5\n", "server.properties:2: log.segment.bytes=5: Value must be at least 1048576"),
        ("tierlog.chunk.bytes=1\n", "server.properties:1: tierlog.chunk.bytes=1: Value must be at least 1048576"),
        ("authorizer.class.name=a.B\n", "server.properties:1: authorizer.class.name=a.B: not supported yet"),
        ("tierlog.upload.concurency=3\n", "did you mean tierlog.upload.concurrency?"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line(tmp_path: Path, text: str, said: str) -> None:
    config = tmp_path / "server.properties"
    config.write_text(f"{text}log.dirs={tmp_path / 'logs'}\n")
    done = subprocess.run(
        command(config), capture_output=True, text=True, env=environment(), timeout=PATIENT_S
    )
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("tierlog: ") and said in line
    assert not (tmp_path / "logs").exists()


def test_all_mistakes_are_said_in_one_start(tmp_path: Path) -> None:
    config = tmp_path / "server.properties"
    config.write_bytes(
        b"# caf\xe9\nport=9092\nssl.key.password=hunter2\nbroker.id.generation.enable=true\nnum.partitions=x\n"
        b"remote.log.storage.manager.class.name=io.aiven.X\ntierlog.object.store=s3://b?regin=x\n"
        + f"log.dirs={tmp_path / 'logs'}\n".encode()
    )
    wrong = environment() | {"KAFKA_NUM_IO_THREADS": "many"}
    more = ["--override", "sasl.jaas.config=hunter2", "--override", "fetch.max.bytes=1"]
    done = subprocess.run([*command(config), *more], capture_output=True, text=True, env=wrong, timeout=60)
    assert (done.returncode, done.stdout) == (1, "")
    lines = done.stderr.splitlines()
    places = [f"server.properties:{n}" for n in range(2, 8)] + ["KAFKA_NUM_IO_THREADS"] + ["command line"] * 2
    assert [line.split(": ")[1] for line in lines] == places
    assert "hunter2" not in done.stderr
    assert "removed in Kafka 3.0; set listeners=" in lines[0]
    assert "did you mean" not in lines[2] and "removed in Kafka 4.0" in lines[2]
    assert "tierlog.object.store" in lines[4] and "did you mean 'region'?" in lines[5]
    assert not (tmp_path / "logs").exists()


def test_the_environment_is_read_and_its_mistakes_name_the_variable(tmp_path: Path) -> None:
    config = tmp_path / "server.properties"
    config.write_text(f"log.dirs={tmp_path / 'logs'}\n")
    wrong = environment() | {"KAFKA_LOG_RETENTION_HOURS": "a week"}
    done = subprocess.run(command(config), capture_output=True, text=True, env=wrong, timeout=PATIENT_S)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "KAFKA_LOG_RETENTION_HOURS: log.retention.hours=a week: Not a number of type INT" in line
