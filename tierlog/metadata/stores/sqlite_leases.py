"""Lease deadlines of the SQLite store, in a separate file that is never synced.

Deadlines are worth nothing after a crash of the machine, so the file has ``synchronous=OFF``: keepalives
cost no disk. Which key belongs to which lease is in the main file; only ids, deadlines and owners are here.
The order of the two files' commits makes every crash between them harmless:

* grants and keepalives are committed here *before* the main file: a lease without keys expires by itself;
* ends of leases are committed here *after* the main file has lost their keys: a lease found again has no
  keys and ends again.

A lease also ends at once when the process that it was granted to ends (the lock of its presence file shows that),
and at a reboot, when the boot id differs.
"""

from __future__ import annotations

import secrets
import sqlite3
from pathlib import Path
from typing import NamedTuple

from tierlog.metadata.stores.machine import Presence


class Lease(NamedTuple):
    ttl_ms: int
    deadline_ms: int
    owner: str


class LeaseFile:
    """Used by the store thread alone. Call ``load`` at the start of a locked section; changes are kept in memory
    until a commit."""

    def __init__(self, path: Path, boot_id: str) -> None:
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=OFF")
        self._db.executescript(
            """CREATE TABLE IF NOT EXISTS boot(id TEXT NOT NULL);
            CREATE TABLE IF NOT EXISTS lease(
                id INTEGER PRIMARY KEY, ttl_ms INTEGER NOT NULL, deadline_ms INTEGER NOT NULL, owner TEXT NOT NULL);
            """
        )
        if self._db.execute("SELECT id FROM boot").fetchone() != (boot_id,):
            self._db.executescript("DELETE FROM boot; DELETE FROM lease;")
            self._db.execute("INSERT INTO boot VALUES (?)", (boot_id,))
        self.leases: dict[int, Lease] = {}
        self._extended: dict[int, Lease] = {}
        self._ended: list[int] = []

    def load(self) -> None:
        rows = self._db.execute("SELECT id, ttl_ms, deadline_ms, owner FROM lease")
        self.leases = {lease: Lease(ttl_ms, deadline_ms, owner) for lease, ttl_ms, deadline_ms, owner in rows}
        self._extended.clear()
        self._ended.clear()

    def grant(self, ttl_ms: int, now_ms: int, owner: str) -> int:
        lease = secrets.randbits(62) + 1
        self.leases[lease] = self._extended[lease] = Lease(ttl_ms, now_ms + ttl_ms, owner)
        return lease

    def keepalive(self, lease: int, now_ms: int) -> bool:
        held = self.leases.get(lease)
        if held is None:
            return False
        self.leases[lease] = self._extended[lease] = held._replace(deadline_ms=now_ms + held.ttl_ms)
        return True

    def end(self, lease: int) -> None:
        if self.leases.pop(lease, None) is not None:
            self._extended.pop(lease, None)
            self._ended.append(lease)

    def over(self, now_ms: int, presence: Presence) -> list[int]:
        """Leases that have expired or whose process has ended."""
        dead = {owner for owner in {h.owner for h in self.leases.values()} if not presence.is_alive(owner)}
        return sorted(i for i, h in self.leases.items() if h.deadline_ms <= now_ms or h.owner in dead)

    def commit_extended(self) -> None:
        if self._extended:
            self._write(
                "INSERT OR REPLACE INTO lease VALUES (?, ?, ?, ?)",
                [(lease, *held) for lease, held in self._extended.items()],
            )
            self._extended.clear()

    def commit_ended(self) -> None:
        if self._ended:
            self._write("DELETE FROM lease WHERE id = ?", [(lease,) for lease in self._ended])
            self._ended.clear()

    def close(self) -> None:
        self._db.close()

    def _write(self, statement: str, rows: list[tuple[int | str, ...]]) -> None:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            self._db.executemany(statement, rows)
            self._db.execute("COMMIT")
        except sqlite3.Error:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise
