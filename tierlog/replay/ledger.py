"""What a replay asks of buckets, in the ledger of their cluster: rows beside those of the brokers, with the broker id −1.

Each request has the cause ``replay`` and the client id of the replay. Rows are written whenever an hour ends and at the end,
by a client of their own, whose put is counted ahead as one request: no later object could tell it. What was not written is
told in one line, and the replay is not held up; what kill -9 takes is the running hour.
"""

from __future__ import annotations

import asyncio
import secrets
import sys
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import NamedTuple, TypeVar

from tiering.errors import TieringError
from tiering.keys import topic_id_text
from tiering.ledger.book import Book, Piece, hour_of
from tiering.ledger.columns import Columns
from tiering.ledger.names import LedgerName, key_of
from tiering.ledger.parquet import encode_ledger
from tiering.ledger.rows import HOUR_MS, NO_BROKER, Cause, Kind, LedgerRow, Operation
from tiering.metering.attribution import attributed, current
from tiering.metering.meter import STANDARD
from tiering.objects.measured import StoreStats
from tiering.objects.opening import open_store
from tiering.objects.port import ObjectStore
from tiering.objects.retrying import RetryingStore, attempts_of
from tiering.objects.wrapping import Call, WrappedStore
from tiering.tasks import begin
from tierlog.errors import UserError

R = TypeVar("R")

CLIENT_ID = "tierlog-replay"
WRITE_S = 10.0
"""What the end of a replay waits for the bucket."""


def on_stderr(line: str) -> None:
    sys.stderr.write(f"tierlog: {line}\n")


class Place(NamedTuple):
    """Where the ledger of a cluster is."""

    url: str
    cluster_id: str


class Caller(NamedTuple):
    """Who asks brokers and buckets. ``is_counted``: whether the requests are written to the ledger; ``tell`` is given one
    line if they cannot be. ``collect``: takes the rows instead, to write those of many short readings as one."""

    client_id: str = CLIENT_ID
    is_counted: bool = True
    tell: Callable[[str], None] = on_stderr
    collect: Callable[[Place, list[LedgerRow]], None] | None = None


UNCOUNTED = Caller(is_counted=False)
"""Who only looks: a few requests of a command that writes nothing."""


class ReplayLedger:
    """``find``: where the rows go; None: no bucket. ``wall_ms``: the time of day."""

    def __init__(
        self,
        caller: Caller,
        find: Callable[[], Awaitable[Place | None]],
        wall_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self.stats = StoreStats()
        self._caller = caller
        self._find = find
        self._wall_ms = wall_ms
        self._book = Book(NO_BROKER, wall_ms(), secrets.token_hex(16))
        self._topics: dict[str, str] = {}
        self._has_rows = False
        self._hourly: asyncio.Future[None] | None = None

    def counted(self, store: ObjectStore) -> ObjectStore:
        """The same store, whose requests are the replay's, retries too."""
        inner, policy = attempts_of(store)
        return RetryingStore(_Attributed(inner, self._caller.client_id), policy)

    def name(self, topic: str, topic_id: bytes) -> None:
        """What a topic is called."""
        self._topics[topic_id_text(topic_id)] = topic

    def start(self) -> None:
        if self._caller.is_counted and self._caller.collect is None:
            self._hourly = begin(self._write_on())

    async def close(self) -> None:
        """Writes what there is, or hands it on."""
        if self._caller.is_counted and self._caller.collect is not None:
            rows = self._drained()
            place = await self._find() if rows else None
            if place is not None:
                self._caller.collect(place, rows)
        if self._hourly is None:
            return
        self._hourly.cancel()
        await asyncio.gather(self._hourly, return_exceptions=True)
        why = await self.write()
        if why:
            self._caller.tell(f"the requests of this replay are not in the ledger: {why}")

    async def write(self) -> str:
        """Ends the open piece. Why it, or an earlier one, is not in the bucket; empty if all is."""
        self._close_piece(self._wall_ms())
        try:
            async with asyncio.timeout(WRITE_S):
                place = await self._find() if self._book.waiting else None
                if place is not None:
                    await self._send_all(place)
        except TimeoutError:
            return f"no answer within {WRITE_S:.0f} s"
        except (TieringError, UserError) as error:
            return str(error)
        return ""

    async def _write_on(self) -> None:
        while True:
            left_ms = self._book.hour_ms + HOUR_MS - self._wall_ms()
            await asyncio.sleep(max(left_ms, 1) / 1_000)
            if hour_of(self._wall_ms()) != self._book.hour_ms:
                await self.write()

    def add(self, rows: Iterable[LedgerRow]) -> None:
        """Counts what others have drained."""
        for row in rows:
            self._has_rows = True
            self._book.add(row)

    def _drained(self) -> list[LedgerRow]:
        return list(self.stats.accounts.drain(lambda topic_id: self._topics.get(topic_id, "")))

    def _close_piece(self, now_ms: int) -> None:
        book, client_id = self._book, self._caller.client_id
        self.add(self._drained())
        if self._has_rows:
            put = LedgerRow(0, 0, Kind.REQUESTS, cause=Cause.LEDGER, operation=Operation.PUT)
            book.add(put._replace(storage_class=STANDARD, client_id=client_id, requests=1))
            self._has_rows = False
        until_ms = max(min(now_ms, book.hour_ms + HOUR_MS), book.since_ms)
        next_ms = until_ms if hour_of(now_ms) == hour_of(until_ms) else now_ms
        book.close(until_ms, (), next_ms, secrets.token_hex(16))

    async def _send_all(self, place: Place) -> None:
        store = open_store(place.url, writes=False)
        try:
            while (piece := self._book.to_send()) is not None:
                data = await asyncio.to_thread(_encoded, piece)
                name = LedgerName(piece.hour_ms, NO_BROKER, piece.uuid)
                await store.put(key_of(place.cluster_id, name), data, size_bytes=len(data))
                self._book.written(piece)
        finally:
            await store.close()


class _Attributed(WrappedStore):
    """Below the retries, above what counts: whoever reads through it, the replay pays."""

    def __init__(self, inner: ObjectStore, client_id: str) -> None:
        super().__init__(inner)
        self._client_id = client_id

    async def _parts(self, call: Call, work: Callable[[], Awaitable[R]]) -> R:
        with attributed(Cause.REPLAY, self._client_id, storage_class=current().storage_class):
            return await work()


def _encoded(piece: Piece) -> bytes:
    columns = Columns()
    for row in piece.rows:
        columns.add(row)
    return encode_ledger(*columns.message(piece.since_ms, piece.until_ms))[1]
