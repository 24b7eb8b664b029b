"""Produce in the kernel and by the handler alone: two brokers given the same frames reply, remember and write the same.

``TIERLOG_KERNEL_INPUTS``: how many frames.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any, TypeAlias

import pytest

from tests.asker import AskerInProcess
from tests.patience import PATIENT_S
from tests.unit.broker.test_config_effects import running, until
from tierlog import kernel
from tierlog.broker import bugs
from tierlog.broker.handlers.hot_produce import hot_produce
from tierlog.broker.network import dispatch
from tierlog.broker.network.context import CloseConnection
from tierlog.broker.network.ports import Hot
from tierlog.broker.node import Broker
from tierlog.broker.replicas.partition import Partition
from tierlog.errors import MalformedMessage
from tierlog.log.files.filesystem import REAL
from tierlog.log.files.names import LOG, SEGMENT_SUFFIXES
from tierlog.log.indexes import OffsetIndex, SparseIndex
from tierlog.metadata.control.topics import NewTopic
from tierlog.records.batch import COUNT_AT, LAST_OFFSET_DELTA_AT, Compression, seal
from tierlog.records.records import Record, build_batch
from tierlog.wire.codec import encode
from tierlog.wire.framing import encode_request
from tierlog.wire.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData

pytestmark = pytest.mark.skipif(kernel.compiled is None, reason="no kernel here")

INPUTS = int(os.environ.get("TIERLOG_KERNEL_INPUTS", "2000"))
PRODUCE = 0
PARTITIONS = 3
CALM = ["plain", "small", "strict", "durable", "checked"]
"""Topics and frames that the kernel serves, mostly; the others are nearly all the handler's."""
NOW_MS = 1_700_000_000_000
TOPICS: dict[str, dict[str, str]] = {
    "plain": {},
    "small": {"internal.segment.bytes": "4000", "index.interval.bytes": "200", "max.message.bytes": "1500"},
    "compacted": {"cleanup.policy": "compact"},
    "appended": {"message.timestamp.type": "LogAppendTime"},
    "strict": {"message.timestamp.before.max.ms": "1000", "message.timestamp.after.max.ms": "1000"},
    "durable": {"flush.mode": "ack"},
    "checked": {"flush.messages": "5", "segment.ms": "60000"},
}


class Counting:
    def __init__(self, hot: Hot) -> None:
        self._serve = hot.serve
        self.outcomes: Counter[str] = Counter()

    def serve(self, connection: Any, frame: memoryview, arrival_s: float, /) -> Any:
        outcome = self._serve(connection, frame, arrival_s)
        self.outcomes[type(outcome).__name__] += 1
        return outcome


class Peer(AskerInProcess):
    """Keeps what a reply that waits will say, and for which batches it waits."""

    def __init__(self) -> None:
        super().__init__()
        self.waited_count = 0

    def keep_place(self, place: Any) -> None:
        self.waited_count += 1
        batches = [(partition.topic_partition, *rest) for partition, *rest in place._batches]
        self.replies.append(b"".join(place._answer) + repr(batches).encode())


@asynccontextmanager
async def broker_with_topics(directory: Path) -> AsyncIterator[Broker]:
    async with running(directory) as broker:
        topics = [
            NewTopic(name, PARTITIONS, 1, configs={"flush.mode": "os", **configs})
            for name, configs in TOPICS.items()
        ]
        results = await broker.services.admin.create_topics(topics)
        assert [each.message for each in results if each.error] == []
        await until(lambda: len(leading(broker)) == len(TOPICS) * PARTITIONS)
        broker.services.now_ms = lambda: NOW_MS
        yield broker


def leading(broker: Broker) -> list[Partition]:
    return [each for each in broker.replicas if each.leader is not None]


