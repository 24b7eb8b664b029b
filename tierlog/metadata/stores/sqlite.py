"""The metadata store in a SQLite file, shared by the brokers of one machine: the asyncio side.

One thread per process does all work on the file, so no commit ever runs on the loop; it takes all waiting requests at
once and makes them one COMMIT (``sqlite_file``). The process's own commits reach its watches at once. Those of other
processes are found by polling ``PRAGMA data_version`` (5 us): every ``POLL_MS`` while another process holds a lease
here, else every ``IDLE_POLL_MS``, which also bounds how late the end of a process or the expiry of a lease is
noticed.

A request that is not answered within ``timeout_ms`` raises ``UnknownOutcome`` (``StoreUnavailable`` for
reads): it may still be applied.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tierlog.errors import StoreUnavailable, UnknownOutcome
from tierlog.metadata.stores.machine import boot_id, boot_time_ms
from tierlog.metadata.stores.port import PAGE_KEYS, Compacted, Page, WatchStream
from tierlog.metadata.stores.sqlite_file import HISTORY_REVISIONS, Request, SqliteFile
from tierlog.metadata.stores.watching import QueuedWatch
from tierlog.metadata.transactions import KeyValue, Txn, TxnResult, WatchBatch

POLL_MS = 10
IDLE_POLL_MS = 250
MAX_GROUP_REQUESTS = 256
TIMEOUT_MS = 10_000

_News = list[WatchBatch] | Exception


def _ignore(point: str) -> None:
    """The default of ``at``."""


class _Job:
    """A request under way; ``done`` is called on the loop. ``reads_log``: the request of a watch, to be run after
    the group's commit."""

    __slots__ = ("done", "reads_log", "request")

    def __init__(self, request: Request, done: Callable[[Request], None], *, reads_log: bool = False) -> None:
        self.request = request
        self.done = done
        self.reads_log = reads_log


