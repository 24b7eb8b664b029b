"""What the kernel keeps between calls stands for nothing that is gone; what it changes in place is nobody else's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.asker import AskerInProcess
from tests.unit.broker.test_config_effects import running, until
from tests.unit.kernel.test_produce import NOW_MS
from tests.unit.kernel.test_runs import frame_of
from tierlog import kernel
from tierlog.broker.node import Broker
from tierlog.broker.replicas.partition import Partition
from tierlog.metadata.control.topics import NewTopic
from tierlog.records.records import Record, build_batch

pytestmark = pytest.mark.skipif(kernel.compiled is None, reason="no kernel here")


def sequenced(sequence: int, count: int = 1) -> bytes:
    records = [Record(b"k", b"v", NOW_MS) for _ in range(count)]
    return bytes(build_batch(records, producer_id=7, producer_epoch=0, base_sequence=sequence))


def frame_for(topic: str | bytes, batch: bytes) -> memoryview:
    """For its one partition, by name or by id."""
    by_name = isinstance(topic, str)
    frame = frame_of(topic, b"", 0, batch) if by_name else frame_of("", topic, 0, batch, 13)
    return memoryview(bytearray(frame[4:]))


def produce(broker: Broker, topic: str | bytes, batch: bytes) -> bytes:
    peer = AskerInProcess()
    broker.dispatcher.dispatch(peer, frame_for(topic, batch))
    return b"".join(map(bytes, peer.replies))


def serve(broker: Broker, topic: str | bytes, batch: bytes) -> object:
    """By the kernel alone."""
    assert broker.dispatcher.hot is not None
    return broker.dispatcher.hot.serve(AskerInProcess(), frame_for(topic, batch), 0.0)


async def created(broker: Broker, topic: str) -> Partition:
    await broker.services.admin.create_topics([NewTopic(topic, 1, 1, configs={"flush.mode": "os"})])
    await until(lambda: getattr(broker.replicas.by_name(topic, 0), "leader", None) is not None)
    found = broker.replicas.by_name(topic, 0)
    assert isinstance(found, Partition)
    return found


async def test_partitions_that_come_and_go(tmp_path: Path) -> None:
    """Under one name, and beside others whose keys lie in the same place."""
    async with running(tmp_path) as broker:
        others = [await created(broker, f"t{number:03}") for number in range(12)]
        for other in others:
            produce(broker, other.topic_partition.topic, sequenced(0))
        for _ in range(3):
            partition = await created(broker, "again")
            topic_id = bytes(partition.topic_id)
            produce(broker, "again", sequenced(0))
            for number in range(4):
                assert serve(broker, "again", sequenced(2 * number + 1)) is True
                assert serve(broker, topic_id, sequenced(2 * number + 2)) is True
                for other in others:
                    end_offset = other.log.log_end_offset
                    assert serve(broker, other.topic_partition.topic, sequenced(end_offset)) is True
            assert partition.log.log_end_offset == 9
            del partition
            await broker.services.admin.delete_topics([topic_id])
            await until(lambda: not isinstance(broker.replicas.by_name("again", 0), Partition))
            for name, code in (("again", b"\x00\x03"), (topic_id, b"\x00\x64")):
                assert serve(broker, name, sequenced(9)) is None
                assert code in produce(broker, name, sequenced(9))
        assert [other.log.log_end_offset for other in others] == [13] * len(others)


def integers(value: Any, depth: int = 6) -> Iterator[int]:
    """All integers that can be reached from there, themselves."""
    if type(value) is int:
        yield value
    elif depth and isinstance(value, list | tuple):
        for each in value:
            yield from integers(each, depth - 1)
    elif depth:
        for name in {name for kind in type(value).__mro__ for name in getattr(kind, "__slots__", ())}:
            if isinstance(found := getattr(value, name, None), int | list | tuple):
                yield from integers(found, depth - 1)


async def test_an_integer_that_another_holds_is_left_as_it_is(tmp_path: Path) -> None:
    async with running(tmp_path) as broker:
        partition = await created(broker, "held")
        log = partition.log
        produce(broker, "held", sequenced(0, 300))
        for number in range(20):
            produce(broker, "held", sequenced(300 + number))
        entry = log.producers.get(7)
        assert entry is not None
        places = [log, log.segments, log.segments.active, log.producers, log._positions, entry]
        places += [partition, partition.leader, partition.traffic, broker.requests.by_key[0]]
        held = [number for place in places for number in integers(place)]
        wanted = [int(str(number)) for number in held]
        for number in range(20):
            produce(broker, "held", sequenced(320 + number))
        assert held == wanted
        assert len({*wanted}) > 40
        assert (log.log_end_offset, entry.batches[-1].last_sequence) == (340, 339)
