"""Instructions of requests on their whole way through a connection, those that wait included, counted by callgrind.

    python -m benchmarks.waiting_instructions [--requests 400] [--row ROW] [--out FILE]

As ``benchmarks.instructions``, but each frame goes into a connection as its socket would put it there, and counted are all
turns of the loop up to the last reply; not the threads beside it, and not the system. Rows: OffsetCommit of ten offsets in
the default flush mode, one request in flight and five; a Produce of one batch with acks=all that waits for a follower, whose
progress is reported by hand, again with one and five in flight; and Metadata of all topics, of which there are so many.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks import offsets
from benchmarks.instructions import COLLECTED, WARM_UP
from benchmarks.wire import CORRELATION_ID, Topic, batch, produce_frame
from tierlog.broker.network.connection import Connection
from tierlog.broker.node import Broker
from tierlog.broker.replicas.partition import Partition
from tierlog.cli.broker import embedded
from tierlog.metadata.control.topics import NewTopic
from tierlog.replication.fetches import FollowerFetch
from tierlog.replication.leader import Leader
from tierlog.types import Buffer
from tierlog.wire.codec import encode
from tierlog.wire.framing import encode_request
from tierlog.wire.messages.metadata import MetadataRequest

ROWS = ("commit-1", "commit-5", "waiting-1", "waiting-5", "metadata-1", "metadata-100", "metadata-1000")
METADATA, METADATA_VERSION = 3, 12
OFFSETS_PER_COMMIT = 10
FOLLOWER = 2
_PAIRS = ["remote.log.storage.system.enable=false", "offsets.topic.num.partitions=1"]


class Wire(asyncio.Transport):
    """Takes what a connection sends, and counts the replies that are missing."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 1)})
        self.missing = 0
        self.done: asyncio.Future[None] | None = None

    def is_closing(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Nothing is held back."""

    def writelines(self, buffers: Any) -> None:
        # Each reply begins with a buffer that has its size prefix; a gathered write may hold several.
        data: Buffer = b"".join(buffers)
        at = 0
        while at < len(data):
            at += 4 + int.from_bytes(data[at : at + 4], "big")
            self.missing -= 1
        assert at == len(data)
        if self.done is not None and not self.missing:
            self.done.set_result(None)

    def pause_reading(self) -> None:
        """All frames of a step are here already."""

    def resume_reading(self) -> None:
        """As above."""

    def abort(self) -> None:
        assert self.done is None or self.done.done(), "the broker has closed the connection"

    close = abort


class Client:
    """Sends frames through a connection of the broker's first listener."""

    def __init__(self, broker: Broker) -> None:
        self.wire = Wire()
        self._connection = Connection(broker.listeners[0], broker.dispatcher)
        self._connection.connection_made(self.wire)

    def send(self, frames: Sequence[bytes]) -> None:
        """As one read of the socket."""
        data = b"".join(frames)
        self._connection.get_buffer(-1)[: len(data)] = data
        self._connection.buffer_updated(len(data))

    async def ask(self, frames: Sequence[bytes], release: Callable[[], None] | None) -> None:
        """Sends the frames and waits for their replies. ``release``: lets those that wait by now go on; None where
        they go on by themselves."""
        wire = self.wire
        wire.missing = len(frames)
        wire.done = asyncio.get_running_loop().create_future()
        self.send(frames)
        while release is not None and wire.missing:
            release()
            await asyncio.sleep(0)
        await wire.done


async def _until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(600):
        while not condition():
            await asyncio.sleep(0.01)


async def _started(directory: Path) -> Broker:
    broker = Broker(embedded(directory, "127.0.0.1", 0, -1, _PAIRS))
    await broker.start()
    return broker


async def _create(broker: Broker, names: Sequence[str], partitions: int = 1) -> list[Partition]:
    """The last partition of each topic, once this broker leads it."""
    topics = [NewTopic(name, partitions, 1, configs={"flush.mode": "os"}) for name in names]
    await broker.services.admin.create_topics(topics)

    def led() -> list[Partition]:
        found = [broker.replicas.by_name(name, partitions - 1) for name in names]
        return [each for each in found if isinstance(each, Partition) and each.leader is not None]

    await _until(lambda: len(led()) == len(names))
    return led()


def _followed(partition: Partition) -> Callable[[], None]:
    """Gives the partition a follower; returns what reports that it has everything."""
    led, log = partition.leader, partition.log
    assert led is not None
    partition.leader = Leader(
        broker_id=led.broker_id,
        leader_epoch=led.leader_epoch,
        epoch_start_offset=led.epoch_start_offset,
        isr=frozenset({led.broker_id, FOLLOWER}),
        min_isr=1,
        partition_epoch=led.partition_epoch,
        durable_end_offset=led.durable_end_offset,
        high_watermark=led.high_watermark,
        replicas=frozenset({led.broker_id, FOLLOWER}),
    )

    def report() -> None:
        if partition.high_watermark == log.log_end_offset:
            return
        fetch = FollowerFetch(FOLLOWER, 1, led.leader_epoch, log.log_end_offset, led.leader_epoch, 0)
        assert partition.serve_follower(fetch, 0).watermark_moved

    return report


async def _prepared(broker: Broker, kind: str, count: int) -> tuple[list[bytes], Callable[[], None] | None]:
    """The frames of one step, and what lets those that wait go on."""
    if kind == "commit":
        await _create(broker, ["committed"], OFFSETS_PER_COMMIT * count)
        await asyncio.to_thread(
            offsets.await_coordinator, f"127.0.0.1:{broker.listeners[0].port}", "committed"
        )
        return offsets.frames("committed", OFFSETS_PER_COMMIT * count, OFFSETS_PER_COMMIT, 42), None
    if kind == "waiting":
        (partition,) = await _create(broker, ["rows"])
        topic = Topic("rows", partition.topic_id, 1)
        return [produce_frame(topic, [0], batch(1, 100), 13, -1)] * count, _followed(partition)
    await _create(broker, [f"topic-{number}" for number in range(count)])
    body = encode(MetadataRequest(topics=None), METADATA_VERSION)
    return [b"".join(encode_request(METADATA, METADATA_VERSION, CORRELATION_ID, "benchmark", body))], None


def _run(directory: Path, row: str, requests: int) -> None:
    kind, count = row.split("-")
    with asyncio.Runner() as runner:
        broker = runner.run(_started(directory))
        frames, release = runner.run(_prepared(broker, kind, int(count)))
        client = Client(broker)

        async def steps(total: int) -> None:
            for _ in range(0, total, len(frames)):
                await client.ask(frames, release)

        runner.run(steps(WARM_UP))
        # Callgrind knows by name the function that counts what is called inside.
        functools.reduce(lambda _, total: runner.run(steps(total)), [requests], None)
        runner.run(broker.stop())


def counted(row: str, requests: int, out: str) -> int:
    """Instructions of one request."""
    callgrind = [
        f"--callgrind-out-file={out}",
        "--collect-atstart=no",
        "--toggle-collect=functools_reduce",
    ]
    with tempfile.TemporaryDirectory() as directory:
        command = ["valgrind", "--tool=callgrind", *callgrind, sys.executable, "-m", __spec__.name]
        command += ["--row", row, "--requests", str(requests), "--data", directory]
        environment = {**os.environ, "PYTHONHASHSEED": "0"}
        found = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    collected = COLLECTED.search(found.stderr)
    if found.returncode or collected is None:
        raise RuntimeError(found.stderr[-2_000:])
    return int(collected[1]) // requests


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--requests", type=int, default=500)
    parser.add_argument("--row", choices=ROWS)
    parser.add_argument("--out", default="/dev/null", help="where callgrind writes what it has counted")
    parser.add_argument("--data", type=Path, help="Run the row itself, in this directory.")
    asked = parser.parse_args()
    if asked.data is not None:
        _run(asked.data, asked.row, asked.requests)
        return
    for row in [asked.row] if asked.row else ROWS:
        print(f"{row:14} {counted(row, asked.requests, asked.out):>12,} instructions a request", flush=True)


if __name__ == "__main__":
    main()
