"""Instructions that one request costs inside the broker, from its frame to the buffers of its reply, counted by callgrind.

    python -m benchmarks.instructions [--requests 400]

A count does not depend on what else the machine does, so it shows changes that clocks cannot. The rows: a Produce of one
batch (acks=all, one replica, nobody waits for the disk), a Fetch whose records lie in the object store and in the chunk
memory, and Fetches of the local log. The records are made beforehand. The rows of a connection go from the read to the
write, as uvloop calls when bytes have come, until the reply is with the socket (acks=1): one Produce of one record, without
and with a producer id, eight of them in one read, and one of 50 partitions with 16 KB each. Counted is only what happens
inside of ``functools.reduce``, which calls for each request: a function of the interpreter that callgrind knows by name, and
that nothing else here calls.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

import uvloop

from benchmarks.wire import CORRELATION_ID, Topic, batch, produce_frame
from tests.asker import AskerInProcess
from tierlog.broker.network.connection import Connection as Driver
from tierlog.broker.network.ports import Dispatching
from tierlog.broker.node import Broker
from tierlog.broker.replicas.partition import Partition
from tierlog.cli.broker import embedded
from tierlog.metadata.control.topics import NewTopic
from tierlog.records.records import Record, build_batch
from tierlog.types import Buffer
from tierlog.wire.codec import encode
from tierlog.wire.framing import encode_request
from tierlog.wire.messages.fetch import FetchPartition, FetchRequest, FetchTopic

PREPARE = "prepare"
REMOTE, LOCAL = "rows", "local"
READS = {
    "remote-read": (REMOTE, 1 << 20),
    "local-read": (LOCAL, 1 << 20),
    "local-read-64k": (LOCAL, 64 << 10),
}
"""Topic, and bytes of a fetch."""
CONNECTIONS = {
    "connection": (1, 1, 1, -1),
    "connection-idempotent": (1, 1, 1, 1),
    "connection-8": (8, 1, 1, 1),
    "connection-many": (1, 50, 150, 1),
}
"""Requests of a read, partitions of each, records of 100 bytes for each of those, producer id."""
ROWS = ("produce", *CONNECTIONS, *READS)
CALLGRIND = ("--callgrind-out-file=/dev/null", "--collect-atstart=no", "--toggle-collect=functools_reduce")
WARM_UP = 200
READ_BYTES = 64 << 10
FETCH = 1
FETCH_VERSION = 16
COLLECTED = re.compile(r"Collected : (\d+)")
_OVERRIDES = {
    "flush.mode": "os",
    "remote.log.manager.task.interval.ms": "300",
    "log.retention.check.interval.ms": "500",
    "log.initial.task.delay.ms": "0",
}
_CONFIGS = {
    "remote.storage.enable": "true",
    "internal.segment.bytes": "2000000",
    "local.retention.bytes": "1",
    "file.delete.delay.ms": "0",
}


class Connection(AskerInProcess):
    """Keeps the size of the last reply."""

    def __init__(self) -> None:
        super().__init__()
        self.reply_bytes = 0

    def reply(self, buffers: list[Buffer]) -> None:
        self.reply_bytes = sum(map(len, buffers))

    def reply_later(self, row: Any, future: Any, finish: Any) -> None:
        raise AssertionError(f"{row.spec.name} waits, so that its cost cannot be told")


async def _until(condition: Any) -> None:
    async with asyncio.timeout(600):
        while not condition():
            await asyncio.sleep(0.01)


def _serve(dispatcher: Dispatching, connection: Connection, frame: bytes) -> None:
    dispatcher.dispatch(connection, memoryview(bytearray(frame[4:])))
    assert connection.reply_bytes


def _serve_counted(dispatcher: Dispatching, connection: Connection, frame: bytes, count: int) -> None:
    for _ in range(WARM_UP):
        _serve(dispatcher, connection, frame)
    functools.reduce(lambda _, number: _serve(dispatcher, connection, frame), range(count), None)


def _fetch_frame(topic: Topic, max_bytes: int) -> bytes:
    request = FetchRequest(
        replica_id=-1,
        max_wait_ms=0,
        min_bytes=1,
        max_bytes=max_bytes,
        topics=[
            FetchTopic(
                topic_id=topic.topic_id,
                partitions=[FetchPartition(partition=0, fetch_offset=0, partition_max_bytes=max_bytes)],
            )
        ],
    )
    body = encode(request, FETCH_VERSION)
    return b"".join(encode_request(FETCH, FETCH_VERSION, CORRELATION_ID, "benchmark", body))


async def _read(broker: Broker, topic: Topic, max_bytes: int, count: int) -> None:
    connection, frame = Connection(), _fetch_frame(topic, max_bytes)
    while connection.reply_bytes < max_bytes // 2:
        with suppress(AssertionError):  # not in memory yet: it is asked for, and comes meanwhile
            _serve(broker.dispatcher, connection, frame)
        await asyncio.sleep(0.1)
    _serve_counted(broker.dispatcher, connection, frame, count)
    assert connection.reply_bytes > max_bytes // 2


def _produce_frames(topic: Topic, row: str) -> Iterator[bytes]:
    _, partitions, records, producer_id = CONNECTIONS[row]
    value, now_ms, sequence = b"v" * 100, int(time.time() * 1000), 0
    while True:
        made = [Record(None, value, now_ms) for _ in range(records)]
        fields = {} if producer_id < 0 else {"producer_epoch": 0, "base_sequence": sequence}
        data = bytes(build_batch(made, producer_id=producer_id, **fields))
        yield produce_frame(topic, [*range(partitions)], data, 13, 1)
        sequence += records


async def _take_reply(client: asyncio.StreamReader) -> None:
    """The turns of the loop that this takes are those of requests for which one was too short."""
    assert await client.readexactly(int.from_bytes(await client.readexactly(4), "big"))


async def _connected(broker: Broker, row: str, count: int) -> None:
    """Over a connection, in whose memory this puts what a read would."""
    requests, partitions, *_ = CONNECTIONS[row]
    await broker.services.admin.create_topics([NewTopic(row, partitions, 1, configs={"flush.mode": "os"})])
    topics = [await _led(broker, row, number) for number in range(partitions)]
    frames = _produce_frames(topics[0][0], row)
    ours, server = socket.socketpair()
    client, closing = await asyncio.open_connection(sock=ours)
    _, connection = await asyncio.get_running_loop().connect_accepted_socket(
        lambda: Driver(broker.listeners[0], broker.dispatcher), server
    )
    get_buffer, buffer_updated = connection.get_buffer, connection.buffer_updated

    def read(_: None, piece: bytes) -> None:
        size_bytes = len(piece)
        get_buffer(-1)[:size_bytes] = piece
        buffer_updated(size_bytes)

    for number in range(WARM_UP + count):
        sent = b"".join(islice(frames, requests))
        pieces = [sent[at : at + READ_BYTES] for at in range(0, len(sent), READ_BYTES)]
        if number < WARM_UP:
            for piece in pieces:
                read(None, piece)
        else:
            functools.reduce(read, pieces, None)
        for _ in range(requests):
            await _take_reply(client)
    closing.close()


async def _led(broker: Broker, name: str, number: int = 0) -> tuple[Topic, Partition]:
    await _until(lambda: isinstance(broker.replicas.by_name(name, number), Partition))
    partition = broker.replicas.by_name(name, number)
    assert isinstance(partition, Partition)
    await _until(lambda: partition.leader is not None)
    return Topic(name, partition.topic_id, 1), partition


async def _prepare(broker: Broker) -> None:
    topics = [NewTopic(REMOTE, 1, 1, configs=_CONFIGS), NewTopic(LOCAL, 1, 1)]
    await broker.services.admin.create_topics(topics)
    for name in (REMOTE, LOCAL):
        topic, partition = await _led(broker, name)
        frame = produce_frame(topic, [0], batch(100, 1_000), 13, -1)
        for _ in range(60):
            _serve(broker.dispatcher, Connection(), frame)
        if name == REMOTE:
            await _until(lambda p=partition: p.log.local_log_start_offset > 2_000)


async def _run(directory: Path, row: str, count: int) -> None:
    """A row, or ``prepare``."""
    pairs = [f"{name}={value}" for name, value in _OVERRIDES.items()]
    broker = Broker(embedded(directory, "127.0.0.1", 0, -1, pairs))
    await broker.start()
    if row == PREPARE:
        await _prepare(broker)
    elif row in CONNECTIONS:
        await _connected(broker, row, count)
    elif row == "produce":
        topic, _ = await _led(broker, REMOTE)
        frame = produce_frame(topic, [0], batch(10, 100), 13, -1)
        _serve_counted(broker.dispatcher, Connection(), frame, count)
    else:
        name, max_bytes = READS[row]
        topic, _ = await _led(broker, name)
        await _read(broker, topic, max_bytes, count)
    await broker.stop()


def _counted(directory: Path, row: str, count: int) -> int:
    command = [sys.executable, "-m", "benchmarks.instructions", "--row", row, "--requests", str(count)]
    if row != PREPARE:
        command = ["valgrind", "--tool=callgrind", *CALLGRIND, *command]
    with tempfile.TemporaryDirectory() as copies:
        place = directory
        if row != PREPARE:
            place = Path(shutil.copytree(directory, Path(copies) / "data"))
        environment = {**os.environ, "PYTHONHASHSEED": "0"}
        command += ["--data", str(place)]
        found = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    collected = COLLECTED.search(found.stderr)
    if found.returncode or (collected is None and row != PREPARE):
        raise RuntimeError(found.stderr[-2_000:])
    return int(collected[1]) if collected is not None else 0


def figures(requests: int, rows: Sequence[str]) -> Iterator[tuple[str, int]]:
    """(row, instructions of one request)."""
    with tempfile.TemporaryDirectory() as prepared:
        directory = Path(prepared)
        _counted(directory, PREPARE, 0)
        for row in rows:
            yield row, _counted(directory, row, requests) // requests


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--requests", type=int, default=2_000)
    parser.add_argument("--row", choices=(*ROWS, PREPARE))
    parser.add_argument("--data", type=Path, help="Run the row itself, on records that are there.")
    asked = parser.parse_args()
    if asked.data is not None:
        uvloop.run(_run(asked.data, asked.row, asked.requests))
        return
    for row, instructions in figures(asked.requests, [asked.row] if asked.row else ROWS):
        print(f"{row:12} {instructions:>12,} instructions a request", flush=True)


if __name__ == "__main__":
    main()
