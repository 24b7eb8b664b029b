"""One object per segment: what the mover writes, and what it refuses to write."""

from __future__ import annotations

import random
from collections.abc import AsyncIterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from crc32c import crc32c

from tests.unit.tiering.segments import KEYS, LocalBatch, LocalLog, batch, extend, write_source
from tiering.codec import (
    TRAILER,
    TRAILER_BYTES,
    AbortedTransaction,
    SegmentFooter,
    SegmentIdentity,
    Trailer,
)
from tiering.copying.mover import PART_BYTES, Mover
from tiering.copying.port import Target
from tiering.copying.scan import READ_BYTES, scan
from tiering.copying.source import CorruptSource
from tiering.errors import CorruptObject, Unavailable, UnsupportedFormat
from tiering.model import hash_of_version
from tiering.objects.memory import MemoryStore
from tiering.objects.port import Content, ObjectInfo
from tiering.objects.wrapping import WrappedStore

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "tiering"
ABORTED = (AbortedTransaction(7, 3, 9, 10), AbortedTransaction(8, 5, 20, 21))


def log_of(seed: int, count: int, **kinds: object) -> LocalLog:
    log = LocalLog()
    extend(log, random.Random(seed), count, **kinds)  # type: ignore[arg-type]
    return log


async def test_the_object_is_kafkas_bytes_then_a_footer_that_opens_it(tmp_path: Path) -> None:
    log = log_of(1, 300, payload_bytes=(10, 20_000))
    source = write_source(tmp_path / "s.log", log.batches, aborted=ABORTED, producer_snapshot=b"snap")
    store = MemoryStore()
    mover = Mover(store, clock_ms=lambda: 77)
    entry = await mover.copy(source, Target(KEYS, 4, b"u" * 16))
    await mover.close()
    _, data = await store.get(KEYS.segment(entry))
    assert bytes(data[: entry.data_bytes]) == log.tail(0)
    assert len(data) == entry.object_bytes
    trailer = Trailer.decode(data[-TRAILER_BYTES:], "k")
    assert (trailer.base_offset, trailer.end_offset, trailer.data_bytes) == (
        0,
        log.end_offset,
        len(log.tail(0)),
    )
    footer = SegmentFooter.decode(data[entry.data_bytes :], "k")
    assert (footer.aborted, footer.producer_snapshot) == (ABORTED, b"snap")
    footer.verify(data[: entry.data_bytes], 0, "k")
    largest = max(b.max_timestamp_ms for b in log.batches)
    first = next(b for b in log.batches if b.max_timestamp_ms == largest)
    assert footer.offset_of_max_timestamp == first.base_offset
    assert (entry.max_timestamp_ms, entry.first_timestamp_ms) == (largest, log.batches[0].max_timestamp_ms)
    assert (entry.created_ms, entry.leader_epoch, entry.has_aborted_transactions) == (77, 4, True)
    starts = {}
    position = 0
    for one in log.batches:
        starts[position] = one.base_offset
        position += len(one.data)
    assert footer.index_positions[0] == 0
    assert all(starts[p] == o for p, o in zip(footer.index_positions, footer.index_offsets, strict=True))


def test_time_index_bounds_a_search_from_both_sides(tmp_path: Path) -> None:
    log = log_of(2, 400, payload_bytes=(10, 4_000))
    footer = scan(write_source(tmp_path / "s.log", log.batches)).footer
    for timestamp in range(900, 9_200, 37):
        want = next((b.base_offset for b in log.batches if b.max_timestamp_ms >= timestamp), log.end_offset)
        start = footer.offset_before_timestamp(timestamp)
        assert start <= want
        assert all(b.max_timestamp_ms < timestamp for b in log.batches if b.end_offset <= start)


def test_a_part_of_a_segment_has_its_own_positions(tmp_path: Path) -> None:
    log = log_of(3, 200)
    source = write_source(tmp_path / "s.log", log.batches, start_batch=77)
    footer = scan(source).footer
    assert footer.base_offset == log.batches[77].base_offset
    assert (footer.index_positions[0], footer.index_offsets[0]) == (0, log.batches[77].base_offset)
    assert footer.data_bytes == sum(len(b.data) for b in log.batches[77:])


def test_a_start_inside_a_batch_takes_that_batch_whole(tmp_path: Path) -> None:
    log = log_of(4, 20)
    target = next(i for i, b in enumerate(log.batches) if i > 5 and b.end_offset - b.base_offset > 1)
    source = write_source(tmp_path / "s.log", log.batches, start_batch=target)
    footer = scan(replace(source, base_offset=source.base_offset + 1)).footer
    assert footer.base_offset == log.batches[target].base_offset + 1
    assert footer.index_offsets[0] == log.batches[target].base_offset


