"""A follower's rounds in the kernel and by the twin: two fetchers given the same answers ask, remember and write the same.

``TIERLOG_KERNEL_INPUTS``: how many answers.
"""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any, cast

import pytest

from tests.following import LEADER, LEADER_EPOCH, NOW_MS, OWN, SESSION, TOPIC_IDS, Around, Following, answer
from tests.unit.kernel.batches import log_bytes, spoilt
from tests.unit.kernel.test_logs import files, state
from tierlog import kernel
from tierlog.broker import bugs
from tierlog.broker.replicas.partition import Offline, Partition
from tierlog.config.topic import TopicConfig
from tierlog.log.files.filesystem import Filesystem
from tierlog.log.indexes import OffsetIndex, SparseIndex
from tierlog.records.batch import Compression
from tierlog.records.records import Record, build_batch
from tierlog.replication.follower import Follower
from tierlog.wire.messages.fetch import AbortedTransaction, EpochEndOffset, PartitionData

pytestmark = pytest.mark.skipif(kernel.compiled is None, reason="no kernel here")

INPUTS = int(os.environ.get("TIERLOG_KERNEL_INPUTS", "800"))
ANSWERS = 2_000
"""To one pair, whose logs would grow too large else."""
PARTITIONS = 3
CONFIGS = (
    TopicConfig(index_interval_bytes=300),
    TopicConfig(segment_bytes=20_000, index_interval_bytes=300, flush_messages=40),
)
ERRORS = [1, 3, 6, 9, 56, 74, 75, 76, 109]


class Loop:
    """Its time is what the test says; what is called later is called when the test says."""

    def __init__(self, real: asyncio.AbstractEventLoop) -> None:
        self.now_s = 0.0
        self._later: list[tuple[Callable[..., None], tuple[Any, ...]]] = []
        self.create_future = real.create_future

    def time(self) -> float:
        return self.now_s

    def call_soon(self, call: Callable[..., None], *args: Any) -> None:
        self._later.append((call, args))

    def call_later(self, delay_s: float, call: Callable[..., None], *args: Any) -> None:
        self._later.append((call, args))

    def run(self) -> None:
        later, self._later = self._later, []
        for call, args in later:
            call(*args)


