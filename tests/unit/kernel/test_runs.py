"""Many requests of one read for one partition, which the kernel writes together: a broker with it and one without reply,
remember and write the same, whatever lies among them and whatever fails.

``TIERLOG_KERNEL_INPUTS``: how many frames.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.unit.kernel.test_produce import (
    INPUTS,
    NOW_MS,
    PRODUCE,
    SPOILS,
    broker_with_topics,
    files,
    leading,
    log_of,
    received,
    renamed,
    topic_ids_of,
)
from tierlog import kernel
from tierlog.broker import bugs
from tierlog.broker.handlers.hot_produce import hot_produce
from tierlog.broker.node import Broker
from tierlog.broker.replicas.partition import Partition
from tierlog.log.files.filesystem import Filesystem
from tierlog.records.records import Record, build_batch
from tierlog.wire.codec import encode
from tierlog.wire.framing import encode_request
from tierlog.wire.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData

pytestmark = pytest.mark.skipif(kernel.compiled is None, reason="no kernel here")


def frame_of(topic: str, topic_id: bytes, row: int, batch: bytes, version: int = 9, acks: int = 1) -> bytes:
    data = TopicProduceData(
        name=topic, topic_id=topic_id, partition_data=[PartitionProduceData(index=row, records=batch)]
    )
    request = ProduceRequest(acks=acks, timeout_ms=1000, topic_data=[data])
    return b"".join(encode_request(PRODUCE, version, 7, "c", encode(request, version)))


class Sequences:
    """Batches of a few producers that follow each other; now and then one that does not."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._next: dict[tuple[str, int, int], int] = {}

    def batch(self, topic: str, row: int, producer_id: int) -> bytes:
        rng = self._rng
        count = rng.choice([1, 1, 1, 3])
        records = [
            Record(b"k", rng.randbytes(rng.choice([0, 20, 300])), NOW_MS + each) for each in range(count)
        ]
        off, is_spoilt = rng.choice([0] * 200 + [1, -1]), rng.random() < 0.005
        key = (topic, row, producer_id)
        sequence = self._next.get(key, 0)
        fields: dict[str, int] = {}
        if producer_id >= 0:
            fields = {
                "producer_id": producer_id,
                "producer_epoch": 0,
                "base_sequence": max(sequence + off, 0),
            }
        batch = build_batch(records, **fields)
        if is_spoilt:
            batch[-1] ^= 0xFF
        elif off == 0:
            self._next[key] = sequence + count
        return bytes(batch)


def streams(broker: Broker, seed: int) -> Iterator[list[bytes]]:
    """What is sent at once: runs of any length, for one partition after another."""
    rng = Random(seed)
    sequences = Sequences(rng)
    ids = {each.topic_partition.topic: each.topic_id for each in broker.replicas}
    while True:
        sent = []
        for _ in range(rng.choice([1, 3])):
            topic, row = rng.choice(["plain"] * 6 + ["small", "small", "durable"]), rng.randrange(2)
            producer_id, version = rng.choice([-1, 7, 8]), rng.choice([7, 9, 13])
            acks = rng.choice([1, 1, -1])
            for _ in range(rng.choice([1, 2, 5, 20])):
                batch = sequences.batch(topic, row, producer_id)
                sent.append(frame_of(topic, ids[topic], row, batch, version, acks))
        yield sent


class Writes:
    """How often each broker wrote to its logs."""

    def __init__(self, patch: pytest.MonkeyPatch, directory: Path) -> None:
        self.count = {"kernel": 0, "twin": 0}
        self._directory = directory
        patch.setattr(Filesystem, "pwrite", staticmethod(self._pwrite))

    def _pwrite(self, fd: int, data: Any, position: int) -> int:
        path = Path(os.readlink(f"/proc/self/fd/{fd}"))
        self.count[path.relative_to(self._directory).parts[0]] += path.suffix == ".log"
        return os.pwrite(fd, data, position)


async def test_runs_are_written_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with (
        broker_with_topics(tmp_path / "kernel") as hot,
        broker_with_topics(tmp_path / "twin") as twin,
    ):
        hot.dispatcher.hot = hot_produce(hot.services, hot.requests.by_key[PRODUCE])
        twin.dispatcher.hot = None
        alike = topic_ids_of(hot, twin)
        back = {theirs: ours for ours, theirs in alike.items()}
        peers = [await asyncio.open_connection("127.0.0.1", each.endpoints[0].port) for each in (hot, twin)]
        writes = Writes(monkeypatch, tmp_path)
        source, frame_count = streams(hot, 5), 0
        while frame_count < INPUTS // 2:
            sent = next(source)
            frame_count += len(sent)
            data = b"".join(sent)
            for (_, writer), stream in zip(peers, (data, renamed(data, alike)), strict=True):
                writer.write(stream)
            for number in range(len(sent)):
                found, wanted = await received(peers[0][0]), await received(peers[1][0])
                assert found == renamed(wanted, back), (frame_count, number)
        for _, writer in peers:
            writer.close()
        pairs = {each.topic_partition: each for each in leading(twin)}
        for partition in leading(hot):
            assert log_of(partition) == log_of(pairs[partition.topic_partition])
        assert files(hot) == files(twin)
        assert 0 < writes.count["kernel"] < 0.7 * writes.count["twin"], writes.count


@pytest.mark.parametrize("what", [each for each in SPOILS if SPOILS[each][0] == "small"])
async def test_what_fails_behind_the_checks_of_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """Each is refused as by the handler, and the log stays as it was."""
    topic, spoil = SPOILS[what]
    monkeypatch.delenv(bugs.FATAL_VARIABLE, raising=False)
    async with (
        broker_with_topics(tmp_path / "kernel") as hot,
        broker_with_topics(tmp_path / "twin") as twin,
    ):
        twin.dispatcher.hot = None
        told = []
        batch = bytes(build_batch([Record(b"k", b"a" * 50, NOW_MS)]))
        stream = b"".join(frame_of(topic, b"", 0, batch) for _ in range(5))
        for broker in (hot, twin):
            reader, writer = await asyncio.open_connection("127.0.0.1", broker.endpoints[0].port)
            writer.write(stream)
            told.append([await received(reader) for _ in range(5)])
            partition = broker.replicas.by_name(topic, 0)
            assert isinstance(partition, Partition)
            log = partition.log
            with monkeypatch.context() as patched:
                spoil(partition, patched)
                writer.write(stream)
                told.append([await received(reader) for _ in range(5)])
            size_bytes = log.segments.active.size_bytes
            told.append([log.log_end_offset, log.is_broken, partition.offline, size_bytes])
            writer.write(stream)
            told.append([await received(reader) for _ in range(5)])
            writer.close()
        for step in range(4):
            assert told[step] == told[4 + step], step
