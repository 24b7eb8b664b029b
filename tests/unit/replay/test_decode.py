"""The vectorised decoder against its plain twin: equal columns, or the same refusal."""

from __future__ import annotations

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.unit.replay.plainly import outcome, plainly
from tierlog import kernel
from tierlog.errors import ErrorCode, UserError
from tierlog.records.batch import Compression, InvalidBatch, parse_header
from tierlog.records.control import EndTransactionMarker, build_end_transaction_marker
from tierlog.records.records import Record, assemble, build_batch, records_body
from tierlog.replay.decode import batches
from tierlog.replay.decode.batches import decode
from tierlog.replay.decode.columns import Wanted
from tierlog.replay.decode.schema import SCHEMA, schema_of
from tierlog.replay.decode.starts import LANES_MIN

ALL = Wanted("flights", 3, SCHEMA, 0, 2**62)
BYTES = st.none() | st.binary(max_size=20) | st.integers(0, 9000).map(bytes)
TIMES = st.integers(-1, 2**45) | st.just(-1)
HEADERS = st.lists(st.tuples(st.text(max_size=5), st.none() | st.binary(max_size=9)), max_size=3).map(tuple)
RECORDS = st.builds(Record, BYTES, BYTES, TIMES, st.just(()) | HEADERS)
BATCH = st.tuples(
    st.lists(RECORDS, min_size=1, max_size=6), st.sampled_from(Compression), st.none() | st.just(17)
)


def built(specs: list[Any]) -> bytearray:
    data, offset = bytearray(), 5
    for records, codec, append_time in specs:
        data += build_batch(
            records, base_offset=offset, leader_epoch=2, compression=codec, append_time_ms=append_time
        )
        offset += len(records)
    return data


def in_steps(data: bytes | bytearray, wanted: Wanted = ALL, **options: Any) -> pa.Table:
    made = [each.batch for each in decode(bytes(data), wanted, **options)]
    for each in made:
        each.validate(full=True)
    return pa.Table.from_batches(made, schema=wanted.schema)


