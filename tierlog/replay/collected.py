"""The requests of many short readings, written to the ledger as one object: at the end, and whenever an hour is over.

A statement of SQL reads each topic anew for each scan, and a table looks once a minute: an object for each would be more
requests than they tell. Readings may end in threads of their own.
"""

from __future__ import annotations

import time
from threading import Lock

from tiering.ledger.book import hour_of
from tiering.ledger.rows import LedgerRow
from tierlog.replay.ledger import Caller, Place, ReplayLedger

CLUSTERS_MAX = 100
"""Of which rows are kept; nobody reads more in one process."""


class Collected:
    """``caller`` is what readings are given."""

    def __init__(self, client_id: str, *, is_counted: bool = True) -> None:
        self.caller = Caller(client_id, is_counted, collect=self._take)
        self._ledgers: dict[Place, ReplayLedger] = {}
        self._lock = Lock()
        self._hour_ms = hour_of(_now_ms())

    def _take(self, place: Place, rows: list[LedgerRow]) -> None:
        with self._lock:
            ledger = self._ledgers.get(place)
            if ledger is None and len(self._ledgers) < CLUSTERS_MAX:
                ledger = self._ledgers[place] = ReplayLedger(self.caller, lambda: _found(place))
            if ledger is not None:
                ledger.add(rows)

    async def write_if_due(self) -> None:
        """If the hour is over since it was last written."""
        hour_ms = hour_of(_now_ms())
        if hour_ms != self._hour_ms:
            self._hour_ms = hour_ms
            await self.write()

    async def write(self) -> None:
        """What cannot be written is told in one line, and tried again by the next call."""
        with self._lock:
            ledgers = list(self._ledgers.values())
        for ledger in ledgers:
            why = await ledger.write()
            if why:
                self.caller.tell(f"requests of {self.caller.client_id} are not in the ledger: {why}")


async def _found(place: Place) -> Place:
    return place


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
