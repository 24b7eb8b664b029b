"""The scan before a copy: the kernel's walk and its twin find the same, or refuse it in the same words."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.kernel.batches import INPUTS, batch, log_bytes, spoilt
from tiering.codec import CRC_CHUNK_BYTES, INDEX_INTERVAL_BYTES
from tiering.copying.scan import Scanned, WalkSegment, scan
from tiering.copying.source import CorruptSource, SegmentSource
from tierlog import kernel

compiled = kernel.compiled
if compiled is None:
    pytest.skip("no kernel here", allow_module_level=True)
START = (0, 0, -1, -1, -1, -1, 0, -1, -1, 0, 0)


def found(source: SegmentSource, at_once: WalkSegment | None) -> Scanned | str:
    try:
        return scan(source, at_once)
    except CorruptSource as refusal:
        return str(refusal)


def source_of(
    path: Path, data: bytes | bytearray, base_offset: int = 0, end_offset: int = 2**40
) -> SegmentSource:
    path.write_bytes(data)
    return SegmentSource(str(path), 0, len(data), base_offset, end_offset, ((0, 0),))


def test_mutated_segments(tmp_path: Path) -> None:
    assert compiled is not None
    rng = random.Random(11)
    refused = 0
    for number in range(INPUTS):
        base_offset = rng.choice((0, 3, 10**12))
        data = spoilt(rng, log_bytes(rng, base_offset))
        end_offset = rng.choice((2**40, 2**40, base_offset + 4))
        source = source_of(tmp_path / "s.log", data, base_offset + rng.choice((0, 0, 2)), end_offset)
        told = found(source, compiled.walk_segment)
        assert told == found(source, None), f"input {number}"
        refused += isinstance(told, str)
    assert INPUTS // 4 < refused < INPUTS - INPUTS // 8


def test_in_buffers_and_beyond_chunks(tmp_path: Path) -> None:
    """Batches in several buffers, over the ends of chunks, and larger than both."""
    assert compiled is not None
    rng = random.Random(3)
    data, offset = bytearray(), 0
    for size in [
        *(rng.randrange(30_000) for _ in range(300)),
        CRC_CHUNK_BYTES - 61,
        5 << 20,
        *range(0, 9_000, 700),
        *range(430, 520, 5),
    ]:
        data += batch(rng, offset, 3, 1, size)
        offset += 3
    source = source_of(tmp_path / "s.log", data)
    told = found(source, compiled.walk_segment)
    assert isinstance(told, Scanned)
    assert told == found(source, None)
    told.footer.verify(data, 0, "k")


def test_what_is_sound_but_not_plain_is_walked_by_the_twin(tmp_path: Path) -> None:
    """The last offset is the largest there is, so that the end lies beyond 64 bits; more buffers follow."""
    assert compiled is not None
    rng = random.Random(4)
    data = batch(rng, 2**63 - 6, 6, 0, 2 << 20) + batch(rng, 2**63 - 1, 1, 0, 2 << 20)
    source = source_of(tmp_path / "s.log", data, 2**63 - 6, 2**63)
    told = found(source, compiled.walk_segment)
    assert told == found(source, None)
    assert isinstance(told, str) and "offset" in told


@given(st.binary(max_size=300), st.integers(0, 2**40), st.integers(-1, 2**62))
def test_any_bytes(data: bytes, position: int, next_offset: int) -> None:
    assert compiled is not None
    state = (position, 1, next_offset, *START[3:])
    told = compiled.walk_segment(data, state, 0, INDEX_INTERVAL_BYTES, CRC_CHUNK_BYTES)
    assert told == (0, state, *(b"",) * 5)


@pytest.mark.parametrize("wrong", [{"interval": 0}, {"chunk": 0}, {"position": -1}, {"position": 2**63 - 1}])
def test_states_that_are_none(wrong: dict[str, int]) -> None:
    assert compiled is not None
    state = (wrong.get("position", 0), *START[1:])
    with pytest.raises(ValueError, match="no state"):
        compiled.walk_segment(b"", state, 0, wrong.get("interval", 4096), wrong.get("chunk", 4096))