@pytest.fixture(autouse=True)
def every_way(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Chains are walked side by side from two on, too. The kernel has tests of its own."""
    monkeypatch.setattr(kernel, "compiled", None)
    monkeypatch.setattr("tierlog.replay.decode.starts.LANES_MIN", 2)
    yield


@settings(deadline=None, max_examples=60)
@given(st.lists(BATCH, min_size=1, max_size=5))
@example([([Record(None, bytes(3_000_000), 5), Record(b"k", b"v", 2**44)], Compression.NONE, None)])
def test_equal_on_whatever_producers_write(specs: list[Any]) -> None:
    data = built(specs)
    assert in_steps(data).equals(plainly(data, ALL).combine_chunks()) or (
        in_steps(data).to_pylist() == plainly(data, ALL).to_pylist()
    )


@settings(deadline=None, max_examples=40)
@given(st.lists(BATCH, min_size=1, max_size=4), st.integers(0, 30), st.integers(0, 30))
def test_offsets_cut_batches(specs: list[Any], start: int, end: int) -> None:
    data, wanted = built(specs), ALL._replace(start_offset=start, end_offset=end)
    assert in_steps(data, wanted).to_pylist() == plainly(data, wanted).to_pylist()


@settings(deadline=None, max_examples=150)
@given(st.lists(BATCH, min_size=1, max_size=3), st.integers(0, 2), st.data())
def test_the_same_refusal_of_damaged_bodies(specs: list[Any], which: int, data: st.DataObject) -> None:
    """A changed, missing or added byte of a body under a checksum that holds."""
    batch = built(specs[which % len(specs) :][:1])
    header = parse_header(batch)
    body = bytearray(records_body(batch, 0, header))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(body) - 1))
        change = data.draw(st.sampled_from(("set", "continue", "cut", "grow")))
        if change == "set":
            body[at] = data.draw(st.integers(0, 255))
        elif change == "continue":
            body[at : at + 1] = bytes(
                [body[at] | 0x80, *data.draw(st.sampled_from(([0], [0x80] * 9, [0xFF] * 8 + [1])))]
            )
        elif change == "cut" and len(body) > 1:
            del body[at]
        else:
            body.insert(at, 0)
    damaged = bytes(assemble(header, bytes(body)))
    with_others = bytes(built(specs)) + damaged
    assert outcome(in_steps, damaged) == outcome(plainly, damaged, ALL)
    told = outcome(in_steps, with_others)
    assert told == outcome(plainly, with_others, ALL)


@settings(deadline=None, max_examples=60)
@given(st.binary(min_size=1, max_size=60), st.integers(0, 12), st.sampled_from(Compression))
def test_the_same_refusal_of_bodies_that_are_anything(body: bytes, count: int, codec: Compression) -> None:
    header = parse_header(build_batch([Record(b"k", b"v")], base_offset=9, compression=codec))
    batch = bytes(assemble(header._replace(records_count=count, last_offset_delta=20), body))
    if count:
        assert outcome(in_steps, batch) == outcome(plainly, batch, ALL)
    else:
        assert in_steps(batch).num_rows == 0


def test_many_short_and_few_long_chains(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tierlog.replay.decode.starts.LANES_MIN", LANES_MIN)
    rng, data, offset = random.Random(5), bytearray(), 0
    for count in [700, *(rng.randrange(1, 60) for _ in range(3 * LANES_MIN)), 1500]:
        records = [
            Record(
                b"%d" % n, rng.randbytes(rng.choice((0, 40, 70, 130))) or None, n, (("h", b"x"),) * (n % 3)
            )
            for n in range(count)
        ]
        data += build_batch(records, base_offset=offset)
        offset += count
    found = in_steps(data)
    assert found.to_pylist() == plainly(data, ALL).to_pylist()
    assert found["offset"].to_pylist() == list(range(offset))


def test_no_doubt_about_what_producers_write(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any) -> None:
        raise AssertionError("the twin was asked")

    monkeypatch.setattr(batches, "plain_record_batch", refuse)
    records = [Record(b"k" * n, bytes(n * 700), 1_700_000_000_000 + n, (("h", None),)) for n in range(30)]
    assert in_steps(build_batch(records)).num_rows == 30


def test_more_headers_than_steps_are_worth() -> None:
    records = [Record(b"k", b"v", 1, tuple((f"h{n}", b"x") for n in range(count))) for count in (0, 500, 1)]
    data = build_batch(records)
    assert in_steps(data).to_pylist() == plainly(data, ALL).to_pylist()


def test_a_bit_that_flipped_is_found() -> None:
    data = built([([Record(b"k", b"value")], Compression.NONE, None)] * 2)
    data[-3] ^= 1
    made = decode(bytes(data), ALL)
    with pytest.raises(InvalidBatch, match="the batch at offset 6: fails its checksum"):
        list(made)


def test_what_is_cut_off_is_refused() -> None:
    data = built([([Record(b"k", b"value")], Compression.NONE, None)])
    with pytest.raises(InvalidBatch, match="cut off"):
        in_steps(data[:-1])


def test_a_bomb_is_refused() -> None:
    header = parse_header(build_batch([Record(b"k", b"v")], compression=Compression.ZSTD))
    batch = assemble(header, bytes(70 << 20))
    with pytest.raises(InvalidBatch, match="offset 0: batch decompresses to more than"):
        in_steps(batch)


def test_control_batches_and_aborted_transactions_are_left_out() -> None:
    data = built(
        [([Record(b"k", b"a")], Compression.NONE, None), ([Record(b"k", b"b")], Compression.NONE, None)]
    )
    data += build_end_transaction_marker(
        EndTransactionMarker(True, 1), producer_id=1, producer_epoch=0, timestamp_ms=1, base_offset=7
    )
    assert in_steps(data)["value"].to_pylist() == [b"a", b"b"]
    left = in_steps(data, is_aborted=lambda header: header.base_offset == 5)
    assert left["value"].to_pylist() == [b"b"]


def test_columns_are_chosen() -> None:
    data = built([([Record(b"k", b"v", 9, (("h", b"x"),))], Compression.NONE, None)])
    chosen = in_steps(data, ALL._replace(schema=schema_of(["value", "offset"])))
    assert chosen.to_pylist() == [{"value": b"v", "offset": 5}]
    with pytest.raises(UserError, match="no column price; there are topic, partition"):
        schema_of(["price"])


@pytest.mark.parametrize("codec", [Compression.ZSTD, Compression.LZ4])
def test_threads_decode_beside_each_other(codec: Compression) -> None:
    """Two readers in one process, or one that reads in no order."""
    records = [Record(b"k", b"%d," % n * 200, n) for n in range(300)]
    data = b"".join(build_batch(records, base_offset=300 * n, compression=codec) for n in range(40))
    wanted = Wanted("t", 0, schema_of(["value"]), 0, 1 << 40)

    def decoded(_: int) -> list[Any]:
        return [made.batch for made in decode(data, wanted, parts=64)]

    whole = pa.Table.from_batches(decoded(0))
    with ThreadPoolExecutor(4) as threads:
        for found in threads.map(decoded, range(12)):
            assert pa.Table.from_batches(found).equals(whole)


def test_large_groups_come_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "GROUP_BYTES", 10_000)
    data = built([([Record(b"k", bytes(1_000))] * 4, Compression.LZ4, None)] * 10)
    made = list(decode(bytes(data), ALL))
    assert [(each.batch.num_rows, each.next_offset) for each in made] == [
        (12, 17),
        (12, 29),
        (12, 41),
        (4, 45),
    ]


def test_damage_is_unusual_and_never_a_crash() -> None:
    """Positions beyond 63 bits do not come out of lengths that lie."""
    huge = bytes([0xFE] * 9 + [1])
    header = parse_header(build_batch([Record(b"k", b"v")] * 3, base_offset=5))
    for body in (huge * 3, b"\x0e\0\0\0" + huge * 3, b"\x40" + huge * 4, b"\x0e\0" + huge * 3):
        batch = bytes(assemble(header, body))
        assert outcome(in_steps, batch) == outcome(plainly, batch, ALL)
        assert outcome(in_steps, batch)[0] is ErrorCode.CORRUPT_MESSAGE
