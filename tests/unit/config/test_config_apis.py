"""The config APIs over the real image and the real decisions; the answers are those of Kafka 4.4.0 unless said."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import pytest

from tierlog.broker.handlers import (
    alter_configs,
    describe_configs,
    incremental_alter_configs,
    list_config_resources,
)
from tierlog.broker.handlers.services import Services
from tierlog.broker.network.context import RequestContext
from tierlog.broker.work.slices import complete
from tierlog.config.broker import BrokerConfig
from tierlog.config.dynamic import validate_broker_configs
from tierlog.config.properties import load
from tierlog.errors import ErrorCode
from tierlog.metadata import keys, records
from tierlog.metadata.control.configs import ConfigAlteration, ConfigResult, decide_alter_configs
from tierlog.metadata.control.topics import NewTopic, decide_create_topics
from tierlog.metadata.image import MetadataImage
from tierlog.metadata.records import BrokerRegistration, BrokerState
from tierlog.metadata.rules import rules_of
from tierlog.metadata.transactions import Event, KeyValue, Put, Txn, WatchBatch
from tierlog.wire.codec import decode, encode
from tierlog.wire.messages import alter_configs as alter_messages
from tierlog.wire.messages import describe_configs as describe_messages
from tierlog.wire.messages import incremental_alter_configs as incremental_messages
from tierlog.wire.messages.list_config_resources import ListConfigResourcesRequest

TOPIC, BROKER, LOGGER, CLIENT_METRICS, GROUP = 2, 4, 8, 16, 32
SET, DELETE, APPEND, SUBTRACT = range(4)


class Cluster:
    """An image with one broker, and an admin that carries decisions out in it."""

    def __init__(self, config: BrokerConfig) -> None:
        self.config = config
        self.image = MetadataImage()
        self.admin = self
        self.store_gate = None
        self.rules = rules_of(
            config,
            remote_storage=False,
            validate_broker_configs=lambda configs, before: validate_broker_configs(configs, broker=config),
        )
        registration = BrokerRegistration("1", ())
        self._write(Put(keys.registration(config.node_id), records.encode_registration(registration)))
        epoch = self.image.brokers[config.node_id].broker_epoch
        state = BrokerState(epoch, fenced=False)
        self._write(Put(keys.broker_state(config.node_id), records.encode_broker_state(state)))

    def _write(self, *operations: Any) -> None:
        revision = self.image.revision + 1
        self.image.apply(
            WatchBatch(
                revision,
                tuple(
                    Event(
                        op.key,
                        KeyValue(op.key, op.value, revision, revision) if isinstance(op, Put) else None,
                    )
                    for op in operations
                ),
            )
        )

    def _execute(self, txns: Sequence[Txn]) -> None:
        for txn in txns:
            self._write(*txn.then)

    def create(self, name: str, configs: dict[str, str | None]) -> None:
        (decision,) = decide_create_topics(
            self.image,
            self.rules,
            [NewTopic(name, 1, 1, configs=configs)],
            new_topic_id=lambda: bytes([len(self.image.topics_by_name) + 1]) * 16,
            start=0,
        )
        assert decision.result.error is ErrorCode.NONE, decision.result
        self._execute(decision.txns)

    async def alter_configs(
        self, alterations: list[ConfigAlteration], *, validate_only: bool = False, timeout_ms: int = 0
    ) -> list[ConfigResult]:
        decisions = list(decide_alter_configs(self.image, self.rules, alterations))
        if not validate_only:
            for decision in decisions:
                self._execute(decision.txns)
        return [decision.result for decision in decisions]

    @property
    def services(self) -> Services:
        return cast(Services, self)


class NoSession:
    client_software = ""
    closing = False


def context(api_key: int, version: int) -> RequestContext:
    return RequestContext(api_key, version, 1, "c", "PLAINTEXT", "127.0.0.1", 0.0, NoSession())


@pytest.fixture
def cluster() -> Cluster:
    made = Cluster(load({"node.id": "1"}))
    made.create("t1", {"retention.ms": "5000", "cleanup.policy": "compact"})
    return made


Described = describe_messages.DescribeConfigsResult


def describe(
    cluster: Cluster, kind: int, name: str, asked: list[str] | None = None, version: int = 4, **flags: bool
) -> Described:
    resource = describe_messages.DescribeConfigsResource(
        resource_type=kind, resource_name=name, configuration_keys=asked
    )
    request = describe_messages.DescribeConfigsRequest(resources=[resource], **flags)
    response = complete(describe_configs.handle(cluster.services, context(32, version), request))
    (result,) = response.results
    # What is answered can be sent in every version.
    for served in range(1, 5):
        raw = b"".join(bytes(part) for part in encode(response, served))
        decode(describe_messages.DescribeConfigsResponse, served, memoryview(raw))
    return result


def values(result: Described) -> dict[str, str | None]:
    assert result.error_code == 0, result
    return {config.name: config.value for config in result.configs}


async def incremental(
    cluster: Cluster,
    kind: int,
    name: str,
    *operations: tuple[str, int, str | None],
    validate_only: bool = False,
) -> tuple[int, str | None]:
    resource = incremental_messages.AlterConfigsResource(
        resource_type=kind,
        resource_name=name,
        configs=[
            incremental_messages.AlterableConfig(name=config, config_operation=op, value=value)
            for config, op, value in operations
        ],
    )
    request = incremental_messages.IncrementalAlterConfigsRequest(
        resources=[resource], validate_only=validate_only
    )
    response = await incremental_alter_configs.handle(cluster.services, context(44, 1), request)
    (answer,) = response.responses
    assert (answer.resource_type, answer.resource_name) == (kind, name)
    return answer.error_code, answer.error_message


async def legacy(cluster: Cluster, kind: int, name: str, **configs: str | None) -> tuple[int, str | None]:
    resource = alter_messages.AlterConfigsResource(
        resource_type=kind,
        resource_name=name,
        configs=[
            alter_messages.AlterableConfig(name=config.replace("_", "."), value=value)
            for config, value in configs.items()
        ],
    )
    request = alter_messages.AlterConfigsRequest(resources=[resource])
    response = await alter_configs.handle(cluster.services, context(33, 2), request)
    (answer,) = response.responses
    return answer.error_code, answer.error_message


def test_describe_a_topic(cluster: Cluster) -> None:
    result = describe(cluster, TOPIC, "t1", include_synonyms=True, include_documentation=True)
    found = {config.name: config for config in result.configs}
    assert len(found) == 45
    assert (found["retention.ms"].value, found["retention.ms"].config_source) == ("5000", 1)
    assert [s.name for s in found["cleanup.policy"].synonyms] == ["cleanup.policy", "log.cleanup.policy"]
    assert found["cleanup.policy"].config_type == 7
    assert found["cleanup.policy"].documentation
    bare = describe(cluster, TOPIC, "t1", ["retention.ms", "nope", "internal.segment.bytes"])
    (config,) = bare.configs
    assert (config.name, config.synonyms, config.documentation) == ("retention.ms", [], None)


@pytest.mark.parametrize(
    ("kind", "name", "error", "message"),
    [
        (TOPIC, "none", 3, ""),
        (TOPIC, "bad name", 17, "Topic name is invalid: 'bad name' contains one or more characters"),
        (TOPIC, "", 17, "Topic name is invalid: the empty string is not allowed"),
        (BROKER, "2", 42, "Unexpected broker id, expected 1 or empty string, but received 2"),
        (BROKER, "x", 42, "Broker id must be an integer, but it is: x"),
        (LOGGER, "", 42, "Broker id must not be empty"),
        (LOGGER, "2", 42, "Unexpected broker id, expected 1 but received 2"),
        (CLIENT_METRICS, "", 42, "Client metrics subscription name must not be empty"),
        (GROUP, "", 42, "Group name must not be empty"),
        (3, "z", 42, "Unknown resource type 3"),
    ],
)
def test_describe_refusals(cluster: Cluster, kind: int, name: str, error: int, message: str) -> None:
    result = describe(cluster, kind, name)
    assert result.error_code == error
    assert (result.resource_type, result.resource_name) == (kind, name)
    assert (result.error_message or "").startswith(message)


def test_describe_other_resources(cluster: Cluster) -> None:
    assert values(describe(cluster, BROKER, "1"))["num.partitions"] == "1"
    assert values(describe(cluster, BROKER, "")) == {}
    assert values(describe(cluster, LOGGER, "1")) == {}
    assert values(describe(cluster, CLIENT_METRICS, "m"))["interval.ms"] == "300000"
    assert values(describe(cluster, GROUP, "g"))["consumer.session.timeout.ms"] == "45000"


async def test_alter_a_topic(cluster: Cluster) -> None:
    assert await incremental(cluster, TOPIC, "t1", ("retention.ms", SET, "77")) == (0, None)
    assert values(describe(cluster, TOPIC, "t1"))["retention.ms"] == "77"
    assert await incremental(cluster, TOPIC, "t1", ("retention.ms", DELETE, None)) == (0, None)
    assert values(describe(cluster, TOPIC, "t1"))["retention.ms"] == "604800000"
    assert await incremental(cluster, TOPIC, "t1", ("cleanup.policy", APPEND, "delete")) == (0, None)
    assert values(describe(cluster, TOPIC, "t1"))["cleanup.policy"] == "compact,delete"
    assert await incremental(cluster, TOPIC, "t1", ("cleanup.policy", SUBTRACT, "compact")) == (0, None)
    assert values(describe(cluster, TOPIC, "t1"))["cleanup.policy"] == "delete"
    assert await incremental(cluster, TOPIC, "t1", ("nope", DELETE, None)) == (0, None)
    assert await incremental(cluster, TOPIC, "t1") == (0, None)


@pytest.mark.parametrize(
    ("name", "operation", "error", "message"),
    [
        (
            "t1",
            ("retention.ms", SET, "x"),
            40,
            "Invalid value x for configuration retention.ms: Not a number",
        ),
        ("t1", ("nope", SET, "x"), 40, "Unknown topic config name: nope"),
        (
            "t1",
            ("segment.bytes", SET, "5"),
            40,
            "Invalid value 5 for configuration segment.bytes: Value must be",
        ),
        ("t1", ("cleanup.policy", APPEND, "bad"), 40, "Invalid value bad for configuration cleanup.policy"),
        ("t1", ("retention.ms", APPEND, "1"), 40, "Can't APPEND to key retention.ms"),
        ("t1", ("retention.ms", SET, None), 42, "Null value not supported for"),
        ("t1", ("retention.ms", 9, "1"), 42, "Unknown operation 9"),
        ("t1", ("remote.storage.enable", SET, "true"), 40, "remote.storage.enable needs a broker with"),
        ("none", ("retention.ms", SET, "1"), 3, "The topic 'none' does not exist."),
        ("", ("retention.ms", SET, "1"), 42, "Default topic resources are not allowed."),
    ],
)
async def test_alter_topic_refusals(
    cluster: Cluster, name: str, operation: tuple[str, int, str | None], error: int, message: str
) -> None:
    before = cluster.image.revision
    code, text = await incremental(cluster, TOPIC, name, operation)
    assert code == error
    assert (text or "").startswith(message)
    assert cluster.image.revision == before


async def test_validate_only_changes_nothing(cluster: Cluster) -> None:
    before = cluster.image.revision
    assert await incremental(cluster, TOPIC, "t1", ("retention.ms", SET, "1"), validate_only=True) == (
        0,
        None,
    )
    code, _ = await incremental(cluster, TOPIC, "t1", ("segment.bytes", SET, "1"), validate_only=True)
    assert code == 40
    assert cluster.image.revision == before


async def test_each_resource_is_answered_by_itself_and_at_most_once(cluster: Cluster) -> None:
    def resource(name: str) -> incremental_messages.AlterConfigsResource:
        change = incremental_messages.AlterableConfig(name="retention.ms", config_operation=SET, value="7")
        return incremental_messages.AlterConfigsResource(
            resource_type=TOPIC, resource_name=name, configs=[change]
        )

    async def codes(*names: str) -> list[int]:
        request = incremental_messages.IncrementalAlterConfigsRequest(resources=[resource(n) for n in names])
        response = await incremental_alter_configs.handle(cluster.services, context(44, 1), request)
        return [answer.error_code for answer in response.responses]

    assert await codes("t1", "t1", "zz") == [42, 42, 3]
    assert await codes("", "t1", "zz") == [42, 0, 3]
    assert await codes() == []
    assert values(describe(cluster, TOPIC, "t1"))["retention.ms"] == "7"


async def test_alter_brokers(cluster: Cluster) -> None:
    assert await incremental(cluster, BROKER, "", ("log.retention.ms", SET, "99999")) == (0, None)
    assert await incremental(cluster, BROKER, "1", ("log.retention.ms", SET, "5")) == (0, None)
    assert values(describe(cluster, BROKER, "")) == {"log.retention.ms": "99999"}
    await incremental(cluster, TOPIC, "t1", ("retention.ms", DELETE, None))
    (config,) = describe(cluster, TOPIC, "t1", ["retention.ms"], include_synonyms=True).configs
    assert (config.value, config.config_source) == ("5", 2)
    assert [(s.name, s.value, s.source) for s in config.synonyms][:2] == [
        ("log.retention.ms", "5", 2),
        ("log.retention.ms", "99999", 3),
    ]
    assert await incremental(cluster, BROKER, "", ("log.cleanup.policy", SET, "compact")) == (0, None)
    assert await incremental(cluster, BROKER, "1", ("log.retention.ms", DELETE, None)) == (0, None)


@pytest.mark.parametrize(
    ("name", "operation", "error", "message"),
    [
        ("1", ("node.id", SET, "9"), 42, "Cannot update these configs dynamically: [node.id]"),
        ("", ("log.retention.hours", SET, "9"), 42, "Cannot update these configs dynamically"),
        ("", ("log.segment.bytes", SET, "5"), 42, "Invalid value 5 for configuration log.segment.bytes"),
        ("x", ("log.retention.ms", SET, "9"), 42, "Node id must be an integer, but it is: x"),
        ("7", ("log.retention.ms", SET, "9"), 102, "No broker with id 7 found."),
    ],
)
async def test_alter_broker_refusals(
    cluster: Cluster, name: str, operation: tuple[str, int, str | None], error: int, message: str
) -> None:
    code, text = await incremental(cluster, BROKER, name, operation)
    assert code == error
    assert (text or "").startswith(message)


async def test_resources_that_nothing_would_act_on_are_refused(cluster: Cluster) -> None:
    for kind, error in ((LOGGER, 40), (CLIENT_METRICS, 40), (GROUP, 40), (3, 42), (0, 42)):
        code, message = await incremental(cluster, kind, "1", ("interval.ms", SET, "1000"))
        assert code == error
        assert message


async def test_legacy_alter_replaces_all(cluster: Cluster) -> None:
    assert await legacy(cluster, TOPIC, "t1", retention_ms="77") == (0, None)
    found = values(describe(cluster, TOPIC, "t1"))
    assert (found["retention.ms"], found["cleanup.policy"]) == ("77", "delete")
    assert (await legacy(cluster, TOPIC, "t1", retention_ms=None))[0] == 42
    assert await legacy(cluster, TOPIC, "none") == (3, "The topic 'none' does not exist.")
    assert await legacy(cluster, TOPIC, "t1", nope="1") == (40, "Unknown topic config name: nope")
    assert await legacy(cluster, LOGGER, "1", x="DEBUG") == (42, "Unknown resource type 8")
    assert await legacy(cluster, BROKER, "", log_retention_ms="777") == (0, None)


def test_stored_configs_that_are_unsound_here_do_not_stop_the_answer(cluster: Cluster) -> None:
    cluster._write(Put(keys.broker_config(""), records.encode_configs({"log.retention.ms": "x"})))
    assert values(describe(cluster, TOPIC, "t1"))["retention.ms"] == "5000"


@pytest.mark.parametrize(
    ("version", "types", "error", "found"),
    [
        (0, [], 0, []),
        (1, [], 0, [("t1", TOPIC), ("1", BROKER), ("1", LOGGER)]),
        (1, [TOPIC], 0, [("t1", TOPIC)]),
        (1, [BROKER], 0, [("1", BROKER)]),
        (1, [LOGGER], 0, [("1", LOGGER)]),
        (1, [CLIENT_METRICS, GROUP], 0, []),
        (1, [0], 35, []),
        (1, [3, TOPIC], 35, []),
    ],
)
def test_list_resources(
    cluster: Cluster, version: int, types: list[int], error: int, found: list[tuple[str, int]]
) -> None:
    request = ListConfigResourcesRequest(resource_types=types)
    response = list_config_resources.handle(cluster.services, context(74, version), request)
    assert response.error_code == error
    assert [(r.resource_name, r.resource_type) for r in response.config_resources] == found