class Producers:
    """Batches of a few producers, most of them in sequence, and of none."""

    def __init__(self, rng: Random, broker: Broker) -> None:
        self._rng = rng
        self._broker = broker
        self._sent: list[bytes] = []

    def batch(self, topic: str, partition: int, calm: bool) -> bytes:
        rng = self._rng
        if self._sent and not calm and rng.random() < 0.1:
            return rng.choice(self._sent)
        count = rng.choice([1, 1, 1, 2, 10, 200])
        time_ms = NOW_MS + rng.choice([0, 0, 0, 5, -500, -100_000, 100_000][: 4 if calm else None])
        records = [
            Record(rng.choice([b"k", None, b""]), rng.randbytes(rng.choice([0, 10, 100])), time_ms + each)
            for each in range(count)
        ]
        packed = rng.choice([Compression.NONE] * 4 + [Compression.LZ4, Compression.ZSTD, Compression.GZIP])
        batch = build_batch(records, compression=packed, **self._producer(topic, partition, count, calm))
        if not calm and rng.random() < 0.2:
            self._spoil(batch)
        self._sent = [*self._sent[-20:], bytes(batch)]
        return bytes(batch)

    def _producer(self, topic: str, partition: int, count: int, calm: bool) -> dict[str, int]:
        rng = self._rng
        producer_id = rng.choice([-1, -1, 7, 8, 2**40])
        if producer_id < 0:
            return {}
        found = self._broker.replicas.by_name(topic, partition)
        known = found.log.producers.get(producer_id) if isinstance(found, Partition) else None
        epoch, sequence = 0, rng.choice([0, 2**31 - 3])
        if known is not None and known.batches:
            epoch, sequence = known.producer_epoch, known.batches[-1].last_sequence + 1
        if not calm and rng.random() < 0.3:
            epoch = rng.choice([epoch - 1, epoch, epoch + 1, epoch])
            sequence = rng.choice([0, 1, sequence + 1, 2**31 - 1])
        return {"producer_id": producer_id, "producer_epoch": epoch, "base_sequence": sequence & 0x7FFFFFFF}

    def _spoil(self, batch: bytearray) -> None:
        rng = self._rng
        kind = rng.randrange(4)
        if kind == 0:  # A field of the header, under a checksum that holds or does not.
            at = rng.randrange(61)
            batch[at] ^= 1 << rng.randrange(8)
            if rng.random() < 0.7 and at > 16:
                seal(batch, 0, len(batch))
        elif kind == 1:
            count = rng.choice([0, -1, 2**31 - 1, 2])
            batch[COUNT_AT : COUNT_AT + 4] = count.to_bytes(4, "big", signed=True)
            if rng.random() < 0.5:
                delta = max(count - 1, 0)
                batch[LAST_OFFSET_DELTA_AT : LAST_OFFSET_DELTA_AT + 4] = delta.to_bytes(4, "big")
            seal(batch, 0, len(batch))
        elif kind == 2:
            batch[rng.randrange(len(batch))] ^= 0xFF
        else:
            del batch[rng.randrange(len(batch)) :]


def frames(broker: Broker, seed: int, always_calm: bool = False) -> Any:
    rng = Random(seed)
    producers = Producers(rng, broker)
    ids = {each.topic_partition.topic: each.topic_id for each in broker.replicas}
    while True:
        topics = []
        calm = always_calm or rng.random() < 0.7
        names = CALM if calm else [*TOPICS, "absent", "__consumer_offsets"]
        for name in rng.sample(names, rng.choice([1, 1, 1, 2, 3])):
            rows = rng.sample(range(PARTITIONS), rng.choice([1, 1, 1, 2, 3]))
            if not calm and rng.random() < 0.2:
                rows = [rng.randrange(PARTITIONS + 1) for _ in rows]
            data: list[PartitionProduceData] = []
            for row in rows:
                records: Any = producers.batch(name, row, calm)
                if not calm and rng.random() < 0.05:
                    records = rng.choice([None, b"", records + records])
                data.append(PartitionProduceData(index=row, records=records))
            topic_id = ids.get(name, b"\7" * 16)
            topics.append(TopicProduceData(name=name, topic_id=topic_id, partition_data=data))
        version = rng.randrange(3, 14)
        request = ProduceRequest(
            transactional_id=None if calm else rng.choice([None] * 30 + ["x"]),
            acks=rng.choice([1, -1] if always_calm else [1, 1, -1, -1, 0] if calm else [1, -1, 0, 2]),
            timeout_ms=1000,
            topic_data=topics,
        )
        body = encode(request, version)
        client_id = rng.choice(["c", "other", None, ""] if calm else ["c", "ü"])
        frame = bytearray(
            b"".join(encode_request(PRODUCE, version, rng.getrandbits(31), client_id, body))[4:]
        )
        if not calm and rng.random() < 0.15:
            frame[rng.randrange(len(frame))] ^= 1 << rng.randrange(8)
        if not calm and rng.random() < 0.1:
            del frame[rng.randrange(len(frame)) :]
        if rng.random() < 0.03:
            frame += rng.randbytes(5)
        yield bytes(frame), rng.randrange(2)


def topic_ids_of(broker: Broker, other: Broker) -> dict[bytes, bytes]:
    """Topic ids are a broker's own: what is sent to the other by id, or comes from it, is translated."""
    ids = {each.topic_partition: bytes(each.topic_id) for each in other.replicas}
    return {bytes(each.topic_id): ids[each.topic_partition] for each in broker.replicas}


def renamed(data: bytes, alike: dict[bytes, bytes]) -> bytes:
    for own, others in alike.items():
        data = data.replace(own, others)
    return data