def test_batches_larger_than_the_read_buffer(tmp_path: Path) -> None:
    log = log_of(5, 4, payload_bytes=(READ_BYTES, 3 * READ_BYTES))
    scanned = scan(write_source(tmp_path / "s.log", log.batches))
    assert scanned.batch_count == 4
    scanned.footer.verify(log.tail(0), 0, "k")


def test_every_flipped_bit_of_the_file_is_refused(tmp_path: Path) -> None:
    log = log_of(6, 3, payload_bytes=(10, 40))
    source = write_source(tmp_path / "s.log", log.batches)
    good = Path(source.path).read_bytes()
    rng = random.Random(1)
    for at in range(len(good)):
        broken = bytearray(good)
        broken[at] ^= 1 << rng.randrange(8)
        Path(source.path).write_bytes(bytes(broken))
        if 12 <= _offset_in_batch(log, at) < 16:
            continue  # the leader epoch, which no CRC covers
        with pytest.raises(CorruptSource):
            scan(source)


def _offset_in_batch(log: LocalLog, at: int) -> int:
    for one in log.batches:
        if at < len(one.data):
            return at
        at -= len(one.data)
    raise AssertionError


def rebatched(*batches: tuple[int, int, int]) -> list[LocalBatch]:
    """(base offset, count, leader epoch) each."""
    return [LocalBatch(b, b + n, batch(b, n, b"x", leader_epoch=e), 1_000) for b, n, e in batches]


@pytest.mark.parametrize(
    "batches",
    [
        rebatched((0, 5, 0), (4, 5, 0)),
        rebatched((0, 5, 3), (5, 5, 2)),
    ],
    ids=["overlap", "epoch goes back"],
)
def test_broken_sequences_are_refused(tmp_path: Path, batches: list[LocalBatch]) -> None:
    with pytest.raises(CorruptSource):
        scan(write_source(tmp_path / "s.log", batches))


def test_wrong_bounds_are_refused(tmp_path: Path) -> None:
    log = log_of(7, 5)
    source = write_source(tmp_path / "s.log", log.batches)
    wrong: list[dict[str, Any]] = [
        {"end_offset": log.end_offset - 1},
        {"end_position": source.end_position - 1},
        {"end_position": source.end_position + 1},
        {"base_offset": log.batches[0].end_offset},
        {"start_position": source.end_position},
    ]
    for changes in wrong:
        with pytest.raises(CorruptSource):
            scan(replace(source, **changes))


def test_compacted_segments_may_have_holes(tmp_path: Path) -> None:
    batches = rebatched((3, 2, 0), (9, 1, 0))
    source = replace(write_source(tmp_path / "s.log", batches), base_offset=0, end_offset=20)
    assert scan(source).footer.end_offset == 20


async def test_upload_streams_in_parts_and_can_be_sent_again(tmp_path: Path) -> None:
    """A store that fails mid-way and starts anew gets the same bytes, never holding more than one part."""
    log = log_of(8, 60, payload_bytes=(300_000, 500_000))
    source = write_source(tmp_path / "s.log", log.batches)
    sizes: list[int] = []

    class Twice(WrappedStore):
        async def put(self, key: str, content: Content, *, size_bytes: int, **how: Any) -> ObjectInfo:
            assert isinstance(content, AsyncIterable)
            async for _ in content:
                break
            sizes.extend([len(part) async for part in content])
            return await self.inner.put(key, content, size_bytes=size_bytes, **how)

    store = MemoryStore()
    mover = Mover(Twice(store), clock_ms=lambda: 0)
    entry = await mover.copy(source, Target(KEYS, 0, b"u" * 16))
    await mover.close()
    assert max(sizes) == PART_BYTES
    assert sum(sizes) == entry.object_bytes
    _, data = await store.get(KEYS.segment(entry))
    assert bytes(data[: entry.data_bytes]) == log.tail(0)


async def test_a_file_that_changes_under_the_copy_is_refused(tmp_path: Path) -> None:
    log = log_of(9, 50)
    source = write_source(tmp_path / "s.log", log.batches)

    class Meddling(WrappedStore):
        async def put(self, key: str, content: Content, *, size_bytes: int, **how: Any) -> ObjectInfo:
            broken = bytearray(log.tail(0))
            broken[500] ^= 1
            Path(source.path).write_bytes(bytes(broken))
            return await self.inner.put(key, content, size_bytes=size_bytes, **how)

    store = MemoryStore()
    mover = Mover(Meddling(store), clock_ms=lambda: 0)
    with pytest.raises(CorruptSource, match="changed while it was copied"):
        await mover.copy(source, Target(KEYS, 0, b"u" * 16))
    assert await store.list("") == []
    await mover.close()


