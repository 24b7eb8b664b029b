"""Rows come back from the ledger's objects as they were written; what is damaged is named and left out."""

from __future__ import annotations

import io
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.tiering.heads import entry
from tiering.catalog import EntryColumns
from tiering.errors import CorruptObject, UnsupportedFormat
from tiering.keys import topic_of
from tiering.ledger.book import Piece
from tiering.ledger.columns import VERSION_KEY, WRITTEN_KEY, Columns
from tiering.ledger.names import LedgerName, before_hour, key_of, ledger_prefix, parse_name
from tiering.ledger.parquet import LedgerFile, encode_ledger
from tiering.ledger.reader import Unwritten, names_between, read_hours
from tiering.ledger.rows import HOUR_MS, Cause, Kind, LedgerRow, Operation
from tiering.objects.memory import MemoryStore
from tiering.objects.port import ObjectStore, check_key

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "ledger"
HOUR = 500_000 * HOUR_MS
UUID = "0f" * 16
NAME = LedgerName(HOUR, 7, UUID)
KEY = key_of("c", NAME)


def encoded(rows: list[LedgerRow], since_ms: int = HOUR, until_ms: int = HOUR + 5) -> bytes:
    columns = Columns()
    for row in rows:
        columns.add(row)
    return encode_ledger(*columns.message(since_ms, until_ms))[1]


def decoded(data: bytes, name: LedgerName = NAME) -> list[LedgerRow]:
    return LedgerFile(data, KEY, name).rows()


def row(number: int = 0, hour_ms: int = HOUR, **figures: int) -> LedgerRow:
    return LedgerRow(hour_ms, 7, Kind.TRAFFIC, topic=f"t{number}", **figures)  # type: ignore[arg-type]


ROWS = st.lists(
    st.builds(
        LedgerRow,
        st.just(HOUR),
        st.just(7),
        st.sampled_from(Kind),
        *(st.text(max_size=5) for _ in range(2)),
        st.integers(-1, 2**31 - 1),
        *(st.text(max_size=5) for _ in range(10)),
        *(st.integers(0, 2**62) for _ in range(9)),
        st.floats(0, 1e18),
    ),
    max_size=5,
)


@settings(max_examples=15)
@given(ROWS)
def test_rows_come_back(rows: list[LedgerRow]) -> None:
    file = LedgerFile(encoded(rows), KEY, NAME)
    assert (file.written_ms, file.rows()) == (HOUR + 5, rows)
    coarse = [each._replace(principal="", requests=0) for each in rows]
    assert file.rows(without=("principal", "requests")) == coarse


def test_a_file_of_the_first_version_is_read() -> None:
    rows = [
        row(sent_bytes=5, records=2),
        LedgerRow(HOUR, 7, Kind.REQUESTS, cause=Cause.COPY, operation=Operation.PART, requests=3),
        LedgerRow(HOUR, 7, Kind.DISK, log_dir="/d", held_bytes=9, capacity_bytes=10, byte_hours=0.5),
    ]
    path = GOLDEN / "v1.parquet"
    assert decoded(path.read_bytes()) == rows
    assert pq.read_schema(path) == pq.read_schema(io.BytesIO(encoded(rows)))


def changed(data: bytes, **columns: pa.Array) -> bytes:
    """With other columns, and the same metadata."""
    table = pq.read_table(io.BytesIO(data))
    for name, values in columns.items():
        at = table.schema.get_field_index(name)
        table = table.append_column(name, values) if at < 0 else table.set_column(at, name, values)
    out = io.BytesIO()
    pq.write_table(table, out)
    return out.getvalue()


def test_kinds_and_columns_of_the_future_are_skipped() -> None:
    data = changed(
        encoded([row(1), row(2)]), kind=pa.array(["traffic", "weather"]), rain_mm=pa.array([1.0, 2.0])
    )
    assert decoded(data) == [row(1)]


def test_other_bytes_are_refused_with_their_name() -> None:
    data = encoded([row(number) for number in range(50)])
    for at in range(4, len(data) - 8, 97):
        cut = data[:at] + bytes([data[at] ^ 0x55]) + data[at + 1 :]
        try:
            found = decoded(cut)
        except (CorruptObject, UnsupportedFormat) as error:
            assert str(error).startswith(KEY)
            assert "\n" not in str(error)
        else:  # in what says nothing of the rows, as who has written it
            assert len(found) <= 50
    for other in (b"", b"PAR1", data[:-1], data[8:]):
        with pytest.raises(CorruptObject, match=KEY):
            decoded(other)
    for of in (NAME._replace(broker_id=8), NAME._replace(hour_ms=HOUR + HOUR_MS)):
        with pytest.raises(CorruptObject, match="a row that does not belong there"):
            decoded(data, of)
    later = pq.read_table(io.BytesIO(data)).replace_schema_metadata({VERSION_KEY: "2", WRITTEN_KEY: "0"})
    out = io.BytesIO()
    pq.write_table(later, out)
    with pytest.raises(UnsupportedFormat, match="ledger version 2; this release knows 1"):
        decoded(out.getvalue())


