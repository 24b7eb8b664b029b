"""A synchronous Kafka client of one socket that sends what it is told, right or wrong, and hides nothing.

For tests of what no ordinary client would send, or would try again behind our back. ``call`` is one request and its
reply; ``send``/``receive`` pipeline; ``send_raw`` sends any bytes.
"""

from __future__ import annotations

import socket
import time
from typing import TypeVar

from tests.patience import PATIENT_S
from tierlog.errors import ErrorCode
from tierlog.records.batch import walk_whole
from tierlog.records.records import Record, build_batch, read_records
from tierlog.types import Buffer
from tierlog.wire.codec import decode_exact, encode
from tierlog.wire.framing import decode_response_header, encode_request
from tierlog.wire.messages.create_topics import CreatableTopic, CreatableTopicConfig, CreateTopicsRequest
from tierlog.wire.messages.delete_topics import (
    DeleteTopicsRequest,
    DeleteTopicsResponse,
    DeleteTopicState,
)
from tierlog.wire.messages.fetch import FetchPartition, FetchRequest, FetchTopic, PartitionData
from tierlog.wire.messages.init_producer_id import InitProducerIdRequest, InitProducerIdResponse
from tierlog.wire.messages.list_offsets import (
    ListOffsetsPartition,
    ListOffsetsPartitionResponse,
    ListOffsetsRequest,
    ListOffsetsResponse,
    ListOffsetsTopic,
)
from tierlog.wire.messages.produce import (
    PartitionProduceData,
    PartitionProduceResponse,
    ProduceRequest,
    TopicProduceData,
)
from tierlog.wire.registry import APIS
from tierlog.wire.schema import Message

M = TypeVar("M", bound=Message)
FETCH_VERSION = 12
PRODUCE_VERSION = 12


class Disconnected(Exception):
    """The broker closed the connection."""


