"""Kafka's own Java clients 4.4.0: the reference that everybody else is compared with.

The expected answers are Apache Kafka's: ``TIERLOG_E2E_PEER=kafka`` runs the same tests against it.
"""

from __future__ import annotations

import pytest

from tests.servers import kafka
from tests.servers.kafka import KafkaProcess
from tests.servers.tierlog import BrokerProcess

pytestmark = [pytest.mark.java, pytest.mark.usefixtures("java")]

COUNT = 3000

# What tests/e2e/java/Admin.java says of a healthy cluster, in its own order.
ADMIN_ANSWERS = """\
cluster.nodes 1
cluster.has.id true
cluster.controller true
create 2
create.again TopicExistsException
create.bad.name InvalidTopicException
create.bad.count InvalidPartitionsException
create.bad.factor InvalidReplicationFactorException
create.bad.config InvalidConfigurationException
grow null
shrink InvalidPartitionsException
list true
describe java-admin-a [0:1:1, 1:1:1, 2:1:1] false
describe.absent UnknownTopicOrPartitionException
alter null
configs [segment.bytes=1048576:DYNAMIC_TOPIC_CONFIG, retention.bytes=123456789:DYNAMIC_TOPIC_CONFIG, \
retention.ms=604800000:DEFAULT_CONFIG, cleanup.policy=delete:DEFAULT_CONFIG]
alter.unknown InvalidConfigurationException
configs.absent UnknownTopicOrPartitionException
configs.broker 1
resources true
offset.earliest 0:-1
offset.latest 10:-1
offset.max 4:1700000001000
offset.time 3:1700000000003
offset.future -1:-1
offset.local 0:-1
offset.tiered -1:-1
offset.pending -1:-1
delete.records 3
delete.beyond OffsetOutOfRangeException
offset.after.delete 3
log.dirs 3
log.dirs.bytes true
group.alter null
group.offsets 5:five 0
group.describe Empty
group.list true
group.offset.delete null
group.offsets.after 1
group.delete null
group.delete.again GroupIdNotFoundException
group.absent GroupIdNotFoundException
delete null
delete.again UnknownTopicOrPartitionException
list.after.delete false
"""


def test_admin_client_gets_kafkas_answers(cluster: BrokerProcess | KafkaProcess) -> None:
    expected = dict(line.split(" ", 1) for line in ADMIN_ANSWERS.splitlines())
    assert kafka.program("Admin", cluster.bootstrap, "java-admin").rows() == expected


def test_idempotent_producer_and_group_consumer(cluster: BrokerProcess | KafkaProcess) -> None:
    kafka.program("CreateTopic", cluster.bootstrap, "java-clients", "3")
    produced = kafka.program("Produce", cluster.bootstrap, "java-clients", str(COUNT)).rows()
    assert produced == {"acknowledged": str(COUNT), "partitions": "3"}
    consumed = kafka.program("Consume", cluster.bootstrap, "java-clients", "java-group", str(COUNT)).rows()
    assert consumed == {
        "read": str(COUNT),
        "sum": str(sum(range(COUNT))),
        "ordered": "true",
        "committed": str(COUNT),
        "end": str(COUNT),
        "generation": "true",
    }


def test_a_second_run_of_the_group_starts_where_the_first_committed(
    cluster: BrokerProcess | KafkaProcess,
) -> None:
    """Auto-created topic; the second consumer sees only what came after the commit."""
    topic, group = "java-resume", "java-resume-group"
    for _ in range(2):
        kafka.program("Produce", cluster.bootstrap, topic, "100")
        rows = kafka.program("Consume", cluster.bootstrap, topic, group, "100").rows()
        assert (rows["read"], rows["sum"]) == ("100", str(sum(range(100))))
    assert rows["committed"] == "200"


def test_kafkas_command_line_tools(cluster: BrokerProcess | KafkaProcess) -> None:
    """The tools of Kafka's bin directory, one after another, on one topic."""
    address = ("--bootstrap-server", cluster.bootstrap)
    topic = ("--topic", "java-tools")
    kafka.tool("TopicCommand", *address, "--create", *topic, "--partitions", "2")
    assert "PartitionCount: 2" in kafka.tool("TopicCommand", *address, "--describe", *topic).out
    text = "".join(f"line {n}\n" for n in range(10))
    kafka.tool("ConsoleProducer", *address, *topic, stdin=text)
    console = ("consumer.ConsoleConsumer", *address, *topic, "--from-beginning", "--max-messages", "10")
    read = kafka.tool(*console, "--group", "java-tools-group").out
    assert sorted(read.splitlines()) == sorted(text.splitlines())
    offsets = kafka.tool("GetOffsetShell", *address, *topic).out.split()
    assert sum(int(line.rpartition(":")[2]) for line in offsets) == 10
    described = kafka.tool(
        "consumer.group.ConsumerGroupCommand", *address, "--describe", "--group", "java-tools-group"
    ).out
    assert [line.split()[5] for line in described.splitlines() if " java-tools " in line] == ["0", "0"]
    assert "UP-TO-DATE" not in described  # A classic group: nothing of KIP-848 is shown.


def test_committed_offsets_are_records_that_kafkas_formatter_reads(
    cluster: BrokerProcess | KafkaProcess,
) -> None:
    topic, group = "java-formatter", "java-formatter-group"
    kafka.program("Produce", cluster.bootstrap, topic, "50")
    kafka.program("Consume", cluster.bootstrap, topic, group, "50")
    formatter = "org.apache.kafka.tools.consumer.OffsetsMessageFormatter"
    address = ("--bootstrap-server", cluster.bootstrap, "--topic", "__consumer_offsets", "--from-beginning")
    for silent_ms in ("4000", "60000"):  # the tool's last word is that it has seen nothing new for so long
        command = ("consumer.ConsoleConsumer", *address, "--formatter", formatter, "--timeout-ms", silent_ms)
        mine = [line for line in kafka.tool(*command).out.splitlines() if group in line and topic in line]
        if mine:
            break
    assert mine and '"offset":50' in mine[-1]
