"""The metadata store's SQLite file: a group of requests becomes one COMMIT under the machine-wide lock.

Tables: ``kv`` (the present state), ``log`` (each revision's events with the previous values, so that any kept
revision can be read again) and ``meta`` (format version, revision, oldest kept revision): keys and revisions change
in one transaction. WAL with ``synchronous=FULL``: with less, a power loss could take back leader epochs that data
logs already carry.

The lock (``flock``) is taken before BEGIN IMMEDIATE, since SQLite's own waiting is unfair. A process that is stopped
(SIGSTOP) while it holds the lock blocks the others' metadata until it goes on or dies; their data plane goes on.
Everything here belongs to one thread.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tierlog.errors import StoreUnavailable, TierlogError, UnknownOutcome, UserError
from tierlog.metadata.keys import prefix_end
from tierlog.metadata.stores.evaluation import Write, evaluate
from tierlog.metadata.stores.machine import LockFile, Presence, refuse_remote_file_system
from tierlog.metadata.stores.port import Compacted, LeaseNotFound, Page
from tierlog.metadata.stores.sqlite_leases import LeaseFile
from tierlog.metadata.transactions import Delete, Event, KeyValue, Put, Txn, TxnResult, WatchBatch

FORMAT_VERSION = 1
HISTORY_REVISIONS = 20_000
LOG_PAGE_REVISIONS = 1000
_SCHEMA = """
CREATE TABLE kv(k TEXT PRIMARY KEY, v BLOB NOT NULL, created INTEGER NOT NULL, modified INTEGER NOT NULL,
    lease INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX kv_lease ON kv(lease) WHERE lease != 0;
CREATE TABLE log(rev INTEGER NOT NULL, sub INTEGER NOT NULL, k TEXT NOT NULL, v BLOB, created INTEGER, lease INTEGER,
    old_v BLOB, old_created INTEGER, old_modified INTEGER, old_lease INTEGER, PRIMARY KEY(rev, sub)) WITHOUT ROWID;
CREATE TABLE meta(name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
"""


class Request:
    """One call of the store: ``run`` is called in the store thread inside the group's transaction; ``result`` or
    ``error`` is set when the group is done. ``writes``: it needs the main file's write transaction; ``locks``: it
    needs the lock."""

    __slots__ = ("error", "locks", "result", "run", "writes")

    def __init__(
        self, run: Callable[[SqliteFile], Any], *, locks: bool = False, writes: bool = False
    ) -> None:
        self.run = run
        self.locks = locks or writes
        self.writes = writes
        self.result: Any = None
        self.error: Exception | None = None


def _nowhere(point: str) -> None:
    """The default for the hook of the crash tests."""


class SqliteFile:
    """``at(point)`` is called between the steps of a commit; tests kill the process or fail the disk
    there."""

    def __init__(
        self,
        path: Path,
        *,
        now_ms: Callable[[], int],
        boot_id: str,
        history_revisions: int = HISTORY_REVISIONS,
        at: Callable[[str], None] = _nowhere,
    ) -> None:
        self._path = path
        self._now_ms = now_ms
        self._history_revisions = history_revisions
        self.at = at
        self._token = f"{os.getpid()}-{secrets.token_hex(6)}"
        path.parent.mkdir(parents=True, exist_ok=True)
        refuse_remote_file_system(path.parent)
        self._lock = LockFile(path.with_name(path.name + ".lock"))
        with self._lock.held():
            self._db = _connect(path)
            self._revision, self._compacted = self._read_meta()
            self._presence = Presence(path.with_name(path.name + ".processes"), self._token)
            self._leases = LeaseFile(path.with_name(path.name + ".leases"), boot_id)
        self._fresh: list[WatchBatch] = []
        self._seen_version = -1
        self._is_writing = False
        self.seen_revision = self._revision
        self._end_orphans()

    def close(self) -> None:
        with self._lock.held():
            self._presence.close()
            self._leases.close()
            self._db.close()
        self._lock.close()

    # -- a group of requests

    def execute(self, requests: Sequence[Request]) -> None:
        """Runs the requests in order and sets their results; never raises for a failure of the environment."""
        try:
            if any(r.locks for r in requests):
                with self._lock.held():
                    self.at("locked")
                    self._execute_locked(requests)
            else:
                for request in requests:
                    self._run(request)
        except (sqlite3.Error, OSError) as error:
            self._abandon()
            for request in requests:
                if request.error is None:
                    request.error = StoreUnavailable(f"metadata store: {error}")

    def sweep(self) -> None:
        """Ends expired leases; cheap when there are none."""
        self._leases.load()
        if self._leases.over(self._now_ms(), self._presence):
            self.execute([Request(lambda file: None, locks=True)])
            self._presence.sweep()

    @property
    def has_company(self) -> bool:
        """Whether another process holds a lease, as of the last group or sweep."""
        return any(held.owner != self._token for held in self._leases.leases.values())

    def _execute_locked(self, requests: Sequence[Request]) -> None:
        self._leases.load()
        over = self._leases.over(self._now_ms(), self._presence)
        writes = bool(over) or any(r.writes for r in requests)
        if writes:
            self._db.execute("BEGIN IMMEDIATE")
            self._is_writing = True
            self._revision, self._compacted = self._read_meta()
            self.at("begun")
        revision_before = self._revision
        for lease in over:
            self.end_lease(lease)
        for request in requests:
            self._run(request)
        self._leases.commit_extended()
        self.at("leases extended")
        if writes:
            self._commit(requests, revision_before)
        with contextlib.suppress(sqlite3.Error):  # the leases are found again, without keys, and ended again
            self._leases.commit_ended()
        self.at("leases ended")

    def _commit(self, requests: Sequence[Request], revision_before: int) -> None:
        try:
            if self._revision != revision_before:
                self._trim()
                self._db.execute(
                    "UPDATE meta SET value = CASE name WHEN 'revision' THEN ? ELSE ? END"
                    " WHERE name IN ('revision', 'compacted')",
                    (self._revision, self._compacted),
                )
            self.at("written")
            self._db.execute("COMMIT")
            self._is_writing = False
            self.at("committed")
        except (sqlite3.Error, OSError) as error:
            self._abandon()
            for request in requests:
                if request.writes and request.error is None:
                    request.error = UnknownOutcome(f"metadata store: {error}")
                    request.result = None
            raise

    def _run(self, request: Request) -> None:
        try:
            request.result = request.run(self)
        except (TierlogError, AssertionError) as error:  # the caller's error; nothing was written yet
            request.error = error

    def _abandon(self) -> None:
        self._fresh.clear()
        self._seen_version = -1
        self._is_writing = False
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")
        self._revision, self._compacted = self._read_meta()

    # -- what requests do

    def get(self, key: str) -> KeyValue | None:
        row = self._db.execute("SELECT k, v, created, modified, lease FROM kv WHERE k = ?", (key,)).fetchone()
        return None if row is None else KeyValue(*row)

    def range(self, prefix: str, revision: int | None, limit: int, cursor: str | None) -> Page:
        # These statements must see one state: use a read transaction, unless the group already is in a write one.
        own = not self._db.in_transaction
        if own:
            self._db.execute("BEGIN")
        try:
            return self._range(prefix, revision, limit, cursor)
        finally:
            if own:
                self._db.execute("COMMIT")

    def txn(self, txn: Txn) -> TxnResult:
        for op in _writes(txn):
            if isinstance(op, Put) and op.lease and op.lease not in self._leases.leases:
                raise LeaseNotFound(f"lease {op.lease}")
        found: dict[str, KeyValue | None] = {}

        def lookup(key: str) -> KeyValue | None:
            if key not in found:
                found[key] = self.get(key)
            return found[key]

        evaluation = evaluate(txn, lookup, self._revision)
        self._apply(evaluation.writes)
        return evaluation.result

    def grant(self, ttl_ms: int) -> int:
        return self._leases.grant(ttl_ms, self._now_ms(), self._token)

    def keepalive(self, lease: int) -> bool:
        return self._leases.keepalive(lease, self._now_ms())

    def end_lease(self, lease: int) -> None:
        rows = self._db.execute(
            "SELECT k, v, created, modified, lease FROM kv WHERE lease = ? ORDER BY k", (lease,)
        ).fetchall()
        self._apply([Write(row[0], None, KeyValue(*row)) for row in rows])
        self._leases.end(lease)

    def read_log(self, from_revision: int) -> tuple[list[WatchBatch], int, bool]:
        """Batches from ``from_revision`` on, the last revision they cover, and whether that is the present one.
        Raises ``Compacted``."""
        revision, compacted = self._read_meta()
        if from_revision <= compacted:
            raise Compacted(compacted + 1)
        end = min(revision, from_revision + LOG_PAGE_REVISIONS - 1)
        rows = self._db.execute(
            "SELECT rev, k, v, created, lease FROM log WHERE rev >= ? AND rev <= ? ORDER BY rev, sub",
            (from_revision, end),
        )
        events: dict[int, list[Event]] = {}
        for rev, key, value, created, lease in rows:
            kv = None if value is None else KeyValue(key, value, created, rev, lease)
            events.setdefault(rev, []).append(Event(key, kv))
        return [WatchBatch(rev, tuple(found)) for rev, found in events.items()], end, end >= revision

    def news(self) -> list[WatchBatch]:
        """Batches committed since the last call, by any process. Raises ``Compacted``."""
        version = self._db.execute("PRAGMA data_version").fetchone()[0]
        fresh, self._fresh = self._fresh, []
        if version == self._seen_version and (not fresh or fresh[0].revision == self.seen_revision + 1):
            if fresh:
                self.seen_revision = fresh[-1].revision
            return fresh
        self._seen_version = version
        batches: list[WatchBatch] = []
        is_complete = False
        while not is_complete:
            page, end, is_complete = self.read_log(self.seen_revision + 1)
            batches += page
            self.seen_revision = max(self.seen_revision, end)
        return batches

    # -- inside

    def _apply(self, writes: Sequence[Write]) -> None:
        if not writes:
            return
        self._revision += 1
        revision = self._revision
        events = []
        for sub, (key, put, before) in enumerate(writes):
            created: int | None = None
            if put is None:
                self._db.execute("DELETE FROM kv WHERE k = ?", (key,))
                events.append(Event(key, None))
            else:
                created = revision if before is None else before.create_revision
                self._db.execute(
                    "INSERT OR REPLACE INTO kv VALUES (?, ?, ?, ?, ?)",
                    (key, put.value, created, revision, put.lease),
                )
                events.append(Event(key, KeyValue(key, put.value, created, revision, put.lease)))
            old = (None, None, None, None) if before is None else before[1:]
            new = (None, None) if put is None else (put.value, put.lease)
            self._db.execute(
                "INSERT INTO log VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (revision, sub, key, new[0], created, new[1], *old),
            )
        self._fresh.append(WatchBatch(revision, tuple(events)))

    def _trim(self) -> None:
        oldest = self._revision - self._history_revisions
        if oldest - self._compacted > self._history_revisions // 10:
            self._db.execute("DELETE FROM log WHERE rev <= ?", (oldest,))
            self._compacted = oldest

    def _range(self, prefix: str, revision: int | None, limit: int, cursor: str | None) -> Page:
        now, compacted = (self._revision, self._compacted) if self._is_writing else self._read_meta()
        at = now if revision is None else revision
        if at < compacted:
            raise Compacted(compacted + 1)
        bounds = (prefix if cursor is None else cursor + "\0", prefix_end(prefix))
        rows = self._db.execute(
            "SELECT k, v, created, modified, lease FROM kv WHERE k >= ? AND k < ? AND modified <= ?"
            " ORDER BY k LIMIT ?",
            (*bounds, at, limit),
        ).fetchall()
        if at < now:
            then = self._db.execute(
                "SELECT k, old_v, old_created, old_modified, old_lease, min(rev) FROM log"
                " WHERE rev > ? AND k >= ? AND k < ? GROUP BY k",
                (at, *bounds),
            )
            rows = sorted([*rows, *(row[:5] for row in then if row[1] is not None)])[:limit]
        kvs = [KeyValue(*row) for row in rows]
        return Page(kvs, at, kvs[-1].key if len(kvs) == limit else None)

    def _read_meta(self) -> tuple[int, int]:
        values = dict(self._db.execute("SELECT name, value FROM meta").fetchall())
        return values["revision"], values["compacted"]

    def _end_orphans(self) -> None:
        """Deletes keys of leases that no longer exist: the machine went down and lost their deadlines."""
        orphans = self._orphans()
        over = self._leases.over(self._now_ms(), self._presence)
        if orphans or over:
            self.execute([Request(SqliteFile._end_orphans_now, writes=True)])
        with self._lock.held():
            self._presence.sweep()

    def _orphans(self) -> list[int]:
        self._leases.load()
        rows = self._db.execute("SELECT DISTINCT lease FROM kv WHERE lease != 0 ORDER BY lease").fetchall()
        return [lease for (lease,) in rows if lease not in self._leases.leases]

    def _end_orphans_now(self) -> None:
        rows = self._db.execute("SELECT DISTINCT lease FROM kv WHERE lease != 0 ORDER BY lease").fetchall()
        for (lease,) in rows:
            if lease not in self._leases.leases:
                self.end_lease(lease)


def _connect(path: Path) -> sqlite3.Connection:
    try:
        db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5)
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=FULL")
        tables = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if not tables:
            db.executescript(f"BEGIN; {_SCHEMA} INSERT INTO meta VALUES ('format_version', {FORMAT_VERSION}),"
                             " ('revision', 1), ('compacted', 1); COMMIT;")  # fmt: skip
            _sync_directory(path.parent)
            return db
        found = db.execute("SELECT value FROM meta WHERE name = 'format_version'").fetchone()
    except sqlite3.DatabaseError as error:
        raise UserError(f"metadata store: {path} is not a metadata store of tierlog ({error})") from error
    if found != (FORMAT_VERSION,):
        db.close()
        raise UserError(
            f"metadata store: {path} has format version {None if found is None else found[0]}, this tierlog knows "
            f"{FORMAT_VERSION}; upgrade tierlog or restore an older copy of the file"
        )
    return db


def _sync_directory(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _writes(txn: Txn) -> list[Put | Delete]:
    found: list[Put | Delete] = [op for op in txn.then if isinstance(op, (Put, Delete))]
    for op in txn.then:
        if isinstance(op, Txn):
            found += _writes(op)
    return found
