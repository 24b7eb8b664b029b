"""What a broker may count on, whoever copies: the object, its entry, the errors, the rate, the counts."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.contract.copying.copiers import NOW_MS, Rig, rig
from tests.patience import PATIENT_S
from tests.unit.tiering.segments import KEYS, LocalLog, extend, write_source
from tiering.codec import AbortedTransaction, SegmentFooter
from tiering.copying.port import Target
from tiering.copying.source import CorruptSource, SegmentSource
from tiering.copying.worker.copier import WorkerCopier
from tiering.errors import Misconfigured, ObjectStoreError
from tiering.keys import topic_id_text
from tiering.objects.classes import StorageClass

TARGET = Target(KEYS, 4, b"u" * 16)
ABORTED = (AbortedTransaction(7, 3, 9, 10), AbortedTransaction(8, 5, 20, 21))


@pytest.fixture(params=["here", "worker"])
async def made(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Rig]:
    one = rig(tmp_path, request.param)
    yield one
    await one.close()


def a_segment(directory: Path, count: int = 60, **facts: object) -> tuple[SegmentSource, LocalLog]:
    log = LocalLog()
    extend(log, random.Random(1), count, payload_bytes=(10, 40_000))
    return write_source(directory / "s.log", log.batches, **facts), log  # type: ignore[arg-type]


async def test_object_and_entry(made: Rig, tmp_path: Path) -> None:
    lineage = ((0, 0), (2, 5), (9, 10**9))
    source, log = a_segment(tmp_path, aborted=ABORTED, producer_snapshot=b"snap", lineage=lineage)
    asked = list[tuple[int, int]]()

    def class_of(timestamp_ms: int, data_bytes: int) -> StorageClass:
        asked.append((timestamp_ms, data_bytes))
        return StorageClass.STANDARD

    entry = await made.copier.copy(source, TARGET, class_of)
    data = bytes((await made.store.get(KEYS.segment(entry)))[1])
    assert data[: entry.data_bytes] == log.tail(0)
    footer = SegmentFooter.decode(data[entry.data_bytes :], "k")
    footer.verify(data[: entry.data_bytes], 0, "k")
    assert (footer.aborted, footer.producer_snapshot, footer.lineage) == (ABORTED, b"snap", lineage[:2])
    assert footer.identity is not None
    assert (footer.identity.uuid, footer.identity.cluster_id) == (TARGET.uuid, KEYS.cluster_id)
    largest_ms = max(batch.max_timestamp_ms for batch in log.batches)
    assert asked == [(largest_ms, len(log.tail(0)))]
    assert (entry.base_offset, entry.end_offset, entry.object_bytes) == (0, log.end_offset, len(data))
    assert (entry.max_timestamp_ms, entry.created_ms, entry.leader_epoch) == (largest_ms, NOW_MS, 4)
    assert entry.has_aborted_transactions
    older = await made.copier.copy(source, TARGET._replace(uuid=b"v" * 16, format_version=1))
    _, data_of_older = await made.store.get(KEYS.segment(older))
    assert SegmentFooter.decode(bytes(data_of_older)[older.data_bytes :], "k").identity is None


async def test_a_range_within_the_file(made: Rig, tmp_path: Path) -> None:
    source, log = a_segment(tmp_path, start_batch=17)
    entry = await made.copier.copy(source, TARGET)
    _, data = await made.store.get(KEYS.segment(entry))
    assert bytes(data)[: entry.data_bytes] == log.tail(log.batches[17].base_offset)


async def test_a_damaged_segment_is_refused_before_anything_is_sent(made: Rig, tmp_path: Path) -> None:
    source, log = a_segment(tmp_path)
    data = bytearray(log.tail(0))
    data[-10] ^= 1
    Path(source.path).write_bytes(data)
    with pytest.raises(CorruptSource, match=r"s\.log: the batch at offset \d+ fails its CRC"):
        await made.copier.copy(source, TARGET, lambda timestamp_ms, data_bytes: pytest.fail("not asked"))
    assert made.objects() == []
    assert made.stats["put"].calls == 0


@pytest.mark.parametrize("left_bytes", [0, 5_000])
async def test_a_file_that_is_cut_under_the_copy(made: Rig, tmp_path: Path, left_bytes: int) -> None:
    source, _ = a_segment(tmp_path)

    def class_of(timestamp_ms: int, data_bytes: int) -> StorageClass:
        os.truncate(source.path, left_bytes)
        return StorageClass.STANDARD

    with pytest.raises(CorruptSource, match="ends before byte"):
        await made.copier.copy(source, TARGET, class_of)
    assert made.objects() == []
    assert made.deaths == []


async def test_a_file_that_is_not_there(made: Rig, tmp_path: Path) -> None:
    source, _ = a_segment(tmp_path)
    with pytest.raises(FileNotFoundError) as told:
        await made.copier.copy(replace(source, path=str(tmp_path / "gone.log")), TARGET)
    assert told.value.filename == str(tmp_path / "gone.log")


async def test_errors_of_the_store_are_the_ports(made: Rig, tmp_path: Path) -> None:
    source, _ = a_segment(tmp_path)
    with pytest.raises(Misconfigured, match="one storage class, standard") as told:
        await made.copier.copy(source, TARGET, lambda timestamp_ms, data_bytes: StorageClass.COLD)
    key = told.value.key
    assert key.startswith(KEYS.segments_prefix)
    assert str(told.value).count(key) == 1
    assert made.stats["put"].errors == {"Misconfigured": 1}
    shutil.rmtree(tmp_path / "objects")
    with pytest.raises(ObjectStoreError):
        await made.copier.copy(source, TARGET)
    assert not (tmp_path / "objects").exists(), "a directory that is not mounted is not made anew"


async def test_who_cannot_say_the_class_is_told_so(made: Rig, tmp_path: Path) -> None:
    source, _ = a_segment(tmp_path)

    def class_of(timestamp_ms: int, data_bytes: int) -> StorageClass:
        raise LookupError("the topic is gone")

    with pytest.raises(LookupError, match="the topic is gone"):
        await made.copier.copy(source, TARGET, class_of)
    assert made.objects() == []
    assert (await made.copier.copy(source, TARGET)).data_bytes


async def test_all_requests_are_counted(made: Rig, tmp_path: Path) -> None:
    source, _ = a_segment(tmp_path)
    entries = [await made.copier.copy(source, TARGET._replace(uuid=bytes([n] * 16))) for n in range(3)]
    put, head = made.stats["put"], made.stats["head"]
    assert (put.calls, put.requests, head.calls, put.in_flight) == (3, 3, 3, 0)
    assert put.sent_bytes == sum(entry.object_bytes for entry in entries)
    assert sum(put.buckets) == 3
    assert put.seconds > 0
    rows = list(made.stats.accounts.drain(str))
    owner = topic_id_text(TARGET.keys.topic_id), TARGET.keys.partition
    is_worker = isinstance(made.copier, WorkerCopier)
    assert {(row.topic_id, row.partition, row.cause, row.operation, row.requests) for row in rows} == {
        (*owner, "copy" if is_worker else "other", operation, 3) for operation in ("put", "head")
    }, "here whoever drives says the cause"


@pytest.mark.parametrize("kind", ["here", "worker"])
async def test_the_rate_is_kept(tmp_path: Path, kind: str) -> None:
    source, log = a_segment(tmp_path, 100)
    size = len(log.tail(0))
    one = rig(tmp_path, kind, bytes_per_second=size * 2)
    try:
        await one.store.take_upload(size * 2)  # what may go at once
        begun_s = asyncio.get_running_loop().time()
        entry = await one.copier.copy(source, TARGET)
        assert asyncio.get_running_loop().time() - begun_s > 0.4
        assert sum(one.taken) == (entry.object_bytes if kind == "worker" else 0)
    finally:
        await one.close()


@pytest.mark.parametrize("kind", ["here", "worker"])
async def test_a_cancelled_copy_leaves_nothing(tmp_path: Path, kind: str) -> None:
    source, _ = a_segment(tmp_path)
    one = rig(tmp_path, kind, bytes_per_second=1, jobs_max=1)
    asked = asyncio.Event()

    def class_of(timestamp_ms: int, data_bytes: int) -> StorageClass:
        asked.set()
        return StorageClass.STANDARD

    try:
        for number in range(3):
            asked.clear()
            copying = asyncio.ensure_future(
                one.copier.copy(source, TARGET._replace(uuid=bytes([number] * 16)), class_of)
            )
            async with asyncio.timeout(PATIENT_S):
                await asked.wait()  # so the one before has given its place back
            copying.cancel()
            with pytest.raises(asyncio.CancelledError):
                await copying
        one.store.set_rates(0, 0)
        entry = await one.copier.copy(source, TARGET)
        assert [path.name for path in one.objects()] == [KEYS.segment(entry).rpartition("/")[2]]
    finally:
        await one.close()
