"""What one broker has counted and not yet written, and how rows are added up. Pure.

An hour is told in pieces, one object each. A piece holds sums of its own time, and all the states there are at its end. So
of one broker and hour, sums are added up over the pieces, and states are those of the last piece: what it no longer names
was given up meanwhile, and holds nothing.

Bounds: ``PIECE_ROWS_MAX`` rows of a piece, ``WAITING_ROWS_MAX`` rows in pieces that wait for the store. Beyond them rows
lose their detail (``folded``), the oldest pieces first, and no sum is lost. Only beyond ``WAITING_PIECES_MAX`` pieces the
oldest are.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, TypeAlias

from tiering.ledger.rows import ALL, HOUR_MS, LAST, SUMMED, Kind, LedgerRow

PIECE_ROWS_MAX = 20_000
WAITING_ROWS_MAX = 40_000
WAITING_PIECES_MAX = 2_000
STATES = frozenset({Kind.STORED, Kind.OVERHEAD, Kind.LOCAL, Kind.DISK})
"""Kinds whose rows say what is held."""

Identity: TypeAlias = tuple[object, ...]
_FIGURES_AT = LedgerRow._fields.index("requests")
_NOTHING_HELD: dict[str, Any] = dict.fromkeys(LAST, 0)


class Piece(NamedTuple):
    """What was counted in [``since_ms``, ``until_ms``), all of one hour. ``uuid`` is the one in its object's name."""

    hour_ms: int
    since_ms: int
    until_ms: int
    uuid: str
    rows: tuple[LedgerRow, ...]


def hour_of(time_ms: int) -> int:
    """The start of the hour."""
    return time_ms - time_ms % HOUR_MS


def identity(row: LedgerRow) -> Identity:
    """What two rows have in common that are about the same."""
    return row[:_FIGURES_AT]


def followed_by(earlier: LedgerRow, later: LedgerRow) -> LedgerRow:
    """One row of two that are about the same thing and follow each other."""
    return later._replace(**{name: getattr(earlier, name) + getattr(later, name) for name in SUMMED})


def beside(one: LedgerRow, other: LedgerRow) -> LedgerRow:
    """One row of two at the same time; the first says what it is about."""
    return one._replace(**{name: getattr(one, name) + getattr(other, name) for name in SUMMED | LAST})


def without_detail(row: LedgerRow) -> LedgerRow:
    """Of no single topic, partition or client."""
    return row._replace(topic_id="", topic="", partition=ALL, principal="", client_id="", host="")


def folded(rows: Iterable[LedgerRow]) -> tuple[LedgerRow, ...]:
    """Rows of one piece, summed over topics, partitions and clients."""
    sums: dict[Identity, LedgerRow] = {}
    for row in map(without_detail, rows):
        about = identity(row)
        known = sums.get(about)
        sums[about] = row if known is None else beside(known, row)
    return tuple(sums.values())


def limited(rows: Sequence[LedgerRow], rows_max: int) -> tuple[LedgerRow, ...]:
    """Rows of one piece: the first so many as they are, the rest folded."""
    if len(rows) <= rows_max:
        return tuple(rows)
    kept = {identity(row): row for row in rows[:rows_max]}
    for row in folded(rows[rows_max:]):
        about = identity(row)
        known = kept.get(about)
        kept[about] = row if known is None else beside(known, row)
    return tuple(kept.values())


def added_up(pieces: Iterable[Sequence[LedgerRow]]) -> list[LedgerRow]:
    """The rows of one broker and hour, from its pieces in order."""
    known: dict[Identity, tuple[int, LedgerRow]] = {}
    newest_states = -1
    for number, piece in enumerate(pieces):
        for row in piece:
            about = identity(row)
            before = known.get(about)
            known[about] = (number, row if before is None else followed_by(before[1], row))
            if row.kind in STATES:
                newest_states = number
    return [
        row._replace(**_NOTHING_HELD) if row.kind in STATES and number < newest_states else row
        for number, row in known.values()
    ]


class Book:
    """The open piece of one broker, and those that wait to be written, oldest first."""

    def __init__(
        self, broker_id: int, now_ms: int, uuid: str, *, waiting_rows_max: int = WAITING_ROWS_MAX
    ) -> None:
        self.hour_ms = hour_of(now_ms)
        """Of the open piece."""
        self.since_ms = now_ms
        self.uuid = uuid
        self.waiting: deque[Piece] = deque()
        self.folded_rows = 0
        """Rows that have lost their detail."""
        self.lost_rows = 0
        self._broker_id = broker_id
        self._counts: dict[Identity, LedgerRow] = {}
        self._waiting_rows = 0
        self._waiting_rows_max = waiting_rows_max
        self._sent: Piece | None = None
        self._folded_to = 0
        """Waiting pieces before this index have been folded, or are being sent."""

    @property
    def held_rows(self) -> int:
        """Rows in memory, states of the open piece not counted."""
        return len(self._counts) + self._waiting_rows

    def add(self, row: LedgerRow) -> None:
        """Counts what has happened since the open piece began."""
        row = row._replace(hour_ms=self.hour_ms, broker_id=self._broker_id)
        about = identity(row)
        if about not in self._counts and len(self._counts) >= PIECE_ROWS_MAX:
            row = without_detail(row)
            about = identity(row)
            self.folded_rows += 1
        known = self._counts.get(about)
        self._counts[about] = row if known is None else followed_by(known, row)

    def open_rows(self, states: Iterable[LedgerRow]) -> tuple[LedgerRow, ...]:
        """The rows of the open piece as of now; ``states`` of its time and hour."""
        return limited([*self._counts.values(), *states], PIECE_ROWS_MAX)

    def close(self, until_ms: int, states: Iterable[LedgerRow], next_ms: int, next_uuid: str) -> None:
        """Ends the open piece at ``until_ms``, and opens the next at ``next_ms``. A piece without rows is dropped."""
        rows = self.open_rows(states)
        if rows:
            self._wait(Piece(self.hour_ms, self.since_ms, until_ms, self.uuid, rows))
        self._counts = {}
        self.hour_ms, self.since_ms, self.uuid = hour_of(next_ms), next_ms, next_uuid

    def to_send(self) -> Piece | None:
        """The piece that is to be written next. From then on it stays as it is: a write that seemed to fail may have been
        done, and no object is written twice with other bytes."""
        self._sent = self.waiting[0] if self.waiting else None
        return self._sent

    def written(self, piece: Piece) -> None:
        assert self.waiting[0] is piece
        self.waiting.popleft()
        self._waiting_rows -= len(piece.rows)
        self._folded_to = max(self._folded_to - 1, 0)
        self._sent = None

    def _wait(self, piece: Piece) -> None:
        self.waiting.append(piece)
        self._waiting_rows += len(piece.rows)
        while self._waiting_rows > self._waiting_rows_max and self._folded_to < len(self.waiting):
            oldest = self.waiting[self._folded_to]
            if oldest is not self._sent:
                self._fold(self._folded_to, oldest)
            self._folded_to += 1
        if len(self.waiting) > WAITING_PIECES_MAX:
            at = 1 if self.waiting[0] is self._sent else 0
            lost = self.waiting[at]
            del self.waiting[at]
            self._folded_to = max(self._folded_to - 1, 0)
            self._waiting_rows -= len(lost.rows)
            self.lost_rows += len(lost.rows)

    def _fold(self, number: int, piece: Piece) -> None:
        rows = folded(piece.rows)
        self.folded_rows += len(piece.rows) - len(rows)
        self._waiting_rows -= len(piece.rows) - len(rows)
        self.waiting[number] = piece._replace(rows=rows)
