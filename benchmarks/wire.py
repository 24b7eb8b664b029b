"""Frames for the raw clients: encoded once, sent a million times, and replies checked without decoding.

A benchmark of a broker that answers in microseconds needs a client that costs less than the broker. Built from
``tierlog.wire``; works against any broker. Errors of the broker end the program: a benchmark of refusals is
worth nothing.
"""

from __future__ import annotations

import socket
import struct
import time
from dataclasses import dataclass
from typing import TypeVar

from tierlog.records.records import Record, build_batch
from tierlog.wire.codec import decode_exact, encode
from tierlog.wire.framing import decode_response_header, encode_request, encode_response
from tierlog.wire.messages.list_offsets import (
    ListOffsetsPartition,
    ListOffsetsRequest,
    ListOffsetsResponse,
    ListOffsetsTopic,
)
from tierlog.wire.messages.metadata import MetadataRequest, MetadataRequestTopic, MetadataResponse
from tierlog.wire.messages.produce import (
    PartitionProduceData,
    PartitionProduceResponse,
    ProduceRequest,
    ProduceResponse,
    TopicProduceData,
    TopicProduceResponse,
)
from tierlog.wire.registry import APIS
from tierlog.wire.schema import Message

PRODUCE, METADATA = 0, 3
METADATA_VERSION, LIST_OFFSETS_VERSION = 12, 9
EARLIEST, LATEST, EARLIEST_LOCAL = -2, -1, -4
CORRELATION_ID = 7
_MARK = 0x7A7B
_int32 = struct.Struct(">i")
_int16 = struct.Struct(">h")

R = TypeVar("R", bound=Message)


class Refused(Exception):
    """The broker answered with an error code."""


def connect(bootstrap: str, timeout_s: float = 60.0) -> socket.socket:
    host, _, port = bootstrap.rpartition(":")
    connection = socket.create_connection((host, int(port)), timeout_s)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def receive(connection: socket.socket, size: int) -> bytearray:
    frame = bytearray(size)
    view = memoryview(frame)
    have = 0
    while have < size:
        got = connection.recv_into(view[have:])
        if not got:
            raise ConnectionError("the broker closed the connection")
        have += got
    return frame


def exchange(connection: socket.socket, message: Message, version: int, response: type[R]) -> R:
    """One request and its decoded reply."""
    key = message.API_KEY
    assert key is not None
    frame = encode_request(key, version, CORRELATION_ID, "benchmark", encode(message, version))
    connection.sendall(b"".join(frame))
    body = receive(connection, _int32.unpack(receive(connection, 4))[0])
    _, offset = decode_response_header(key, version, body)
    answer = decode_exact(APIS[key].response, version, body, offset)
    assert isinstance(answer, response)
    return answer


@dataclass(frozen=True, slots=True)
class Topic:
    """As the cluster knows it."""

    name: str
    topic_id: bytes
    partitions: int


def topic_of(connection: socket.socket, name: str, *, create: bool = False) -> Topic:
    """Raises Refused while the topic or one of its leaders is not there."""
    request = MetadataRequest(topics=[MetadataRequestTopic(name=name)], allow_auto_topic_creation=create)
    answer = exchange(connection, request, METADATA_VERSION, MetadataResponse)
    (row,) = answer.topics
    errors = [row.error_code, *(p.error_code for p in row.partitions)]
    if any(errors):
        raise Refused(f"Metadata of {name}: error codes {sorted(set(errors))}")
    return Topic(name, row.topic_id, len(row.partitions))


def leader_of(connection: socket.socket, name: str) -> str:
    """Where the leader of the topic's first partition listens."""
    request = MetadataRequest(topics=[MetadataRequestTopic(name=name)], allow_auto_topic_creation=False)
    answer = exchange(connection, request, METADATA_VERSION, MetadataResponse)
    (row,) = answer.topics
    leader_id = next((p.leader_id for p in row.partitions if p.partition_index == 0), -1)
    for broker in answer.brokers:
        if broker.node_id == leader_id:
            return f"{broker.host}:{broker.port}"
    raise Refused(f"Metadata of {name}: nobody leads its first partition")