def served(broker: Broker, peer: AskerInProcess, frame: bytes) -> object:
    """What became of it: the replies, or why the connection is closed."""
    peer.replies.clear()
    try:
        broker.dispatcher.dispatch(peer, memoryview(bytearray(frame)))
    except (MalformedMessage, CloseConnection) as error:
        return repr(error)
    return [*peer.replies]


def log_of(partition: Partition) -> object:
    log = partition.log
    active = log.segments.active
    return (
        (
            log.log_end_offset,
            log.log_start_offset,
            log.bytes_since_writeback,
            log.segments.size_bytes,
            log.is_broken,
        ),
        [(each.base_offset, each.size_bytes, each.end_offset) for each in log.segments],
        (
            active.bytes_since_index_entry,
            active.max_timestamp,
            active.max_timestamp_offset,
            active.first_timestamp,
        ),
        (
            active.offset_index.count,
            active.time_index.count,
            active.offset_index._last,
            active.time_index._last,
        ),
        [[getattr(entry, each) for each in entry.__slots__] for entry in log.producers.entries()],
        (log.producers.map_end_offset, list(log.epochs.entries)),
        (log._positions._appended, log._positions._positions),
        [each.base_offset for each in log._positions._segments],
    )


def remembered(partition: Partition) -> object:
    leader, traffic = partition.leader, partition.traffic
    assert leader is not None
    return (
        log_of(partition),
        (leader.high_watermark, leader.durable_end_offset),
        (partition.changes, partition._bytes_since_watermark),
        (traffic.messages_in, traffic.bytes_in, traffic.producer.client_id),
    )


def files(broker: Broker) -> dict[str, bytes]:
    found = {}
    for partition in leading(broker):
        for segment in partition.log.segments:
            segment.write_out_indexes()
            for suffix in SEGMENT_SUFFIXES:
                path = segment.path(suffix)
                found["/".join(path.parts[-2:])] = path.read_bytes() if path.exists() else b""
    return found


