"""What a remote read takes of the chunks in memory, with the kernel and with its twin."""

from __future__ import annotations

import random
import struct

import pytest

from tests.unit.kernel.batches import INPUTS, log_bytes, spoilt
from tiering.batches import WholeBelow
from tiering.catalog import Catalog
from tiering.errors import CorruptObject
from tiering.model import SegmentEntry
from tiering.reading.assembly import Missing, Place, Taken, locate, take
from tierlog import kernel

compiled = kernel.compiled
if compiled is None:
    pytest.skip("no kernel here", allow_module_level=True)


class Chunks:
    """One object in chunks, of which one may be absent; no footer."""

    def __init__(
        self, data: bytearray, chunk_bytes: int, absent: int, whole_below: WholeBelow | None
    ) -> None:
        self.data, self.chunk_bytes, self.absent = memoryview(data), chunk_bytes, absent
        self.whole_below = whole_below

    def footer(self, entry: SegmentEntry) -> None:
        return None

    def piece(self, entry: SegmentEntry, position: int) -> memoryview | None:
        number = position // self.chunk_bytes
        if number == self.absent or position >= len(self.data):
            return None
        return self.data[position : (number + 1) * self.chunk_bytes]


class Alone:
    """A catalog that ends with this entry."""

    def next(self, entry: SegmentEntry) -> None:
        return None


def entry_of(data: bytearray) -> SegmentEntry:
    size = len(data)
    return SegmentEntry(0, 2**50, 0, bytes(16), size, size, size, 0, 0, 0, 0, 0)


def read(
    chunks: Chunks, offset: int, max_bytes: int, min_one_batch: bool
) -> Place | Missing | Taken | str | None:
    entry = entry_of(bytearray(chunks.data))
    catalog: Catalog = Alone()  # type: ignore[assignment]
    try:
        found = locate(chunks, catalog, offset, Place(entry, 0))
        if not isinstance(found, Place):
            return found
        return take(chunks, found, offset, max_bytes, min_one_batch=min_one_batch)
    except (CorruptObject, struct.error) as refusal:
        return str(refusal)


def test_reads_of_mutated_objects() -> None:
    assert compiled is not None
    rng = random.Random(41)
    kinds: dict[type, int] = {}
    for number in range(2 * INPUTS):
        data = log_bytes(rng)
        if rng.random() < 0.4:
            data = spoilt(rng, data)
        if not data:
            continue
        chunk_bytes = rng.choice((100, 1_000, 5_000, 1 << 20))
        absent = rng.choice((-1, -1, rng.randrange(1 + len(data) // chunk_bytes)))
        asked = (
            rng.choice((1, 10, 50_000, 300_000)),
            rng.choice((50, 3_000, 1 << 20)),
            rng.random() < 0.5,
        )
        told = read(Chunks(data, chunk_bytes, absent, compiled.whole_below), *asked)
        assert told == read(Chunks(data, chunk_bytes, absent, None), *asked), f"input {number}"
        kinds[type(told)] = kinds.get(type(told), 0) + 1
    assert len(kinds) == 4 and kinds[Taken] > INPUTS // 5, kinds