class SqliteStore:
    """Create with ``await SqliteStore.open(path)``; implements ``MetadataStore``."""

    def __init__(self, path: Path, timeout_ms: int, open_file: Callable[[], SqliteFile]) -> None:
        self._path = path
        self._timeout_s = timeout_ms / 1000
        self._loop = asyncio.get_running_loop()
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._watches: list[QueuedWatch] = []
        self._is_closed = False
        self._next_sweep_s = 0.0
        self._opened: asyncio.Future[None] = self._loop.create_future()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._thread = threading.Thread(
            target=self._run, args=(open_file,), name="metadata-store", daemon=True
        )

    @classmethod
    async def open(
        cls,
        path: Path,
        *,
        now_ms: Callable[[], int] = boot_time_ms,
        boot: str | None = None,
        history_revisions: int = HISTORY_REVISIONS,
        timeout_ms: int = TIMEOUT_MS,
        at: Callable[[str], None] = _ignore,
    ) -> SqliteStore:
        """Opens or creates the file. Raises ``UserError`` when it is of another format or on a network file
        system. ``now_ms``, ``boot`` and ``at`` are for tests."""
        boot_name = boot_id() if boot is None else boot

        def open_file() -> SqliteFile:
            return SqliteFile(
                path, now_ms=now_ms, boot_id=boot_name, history_revisions=history_revisions, at=at
            )

        store = cls(path, timeout_ms, open_file)
        store._thread.start()
        await store._opened
        return store

    # -- the port

    async def get(self, key: str) -> KeyValue | None:
        found: KeyValue | None = await self._ask(Request(lambda file: file.get(key)))
        return found

    async def range(
        self, prefix: str, revision: int | None = None, limit: int = PAGE_KEYS, cursor: str | None = None
    ) -> Page:
        page: Page = await self._ask(Request(lambda file: file.range(prefix, revision, limit, cursor)))
        return page

    async def txn(self, txn: Txn) -> TxnResult:
        result: TxnResult = await self._ask(Request(lambda file: file.txn(txn), writes=True))
        return result

    def watch(self, prefixes: Sequence[str], from_revision: int) -> WatchStream:
        watch = QueuedWatch(prefixes, from_revision, self._read_log, self._forget)
        self._watches.append(watch)
        return watch

    async def grant(self, ttl_ms: int) -> int:
        lease: int = await self._ask(Request(lambda file: file.grant(ttl_ms), locks=True))
        return lease

    async def keepalive(self, lease: int) -> bool:
        is_alive: bool = await self._ask(Request(lambda file: file.keepalive(lease), locks=True))
        return is_alive

    async def revoke(self, lease: int) -> None:
        await self._ask(Request(lambda file: file.end_lease(lease), writes=True))

    async def close(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            self._jobs.put(None)
        await self._ended
        for watch in tuple(self._watches):
            watch.close()

    # -- the loop's side

    async def _ask(self, request: Request) -> Any:
        if self._is_closed:
            raise StoreUnavailable(f"metadata store {self._path} is closed")
        answered: asyncio.Future[Any] = self._loop.create_future()

        def done(request: Request) -> None:
            if answered.done():
                return
            if request.error is not None:
                answered.set_exception(request.error)
            else:
                answered.set_result(request.result)

        self._jobs.put(_Job(request, done))
        try:
            async with asyncio.timeout(self._timeout_s):
                return await answered
        except TimeoutError:
            message = f"metadata store {self._path}: no answer within {self._timeout_s} s"
            raise (UnknownOutcome if request.writes else StoreUnavailable)(message) from None

    def _read_log(self, watch: QueuedWatch, from_revision: int) -> None:
        def done(request: Request) -> None:
            if request.error is not None:
                watch.fail(request.error)
                return
            batches, end_revision, is_complete = request.result
            watch.history(batches, end_revision, is_complete=is_complete)

        if self._is_closed:
            watch.close()
        else:
            self._jobs.put(_Job(Request(lambda file: file.read_log(from_revision)), done, reads_log=True))

    def _forget(self, watch: QueuedWatch) -> None:
        if watch in self._watches:
            self._watches.remove(watch)

    def _deliver(self, log_reads: Sequence[_Job], news: _News, jobs: Sequence[_Job]) -> None:
        # In the order in which the thread saw the file. A log read ends at or before the end of the news, so no revision
        # is missed in between; a caller whose transaction is done finds it in every queue.
        for job in log_reads:
            job.done(job.request)
        for watch in tuple(self._watches):
            if isinstance(news, Exception):
                watch.fail(news)
            else:
                for batch in news:
                    watch.live(batch)
        for job in jobs:
            job.done(job.request)

    # -- the thread

    def _run(self, open_file: Callable[[], SqliteFile]) -> None:
        try:
            file = open_file()
        except BaseException as error:  # carried to the loop, whatever it is
            self._tell(_fail, self._opened, error)
            return
        self._tell(_succeed, self._opened)
        try:
            while self._turn(file):
                pass
        except BaseException as error:
            self._tell(self._break, error)
            raise
        finally:
            file.close()
            self._tell(_succeed, self._ended)

    def _break(self, error: BaseException) -> None:
        """A bug has ended the thread."""
        self._is_closed = True
        for watch in tuple(self._watches):
            watch.fail(error if isinstance(error, Exception) else RuntimeError(repr(error)))

    def _turn(self, file: SqliteFile) -> bool:
        """One group of requests, or one poll; False at the end."""
        waiting, goes_on = self._collect((POLL_MS if file.has_company else IDLE_POLL_MS) / 1000)
        jobs = [job for job in waiting if not job.reads_log]
        log_reads = [job for job in waiting if job.reads_log]
        if jobs:
            file.execute([job.request for job in jobs])
        if log_reads:
            file.execute([job.request for job in log_reads])
        if time.monotonic() >= self._next_sweep_s:
            file.sweep()
            self._next_sweep_s = time.monotonic() + IDLE_POLL_MS / 1000
        try:
            news: _News = file.news()
        except Compacted as error:
            file.seen_revision = error.min_revision - 1
            news = error
        if waiting or news:
            self._tell(self._deliver, log_reads, news, jobs)
        return goes_on

    def _collect(self, timeout_s: float) -> tuple[list[_Job], bool]:
        jobs: list[_Job] = []
        try:
            job = self._jobs.get(timeout=timeout_s)
            while job is not None:
                jobs.append(job)
                if len(jobs) == MAX_GROUP_REQUESTS:
                    return jobs, True
                job = self._jobs.get_nowait()
        except queue.Empty:
            return jobs, True
        return jobs, False

    def _tell(self, call: Callable[..., None], *args: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is waiting any more
            self._loop.call_soon_threadsafe(call, *args)


def _fail(future: asyncio.Future[None], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)


def _succeed(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
