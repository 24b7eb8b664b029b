"""A reader that discards: it follows batch headers to the next offset and looks at nothing else.

    python -m benchmarks.raw_fetch --bootstrap HOST:PORT --topic T [--until -1] [--connections 2]
        [--partition-bytes 1048576] [--max-bytes 52428800]

Reads every partition from its earliest offset to the offset that ListOffsets gives for ``--until``: -1 is the
high watermark, -4 the first local offset, so that what is read is remote. Partitions are dealt out to the
connections; each has one Fetch in flight. Prints one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import selectors
import socket
import struct
import time

from benchmarks.wire import (
    CORRELATION_ID,
    EARLIEST,
    LATEST,
    Refused,
    Topic,
    connect,
    list_offsets,
    percentiles,
    topic_of,
)
from tierlog.wire.codec import decode_exact, encode
from tierlog.wire.framing import decode_response_header, encode_request
from tierlog.wire.messages.fetch import (
    FetchPartition,
    FetchRequest,
    FetchResponse,
    FetchTopic,
    ForgottenTopic,
    PartitionData,
)

FETCH, FETCH_VERSION = 1, 17
_prefix = struct.Struct(">qi")
_delta = struct.Struct(">i")
_DELTA_AT = 23
_HEADER_BYTES = 61


def follow(records: memoryview) -> tuple[int, int]:
    """(offset behind the last whole batch or -1, bytes of whole batches); the rest is a cut batch."""
    at, end, following = 0, len(records), -1
    while end - at >= _HEADER_BYTES:
        base, length = _prefix.unpack_from(records, at)
        size = length + 12
        if size > end - at:
            break
        following = base + _delta.unpack_from(records, at + _DELTA_AT)[0] + 1
        at += size
    return following, at


class Reader:
    """One connection with the partitions that it reads: ``position`` is the next offset of each."""

    def __init__(self, asked: argparse.Namespace, topic: Topic, ranges: dict[int, tuple[int, int]]) -> None:
        self.connection = connect(asked.bootstrap)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2 << 20)
        self.topic = topic
        self.partition_bytes: int = asked.partition_bytes
        self.max_bytes: int = asked.max_bytes
        self.position = {partition: start for partition, (start, _) in ranges.items()}
        self.end = {partition: end for partition, (_, end) in ranges.items()}
        self.bytes_read = self.requests = self.idle = 0
        self.latencies_ns: list[int] = []
        self._session_id = self._session_epoch = 0
        self._in_session: set[int] = set()
        self.moved: set[int] = set()
        self._buffer = bytearray(asked.max_bytes + asked.partition_bytes + (1 << 20))
        self._have = 0
        self._asked_at = self.received_ns = 0

    def pending(self) -> list[int]:
        return [p for p, at in self.position.items() if at < self.end[p]]

    def ask(self) -> None:
        """A session of KIP-227, as every client of today has one: only what moved is named again."""
        pending = set(self.pending())
        named = pending if not self._session_id else pending & self.moved
        # The oldest request goes first, as clients do it, so that no partition starves behind max_bytes.
        rows = [
            FetchPartition(
                partition=p, fetch_offset=self.position[p], partition_max_bytes=self.partition_bytes
            )
            for p in sorted(named, key=self.position.__getitem__)
        ]
        done = sorted(self._in_session - pending) if self._session_id else []
        topic_id = self.topic.topic_id
        request = FetchRequest(
            max_wait_ms=500,
            min_bytes=1,
            max_bytes=self.max_bytes,
            session_id=self._session_id,
            session_epoch=self._session_epoch,
            topics=[FetchTopic(topic_id=topic_id, partitions=rows)] if rows else [],
            forgotten_topics_data=[ForgottenTopic(topic_id=topic_id, partitions=done)] if done else [],
        )
        self._in_session = pending
        self.moved.clear()
        frame = encode_request(
            FETCH, FETCH_VERSION, CORRELATION_ID, "benchmark", encode(request, FETCH_VERSION)
        )
        self._have = 0
        self._asked_at = time.perf_counter_ns()
        self.connection.sendall(b"".join(frame))

    def receive(self) -> bool:
        """Takes what is there; True once the reply is whole."""
        view = memoryview(self._buffer)
        got = self.connection.recv_into(view[self._have :])
        if not got:
            raise ConnectionError("the broker closed the connection")
        self._have += got
        if self._have < 4:
            return False
        size = _delta.unpack_from(self._buffer)[0]
        if self._have < size + 4:
            return False
        self.received_ns = time.perf_counter_ns()
        self.latencies_ns.append(self.received_ns - self._asked_at)
        self.requests += 1
        self._take(view[4 : size + 4])
        return True

    def _take(self, frame: memoryview) -> None:
        _, offset = decode_response_header(FETCH, FETCH_VERSION, frame)
        answer = decode_exact(FetchResponse, FETCH_VERSION, frame, offset)
        if answer.error_code:
            raise Refused(f"Fetch: error code {answer.error_code}")
        self._session_id = answer.session_id
        self._session_epoch = self._session_epoch + 1 if answer.session_id else 0
        moved = False
        for topic in answer.responses:
            for row in topic.partitions:
                moved |= self._advance(row)
        self.idle += not moved

    def _advance(self, row: PartitionData) -> bool:
        if row.error_code:
            raise Refused(f"Fetch of {row.partition_index}: error code {row.error_code}")
        records = row.records
        if not records:
            return False
        assert isinstance(records, memoryview)
        following, size = follow(records)
        if following <= self.position[row.partition_index]:
            return False
        self.position[row.partition_index] = following
        self.moved.add(row.partition_index)
        self.bytes_read += size
        return True


def read_all(readers: list[Reader]) -> float:
    """Seconds until every partition is at its end."""
    with selectors.DefaultSelector() as selector:
        began = time.perf_counter()
        for reader in readers:
            selector.register(reader.connection, selectors.EVENT_READ, reader)
            reader.ask()
        while selector.get_map():
            for key, _ in selector.select():
                reader = key.data
                if not reader.receive():
                    continue
                if reader.pending():
                    reader.ask()
                else:
                    selector.unregister(reader.connection)
        return time.perf_counter() - began


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--until", type=int, default=LATEST)
    parser.add_argument("--connections", type=int, default=2)
    parser.add_argument("--partition-bytes", type=int, default=1 << 20)
    parser.add_argument("--max-bytes", type=int, default=50 << 20)
    return parser.parse_args()


def main() -> None:
    asked = arguments()
    connection = connect(asked.bootstrap)
    topic = topic_of(connection, asked.topic)
    starts = list_offsets(connection, topic, EARLIEST)
    ranges = dict(enumerate(zip(starts, list_offsets(connection, topic, asked.until), strict=True)))
    readers = []
    for first in range(min(asked.connections, topic.partitions)):
        mine = {p: r for p, r in ranges.items() if p % asked.connections == first and r[0] < r[1]}
        if mine:
            readers.append(Reader(asked, topic, mine))
    wall_s = read_all(readers)
    latencies = [each for reader in readers for each in reader.latencies_ns]
    figures = {
        "requests": len(latencies),
        "records": sum(reader.position[p] - ranges[p][0] for reader in readers for p in reader.position),
        "bytes": sum(reader.bytes_read for reader in readers),
        "wall_s": wall_s,
        "empty_replies": sum(reader.idle for reader in readers),
        **percentiles(latencies),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
