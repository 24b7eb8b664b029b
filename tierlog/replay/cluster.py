"""What a replay asks the brokers: which topics, offsets and times there are, where the bucket is, and the records that no
bucket holds yet. Blocking; call it from a thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple, TypeVar
from urllib.parse import urlencode, urlsplit, urlunsplit

from tierlog.admin.client import Client
from tierlog.admin.errors import check, describe_error
from tierlog.admin.storage import storage_of
from tierlog.admin.topics import existing
from tierlog.config.places import OBJECT_STORE
from tierlog.config.secrets import HIDDEN
from tierlog.errors import RETRIABLE, ErrorCode, UserError
from tierlog.replay.group import GroupOffsets
from tierlog.types import Buffer, TopicPartition
from tierlog.wire.messages.describe_configs import (
    DescribeConfigsRequest,
    DescribeConfigsResource,
    DescribeConfigsResponse,
)
from tierlog.wire.messages.fetch import FetchPartition, FetchRequest, FetchResponse, FetchTopic
from tierlog.wire.messages.list_offsets import (
    ListOffsetsPartition,
    ListOffsetsRequest,
    ListOffsetsResponse,
    ListOffsetsTopic,
)
from tierlog.wire.messages.produce import (
    PartitionProduceData,
    ProduceRequest,
    ProduceResponse,
    TopicProduceData,
)
from tierlog.wire.schema import Records

T = TypeVar("T")

TOPIC, BROKER = 2, 4  # Resource types of DescribeConfigs.
EARLIEST, LATEST, EARLIEST_LOCAL = -2, -1, -4  # Timestamps that ListOffsets takes for questions.
FETCH_BYTES = 4 << 20
FETCH_WAIT_MS = 500
SOFTWARE = "tierlog-replay"
"""How brokers tell a replay, whatever its client id: their quota for replays."""
ATTEMPTS = 6
PAUSE_S = 0.5


class Topic(NamedTuple):
    name: str
    topic_id: bytes
    leaders: dict[int, int]


class Fetched(NamedTuple):
    """Batches as they came, the last one cut off perhaps; ``aborted`` as (producer id, first offset)."""

    records: Buffer
    aborted: list[tuple[int, int]]


class Cluster:
    """A cluster by any of its brokers. Every method raises UserError."""

    def __init__(
        self, bootstrap: str, *, client_id: str, is_committed: bool = True, timeout_s: float = 30.0
    ) -> None:
        self._client = Client(bootstrap, timeout_s, client_id, SOFTWARE)
        self._timeout_s = timeout_s
        self._isolation = int(is_committed)
        self._topics: dict[str, Topic] = {}
        self.cluster_id = self._client.metadata([]).cluster_id or ""

    def close(self) -> None:
        self._client.close()

    def topic_names(self) -> list[str]:
        return [row.name for row in self._client.metadata(None).topics if row.name]

    def topic(self, name: str, *, again: bool = False) -> Topic:
        found = self._topics.get(name)
        if found is None or again:
            (row,) = existing(self._client, [name])
            leaders = {each.partition_index: each.leader_id for each in row.partitions}
            found = self._topics[name] = Topic(name, row.topic_id, leaders)
        return found

    def offset_at(self, where: TopicPartition, timestamp_ms: int) -> int:
        """By ListOffsets: the first offset of that time or later, or ``EARLIEST`` or ``LATEST``; -1 if there is none."""
        asked = ListOffsetsTopic(
            name=where.topic,
            partitions=[ListOffsetsPartition(partition_index=where.partition, timestamp=timestamp_ms)],
        )
        message = ListOffsetsRequest(
            replica_id=-1,
            isolation_level=self._isolation,
            topics=[asked],
            timeout_ms=self._client.timeout_ms,
        )

        def ask(leader: int) -> tuple[int, int]:
            answer = self._client.node(leader).request(message, ListOffsetsResponse)
            row = answer.topics[0].partitions[0]
            return row.error_code, row.offset

        return self._of_leader(where, ask)

    def fetch(self, where: TopicPartition, offset: int, bytes_max: int = FETCH_BYTES) -> Fetched:
        """What a consumer gets at this offset: one batch, whatever its size, and more if there is room."""
        topic = self.topic(where.topic)
        part = FetchPartition(partition=where.partition, fetch_offset=offset, partition_max_bytes=bytes_max)
        asked = FetchTopic(topic=where.topic, topic_id=topic.topic_id, partitions=[part])
        message = FetchRequest(
            max_wait_ms=FETCH_WAIT_MS,
            min_bytes=1,
            max_bytes=bytes_max,
            isolation_level=self._isolation,
            topics=[asked],
        )

        def ask(leader: int) -> tuple[int, Fetched]:
            answer = self._client.node(leader).request(message, FetchResponse)
            if answer.error_code:
                return answer.error_code, Fetched(b"", [])
            row = answer.responses[0].partitions[0]
            aborted = [(each.producer_id, each.first_offset) for each in row.aborted_transactions or ()]
            return row.error_code, Fetched(_joined(row.records), aborted)

        return self._of_leader(where, ask)

    def produce(self, where: TopicPartition, batch: Buffer) -> tuple[int, str | None]:
        """(error code, message) of one batch, once all replicas in sync have it, or have refused it."""
        topic = self.topic(where.topic)
        part = PartitionProduceData(index=where.partition, records=batch)
        data = TopicProduceData(name=where.topic, topic_id=topic.topic_id, partition_data=[part])
        message = ProduceRequest(acks=-1, timeout_ms=self._client.timeout_ms, topic_data=[data])

        def ask(leader: int) -> tuple[int, tuple[int, str | None]]:
            answer = self._client.node(leader).request(message, ProduceResponse)
            row = answer.responses[0].partition_responses[0]
            return row.error_code if row.error_code in RETRIABLE else 0, (row.error_code, row.error_message)

        return self._of_leader(where, ask)

    def group(self, name: str) -> GroupOffsets:
        return GroupOffsets(self._client, name)

    def store_url(self, topic: str) -> str | None:
        """Of the topic's own object store, or the brokers'; without what they hide. None: there is none to be read."""
        leader = next((each for each in self.topic(topic).leaders.values() if each >= 0), None)
        if leader is None:
            return None
        url = self._config(leader, TOPIC, topic)
        return _readable(url) if url else self.brokers_store_url(leader)

    def brokers_store_url(self, node_id: int = -1) -> str | None:
        """As ``store_url``, of the brokers' own. −1: any broker."""
        if node_id < 0:
            node_id = self._client.metadata([]).brokers[0].node_id
        return _readable(self._config(node_id, BROKER, str(node_id)))

    def local_bytes_per_offset(self, topic: str) -> dict[int, float]:
        """By partition, as its leader tells over HTTP; empty where it does not."""
        try:
            rows = storage_of(self._client, topic, None, self._timeout_s)["partitions"]
        except UserError:
            return {}
        return {
            row["partition"]: row["local"]["bytes"]
            / max(row["log_end_offset"] - row["local_log_start_offset"], 1)
            for row in rows
        }

    def _config(self, node_id: int, kind: int, name: str) -> str:
        resource = DescribeConfigsResource(
            resource_type=kind, resource_name=name, configuration_keys=[OBJECT_STORE]
        )
        message = DescribeConfigsRequest(resources=[resource])
        answer = self._client.node(node_id).request(message, DescribeConfigsResponse)
        for result in answer.results:
            for config in result.configs:
                if config.name == OBJECT_STORE:
                    return config.value or ""
        return ""

    def _of_leader(self, where: TopicPartition, ask: Callable[[int], tuple[int, T]]) -> T:
        """The answer of the leader, wherever it moves meanwhile."""
        for attempt in range(ATTEMPTS):
            leader = self.topic(where.topic, again=attempt > 0).leaders.get(where.partition, -1)
            code, answer = ask(leader) if leader >= 0 else (int(ErrorCode.LEADER_NOT_AVAILABLE), None)
            if code == ErrorCode.OFFSET_OUT_OF_RANGE:
                raise UserError(
                    f"{where}: the offsets have been deleted meanwhile; look again with --from earliest"
                )
            if not code and answer is not None:
                return answer
            if code not in RETRIABLE:
                check(code, str(where))
            if attempt < ATTEMPTS - 1:
                time.sleep(PAUSE_S)
        raise UserError(f"{where}: {describe_error(code)}; try again, what was written stays")


def _joined(records: Records) -> Buffer:
    if records is None:
        return b""
    return bytes(records) if isinstance(records, (bytes, bytearray, memoryview)) else b"".join(records)


def _readable(url: str) -> str | None:
    return None if not url or url.startswith("memory:") else _shown_part(url)


def _shown_part(url: str) -> str:
    """Without the options whose values are hidden: they come from the environment then."""
    parts = urlsplit(url)
    pairs = [pair.partition("=") for pair in parts.query.split("&") if pair and HIDDEN not in pair]
    query = urlencode([(name, value) for name, _, value in pairs], safe=":/%")
    return (
        urlunsplit(parts._replace(query=query)).replace("dir:/", "dir:///", 1)
        if (parts.scheme == "dir" and not url.startswith("dir://"))
        else url
        if HIDDEN not in url
        else urlunsplit(parts._replace(query=query))
    )
