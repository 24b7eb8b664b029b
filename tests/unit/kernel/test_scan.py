"""Walks over headers: the kernel stops where its twin raises or ends, and finds the same up to there."""

from __future__ import annotations

import random
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.kernel.batches import INPUTS, batch, log_bytes, spoilt
from tiering import batches
from tiering.errors import CorruptObject
from tierlog import kernel
from tierlog.log import append
from tierlog.log.append import Prepared, replicated_batches
from tierlog.log.leader_epochs import EpochLineage
from tierlog.records.batch import (
    ATTRIBUTES_AT,
    COUNT_AT,
    LAST_OFFSET_DELTA_AT,
    PRODUCER_EPOCH_AT,
    BatchHeader,
    InvalidBatch,
    verify_crc,
    walk_whole,
)
from tierlog.types import Buffer

compiled = kernel.compiled
if compiled is None:
    pytest.skip("no kernel here", allow_module_level=True)


def sound(data: Buffer, start: int, end: int, verify: bool, limit: int) -> tuple[list[BatchHeader], int]:
    """The twin of ``headers``."""
    found: list[BatchHeader] = []
    try:
        for at, header in walk_whole(data, start, end):
            if len(found) == limit or (verify and not verify_crc(data, at, header)):
                break
            found.append(header)
            start = at + header.size_bytes
    except InvalidBatch:
        pass
    return found, start


def test_headers_of_mutated_bytes() -> None:
    assert compiled is not None
    rng = random.Random(21)
    for number in range(INPUTS):
        data = spoilt(rng, log_bytes(rng))
        start, end = rng.choice(((0, len(data)), (0, rng.randrange(len(data) + 1))))
        verify, limit = rng.random() < 0.7, rng.choice((1, 3, 1_000))
        told = compiled.headers(data, start, end, verify, limit, BatchHeader)
        assert told == sound(data, start, end, verify, limit), f"input {number}"
        assert all(type(header) is BatchHeader for header in told[0])


def replicated(data: bytearray, end_offset: int, epochs: EpochLineage) -> Prepared | tuple[int, str]:
    try:
        return replicated_batches(memoryview(data), end_offset, epochs)
    except InvalidBatch as refusal:
        return refusal.error_code, str(refusal)


def test_what_a_follower_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(22)
    outcomes = {"whole": 0, "part": 0, "refused": 0}
    for number in range(INPUTS):
        base_offset = rng.choice((0, 10**12, 2**63 - 80_000))
        data = spoilt(rng, log_bytes(rng, min(base_offset, 10**12)))
        lineage = rng.choice(((), ((0, 0),), ((3, 0),), ((5, base_offset + 2),)))
        asked = (data, base_offset - rng.choice((0, 0, 5)), EpochLineage(lineage))
        told = replicated(*asked)
        with monkeypatch.context() as twin:
            twin.setattr(append, "compiled", None)
            assert told == replicated(*asked), f"input {number}"
        refused = not isinstance(told, Prepared)
        outcomes["refused" if refused else "whole" if len(told[0]) == len(data) else "part"] += 1
    assert min(outcomes.values()) > INPUTS // 10, outcomes


def test_offsets_too_far_apart_for_a_segment(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(23)
    for gap, taken in ((2**31 - 1, 2), (2**31, 1)):
        data = batch(rng, 5, 1, 0, 10) + batch(rng, 5 + gap, 1, 0, 10)
        told = replicated(data, 0, EpochLineage())
        assert isinstance(told, Prepared)
        assert len(told.headers) == taken
        with monkeypatch.context() as twin:
            twin.setattr(append, "compiled", None)
            assert told == replicated(data, 0, EpochLineage())


def below(data: Buffer, end_offset: int, at_once: batches.WholeBelow | None) -> tuple[int, int] | str:
    try:
        return batches.whole_below(data, end_offset, at_once)
    except (CorruptObject, struct.error) as refusal:  # without a whole header there is no message
        return str(refusal)


def test_whole_below() -> None:
    assert compiled is not None
    rng = random.Random(24)
    refused = 0
    for number in range(INPUTS):
        data = spoilt(rng, log_bytes(rng))
        end_offset = rng.choice((0, 5, 1_000, 80_000, 2**62))
        told = below(data, end_offset, compiled.whole_below)
        assert told == below(data, end_offset, None), f"input {number}"
        refused += isinstance(told, str)
    assert INPUTS // 20 < refused < INPUTS // 2


@given(st.binary(max_size=400), st.integers(-5, 500), st.integers(-5, 500))
def test_any_bytes_and_bounds(data: bytes, start: int, end: int) -> None:
    assert compiled is not None
    stop = len(data) if not 0 <= end <= len(data) else end
    if not 0 <= start <= stop:
        with pytest.raises(ValueError, match="outside"):
            compiled.headers(data, start, end, True, 9, BatchHeader)
    else:
        assert compiled.headers(data, start, end, True, 9, BatchHeader) == sound(data, start, stop, True, 9)
    assert compiled.followed(data, 0, 0, BatchHeader) == ([], 0)
    assert compiled.noted(data, 3, 0, 4096, 0, -1, -1) == (0, 0, -1, -1, [])
    assert compiled.told(data, 3, 5) == []


def test_headers_are_tuples() -> None:
    assert compiled is not None
    for call in (compiled.headers, compiled.followed):
        arguments = (b"", 0, 0, True, 1) if call is compiled.headers else (b"", 0, 0)
        with pytest.raises(TypeError, match="kind of tuple"):
            call(*arguments, list)


def test_producers_are_told_of_the_last_batches_in_a_row() -> None:
    assert compiled is not None
    rng = random.Random(25)
    data, places = bytearray(), []
    # Sixteen of one producer, one of none, two of another, one of the first again.
    for number, producer_id in enumerate([7] * 16 + [-1, 900, 900, 7]):
        each = batch(rng, number, 1, 0, 20, producer_id)
        each[ATTRIBUTES_AT:LAST_OFFSET_DELTA_AT] = bytes(2)  # no transaction, no marker
        each[PRODUCER_EPOCH_AT:COUNT_AT] = bytes(6)
        places.append(len(data))
        data += each
    told = compiled.told(data, len(places), 5)
    assert told == [(number, places[number]) for number in (11, 12, 13, 14, 15, 17, 18, 19)]
    assert compiled.told(data, 14, 5) == [(number, places[number]) for number in (9, 10, 11, 12, 13)]
    for limit in (0, 17):
        with pytest.raises(ValueError, match="not remembered"):
            compiled.told(data, 20, limit)