class RawClient:
    """One connection. A context manager."""

    def __init__(self, port: int, timeout_s: float = PATIENT_S, host: str = "127.0.0.1") -> None:
        self.socket = socket.create_connection((host, port), timeout=timeout_s)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._correlation_id = 0
        self._received = bytearray()

    def __enter__(self) -> RawClient:
        return self

    def __exit__(self, *exc: object) -> None:
        self.socket.close()

    # -- bytes

    def send_raw(self, data: bytes) -> None:
        try:
            self.socket.sendall(data)
        except ConnectionError as error:
            raise Disconnected from error

    def receive_frame(self) -> bytes:
        """The next reply without its size. Raises Disconnected."""
        while True:
            if len(self._received) >= 4:
                size = int.from_bytes(self._received[:4], "big")
                if len(self._received) >= 4 + size:
                    frame = bytes(self._received[4 : 4 + size])
                    del self._received[: 4 + size]
                    return frame
            try:
                data = self.socket.recv(1 << 20)
            except ConnectionError as error:
                raise Disconnected from error
            if not data:
                raise Disconnected
            self._received += data

    def is_closed_by_peer(self) -> bool:
        """Waits for the broker to close, which it must do without a further reply."""
        try:
            self.receive_frame()
        except Disconnected:
            return True
        return False

    # -- messages

    def send(self, request: Message, version: int | None = None, client_id: str | None = "raw") -> int:
        """Returns the correlation id."""
        key = request.API_KEY
        version = APIS[key].max_version if version is None else version
        self._correlation_id += 1
        buffers = encode_request(key, version, self._correlation_id, client_id, encode(request, version))
        self.send_raw(b"".join(buffers))
        return self._correlation_id

    def receive(self, response: type[M], version: int | None = None) -> tuple[int, M]:
        """(correlation id, message)."""
        key = response.API_KEY
        version = APIS[key].max_version if version is None else version
        frame = self.receive_frame()
        correlation_id, offset = decode_response_header(key, version, frame)
        return correlation_id, decode_exact(response, version, frame, offset)

    def call(self, request: Message, response: type[M], version: int | None = None) -> M:
        sent = self.send(request, version)
        correlation_id, message = self.receive(response, version)
        assert correlation_id == sent
        return message

    # -- the usual requests

    def create_topic(self, name: str, partitions: int = 1, **configs: str) -> bytes:
        """Configs with ``_`` for ``.``; returns the topic id."""
        named = [CreatableTopicConfig(name=k.replace("_", "."), value=v) for k, v in configs.items()]
        request = CreateTopicsRequest(
            topics=[
                CreatableTopic(name=name, num_partitions=partitions, replication_factor=1, configs=named)
            ],
            timeout_ms=10_000,
        )
        answer = self.call(request, APIS[19].response).topics[0]
        assert answer.error_code == ErrorCode.NONE, answer.error_message
        # Apache Kafka answers before it leads; ours is there at once.
        deadline_s = time.monotonic() + PATIENT_S
        while any(self.list_offsets(name, -1, n).error_code for n in range(partitions)):
            assert time.monotonic() < deadline_s, f"{name} has no leader"
            time.sleep(0.02)
        return bytes(answer.topic_id)

    def delete_topic(self, name: str) -> None:
        request = DeleteTopicsRequest(topics=[DeleteTopicState(name=name)], timeout_ms=10_000)
        answer = self.call(request, DeleteTopicsResponse)
        assert answer.responses[0].error_code == ErrorCode.NONE

    def init_producer(self) -> tuple[int, int]:
        """(producer id, epoch) of a new idempotent producer."""
        request = InitProducerIdRequest(transactional_id=None, transaction_timeout_ms=1000)
        deadline_s = time.monotonic() + PATIENT_S
        while (answer := self.call(request, InitProducerIdResponse)).error_code:
            assert time.monotonic() < deadline_s, ErrorCode(answer.error_code).name
            time.sleep(0.02)
        return answer.producer_id, answer.producer_epoch

    def produce(
        self,
        topic: str,
        records: bytes | None,
        partition: int = 0,
        acks: int = -1,
        version: int = PRODUCE_VERSION,
        timeout_ms: int = 10_000,
    ) -> PartitionProduceResponse:
        """One partition's records as they are; the answer of that partition."""
        request = produce_request(topic, {partition: records}, acks, timeout_ms)
        answer = self.call(request, APIS[0].response, version)
        return answer.responses[0].partition_responses[0]

    def offset(self, topic: str, timestamp: int, partition: int = 0, version: int | None = None) -> int:
        """ListOffsets of one partition, -1 latest and so on."""
        answer = self.list_offsets(topic, timestamp, partition, version)
        assert answer.error_code == ErrorCode.NONE
        return answer.offset

    def list_offsets(
        self, topic: str, timestamp: int, partition: int = 0, version: int | None = None, epoch: int = -1
    ) -> ListOffsetsPartitionResponse:
        asked = ListOffsetsPartition(partition_index=partition, timestamp=timestamp)
        asked.current_leader_epoch = epoch
        request = ListOffsetsRequest(topics=[ListOffsetsTopic(name=topic, partitions=[asked])])
        answer = self.call(request, ListOffsetsResponse, version)
        return answer.topics[0].partitions[0]

    def values(self, topic: str, offset: int = 0, partition: int = 0) -> list[bytes | None]:
        """The values of all records from ``offset`` to the high watermark."""
        return [value for _, _, value in self.records(topic, offset, partition)]

    def records(
        self, topic: str, offset: int = 0, partition: int = 0, max_wait_ms: int = 2000
    ) -> list[tuple[int, bytes | None, bytes | None]]:
        """(offset, key, value) of all records from ``offset`` to the high watermark."""
        found: list[tuple[int, bytes | None, bytes | None]] = []
        while True:
            got = self.fetch(topic, offset, partition, max_wait_ms=max_wait_ms)
            assert got.error_code == ErrorCode.NONE, ErrorCode(got.error_code).name
            if offset >= got.high_watermark:
                return found
            records = bytes(got.records or b"")
            for position, header in walk_whole(records):
                found += [
                    (record.offset, as_bytes(record.key), as_bytes(record.value))
                    for record in read_records(records, position, header)
                    if record.offset >= offset
                ]
                offset = max(offset, header.next_offset)
            if offset >= got.high_watermark:
                return found

    def fetch(
        self,
        topic: str,
        offset: int,
        partition: int = 0,
        max_wait_ms: int = 0,
        min_bytes: int = 1,
        max_bytes: int = 1 << 26,
        partition_max_bytes: int = 1 << 26,
        version: int = FETCH_VERSION,
    ) -> PartitionData:
        """One partition, without a session."""
        request = FetchRequest(
            max_wait_ms=max_wait_ms,
            min_bytes=min_bytes,
            max_bytes=max_bytes,
            session_epoch=-1,
            topics=[
                FetchTopic(
                    topic=topic,
                    partitions=[
                        FetchPartition(
                            partition=partition, fetch_offset=offset, partition_max_bytes=partition_max_bytes
                        )
                    ],
                )
            ],
        )
        answer = self.call(request, APIS[1].response, version)
        assert answer.error_code == ErrorCode.NONE
        return answer.responses[0].partitions[0]


def as_bytes(value: Buffer | None) -> bytes | None:
    return None if value is None else bytes(value)


def produce_request(
    topic: str, records: dict[int, bytes | None], acks: int = -1, timeout_ms: int = 10_000
) -> ProduceRequest:
    data = [PartitionProduceData(index=index, records=batch) for index, batch in records.items()]
    return ProduceRequest(
        acks=acks, timeout_ms=timeout_ms, topic_data=[TopicProduceData(name=topic, partition_data=data)]
    )


def one_batch(*values: bytes | None, key: bytes | None = b"k", **options: object) -> bytes:
    """A batch of records with these values, stamped with this minute; ``options`` as of ``build_batch``."""
    now_ms = int(time.time() * 1000)
    records = [Record(key, value, now_ms) for value in values]
    return bytes(build_batch(records, **options))  # type: ignore[arg-type]