async def test_store_errors_come_through(tmp_path: Path) -> None:
    class Down(WrappedStore):
        async def put(self, key: str, content: Content, *, size_bytes: int, **how: Any) -> ObjectInfo:
            raise Unavailable("down", key=key)

    mover = Mover(Down(MemoryStore()), clock_ms=lambda: 0)
    source = write_source(tmp_path / "s.log", log_of(9, 5).batches)
    with pytest.raises(Unavailable):
        await mover.copy(source, Target(KEYS, 0, b"u" * 16))
    await mover.close()


def golden_footer(path: Path) -> SegmentFooter:
    log = log_of(10, 40, payload_bytes=(10, 9_000))
    batches = extend(log, random.Random(11), 40, payload_bytes=(10, 9_000), leader_epoch=3)
    lineage = ((0, 0), (3, batches[0].base_offset))
    source = write_source(path, log.batches, aborted=ABORTED, lineage=lineage, producer_snapshot=b"snap")
    return scan(source).footer


IDENTITY = SegmentIdentity(
    bytes(range(16)), 7, 3, 2, b"u" * 16, 1 << 33, -1, 1_700_000_000_000, 5, 3, 1, "cluster-é"
)


def test_footers_of_released_versions_are_read(tmp_path: Path) -> None:
    """``footer-v1.bin`` was written by the first release; it must be read for ever."""
    first = golden_footer(tmp_path / "s.log")
    for footer, name in ((first, "footer-v1.bin"), (replace(first, identity=IDENTITY), "footer-v2.bin")):
        data = (GOLDEN / name).read_bytes()
        assert SegmentFooter.decode(data, "k") == footer
        assert footer.encode() == data


def test_unknown_sections_are_skipped_and_unknown_features_refused() -> None:
    data = (GOLDEN / "footer-v2.bin").read_bytes()
    known = SegmentFooter.decode(data, "k")
    footer = data[:-TRAILER_BYTES] + b"?" + (5).to_bytes(4, "little") + b"later"
    assert SegmentFooter.decode(footer + trailer_of(data, footer), "k") == known
    with pytest.raises(UnsupportedFormat, match=r"^k: uses features 0x8 of a newer release; upgrade"):
        SegmentFooter.decode(data[:-TRAILER_BYTES] + trailer_of(data, data[:-TRAILER_BYTES], 2, 8), "k")
    with pytest.raises(UnsupportedFormat, match=r"^k: format_version 3; this release knows 1 to 2$"):
        SegmentFooter.decode(data[:-TRAILER_BYTES] + trailer_of(data, data[:-TRAILER_BYTES], 3), "k")


def trailer_of(data: bytes, footer: bytes, version: int = 2, features: int = 0) -> bytes:
    """That of ``data``, for another footer."""
    fields = list(TRAILER.unpack(data[-TRAILER_BYTES:]))
    fields[1:4] = [version, features, len(footer)]
    fields[7] = crc32c(footer)
    packed = TRAILER.pack(*fields)[:-4]
    return packed + crc32c(packed).to_bytes(4, "little")


async def test_an_object_tells_what_it_is(tmp_path: Path) -> None:
    log = log_of(3, 20)
    source = write_source(tmp_path / "s.log", log.batches)
    store = MemoryStore()
    mover = Mover(store, clock_ms=lambda: 77)
    entry = await mover.copy(source, Target(KEYS, 4, b"u" * 16))
    older = await mover.copy(source, Target(KEYS, 4, b"v" * 16, format_version=1))
    await mover.close()
    info, data = await store.get(KEYS.segment(entry))
    identity = SegmentFooter.decode(data[entry.stored_bytes :], "k").identity
    assert identity is not None
    assert (identity.topic_id, identity.partition, identity.cluster_id) == (
        KEYS.topic_id,
        KEYS.partition,
        KEYS.cluster_id,
    )
    for name in set(SegmentIdentity._fields) - {"topic_id", "partition", "cluster_id"}:
        assert getattr(identity, name) == getattr(entry, name), name
    assert entry.version_hash == hash_of_version(info.version)
    assert (entry.storage_class, entry.class_since_ms) == (0, 77)
    _, data = await store.get(KEYS.segment(older))
    assert SegmentFooter.decode(data[older.stored_bytes :], "k").identity is None


def test_damaged_footers_are_refused() -> None:
    data = (GOLDEN / "footer-v1.bin").read_bytes()
    for at in range(0, len(data), 7):
        broken = bytearray(data)
        broken[at] ^= 4
        with pytest.raises((CorruptObject, UnsupportedFormat)):
            SegmentFooter.decode(bytes(broken), "k")
    for size in (0, 10, TRAILER_BYTES, len(data) - 1):
        with pytest.raises(CorruptObject):
            SegmentFooter.decode(data[:size], "k")