@given(st.integers(0, 2**41), st.integers(0, 2**31 - 1), st.binary(min_size=16, max_size=16))
def test_names_sort_by_hour_and_come_back(time_ms: int, broker_id: int, uuid: bytes) -> None:
    name = LedgerName(time_ms // HOUR_MS * HOUR_MS, broker_id, uuid.hex())
    key = check_key(key_of("c", name))
    assert parse_name("c", key) == name
    assert before_hour("c", time_ms) < key < before_hour("c", time_ms + HOUR_MS)
    assert topic_of(key) is None
    for other in (key[:-1], key + "x", key.replace("/ledger/", "/ledger/0"), f"meta/d{key[6:]}"):
        assert parse_name("c", other) is None
    assert parse_name("c", f"{ledger_prefix('c')}2026/02/30/00-1-{UUID}.parquet") is None


class Bucket:
    def __init__(self) -> None:
        self.store: ObjectStore = MemoryStore()
        self.warnings: list[str] = []

    async def put(self, piece: Piece, broker_id: int = 7) -> None:
        data = encoded(
            [row._replace(broker_id=broker_id) for row in piece.rows], piece.since_ms, piece.until_ms
        )
        key = key_of("c", LedgerName(piece.hour_ms, broker_id, piece.uuid))
        await self.store.put(key, data, size_bytes=len(data))

    async def sums(
        self, since_ms: int, until_ms: int, unwritten: list[Unwritten] | None = None
    ) -> list[tuple[int, int]]:
        """(hour, bytes) of each; each broker's rows come together."""
        found: dict[int, int] = {}
        seen = set()
        async for rows in read_hours(
            self.store, "c", since_ms, until_ms, self.warnings.append, unwritten or []
        ):
            ((hour_ms, broker_id),) = {row[:2] for row in rows}
            assert (hour_ms, broker_id) not in seen
            seen.add((hour_ms, broker_id))
            found[hour_ms] = found.get(hour_ms, 0) + sum(row.sent_bytes for row in rows)
        assert sorted(found) == list(found)
        return list(found.items())


def piece(hour: int, number: int, sent_bytes: int) -> Piece:
    hour_ms = HOUR + hour * HOUR_MS
    return Piece(
        hour_ms, hour_ms, hour_ms + number, f"{number:032x}", (row(0, hour_ms, sent_bytes=sent_bytes),)
    )


async def test_hours_are_read_in_order_however_many_pieces_they_have(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tiering.ledger.reader.GETS_AT_ONCE", 3)
    monkeypatch.setattr("tiering.ledger.reader.LIST_LIMIT_MAX", 4)
    bucket = Bucket()
    listing = bucket.store.list
    monkeypatch.setattr(bucket.store, "list", lambda *a, **k: listing(*a, **k, limit=4))
    for hour in (0, 1, 2, 5):
        for number in range(hour + 2):
            await bucket.put(piece(hour, number, 10**number), broker_id=7 + number % 2)
    whole = [(HOUR, 11), (HOUR + HOUR_MS, 111), (HOUR + 2 * HOUR_MS, 1_111), (HOUR + 5 * HOUR_MS, 1_111_111)]
    assert await bucket.sums(HOUR, HOUR + 6 * HOUR_MS) == whole
    assert await bucket.sums(HOUR + 1, HOUR + 2 * HOUR_MS + 1) == whole[1:3]
    assert await bucket.sums(HOUR + 3 * HOUR_MS, HOUR + 5 * HOUR_MS) == []
    assert await bucket.sums(HOUR, HOUR) == []
    assert bucket.warnings == []


async def test_what_brokers_tell_themselves_is_counted_once() -> None:
    bucket = Bucket()
    written, told = piece(1, 1, 100), piece(1, 2, 20)
    await bucket.put(piece(0, 0, 1))
    await bucket.put(written)
    await bucket.put(
        told._replace(rows=(row(0, told.hour_ms, sent_bytes=25),))
    )  # it went on until it was written
    unwritten = [
        (LedgerName(each.hour_ms, 7, each.uuid), encoded(list(each.rows), each.since_ms, each.until_ms))
        for each in (told, piece(3, 0, 7), piece(9, 9, 9))
    ]
    hours = [(HOUR, 1), (HOUR + HOUR_MS, 120), (HOUR + 3 * HOUR_MS, 7)]
    assert await bucket.sums(HOUR, HOUR + 4 * HOUR_MS, unwritten) == hours


async def test_a_damaged_object_costs_only_itself() -> None:
    bucket = Bucket()
    for number in range(3):
        await bucket.put(piece(0, number, 10**number))
    names = await names_between(bucket.store, "c", HOUR, HOUR + 1)
    await bucket.store.put(key_of("c", names[1]), b"nothing", size_bytes=7)
    await bucket.store.put(f"{ledger_prefix('c')}readme", b"", size_bytes=0)
    assert await bucket.sums(HOUR, HOUR + HOUR_MS) == [(HOUR, 101)]
    (warning,) = bucket.warnings
    assert warning.startswith(f"left out: {key_of('c', names[1])}: ")


@settings(max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 1_000)), max_size=12), st.integers(0, 13))
def test_sums_by_storage_class(amounts: list[tuple[int, int]], start: int) -> None:
    entries = [
        entry(10 * n, 10 * n + 10)._replace(storage_class=number, object_bytes=size)
        for n, (number, size) in enumerate(amounts)
    ]
    wanted: dict[int, tuple[int, int]] = {}
    for each in entries[start:]:
        objects, size = wanted.get(each.storage_class, (0, 0))
        wanted[each.storage_class] = (objects + 1, size + each.object_bytes)
    found = EntryColumns.of(entries).held_by_class(start)
    assert {number: held for number, held in found.items() if held[0]} == wanted
