"""Records to columns: the kernel against the vector steps against the plain twin, on whatever bytes may come.

``TIERLOG_KERNEL_INPUTS``: how many inputs ``test_equal_on_mutated_input`` makes.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.replay.plainly import outcome, plainly
from tests.unit.replay.test_decode import ALL, BATCH, built
from tierlog import kernel
from tierlog.records.batch import BatchHeader, Compression, InvalidBatch, parse_header, seal
from tierlog.records.control import EndTransactionMarker, build_end_transaction_marker
from tierlog.records.records import Record, assemble, build_batch, records_body
from tierlog.replay.decode import batches
from tierlog.replay.decode.batches import IsAborted, decode, none_aborted
from tierlog.replay.decode.columns import Wanted
from tierlog.replay.decode.schema import SCHEMA, schema_of

compiled = kernel.compiled
pytestmark = pytest.mark.skipif(compiled is None, reason="no kernel here")
INPUTS = int(os.environ.get("TIERLOG_KERNEL_INPUTS", "700"))
OFFSETS_END = 2**63 - 1


@contextmanager
def the_twin() -> Iterator[None]:
    kernel.compiled = None
    try:
        yield
    finally:
        kernel.compiled = compiled


def decoded(data: bytes, wanted: Wanted, is_aborted: IsAborted = none_aborted, **options: Any) -> pa.Table:
    made = [each.batch for each in decode(data, wanted, is_aborted, **options)]
    for each in made:
        each.validate(full=True)
    return pa.Table.from_batches(made, schema=wanted.schema)


def check(data: bytes, wanted: Wanted, is_aborted: IsAborted = none_aborted) -> Any:
    """Columns are equal, or the refusal is the same; what came before it is right. Returns what it was."""
    told = outcome(plainly, data, wanted, is_aborted)
    assert outcome(decoded, data, wanted, is_aborted) == told
    with the_twin():
        assert outcome(decoded, data, wanted, is_aborted) == told
    return told


@settings(deadline=None, max_examples=60)
@given(st.lists(BATCH, min_size=1, max_size=5), st.integers(0, 30), st.integers(0, 60))
def test_equal_on_whatever_producers_write(specs: list[Any], start: int, end: int) -> None:
    data = bytes(built(specs))
    check(data, ALL)
    check(data, ALL._replace(start_offset=start, end_offset=end))


@settings(deadline=None, max_examples=100)
@given(st.binary(min_size=1, max_size=60), st.integers(-2, 12), st.sampled_from(Compression))
def test_equal_on_bodies_that_are_anything(body: bytes, count: int, codec: Compression) -> None:
    header = parse_header(build_batch([Record(b"k", b"v")], base_offset=9, compression=codec))
    check(bytes(assemble(header._replace(records_count=count, last_offset_delta=20), body)), ALL)


def test_equal_on_mutated_input() -> None:
    seed = random.randrange(1 << 32) if "TIERLOG_KERNEL_INPUTS" in os.environ else 12
    rng = random.Random(seed)
    refused = 0
    for number in range(INPUTS):
        made = _Input(rng)
        try:
            refused += isinstance(check(made.data, made.wanted, made.is_aborted), tuple)
        except AssertionError as error:
            raise AssertionError(
                f"seed {seed}, input {number}: {made.data.hex()} of {made.wanted}"
            ) from error
    assert INPUTS < 100 or 0.1 < refused / INPUTS < 0.9


class _Input:
    """A few batches, of which one may be damaged, and what is wanted of them."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        base = rng.choice((0, 5, 5, 5, 2**40, OFFSETS_END - rng.randrange(40), -3))
        parts, first = [], base
        for _ in range(rng.randrange(1, 6)):
            batch = self._batch(base)
            parts.append(batch)
            base = parse_header(batch).next_offset
            if base > OFFSETS_END - 40:
                break
        hit = rng.randrange(2 * len(parts))
        if hit < len(parts):
            parts[hit] = self._damaged(parts[hit])
        self.data = b"".join(parts)
        if hit >= len(parts) and rng.random() < 0.1:
            self.data = self.data[: rng.randrange(len(self.data))]
        columns = rng.choice((SCHEMA.names, SCHEMA.names, rng.sample(SCHEMA.names, rng.randrange(1, 9))))
        start = min(max(first + rng.choice((-5, -5, 0, 3)), 0), OFFSETS_END)
        end = min(base + rng.choice((9, 9, -2)), OFFSETS_END)
        self.wanted = Wanted("flights", 3, schema_of(columns), start, end)
        self.is_aborted = rng.choice((none_aborted, none_aborted, lambda header: header.producer_id == 7))

    def _batch(self, base: int) -> bytes:
        rng = self._rng
        if rng.random() < 0.05:
            marker = EndTransactionMarker(True, 1)
            return bytes(
                build_end_transaction_marker(
                    marker, producer_id=1, producer_epoch=0, timestamp_ms=1, base_offset=base
                )
            )
        records = [self._record() for _ in range(rng.choice((1, 2, 3, 9, 30)))]
        return bytes(
            build_batch(
                records,
                base_offset=base,
                leader_epoch=rng.randrange(9),
                compression=rng.choice((Compression.NONE, Compression.NONE, *Compression)),
                append_time_ms=rng.choice((None, None, 99, -1)),
                producer_id=rng.choice((-1, -1, 7)),
                is_transactional=rng.random() < 0.2,
            )
        )

    def _record(self) -> Record:
        rng = self._rng
        headers = [
            (rng.choice(("", "h", "name", "\u00e9\u4e16\U0001f600")), self._bytes())
            for _ in range(rng.choice((0, 0, 0, 1, 3, 70 * (rng.random() < 0.02))))
        ]
        time = rng.choice((-1, 0, 1_700_000_000_000, 2**45)) + rng.randrange(3)
        return Record(self._bytes(), self._bytes(), time, tuple(headers))

    def _bytes(self) -> bytes | None:
        size = self._rng.choice((None, 0, 1, 15, 16, 17, 63, 64, 300))
        return None if size is None else self._rng.randbytes(size)

    def _damaged(self, batch: bytes) -> bytes:
        rng, header = self._rng, parse_header(batch)
        way = rng.randrange(4)
        if way == 0:  # A bit flipped on the way.
            data = bytearray(batch)
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
            return bytes(data)
        if way == 1:  # A header that lies under a checksum that holds.
            data = bytearray(batch)
            at, size = rng.choice(((21, 2), (23, 4), (27, 8), (35, 8), (57, 4)))
            value = rng.choice((0, 1, 2**31 - 1, 2**63, 2**64 - 1, rng.getrandbits(64)))
            data[at : at + size] = (value % (1 << 8 * size)).to_bytes(size, "big")
            seal(data, 0, len(data))
            return bytes(data)
        try:
            body = bytearray(records_body(batch, 0, header))
        except InvalidBatch:
            return batch
        if way == 2:  # Records that lie.
            for _ in range(rng.randrange(1, 4)):
                at = rng.randrange(len(body))
                body[at : at + rng.choice((0, 1, 1, 1, 2))] = rng.choice(
                    (
                        b"",
                        rng.randbytes(1),
                        b"\xff" * rng.randrange(1, 12),
                        b"\xfe" * rng.randrange(7, 10) + b"\x01",
                        b"\x80" * rng.randrange(1, 9) + b"\x00",
                    )
                )
            return _assembled(header, bytes(body))
        # Compressed bytes that lie, or a body of another codec.
        data = bytearray(batch)
        data[61 + rng.randrange(len(data) - 61)] = rng.randrange(256)
        seal(data, 0, len(data))
        return bytes(data)


