"""Rows add up to the same, in however many pieces an hour is told; what is too many loses detail and no sum."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tiering.ledger import book as book_module
from tiering.ledger.book import STATES, Book, added_up, folded, identity, limited
from tiering.ledger.held import Amount, Held, Place
from tiering.ledger.rows import HOUR_MS, LAST, SUMMED, Kind, LedgerRow

HOUR = 500_000 * HOUR_MS
NAMES = st.sampled_from(["", "a", "b"])
COUNTS = st.integers(0, 1 << 50)
UUID = "0" * 32


@st.composite
def rows(draw: st.DrawFn) -> LedgerRow:
    kind = draw(st.sampled_from(Kind))
    row = LedgerRow(
        HOUR, 1, kind, topic=draw(NAMES), client_id=draw(NAMES), partition=draw(st.integers(-1, 1))
    )
    if kind in STATES:
        held = {name: draw(COUNTS) for name in LAST}
        return row._replace(**held, byte_hours=float(draw(st.integers(0, 1 << 20))))
    return row._replace(requests=draw(COUNTS), sent_bytes=draw(COUNTS), records=draw(COUNTS))


def piece() -> st.SearchStrategy[list[LedgerRow]]:
    """A piece has one row about each thing."""
    return st.lists(rows(), max_size=8, unique_by=identity)


def sums(found: Sequence[LedgerRow]) -> dict[tuple[Kind, str], float]:
    return {
        (kind, name): sum(getattr(r, name) for r in found if r.kind is kind)
        for kind in Kind
        for name in SUMMED
    }


def told(found: Sequence[LedgerRow]) -> set[LedgerRow]:
    assert len({identity(row) for row in found}) == len(found)
    return set(found)


@settings(max_examples=40)
@given(st.lists(piece(), max_size=5), st.integers(0, 5), st.integers(0, 5))
def test_pieces_may_be_added_up_in_any_grouping(pieces: list[list[LedgerRow]], a: int, b: int) -> None:
    first, last = min(a, b), max(a, b)
    together = [*pieces[:first], added_up(pieces[first:last]), *pieces[last:]]
    assert told(added_up(together)) == told(added_up(pieces))
    assert sums(added_up(pieces)) == sums([row for each in pieces for row in each])


@settings(max_examples=40)
@given(st.lists(piece(), min_size=1, max_size=5))
def test_states_are_those_of_the_last_piece_that_has_any(pieces: list[list[LedgerRow]]) -> None:
    newest = next((each for each in reversed(pieces) if any(row.kind in STATES for row in each)), [])
    held = {identity(row): row.held_bytes for row in newest if row.kind in STATES}
    for row in added_up(pieces):
        if row.kind in STATES:
            assert row.held_bytes == held.get(identity(row), 0)


@settings(max_examples=40)
@given(piece(), st.integers(0, 8))
def test_what_is_folded_keeps_its_sums(found: list[LedgerRow], rows_max: int) -> None:
    for fewer in (folded(found), limited(found, rows_max)):
        assert sums(fewer) == sums(found)
        for name in LAST:
            assert sum(getattr(row, name) for row in fewer) == sum(getattr(row, name) for row in found)
        told(fewer)


class Counting:
    """One event after the other, each of one row, and what is held between them."""

    def __init__(self) -> None:
        self.held = Held()
        self.book = Book(1, HOUR, UUID)
        self.now_ms = 0

    def pass_time(self, by_ms: int, held_bytes: int) -> None:
        self.now_ms += by_ms
        place = Place(Kind.LOCAL, topic="t")
        found: set[Place] = set()
        if held_bytes:
            self.held.sample(place, Amount(held_bytes, 1), self.now_ms)
            found.add(place)
        self.held.looked(found, self.now_ms)

    def end_piece(self) -> None:
        until_ms = HOUR + self.now_ms
        self.book.close(until_ms, list(self.held.rows(self.book.hour_ms, 1)), until_ms, UUID)
        self.held.begin_piece()

    def rows(self) -> list[LedgerRow]:
        self.end_piece()
        return added_up([each.rows for each in self.book.waiting])


EVENTS = st.lists(
    st.tuples(
        rows().filter(lambda row: row.kind not in STATES), st.integers(0, 50_000), COUNTS, st.booleans()
    ),
    max_size=8,
)


@settings(max_examples=40)
@given(EVENTS)
def test_an_hour_told_in_pieces_equals_the_hour_told_once(
    events: list[tuple[LedgerRow, int, int, bool]],
) -> None:
    once, often = Counting(), Counting()
    for row, by_ms, held_bytes, is_end in events:
        for each in (once, often):
            each.book.add(row)
            each.pass_time(by_ms, held_bytes)
        if is_end:
            often.end_piece()
    left, right = ({identity(row): row for row in each.rows() if any(row[16:])} for each in (once, often))
    assert left.keys() == right.keys()
    for about, row in left.items():
        other = right[about]
        # An integral of doubles: added up in another order it differs in its last bit.
        assert math.isclose(row.byte_hours, other.byte_hours, rel_tol=1e-9)
        assert row._replace(byte_hours=0) == other._replace(byte_hours=0)


def test_a_gibibyte_for_half_an_hour_is_half_a_gibibyte_hour() -> None:
    held, place = Held(), Place(Kind.STORED, topic="t", storage_class="standard")
    held.sample(place, Amount(1 << 30, 1), 0)
    held.sample(place, Amount(1 << 30, 1), HOUR_MS // 2)
    held.looked({place}, HOUR_MS // 2)
    held.looked(set(), HOUR_MS // 2)  # gone at once
    held.looked(set(), HOUR_MS)
    (row,) = held.rows(HOUR, 1)
    assert (row.byte_hours, row.held_bytes) == (2**29, 0)
    held.begin_piece()
    assert len(held) == 0


def test_between_two_looks_the_way_is_straight() -> None:
    held, place = Held(), Place(Kind.LOCAL, topic="t")
    held.looked(set(), 0)
    held.sample(place, Amount(1_000, 1), HOUR_MS)
    held.sample(place, Amount(7, 1), HOUR_MS - 5)  # a clock that goes back adds nothing
    (row,) = held.rows(HOUR, 1)
    assert (row.byte_hours, row.held_bytes) == (500.0, 7)


def of_topic(number: int) -> LedgerRow:
    return LedgerRow(0, 0, Kind.TRAFFIC, topic=f"t{number}", client_id="c", sent_bytes=1)


def test_a_piece_keeps_so_many_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(book_module, "PIECE_ROWS_MAX", 500)
    book = Book(1, HOUR, UUID)
    count = book_module.PIECE_ROWS_MAX + 1_000
    for number in range(count):
        book.add(of_topic(number))
    assert book.held_rows == book_module.PIECE_ROWS_MAX + 1
    assert book.folded_rows == 1_000
    rows_told = book.open_rows([])
    assert len(rows_told) <= book_module.PIECE_ROWS_MAX + 1
    assert sum(row.sent_bytes for row in rows_told) == count


def test_pieces_that_wait_keep_so_many_rows_and_no_sum_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(book_module, "WAITING_PIECES_MAX", 100)
    book = Book(1, HOUR, UUID, waiting_rows_max=250)
    sent = book.to_send()
    for hour in range(1, 20):
        for number in range(100):
            book.add(of_topic(number))
        book.close(HOUR + hour * HOUR_MS, [], HOUR + hour * HOUR_MS, UUID)
        sent = sent or book.to_send()
    assert sent is not None
    assert book.waiting[0] is sent, "what may have been written stays as it is"
    assert len(sent.rows) == 100
    assert [len(each.rows) for each in book.waiting] == [100, *[1] * 17, 100]
    assert sum(row.sent_bytes for each in book.waiting for row in each.rows) == 1_900
    assert (book.held_rows, book.lost_rows) == (217, 0)
    book.written(sent)
    assert book.held_rows == 117
    for number in range(200):
        book.add(of_topic(number))
        book.close(HOUR + 100 * HOUR_MS + number, [], HOUR + 100 * HOUR_MS + number, UUID)
    assert len(book.waiting) == book_module.WAITING_PIECES_MAX
    assert book.lost_rows == 217, "118 pieces, of which one was not folded yet"
