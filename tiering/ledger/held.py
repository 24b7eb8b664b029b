"""What is held where, and for how long: integrals over samples. Pure.

A place is looked at about once a minute, and between two looks what it holds is taken to go straight from the one to the
other. A place that is found for the first time held nothing at the look before; one that a look no longer finds holds
nothing any more. Times are of a monotonic clock: a wall clock that jumps adds no hours.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from tiering.ledger.rows import ALL, HOUR_MS, Kind, LedgerRow


class Place(NamedTuple):
    """Where something is held, with the columns of a row."""

    kind: Kind
    topic_id: str = ""
    topic: str = ""
    partition: int = ALL
    storage_class: str = ""
    log_dir: str = ""
    cause: str = ""


class Amount(NamedTuple):
    """How much, with the columns of a row."""

    held_bytes: int
    objects: int
    duplicated_bytes: int = 0
    capacity_bytes: int = 0


NOTHING = Amount(0, 0)


class _Held:
    """``twice_byte_ms``: the integral since the piece began, times two, so that it is whole."""

    __slots__ = ("amount", "at_ms", "twice_byte_ms")

    def __init__(self, amount: Amount, at_ms: int) -> None:
        self.amount = amount
        self.at_ms = at_ms
        self.twice_byte_ms = 0


class Held:
    """All places of one broker. Bound: two for each replica and one more for each further storage class of it, one for each
    topic and each log directory, and three."""

    def __init__(self) -> None:
        self._places: dict[Place, _Held] = {}
        self._looked_ms: int | None = None

    def __len__(self) -> int:
        return len(self._places)

    def sample(self, place: Place, amount: Amount, at_ms: int) -> None:
        """What a look has found at ``at_ms``."""
        known = self._places.get(place)
        if known is None:
            since_ms = at_ms if self._looked_ms is None else self._looked_ms
            known = self._places[place] = _Held(NOTHING, since_ms)
        elapsed_ms = max(0, at_ms - known.at_ms)
        known.twice_byte_ms += (known.amount.held_bytes + amount.held_bytes) * elapsed_ms
        known.amount, known.at_ms = amount, max(at_ms, known.at_ms)

    def looked(self, found: set[Place], at_ms: int) -> None:
        """Ends a look, which has found these places and no others."""
        for place in self._places.keys() - found:
            self.sample(place, NOTHING, at_ms)
        self._looked_ms = at_ms

    def rows(self, hour_ms: int, broker_id: int) -> Iterator[LedgerRow]:
        """One row for each place, of the time since the piece began."""
        for place, held in self._places.items():
            amount = held.amount
            yield LedgerRow(
                hour_ms,
                broker_id,
                place.kind,
                place.topic_id,
                place.topic,
                place.partition,
                cause=place.cause,
                storage_class=place.storage_class,
                log_dir=place.log_dir,
                held_bytes=amount.held_bytes,
                duplicated_bytes=amount.duplicated_bytes,
                capacity_bytes=amount.capacity_bytes,
                objects=amount.objects,
                byte_hours=held.twice_byte_ms / (2 * HOUR_MS),
            )

    def begin_piece(self) -> None:
        """Starts all integrals at zero, and forgets the places that hold nothing any more."""
        self._places = {place: held for place, held in self._places.items() if held.amount != NOTHING}
        for held in self._places.values():
            held.twice_byte_ms = 0