def list_offsets(connection: socket.socket, topic: Topic, timestamp: int) -> list[int]:
    """One offset per partition, for a time in ms or one of Kafka's special timestamps."""
    rows = [ListOffsetsPartition(partition_index=n, timestamp=timestamp) for n in range(topic.partitions)]
    request = ListOffsetsRequest(topics=[ListOffsetsTopic(name=topic.name, partitions=rows)])
    answer = exchange(connection, request, LIST_OFFSETS_VERSION, ListOffsetsResponse)
    found = sorted(answer.topics[0].partitions, key=lambda row: row.partition_index)
    if any(row.error_code for row in found):
        raise Refused(f"ListOffsets {timestamp}: {[row.error_code for row in found]}")
    return [row.offset for row in found]


def batch(records: int, value_bytes: int, seed: int = 0) -> bytes:
    """An uncompressed batch without a producer id, so that it may be sent over and over."""
    pattern = bytes(65 + (seed * 31 + n * 7919 % 104729) % 26 for n in range(value_bytes))
    now_ms = int(time.time() * 1000)  # Not a constant: retention would come for it.
    return bytes(build_batch([Record(None, pattern, now_ms) for _ in range(records)]))


def produce_frame(topic: Topic, partitions: list[int], records: bytes, version: int, acks: int) -> bytes:
    """A whole Produce request, for one batch to each of ``partitions``."""
    rows = [PartitionProduceData(index=index, records=records) for index in partitions]
    data = TopicProduceData(partition_data=rows)
    if version < 13:
        data.name = topic.name
    else:
        data.topic_id = topic.topic_id
    request = ProduceRequest(acks=acks, timeout_ms=30_000, topic_data=[data])
    return b"".join(encode_request(PRODUCE, version, CORRELATION_ID, "benchmark", encode(request, version)))


@dataclass(frozen=True, slots=True)
class ReplyShape:
    """Every good reply to one kind of Produce request has this many bytes, error codes at these places."""

    size: int
    error_offsets: tuple[int, ...]

    def check(self, buffer: bytearray, at: int) -> None:
        """Raises Refused unless the reply at ``at`` is a good one."""
        size = _int32.unpack_from(buffer, at)[0] + 4
        codes = {_int16.unpack_from(buffer, at + offset)[0] for offset in self.error_offsets}
        if size != self.size or codes != {0}:
            raise Refused(f"Produce: reply of {size} bytes instead of {self.size}, error codes {codes}")


def reply_shape(topic: Topic, partitions: list[int], version: int) -> ReplyShape:
    """Error codes stand where a reply with errors differs from one without: a random topic id may hold any mark."""
    good, marked = (_reply(topic, partitions, version, code) for code in (0, _MARK))
    offsets = tuple(at for at in range(len(good)) if marked[at] == _MARK >> 8 != good[at])
    assert len(offsets) == len(partitions)
    return ReplyShape(len(good), offsets)


def _reply(topic: Topic, partitions: list[int], version: int, error_code: int) -> bytes:
    rows = [
        PartitionProduceResponse(index=index, error_code=error_code, base_offset=0, log_start_offset=0)
        for index in partitions
    ]
    data = TopicProduceResponse(partition_responses=rows)
    if version < 13:
        data.name = topic.name
    else:
        data.topic_id = topic.topic_id
    body = encode(ProduceResponse(responses=[data]), version)
    return b"".join(encode_response(PRODUCE, version, CORRELATION_ID, body))


def percentiles(values_ns: list[int]) -> dict[str, float]:
    """In milliseconds."""
    ranked = sorted(values_ns)
    if not ranked:
        return {}
    picks = {"p50_ms": 0.5, "p99_ms": 0.99, "p999_ms": 0.999}
    return {name: ranked[min(len(ranked) - 1, int(len(ranked) * q))] / 1e6 for name, q in picks.items()}