@pytest.mark.parametrize("seed", [1, 2])
async def test_the_same_from_both(tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # Else a busy machine decides which of the longer frames are answered later.
    monkeypatch.setattr(dispatch, "SHORT_FRAME_BYTES", 1 << 30)
    async with (
        broker_with_topics(tmp_path / "kernel") as hot,
        broker_with_topics(tmp_path / "twin") as twin,
    ):
        alike = topic_ids_of(hot, twin)
        produce = hot_produce(hot.services, hot.requests.by_key[PRODUCE])
        assert produce is not None
        counting = hot.dispatcher.hot = Counting(produce)
        twin.dispatcher.hot = None
        ours, theirs = [Peer(), Peer()], [Peer(), Peer()]
        source = frames(hot, seed)
        taken = 0
        for number in range(INPUTS // 2):
            frame, which = next(source)
            found = served(hot, ours[which], frame)
            wanted = served(twin, theirs[which], renamed(frame, alike))
            if isinstance(wanted, list):
                wanted = [renamed(reply, {b: a for a, b in alike.items()}) for reply in wanted]
            assert found == wanted, (number, frame.hex())
        pairs = {each.topic_partition: each for each in leading(twin)}
        for partition in leading(hot):
            assert remembered(partition) == remembered(pairs[partition.topic_partition]), (
                partition.topic_partition
            )
            taken += partition.log.log_end_offset
        assert taken > INPUTS // 4
        waited_count = ours[0].waited_count + ours[1].waited_count
        assert min(waited_count, counting.outcomes["bool"], counting.outcomes["NoneType"]) > INPUTS // 100
        assert files(hot) == files(twin)


async def test_the_same_over_a_socket(tmp_path: Path) -> None:
    """In pieces of any length, many requests in flight, some of them for the handler."""
    rng = Random(3)
    async with (
        broker_with_topics(tmp_path / "kernel") as hot,
        broker_with_topics(tmp_path / "twin") as twin,
    ):
        hot.dispatcher.hot = hot_produce(hot.services, hot.requests.by_key[PRODUCE])
        twin.dispatcher.hot = None
        alike = topic_ids_of(hot, twin)
        ours, theirs = [
            await asyncio.open_connection("127.0.0.1", each.endpoints[0].port) for each in (hot, twin)
        ]
        source = (frame for frame, _ in frames(hot, 4, always_calm=True))
        for _ in range(INPUTS // 100):
            sent = list(islice(source, rng.choice([1, 5, 150])))
            data = b"".join(len(frame).to_bytes(4, "big") + frame for frame in sent)
            for peer, stream in ((ours, data), (theirs, renamed(data, alike))):
                await send_in_pieces(peer[1], stream, rng)
            for _ in sent:
                found, wanted = await received(ours[0]), await received(theirs[0])
                assert found == renamed(wanted, {b: a for a, b in alike.items()})
        for _, writer in (ours, theirs):
            writer.close()
        pairs = {each.topic_partition: each for each in leading(twin)}
        for partition in leading(hot):
            assert log_of(partition) == log_of(pairs[partition.topic_partition])
        assert files(hot) == files(twin)


async def send_in_pieces(writer: asyncio.StreamWriter, data: bytes, rng: Random) -> None:
    at = 0
    while at < len(data):
        piece = rng.choice([1, 3, 100, 5_000, 100_000])
        writer.write(data[at : at + piece])
        at += piece
        await asyncio.sleep(0)


async def received(reader: asyncio.StreamReader) -> bytes:
    async with asyncio.timeout(PATIENT_S):
        size = await reader.readexactly(4)
        return size + await reader.readexactly(int.from_bytes(size, "big"))


def record_batch_of(value: bytes) -> bytes:
    return bytes(build_batch([Record(b"k", value, NOW_MS)]))


class Disk:
    """The real one, but for ``pwrite``."""

    def __init__(self, pwrite: Callable[[int, Any, int], int]) -> None:
        self.pwrite = pwrite

    def __getattr__(self, name: str) -> Any:
        return getattr(REAL, name)


class NoPositions:
    def __getattr__(self, name: str) -> Any:
        raise RuntimeError("a bug")


def fails(*_: Any, **__: Any) -> Any:
    raise RuntimeError("a bug")


def is_full(*_: Any) -> int:
    raise OSError(errno.ENOSPC, "No space left on device")


def half(fd: int, data: Any, position: int) -> int:
    return REAL.pwrite(fd, data[: len(data) // 2], position)


def only_of(there: Any, original: Callable[..., Any]) -> Callable[..., Any]:
    return lambda self, *args: fails() if self is there else original(self, *args)


Spoil: TypeAlias = Callable[[Partition, pytest.MonkeyPatch], None]


def with_disk(pwrite: Callable[[int, Any, int], int]) -> Spoil:
    return lambda partition, patch: patch.setattr(partition.log.segments.active, "filesystem", Disk(pwrite))


def with_broken_index(partition: Partition, patch: pytest.MonkeyPatch) -> None:
    """Its entries are due at once, and go through Python."""
    active = partition.log.segments.active
    active.bytes_since_index_entry = 1 << 20
    patch.setattr(SparseIndex, "tail_bytes", 0)
    patch.setattr(OffsetIndex, "append", only_of(active.offset_index, OffsetIndex.append))


SPOILS: dict[str, tuple[str, Spoil]] = {
    "a full disk": ("small", with_disk(is_full)),
    "a short write": ("small", with_disk(half)),
    "a bug in the write": ("small", with_disk(fails)),
    "a bug in the index": ("small", with_broken_index),
    "a bug in the positions": (
        "small",
        lambda partition, patch: patch.setattr(partition.log, "_positions", NoPositions()),
    ),
    "a bug in who is told": (
        "durable",
        lambda partition, patch: patch.setattr(
            Partition, "_on_appended", only_of(partition, Partition._on_appended)
        ),
    ),
}


@pytest.mark.parametrize("what", SPOILS)
async def test_what_fails_behind_the_checks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """Of two partitions the second fails: it is refused as by the handler, its log stays as it was, the first is kept."""
    topic, spoil = SPOILS[what]
    monkeypatch.delenv(bugs.FATAL_VARIABLE, raising=False)
    async with (
        broker_with_topics(tmp_path / "kernel") as hot,
        broker_with_topics(tmp_path / "twin") as twin,
    ):
        twin.dispatcher.hot = None
        told = []
        for broker in (hot, twin):
            batches = [record_batch_of(b"a" * 300), record_batch_of(b"b" * 300)]
            rows = [PartitionProduceData(index=row, records=batch) for row, batch in enumerate(batches)]
            topics = [TopicProduceData(name=topic, partition_data=rows)]
            request = ProduceRequest(acks=-1, timeout_ms=1000, topic_data=topics)
            frame = b"".join(encode_request(PRODUCE, 9, 5, "c", encode(request, 9)))[4:]
            peer = AskerInProcess()
            for _ in range(3):
                assert served(broker, peer, frame) != []
            second = broker.replicas.by_name(topic, 1)
            assert isinstance(second, Partition)
            log = second.log
            with monkeypatch.context() as patched:
                spoil(second, patched)
                told.append(served(broker, peer, frame))
            size_bytes = log.segments.active.size_bytes
            assert log.segments.active.path(LOG).stat().st_size == size_bytes
            told.append([log.log_end_offset, log.is_broken, second.offline, size_bytes])
            told.append(served(broker, peer, frame))
        assert told[:3] == told[3:]