class Disk(Filesystem):
    """Writes short once when it is told to, or nothing until the answer is taken: the twin tries again what the kernel could
    not write."""

    def __init__(self) -> None:
        self.trouble = ""

    def pwrite(self, fd: int, data: Any, position: int) -> int:  # type: ignore[override]
        if self.trouble == "full":
            raise OSError(errno.ENOSPC, "full")
        trouble, self.trouble = self.trouble, ""
        return os.pwrite(fd, data[: len(data) // 2] if trouble else data, position)


class Counting:
    def __init__(self, hot: Any) -> None:
        self._hot = hot
        self.outcomes: Counter[str] = Counter()

    def round(self, *args: Any) -> Any:
        left = self._hot.round(*args)
        name = "round" if isinstance(left, bytes) else {None: "none", 0: "whole"}.get(left, "part")
        self.outcomes[name] += 1
        return left

    def ask(self, *args: Any) -> Any:
        request = self._hot.ask(*args)
        self.outcomes["refused" if request is None else "asked"] += 1
        return request


class Waiting:
    def __init__(self, told: list[object]) -> None:
        self._told = told

    def on_progress(self, partition: Any, new_bytes: int) -> None:
        self._told.append(("progress", partition.topic_partition, new_bytes))


class Pair:
    """The same broker twice: the kernel's, and the twin's."""

    def __init__(self, directory: Path, rng: Random) -> None:
        self.rng = rng
        self.loops = [Loop(asyncio.get_running_loop()) for _ in range(2)]
        self.disks = [Disk(), Disk()]
        self.directories = [directory / "kernel", directory / "twin"]
        self.brokers = []
        for number, place in enumerate(self.directories):
            place.mkdir()
            loop = cast(asyncio.AbstractEventLoop, self.loops[number])
            self.brokers.append(
                Following(place, loop, PARTITIONS, CONFIGS, self.disks[number], with_kernel=number == 0)
            )
        self.counting = Counting(self.brokers[0].fetcher._hot)
        self.brokers[0].fetcher._hot = cast(Any, self.counting)
        self.keys = list(self.brokers[0].partitions)

    def both(self, act: Callable[[Following], object]) -> None:
        for broker in self.brokers:
            act(broker)

    def receive(self, frame: bytes) -> None:
        self.both(lambda broker: broker.receive(frame))
        for disk in self.disks:
            disk.trouble = ""
        for loop in self.loops:
            loop.run()
        if self.brokers[1].connection.closed.done():
            self.both(Following.connect)

    def check(self) -> None:
        one, other = self.brokers
        assert one.around.sent == other.around.sent
        assert one.around.told == other.around.told
        assert round_of(one) == round_of(other)
        self.both(lambda broker: (broker.around.sent.clear(), broker.around.told.clear()))

    def check_all(self) -> None:
        for key in self.keys:
            one, other = (broker.partitions[key] for broker in self.brokers)
            assert state(one.log) == state(other.log)
            for partition in (one, other):
                for segment in partition.log.segments:
                    segment.write_out_indexes()
        assert files(self.directories[0]) == files(self.directories[1])


def round_of(broker: Following) -> object:
    """All that rounds change, but for the logs' own state."""
    fetcher = broker.fetcher
    schedule = {
        name: list(value.items()) if isinstance(value, dict) else value
        for name, value in vars(fetcher._schedule).items()
    }
    partitions = []
    for key, each in broker.partitions.items():
        follower = each.follower
        followed = fetcher._partitions.get(key)
        partitions.append(
            (
                None
                if follower is None
                else [getattr(follower, name) for name in Follower.__dataclass_fields__],
                None if followed is None else followed.fetch,
                (each.changes, each._bytes_since_watermark, each.traffic.replication_bytes_in),
                (each.offline, each.pending_cut, each.high_watermark),
                (each.log.log_end_offset, each.log.log_start_offset, each.log.bytes_since_writeback),
                each.log.segments.active.size_bytes,
            )
        )
    return schedule, partitions, fetcher._correlation_id, fetcher._is_in_flight, fetcher.bytes_in


class Leader:
    """Answers: ordinary ones, mostly."""

    def __init__(self, pair: Pair) -> None:
        self.pair = pair
        self.rng = pair.rng
        self._sequences: Counter[tuple[Any, int]] = Counter()

    def records(self, key: Any, is_calm: bool) -> bytes:
        rng, log = self.rng, self.pair.brokers[0].partitions[key].log
        offset, data = log.log_end_offset, bytearray()
        if not is_calm:
            return bytes(spoilt(rng, log_bytes(rng, offset)) if rng.random() < 0.7 else b"")
        for _ in range(rng.choice([1, 1, 1, 1, 2, 9])):
            count, producer_id = rng.choice([1, 1, 3]), rng.choice([-1, 7, 7, 8])
            records = [
                Record(b"k", rng.randbytes(rng.choice([0, 30, 200])), NOW_MS + each) for each in range(count)
            ]
            batch = build_batch(
                records,
                base_offset=offset,
                leader_epoch=LEADER_EPOCH,
                compression=rng.choice([Compression.NONE, Compression.LZ4]),
                producer_id=producer_id,
                producer_epoch=0 if producer_id >= 0 else -1,
                base_sequence=self._sequences[key, producer_id] if producer_id >= 0 else -1,
            )
            self._sequences[key, producer_id] += count
            data += batch
            offset += count
        return bytes(data)

    def part(self, key: Any, is_calm: bool) -> PartitionData:
        rng, partition = self.rng, self.pair.brokers[0].partitions[key]
        end_offset = partition.log.log_end_offset
        data = PartitionData(
            partition_index=key[1],
            high_watermark=max(end_offset + rng.choice([0, 0, 0, -1, 1, 100]), 0),
            log_start_offset=partition.log.log_start_offset,
            records=memoryview(self.records(key, is_calm)) if rng.random() < 0.85 else None,
        )
        if is_calm:
            return data
        match rng.randrange(8):
            case 0:
                data.error_code = rng.choice(ERRORS)
                data.last_stable_offset = rng.choice([-1, end_offset, max(end_offset - 3, 0)])
            case 1:
                data.diverging_epoch = EpochEndOffset(
                    epoch=LEADER_EPOCH, end_offset=max(end_offset - rng.randrange(3), 0)
                )
                data.records = None
            case 2:
                data.log_start_offset = max(end_offset - rng.randrange(9), 0)
            case 3:
                data.aborted_transactions = rng.choice(
                    [None, [AbortedTransaction(producer_id=1, first_offset=2)]]
                )
            case 4:
                data.high_watermark = rng.choice([-1, 2**63 - 1])
            case 5:
                data.preferred_read_replica = 3
        return data

    def frame(self) -> bytes:
        rng, pair = self.rng, self.pair
        is_calm = rng.random() < 0.75
        keys = rng.sample(pair.keys, rng.choice([0, 1, 1, 2, 6]))
        if not is_calm and rng.random() < 0.2:
            keys = [*keys, (rng.choice([TOPIC_IDS[0], bytes(16)]), rng.choice([0, 9]))]
        known = [(key[0], self.part(key if key in pair.keys else pair.keys[0], is_calm)) for key in keys]
        session = SESSION if is_calm else rng.choice([SESSION, SESSION, 0, 5])
        error = 0 if is_calm else rng.choice([0] * 12 + [70, 71, 3])
        wanted = pair.brokers[0].correlation_id ^ (0 if is_calm or rng.random() < 0.95 else 1)
        frame = bytearray(answer(wanted, known, session, error))
        if not is_calm and rng.random() < 0.2:
            frame[rng.randrange(4, len(frame))] ^= 1 << rng.randrange(8)
        if not is_calm and rng.random() < 0.1:
            frame += rng.randbytes(3)
            frame[:4] = (len(frame) - 4).to_bytes(4, "big")
        if not is_calm and rng.random() < 0.1:
            del frame[rng.randrange(9, len(frame)) :]
            frame[:4] = (len(frame) - 4).to_bytes(4, "big")
        return bytes(frame)


def begin_anew(broker: Following, partition: Partition) -> None:
    partition.offline = None
    partition.follower = Follower(OWN, 5, LEADER, LEADER_EPOCH, partition.high_watermark)
    broker.fetcher.add(partition)


def happen(pair: Pair) -> None:
    """What else may change between two answers."""
    rng = pair.rng
    key, kind = rng.choice(pair.keys), rng.randrange(14)
    throttled, mode, passed_s = rng.random() < 0.1, rng.random() < 0.2, rng.choice([0.01, 0.2, 5.0])
    trouble = rng.choice(["short", "short", "full"])
    for number, broker in enumerate(pair.brokers):
        partition = broker.partitions[key]
        match kind:
            case 0 | 1 | 2:
                pair.loops[number].now_s += passed_s
            case 3:
                partition.follower_throttled = throttled
            case 4:
                partition.flush_acks = mode
            case 5:
                partition.log.recovery_point = partition.log.log_end_offset
                broker.fetcher.on_synced(partition)
            case 6:
                pair.disks[number].trouble = trouble
            case 7:
                partition.parked = {} if partition.parked else {1: Waiting(broker.around.told)}
            case 8:
                partition.pending_cut = 0
                broker.fetcher.on_synced(partition)
            case 9:
                partition.writeback_bytes = 2_000 if mode else 2**63 - 1
            case 10:
                broker.fetcher.remove(partition)
            case 11:
                if partition.follower is not None:
                    partition.follower.on_registered(6)
                broker.fetcher.on_synced(partition)
            case 12:
                broker.fetcher._correlation_id = broker.fetcher._schedule._session_epoch = 2**31 - 1
            case 13:
                begin_anew(broker, partition)
        pair.loops[number].run()


def answered(directory: Path, rng: Random, count: int) -> Counter[str]:
    """That many answers to a pair; what became of them in the kernel."""
    pair = Pair(directory, rng)
    leader = Leader(pair)
    for number in range(count):
        if rng.random() < 0.4:
            happen(pair)
        for each in range(100):
            if pair.brokers[1].fetcher._is_in_flight:
                break
            if each == 50:  # All are offline, or gone.
                pair.both(lambda broker: [begin_anew(broker, one) for one in broker.partitions.values()])
            happen(pair)
            assert each < 99, "nothing is asked any more"
        pair.receive(leader.frame())
        pair.check()
        if number % 40 == 0:
            pair.check_all()
    pair.check_all()
    return pair.counting.outcomes


@pytest.mark.parametrize("seed", [1, 2])
async def test_the_same_from_both(tmp_path: Path, seed: int) -> None:
    outcomes: Counter[str] = Counter()
    for first in range(0, INPUTS // 2, ANSWERS):
        directory = tmp_path / str(first)
        directory.mkdir()
        outcomes += answered(directory, Random(f"{seed} {first}"), min(ANSWERS, INPUTS // 2 - first))
        shutil.rmtree(directory)
    kinds = ("round", "whole", "part", "none", "asked", "refused")
    assert min(outcomes[each] for each in kinds) > INPUTS // 1000, outcomes


@pytest.mark.parametrize("what", ["append", "on_watermark_learnt", "request"])
async def test_an_error_behind_the_write(tmp_path: Path, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Costs the partition, and the log is as it was, or has the records."""
    monkeypatch.delenv(bugs.FATAL_VARIABLE, raising=False)
    pair = Pair(tmp_path, Random(5))
    leader, key = Leader(pair), pair.keys[3]
    for _ in range(5):
        data = PartitionData(
            partition_index=key[1],
            high_watermark=10,
            log_start_offset=0,
            records=memoryview(leader.records(key, is_calm=True)),
        )
        pair.receive(answer(pair.brokers[0].correlation_id, [(key[0], data)]))
        pair.check()

    def broken(*_: object) -> None:
        raise RuntimeError("broken")

    with monkeypatch.context() as patched:
        patched.setattr({"append": OffsetIndex, "request": Around}.get(what, Partition), what, broken)
        patched.setattr(SparseIndex, "tail_bytes", 0)
        for broker in pair.brokers:
            partition = broker.partitions[key]
            partition.parked = {1: Waiting(broker.around.told)}
            partition.flush_acks = what == "request"
            partition.log.segments.active.bytes_since_index_entry = 1000
        data.high_watermark, data.records = 11, memoryview(leader.records(key, is_calm=True))
        pair.receive(answer(pair.brokers[0].correlation_id, [(key[0], data)]))
    assert pair.counting.outcomes["round"] >= 4
    assert pair.brokers[0].partitions[key].offline is Offline.BUG
    pair.check()
    pair.check_all()
