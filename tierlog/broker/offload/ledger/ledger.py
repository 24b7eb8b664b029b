"""Counts, and writes an object whenever an hour ends, or ``tierlog.ledger.flush.interval.ms`` is over.

Two tasks: one looks, counts and closes pieces, the other sends them, oldest first, so that a store that does not answer
delays no look. A store that is away loses nothing: pieces wait (``tiering.ledger.book`` has the bound). A clean stop writes
what there is. What kill -9 takes is what was not written: the running piece, and those that waited.

Several objects tell one hour together. A piece's name is fixed when it begins, so that who reads it here over HTTP and then
the bucket knows what he has already (``unwritten``).
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import structlog

from tiering.errors import TieringError
from tiering.ledger.book import Book, Piece, hour_of
from tiering.ledger.columns import Columns
from tiering.ledger.held import Held
from tiering.ledger.names import LedgerName, key_of
from tiering.ledger.rows import HOUR_MS, Cause, Kind, LedgerRow, Operation
from tiering.metering.attribution import attributed
from tiering.metering.meter import STANDARD
from tiering.objects.port import ObjectStore
from tierlog.broker.offload.ledger.look import Look
from tierlog.broker.offload.ledger.sources import Source
from tierlog.broker.work.background import Background, Kept
from tierlog.broker.work.repeated_warnings import RepeatedWarnings, kind_of
from tierlog.broker.work.slices import in_slices
from tierlog.config.broker import BrokerConfig

logger = structlog.get_logger()

TICK_S = 1.0
LOOK_INTERVAL_MS = 60_000
RETRY_MIN_S = 1.0
RETRY_MAX_S = 60.0
LAST_WRITE_S = 5.0
"""What a clean stop waits for the store."""

_LAST_PUT = LedgerRow(
    0, 0, Kind.REQUESTS, cause=Cause.LEDGER, operation=Operation.PUT, storage_class=STANDARD
)

Encode = Callable[[dict[str, Any], bytes], Awaitable[bytes]]


class Ledger:
    """One per broker with an object store. ``encode``: makes Parquet, in another process."""

    def __init__(
        self,
        broker_id: int,
        cluster_id: str,
        objects: ObjectStore,
        encode: Encode,
        held: Held,
        look: Look,
        sources: Sequence[Source],
        background: Background,
        *,
        may_write: Callable[[], bool],
        wall_ms: Callable[[], int],
        monotonic_ms: Callable[[], int],
    ) -> None:
        self.book = Book(broker_id, wall_ms(), secrets.token_hex(16))
        self.written_ms = self.book.since_ms
        """When an object was last written; at first, when counting began."""
        self._broker_id, self._cluster_id = broker_id, cluster_id
        self._objects = objects
        self._encode = encode
        self._held = held
        self._look = look
        self._sources = list(sources)
        self._background = background
        self._may_write = may_write
        self._wall_ms, self._monotonic_ms = wall_ms, monotonic_ms
        self._interval_ms = HOUR_MS
        self._looked_ms = 0
        # Who looks, counts or closes a piece; each may pause between two rows.
        self._turn = asyncio.Lock()
        self._ending = asyncio.Event()
        self._has_piece = asyncio.Event()
        self._warnings = RepeatedWarnings()
        self._tasks: list[Kept] = []

    def configure(self, config: BrokerConfig) -> None:
        """Applies what may change while the broker runs."""
        self._interval_ms = config.tierlog_ledger_flush_interval_ms

    def start(self) -> None:
        self._tasks = [
            self._background.forever("ledger", self._count_on),
            self._background.forever("ledger: writing", self._send_on),
        ]

    async def close(self) -> None:
        """Writes what there is, if the store answers soon."""
        if not self._tasks:
            return
        counting, sending = self._tasks
        self._ending.set()
        await counting.drain()  # it may be in the middle of a piece
        await sending.stop()
        async with self._turn:
            await self._close_piece(self._wall_ms(), is_last=True)
        why = "the bucket is not known to be ours"
        try:
            async with asyncio.timeout(LAST_WRITE_S):
                await self._send_all()
        except TimeoutError:
            why = f"no answer within {LAST_WRITE_S:.0f} s"
        except TieringError as error:
            why = str(error)
        if self.book.waiting:
            rows = sum(len(piece.rows) for piece in self.book.waiting)
            logger.warning(
                "rows of the ledger are lost: the object store does not take them", rows=rows, why=why
            )

    async def unwritten(self) -> bytes:
        """What no object tells yet, as JSON: pieces with the keys that they have or will have, the open one last."""
        return await asyncio.shield(self._background.ask("ledger: unwritten", self._unwritten()))

    # -- counting

    async def _count_on(self) -> None:
        while not self._ending.is_set():
            async with self._turn:
                now_ms, book = self._wall_ms(), self.book
                if hour_of(now_ms) != book.hour_ms or now_ms - book.since_ms >= self._interval_ms:
                    await self._close_piece(now_ms)
                elif not self._looked_ms or self._monotonic_ms() - self._looked_ms >= LOOK_INTERVAL_MS:
                    await self._take_look(self._monotonic_ms())
            try:
                async with asyncio.timeout(TICK_S):
                    await self._ending.wait()
            except TimeoutError:
                continue

    async def _take_look(self, at_ms: int) -> None:
        self._looked_ms = max(at_ms, self._looked_ms)
        await self._look.take(self._looked_ms)

    async def _count(self) -> None:
        """What has happened up to now."""
        for source in self._sources:
            async for row in in_slices(source.drain()):
                if row is not None:
                    self.book.add(row)

    async def _states(self) -> list[LedgerRow]:
        return [row async for row in in_slices(self._held.rows(self.book.hour_ms, self._broker_id))]

    async def _close_piece(self, now_ms: int, *, is_last: bool = False) -> None:
        """The open piece ends now, or with its hour. What was counted since that hour's end, a moment ago, is in it too.
        The last one counts its own put, and those of pieces that wait, which nobody could count later."""
        book = self.book
        until_ms = max(min(now_ms, book.hour_ms + HOUR_MS), book.since_ms)
        next_ms = until_ms if hour_of(now_ms) == hour_of(until_ms) else now_ms
        await self._take_look(self._monotonic_ms() - max(now_ms - until_ms, 0))
        await self._count()
        states = await self._states()
        if is_last and (states or book.held_rows):
            book.add(_LAST_PUT._replace(requests=1 + len(book.waiting)))
        book.close(until_ms, states, next_ms, secrets.token_hex(16))
        self._held.begin_piece()
        self._has_piece.set()

    # -- writing

    async def _send_on(self) -> None:
        pause_s = RETRY_MIN_S
        while True:
            await self._has_piece.wait()
            self._has_piece.clear()
            try:
                await self._send_all()
                pause_s = RETRY_MIN_S
            except TieringError as error:
                event, kind = "cannot write the ledger: trying again", kind_of(error)
                self._warnings.say(logger.warning, event, kind, kind=kind, why=str(error))
            if self.book.waiting:
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, RETRY_MAX_S)
                self._has_piece.set()

    async def _send_all(self) -> None:
        while self._may_write() and (piece := self.book.to_send()) is not None:
            columns = Columns()
            async for row in in_slices(piece.rows):
                columns.add(row)
            data = await self._encode(*columns.message(piece.since_ms, piece.until_ms))
            with attributed(Cause.LEDGER):
                await self._objects.put(self._key(piece), data, size_bytes=len(data))
            self.book.written(piece)
            self.written_ms = self._wall_ms()

    def _key(self, piece: Piece) -> str:
        return key_of(self._cluster_id, LedgerName(piece.hour_ms, self._broker_id, piece.uuid))

    # -- telling

    async def _unwritten(self) -> bytes:
        async with self._turn:
            await self._take_look(self._monotonic_ms())
            await self._count()
            states, book, now_ms = await self._states(), self.book, self._wall_ms()
            pieces = list(book.waiting)
            rows = book.open_rows(states)
            pieces.append(Piece(book.hour_ms, book.since_ms, max(now_ms, book.since_ms), book.uuid, rows))
        about_all = {
            "node_id": self._broker_id,
            "cluster_id": self._cluster_id,
            "columns": LedgerRow._fields,
        }
        parts = [json.dumps(about_all)[:-1], ', "pieces": [']
        for number, piece in enumerate(pieces):
            about = {"key": self._key(piece), "since_ms": piece.since_ms, "until_ms": piece.until_ms}
            parts.append(f'{", " if number else ""}{json.dumps(about)[:-1]}, "rows": [')
            rows_told = [json.dumps(row) async for row in in_slices(piece.rows)]
            parts += [", ".join(rows_told), "]}"]
        parts.append("]}")
        return "".join(parts).encode()
