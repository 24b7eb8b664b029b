"""A follower's fetcher without sockets: for tests and benchmarks that hand over the leader's answers themselves."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from tierlog.broker.disk.log_dirs import LogDir
from tierlog.broker.following.fetcher import FETCH, FETCH_VERSION, FetcherParts, ReplicaFetcher, key_of
from tierlog.broker.network.peer_connection import PeerConnection
from tierlog.broker.replicas.partition import Partition
from tierlog.broker.work.byte_rate import ByteRate
from tierlog.config.broker import BrokerConfig
from tierlog.config.topic import TopicConfig
from tierlog.log.files.filesystem import REAL, Filesystem
from tierlog.log.log import Log
from tierlog.replication.fetch_schedule import Key
from tierlog.replication.follower import Effect, Follower
from tierlog.types import Buffer, TopicPartition
from tierlog.wire.codec import encode
from tierlog.wire.framing import encode_response
from tierlog.wire.messages.fetch import FetchableTopicResponse, FetchResponse, PartitionData

LEADER, OWN, LEADER_EPOCH = 1, 2, 3
SESSION = 77
NOW_MS = 1_700_000_000_000
TOPIC_IDS = (bytes(range(16)), bytes(range(16, 32)))


class Around:
    """Stands for log directory, flusher, owner, and transport; keeps what they are told."""

    reserve_reached = False
    path = "here"

    def __init__(self) -> None:
        self.high_watermarks: dict[TopicPartition, int] = {}
        self.told: list[object] = []
        self.sent: list[bytes] = []

    def request(self, partition: Partition) -> None:
        self.told.append(("flush", partition.topic_partition))

    def on_writeback_due(self, partition: Partition) -> None:
        self.told.append(("writeback", partition.topic_partition))
        partition.log.bytes_since_writeback = 0

    def on_disk_full(self) -> bool:
        self.told.append("full")
        return False

    def on_storage_error(self, partition: Partition, error: Exception) -> None:
        self.told.append(("storage", partition.topic_partition))

    def on_effect(self, partition: Partition, effect: Effect) -> None:
        self.told.append((partition.topic_partition, effect))

    def get_extra_info(self, name: str) -> None:
        return None

    def is_closing(self) -> bool:
        return False

    def writelines(self, buffers: list[Buffer]) -> None:
        self.sent.append(b"".join(buffers))

    def close(self) -> None:
        self.told.append("closed")


class Following:
    """A broker that follows partitions ``0..count-1`` of as many topics as there are configurations."""

    def __init__(
        self,
        directory: Path,
        loop: asyncio.AbstractEventLoop,
        count: int,
        configs: Sequence[TopicConfig],
        filesystem: Filesystem = REAL,
        with_kernel: bool = True,
    ) -> None:
        self.around = around = Around()
        parts = FetcherParts(
            BrokerConfig(node_id=OWN),
            loop,
            lambda broker_id: None,
            lambda: 5,
            lambda: NOW_MS,
            around.on_effect,
            ByteRate(),
            cast(Any, None),
        )
        self.fetcher = ReplicaFetcher(LEADER, parts)
        self.partitions: dict[Key, Partition] = {}
        for number, config in enumerate(configs):
            for index in range(count):
                name = TopicPartition(f"t{number}", index)
                place, topic_id = directory / str(name), TOPIC_IDS[number]
                log = Log.open(
                    place, name, topic_id, config, now_ms=NOW_MS, was_clean=False, filesystem=filesystem
                )
                made = Partition(name, topic_id, log, cast(LogDir, around), cast(Any, around), around)
                made.follow(Follower(OWN, 5, LEADER, LEADER_EPOCH, 0), 1)
                self.partitions[key_of(made)] = made
                self.fetcher.add(made)
        self._loop = loop
        if not with_kernel:
            self.fetcher._hot = None
        self.connect()

    def connect(self) -> None:
        """Anew, where a connection has ended."""
        self.fetcher._disconnect()
        self.connection = PeerConnection(self._loop, 1 << 26, self.fetcher._on_answer)
        self.connection.connection_made(cast(Any, self.around))
        self.fetcher._connection = self.connection
        self.fetcher._send_next()

    def receive(self, frame: bytes) -> None:
        """An answer with its size prefix, in one piece or in several."""
        while frame:
            memory = self.connection.get_buffer(-1)
            taken = min(len(frame), len(memory))
            memory[:taken] = frame[:taken]
            frame = frame[taken:]
            self.connection.buffer_updated(taken)

    @property
    def correlation_id(self) -> int:
        return self.fetcher._correlation_id


def answer(
    correlation_id: int,
    parts: Sequence[tuple[bytes, PartitionData]],
    session_id: int = SESSION,
    error: int = 0,
) -> bytes:
    """The leader's answer, of partitions with their topic ids."""
    topics: dict[bytes, FetchableTopicResponse] = {}
    for topic_id, data in parts:
        topics.setdefault(topic_id, FetchableTopicResponse(topic_id=topic_id)).partitions.append(data)
    response = FetchResponse(error_code=error, session_id=session_id, responses=[*topics.values()])
    body = encode(response, FETCH_VERSION)
    return b"".join(encode_response(FETCH, FETCH_VERSION, correlation_id, body))
