"""One scenario played against two brokers: what each answered, in a form in which only real differences differ.

A scenario is a function of a ``Transcript``: it sends requests through it, and every reply is kept under a label.
Ids, addresses, clocks and paths stand as placeholders; ids in the order in which they were first seen, so that the same
id in two places must be the same id on the other side too.

What differs on purpose is said by the scenario itself, with the reason (``Transcript.ours_differs``).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

from tests.servers.kafka import KafkaProcess
from tests.servers.raw_client import Disconnected, RawClient
from tests.servers.tierlog import BrokerProcess
from tierlog.coordination.partitioning import partition_for
from tierlog.errors import ErrorCode
from tierlog.records.batch import LOG_OVERHEAD_BYTES, parse_header
from tierlog.wire.messages.create_topics import CreatableTopic, CreatableTopicConfig, CreateTopicsRequest
from tierlog.wire.messages.describe_cluster import DescribeClusterRequest
from tierlog.wire.messages.find_coordinator import FindCoordinatorRequest
from tierlog.wire.messages.heartbeat import HeartbeatRequest
from tierlog.wire.messages.init_producer_id import InitProducerIdRequest
from tierlog.wire.messages.list_offsets import ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic
from tierlog.wire.registry import APIS
from tierlog.wire.schema import ZERO_UUID, EncodeError, Message, Struct, fields_of

Scenario: TypeAlias = "Callable[[Transcript], None]"
M = TypeVar("M", bound=Message)

NOW_WITHIN_MS = 600_000
READY_WITHIN_S = 20.0
SALT = format(time.time_ns() // 10**6 % 10**8, "x")
# A timestamp that clients may give: the same on both sides, and far from now.
T0_MS = 1_600_000_000_000

_IGNORED = frozenset({"crc", "throttle_time_ms"})
_PLACEHOLDERS = frozenset({"host", "port", "cluster_id", "log_dir", "total_bytes", "usable_bytes"})
_MESSAGES = frozenset({"error_message", "batch_index_error_message"})
_TIMES = frozenset({"log_append_time_ms", "timestamp", "max_timestamp"})
_IDS = frozenset({"topic_id", "producer_id", "session_id", "leader", "member_id"})
# Kafka puts the partitions that it does not know behind all others.
_UNKNOWN = (ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, ErrorCode.UNKNOWN_TOPIC_ID)
# Kafka answers these in the order of its hash tables: (message, field) → what to sort by.
_UNORDERED: dict[tuple[str, str], Callable[[Any], Any]] = {
    ("CreatePartitionsResponse", "results"): lambda row: (row.name, row.error_code),
    ("CreateTopicsResponse", "topics"): lambda row: (row.name, row.error_code),
    ("DeleteTopicsResponse", "responses"): lambda row: (
        row.name or "",
        row.error_code,
        row.error_message or "",
    ),
    ("ProduceResponse", "responses"): lambda row: (
        row.name,
        [(part.index, part.error_code) for part in row.partition_responses],
    ),
    ("TopicProduceResponse", "partition_responses"): lambda row: row.index,
    ("FetchResponse", "responses"): lambda row: all(part.error_code in _UNKNOWN for part in row.partitions),
    ("FetchableTopicResponse", "partitions"): lambda part: part.error_code in _UNKNOWN,
    ("DeleteRecordsTopicResult", "partitions"): lambda row: row.partition_index,
    ("ListOffsetsResponse", "topics"): lambda row: row.name,
    ("ListOffsetsTopicResponse", "partitions"): lambda row: row.partition_index,
    ("DescribeGroupsResponse", "groups"): lambda row: (row.group_id, row.error_code),
    ("DeleteGroupsResponse", "results"): lambda row: row.group_id,
    ("OffsetCommitResponseTopic", "partitions"): lambda row: row.partition_index,
    ("OffsetDeleteResponseTopic", "partitions"): lambda row: row.partition_index,
    ("AlterReplicaLogDirTopicResult", "partitions"): lambda row: row.partition_index,
    ("ElectLeadersResponse", "replica_election_results"): lambda row: row.topic,
    ("ReplicaElectionResult", "partition_result"): lambda row: row.partition_id,
    ("MetadataResponse", "topics"): lambda row: (row.name or "", row.error_code),
    ("ListConfigResourcesResponse", "config_resources"): lambda row: (row.resource_type, row.resource_name),
}
_NO_ID: tuple[object, ...] = (ZERO_UUID, 0, -1, "", None)
OFFSETS_PARTITIONS = 50
_NO_COORDINATOR = (
    ErrorCode.COORDINATOR_LOAD_IN_PROGRESS,
    ErrorCode.COORDINATOR_NOT_AVAILABLE,
    ErrorCode.NOT_COORDINATOR,
)
_NOT_READY = (
    ErrorCode.NOT_LEADER_OR_FOLLOWER,
    ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
    ErrorCode.UNKNOWN_TOPIC_ID,
)


def versions(key: int) -> range:
    """Every version with a body of the API ``key``."""
    spec = APIS[key]
    return range(spec.first_decodable_version, spec.max_version + 1)


@dataclass
class Transcript:
    """The replies of one broker. ``salt`` keeps the topics of repeated runs apart. Of error messages only whether there
    is one is compared, unless ``compares_messages``."""

    broker: BrokerProcess | KafkaProcess
    name: str
    salt: str
    entries: dict[str, Any] = field(default_factory=dict)
    on_purpose: dict[str, str] = field(default_factory=dict)
    compares_messages: bool = False
    ignored: frozenset[str] = _IGNORED

    def __post_init__(self) -> None:
        self._ids: dict[object, str] = {}
        self._client: RawClient | None = None
        self._topics: list[str] = []

    @property
    def is_kafka(self) -> bool:
        return isinstance(self.broker, KafkaProcess)

    @property
    def client(self) -> RawClient:
        """The current connection; a new one after the broker has closed it."""
        if self._client is None:
            self._client = RawClient(self.broker.port)
        return self._client

    def close(self) -> None:
        if self._client is not None:
            self._client.socket.close()
            self._client = None

    # -- asking

    def call(self, label: str, request: Message, version: int | None = None) -> Any:
        """Sends, keeps the reply under ``label`` and returns it; None where the connection was closed, or where the
        version has no room for the request."""
        spec = APIS[request.API_KEY]
        version = spec.max_version if version is None else version
        label = f"{label} v{version}"
        try:
            reply = self.client.call(request, spec.response, version)
        except EncodeError:
            return None
        except Disconnected:
            self.close()
            self.keep(label, "closed")
            return None
        self.keep(label, reply)
        return reply

    def every_version(self, label: str, request: Message) -> None:
        """The same request in each version that can carry it."""
        for version in versions(request.API_KEY):
            self.call(label, request, version)

    def ask(self, request: M, version: int | None = None) -> Any:
        """``call`` without keeping the reply."""
        return self.client.call(request, APIS[request.API_KEY].response, version)

    def keep(self, label: str, value: object) -> None:
        assert label not in self.entries, f"two entries are labelled {label}"
        self.entries[label] = self._plain(value, "")

    def ignore(self, *fields: str) -> None:
        """Fields that need not be equal from here on."""
        self.ignored |= set(fields)

    def ours_differs(self, label: str, reason: str) -> None:
        """Entries whose label begins so may differ, by a decision."""
        self.on_purpose[label] = reason

    # -- topics

    def topic(self, name: str) -> str:
        """The name of a topic of this scenario alone."""
        return f"{self.name}-{self.salt}-{name}"

    def create(self, name: str, partitions: int = 1, **configs: str) -> tuple[str, bytes]:
        """A new topic that answers on all partitions: (name, id)."""
        name = self.topic(name)
        named = [
            CreatableTopicConfig(name=key.replace("_", "."), value=value) for key, value in configs.items()
        ]
        topic = CreatableTopic(name=name, num_partitions=partitions, replication_factor=1, configs=named)
        reply = self.ask(CreateTopicsRequest(topics=[topic], timeout_ms=10_000)).topics[0]
        assert reply.error_code == ErrorCode.NONE, reply
        self.await_ready(name, partitions)
        return name, bytes(reply.topic_id)

    def await_ready(self, name: str, partitions: int = 1) -> None:
        """Kafka answers a creation before its partitions lead."""
        asked = [ListOffsetsPartition(partition_index=n, timestamp=-1) for n in range(partitions)]
        request = ListOffsetsRequest(replica_id=-1, topics=[ListOffsetsTopic(name=name, partitions=asked)])
        deadline = time.monotonic() + READY_WITHIN_S
        while True:
            answered = self.ask(request).topics[0].partitions
            if not any(entry.error_code in _NOT_READY for entry in answered):
                return
            assert time.monotonic() < deadline, f"{name} does not become ready: {answered}"
            time.sleep(0.02)

    def await_producer_ids(self) -> None:
        """Kafka fetches its first block of producer ids when the first is asked for."""
        deadline = time.monotonic() + READY_WITHIN_S
        while self.ask(InitProducerIdRequest(transactional_id=None)).error_code:
            assert time.monotonic() < deadline, "no producer ids"
            time.sleep(0.02)

    def await_coordinator(self) -> None:
        """The first question for a coordinator creates its topic; each of its partitions is loaded on its own."""
        deadline = time.monotonic() + READY_WITHIN_S
        while self.ask(FindCoordinatorRequest(coordinator_keys=["g"])).coordinators[0].error_code:
            assert time.monotonic() < deadline, "no coordinator"
            time.sleep(0.02)
        owned = {partition_for(name, OFFSETS_PARTITIONS): name for name in map(str, range(1000))}
        assert len(owned) == OFFSETS_PARTITIONS
        for name in owned.values():
            nobody = HeartbeatRequest(group_id=name, member_id="nobody")
            while self.ask(nobody).error_code in _NO_COORDINATOR:
                assert time.monotonic() < deadline, f"the coordinator of {name} does not become ready"
                time.sleep(0.02)

    @property
    def cluster_id(self) -> str:
        reply = self.ask(DescribeClusterRequest())
        return str(reply.cluster_id)

    # -- the comparable form

    def _plain(self, value: Any, name: str) -> Any:
        if name in _MESSAGES and value and not self.compares_messages:
            return "<message>"
        if name in _PLACEHOLDERS:
            return None if value is None else value if value == -1 else f"<{name}>"
        if name in _IDS and value not in _NO_ID:
            name = "member_id" if name == "leader" else name
            return self._ids.setdefault(
                (name, bytes(value) if name == "topic_id" else value), f"<{name} {len(self._ids)}>"
            )
        if name in _TIMES and abs(value - time.time() * 1000) < NOW_WITHIN_MS:
            return "<now>"
        if name == "records" and value is not None:
            return list(self.batches(bytes(value)))
        if isinstance(value, Struct):
            return {
                known.name: self._plain(self._ordered(value, known.name), known.name)
                for known in fields_of(type(value))
                if known.name not in self.ignored
            }
        if isinstance(value, (list, tuple)):
            return [self._plain(element, name) for element in value]
        if isinstance(value, (memoryview, bytearray)):
            return bytes(value)
        return value

    @staticmethod
    def _ordered(struct: Struct, name: str) -> Any:
        value = getattr(struct, name)
        key = _UNORDERED.get((type(struct).__name__, name))
        return value if key is None or value is None else sorted(value, key=key)

    def batches(self, records: bytes) -> Iterator[dict[str, Any]]:
        """Whole batches; one that is cut off at the end is nothing, as for every client."""
        position = 0
        while len(records) - position >= LOG_OVERHEAD_BYTES:
            end = position + LOG_OVERHEAD_BYTES + int.from_bytes(records[position + 8 : position + 12], "big")
            if end > len(records):
                return
            header = parse_header(memoryview(records), position)
            names = [name for name in header._fields if name not in self.ignored]
            plain = {name: self._plain(getattr(header, name), name) for name in names}
            yield {**plain, "body": records[position + 61 : end].hex()[:200]}
            position = end


def differences(ours: Transcript, kafka: Transcript) -> list[str]:
    """One line per field that differs: label, path, what each has."""
    found = []
    for label in dict.fromkeys([*kafka.entries, *ours.entries]):
        if any(label.startswith(known) for known in ours.on_purpose):
            continue
        mine, theirs = ours.entries.get(label, "<no entry>"), kafka.entries.get(label, "<no entry>")
        found += [f"{label}{line}" for line in _compare(mine, theirs, "")]
    return found


def _compare(mine: Any, theirs: Any, path: str) -> Iterator[str]:
    if isinstance(mine, dict) and isinstance(theirs, dict) and mine.keys() == theirs.keys():
        for key in mine:
            yield from _compare(mine[key], theirs[key], f"{path}.{key}")
    elif isinstance(mine, list) and isinstance(theirs, list) and len(mine) == len(theirs):
        for index, (one, other) in enumerate(zip(mine, theirs, strict=True)):
            yield from _compare(one, other, f"{path}[{index}]")
    elif mine != theirs:
        yield f" {path}: ours {mine!r}, Kafka {theirs!r}"


def play(scenario: Scenario, broker: BrokerProcess | KafkaProcess, salt: str) -> Transcript:
    """Runs a scenario against one broker."""
    part = scenario.__module__.rpartition("_")[2]
    transcript = Transcript(broker, f"{part}-{scenario.__name__}".replace("_", "-"), salt)
    try:
        scenario(transcript)
    finally:
        transcript.close()
    return transcript


def assert_same(scenario: Scenario, ours: BrokerProcess, kafka: KafkaProcess) -> None:
    """Fails with every field in which we answer otherwise than Kafka."""
    found = differences(play(scenario, ours, SALT), play(scenario, kafka, SALT))
    assert not found, "\n".join([f"{len(found)} differences:", *found[:50]])