def _assembled(header: BatchHeader, body: bytes) -> bytes:
    return bytes(assemble(header, body))


def test_the_kernel_decides_on_what_producers_write(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any) -> None:
        raise AssertionError("the twin was asked")

    monkeypatch.setattr(batches, "_in_steps", refuse)
    records = [
        Record(b"k" * n, bytes(n * 700), 1_700_000_000_000 + n, (("\u00e9", None),) * n) for n in range(30)
    ]
    for codec in Compression:
        data = b"".join(
            bytes(build_batch(records, base_offset=30 * number, compression=codec)) for number in range(20)
        )
        assert decoded(data, ALL)["offset"].to_pylist() == list(range(600))


def test_groups_end_where_they_are_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "GROUP_BYTES", 10_000)
    for codec in (Compression.NONE, Compression.LZ4):
        records = [Record(b"k", bytes(1_000))] * 4
        data = b"".join(bytes(build_batch(records, base_offset=4 * n, compression=codec)) for n in range(10))
        made = list(decode(data, ALL))
        assert [each.next_offset for each in made] == [8, 16, 24, 32, 40]
        assert all(each.batch.nbytes < 12_000 for each in made)


def test_the_kernel_makes_room_for_what_grows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "_in_steps", None)
    sizes = (1, 1, 40_000, 1, 80_000, 300_000, 1, 1, 900_000)
    for codec in (Compression.NONE, Compression.ZSTD):
        data = b"".join(
            bytes(build_batch([Record(bytes(size), bytes(size))], base_offset=number, compression=codec))
            for number, size in enumerate(sizes)
        )
        assert [len(value) for value in decoded(data, ALL, parts=64)["value"].to_pylist()] == list(sizes)


def test_what_came_before_damage_is_given_out() -> None:
    data = built([([Record(b"k", b"value")], Compression.NONE, None)] * 3)
    data[-3] ^= 1
    made = decode(bytes(data), ALL)
    assert next(made).next_offset == 7
    with pytest.raises(InvalidBatch, match="the batch at offset 7: fails its checksum"):
        next(made)


def test_arguments_that_do_not_fit_are_refused() -> None:
    assert compiled is not None
    data = bytes(build_batch([Record(b"k", b"v")]))
    tally, columns = np.zeros(12, np.int64), (None,) * 18
    rest = (0, 9, b"")
    for start, end in ((-1, 9), (9, 1), (0, len(data) + 1)):
        with pytest.raises(ValueError, match="outside of the data"):
            compiled.columns(data, start, end, (), *rest, columns, tally)
        with pytest.raises(ValueError, match="outside of the data"):
            compiled.packed(data, start, end, *rest, 9)
    with pytest.raises(ValueError, match="one buffer for each column"):
        compiled.columns(data, 0, 9, (), *rest, columns[1:], tally)
    with pytest.raises(ValueError, match="tally of another size"):
        compiled.columns(data, 0, 9, (), *rest, columns, tally[1:].copy())
    with pytest.raises(ValueError, match="not aligned"):
        compiled.columns(data, 0, 9, (), *rest, (memoryview(bytearray(64))[1:], *columns[1:]), tally)
    with pytest.raises(TypeError):
        compiled.columns(data, 0, 9, ("text",), *rest, columns, tally)
    with pytest.raises(BufferError):
        compiled.columns(data, 0, 9, (), *rest, (data, *columns[1:]), tally)
    for place, number in ((0, -1), (0, 2**40), (4, -1), (4, 2**40), (8, -1)):
        lying = tally.copy()
        lying[place] = number
        filled = (bytearray(64), *columns[1:5], *(bytearray(64) for _ in range(3)), *columns[8:])
        with pytest.raises(ValueError, match="do not hold what they should"):
            compiled.columns(data, 0, len(data), (), *rest, filled, lying)
