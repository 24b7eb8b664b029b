"""What only the SQLite store promises: several processes on one file, and kill -9 at every point of a
commit."""

from __future__ import annotations

import asyncio
import fcntl
import json
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.patience import PATIENT_S
from tierlog.errors import StoreUnavailable, UserError
from tierlog.metadata.stores.machine import boot_time_ms, file_system_of
from tierlog.metadata.stores.sqlite import SqliteStore
from tierlog.metadata.transactions import Compare, Event, Put, Txn, WatchBatch

ROOT = Path(__file__).resolve().parents[3]
POINTS = ("locked", "begun", "leases extended", "written", "committed", "leases ended")
COMMITTED = ("committed", "leases ended")


class Process:
    """The other process; ``ask`` waits for its answer, None when it died instead.

    A plain ``Popen`` read in threads: asyncio's own transports outlive a loop that is closed too early.
    """

    def __init__(self, command: list[str]) -> None:
        self._process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    async def ask(self, *command: Any) -> Any:
        line = await asyncio.to_thread(self._exchange, json.dumps(command).encode() + b"\n")
        return json.loads(line) if line else None

    def _exchange(self, request: bytes) -> bytes:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        # It may die by its own housekeeping before it hears the request.
        with suppress(BrokenPipeError):
            self._process.stdin.write(request)
            self._process.stdin.flush()
        return self._process.stdout.readline()

    async def opened(self) -> None:
        assert await asyncio.to_thread(self._exchange, b"") == b"open\n"

    async def kill(self) -> None:
        self._process.kill()
        await asyncio.to_thread(self._process.wait)

    async def died(self) -> None:
        assert await asyncio.to_thread(self._process.wait, 10) == -9

    async def close(self) -> None:
        await self.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with suppress(BrokenPipeError):
                pipe.close()


StartProcess = Callable[..., Coroutine[Any, Any, Process]]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "metadata.db"


@pytest.fixture
async def start_process(path: Path) -> AsyncIterator[StartProcess]:
    started: list[Process] = []

    async def start(point: str = "never") -> Process:
        module = "tests.contract.metadata_store.sqlite_process"
        process = Process([sys.executable, "-m", module, str(path), point])
        started.append(process)
        await process.opened()
        return process

    yield start
    for process in started:
        await process.close()


async def check_file(path: Path) -> None:
    """Present and log agree: replaying the log over its own beginning gives the table."""
    db = sqlite3.connect(path)
    try:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        meta = dict(db.execute("SELECT name, value FROM meta").fetchall())
        replayed: dict[str, Any] = {}
        last = 1
        for rev, key, value, created, lease in db.execute(
            "SELECT rev, k, v, created, lease FROM log ORDER BY rev, sub"
        ):
            assert rev in (last, last + 1), "a hole in the revisions"
            last = rev
            if value is None:
                del replayed[key]
            else:
                replayed[key] = (value, created, rev, lease)
        assert meta["revision"] == last
        present = db.execute("SELECT k, v, created, modified, lease FROM kv").fetchall()
        assert {row[0]: row[1:] for row in present} == replayed
    finally:
        db.close()


class TestKill:
    @pytest.mark.parametrize("point", POINTS)
    async def test_during_a_put(self, path: Path, start_process: StartProcess, point: str) -> None:
        process = await start_process(point)
        lease = await process.ask("grant", 60_000)
        before = await process.ask("put", "/a", "old", lease)
        await process.ask("arm")
        assert await process.ask("puts", ["/a", "/b"], "new", 0) is None
        await process.died()
        await check_file(path)
        store = await SqliteStore.open(path)
        applied = point in COMMITTED
        a, b = await store.get("/a"), await store.get("/b")
        # The dead process's lease ended at once; what the put freed from it stays.
        assert (a is not None) is applied
        assert (b is not None) is applied
        if a is not None and b is not None:
            assert (a.value, a.mod_revision, b.mod_revision) == (b"new", before + 1, before + 1)
        await store.close()

    @pytest.mark.parametrize("point", POINTS)
    async def test_during_a_revoke(self, path: Path, start_process: StartProcess, point: str) -> None:
        process = await start_process(point)
        lease = await process.ask("grant", 60_000)
        await process.ask("puts", ["/a", "/b"], "leased", lease)
        await process.ask("arm")
        assert await process.ask("revoke", lease) is None
        await process.died()
        await check_file(path)
        store = await SqliteStore.open(path)
        assert await store.get("/a") is None
        assert await store.get("/b") is None
        assert not await store.keepalive(lease)
        await store.close()
        await check_file(path)

    @pytest.mark.parametrize("point", POINTS)
    async def test_during_a_grant_beside_a_put(
        self, path: Path, start_process: StartProcess, point: str
    ) -> None:
        process = await start_process(point)
        await process.ask("arm")
        assert await process.ask("grant and put", 60_000, "/a") is None
        await process.died()
        await check_file(path)
        store = await SqliteStore.open(path)
        assert await store.get("/a") is None
        lease = await store.grant(60_000)
        assert (await store.txn(Txn((Compare("/a", "mod", 0),), (Put("/a", b"", lease),)))).ok
        await store.close()

    @pytest.mark.parametrize("point", POINTS)
    async def test_while_another_process_expires_its_lease(
        self, path: Path, start_process: StartProcess, point: str
    ) -> None:
        """The one who executes the expiry dies in it; the next one finishes it."""
        store = await SqliteStore.open(path)
        process = await start_process(point)
        await process.ask("arm")
        # The clock of this store is behind, so that its lease is over for the others as soon as it is granted.
        late = await SqliteStore.open(path, now_ms=lambda: boot_time_ms() - 10_000)
        lease = await late.grant(1000)
        assert await process.ask("put", "/x", "1", 0) is None
        await process.died()
        await check_file(path)
        assert not await store.keepalive(lease)
        await late.close()
        await store.close()
        await check_file(path)

    async def test_at_any_time_under_load(self, path: Path, start_process: StartProcess) -> None:
        store = await SqliteStore.open(path)
        for _ in range(5):
            process = await start_process()
            counting = asyncio.create_task(process.ask("count", "/n", 100_000))
            watch = store.watch(["/n"], (await store.txn(Txn())).revision + 1)
            for _ in range(20):
                await watch.__anext__()
            await process.kill()
            await counting
            watch.close()
            await check_file(path)
            assert (await store.txn(Txn((), (Put("/me", b""),)))).ok
        await store.close()


class TestTwoProcesses:
    async def test_each_sees_the_others_commits_in_order(
        self, path: Path, start_process: StartProcess
    ) -> None:
        store = await SqliteStore.open(path)
        process = await start_process()
        start = (await store.txn(Txn())).revision
        watch = store.watch(["/"], start + 1)
        seen: list[int] = []
        counting = asyncio.create_task(process.ask("count", "/theirs", 50))
        for _ in range(50):
            await store.txn(Txn((), (Put("/mine", b""),)))
        await counting
        async with asyncio.timeout(PATIENT_S):
            while len(seen) < 100:
                seen.append((await watch.__anext__()).revision)
        assert seen == list(range(start + 1, start + 101))
        await store.close()

    async def test_compare_and_set_between_processes(self, path: Path, start_process: StartProcess) -> None:
        store = await SqliteStore.open(path)
        process = await start_process()
        revision = await process.ask("put", "/a", "theirs", 0)
        assert not (await store.txn(Txn((Compare("/a", "mod", 0),), (Put("/a", b"mine"),)))).ok
        assert (await store.txn(Txn((Compare("/a", "mod", revision),), (Put("/a", b"mine"),)))).ok
        await store.close()

    async def test_lease_of_a_killed_process_ends_at_once(
        self, path: Path, start_process: StartProcess
    ) -> None:
        store = await SqliteStore.open(path)
        process = await start_process()
        lease = await process.ask("grant", 600_000)
        last = await process.ask("put", "/b/reg/1", "", lease)
        watch = store.watch(["/b/"], last + 1)
        await process.kill()
        killed_s = time.monotonic()
        async with asyncio.timeout(PATIENT_S):
            assert await watch.__anext__() == WatchBatch(last + 1, (Event("/b/reg/1", None),))
        assert time.monotonic() - killed_s < 1
        await store.close()

    async def test_lease_of_a_living_process_is_respected(
        self, path: Path, start_process: StartProcess
    ) -> None:
        process = await start_process()
        lease = await process.ask("grant", 600_000)
        await process.ask("put", "/b/reg/1", "", lease)
        store = await SqliteStore.open(path)
        assert await store.get("/b/reg/1") is not None
        assert await process.ask("keepalive", lease)
        await store.close()
        assert await process.ask("keepalive", lease)


class TestFile:
    async def test_survives_close_and_open(self, path: Path) -> None:
        store = await SqliteStore.open(path)
        revision = (await store.txn(Txn((), (Put("/a", b"1"),)))).revision
        await store.close()
        store = await SqliteStore.open(path)
        kv = await store.get("/a")
        assert kv is not None
        assert kv.mod_revision == revision
        watch = store.watch(["/"], revision)
        assert (await watch.__anext__()).revision == revision
        await store.close()
        with pytest.raises(StoreUnavailable):
            await store.get("/a")

    async def test_reboot_ends_every_lease(self, path: Path) -> None:
        store = await SqliteStore.open(path, boot="one")
        lease = await store.grant(600_000)
        await store.txn(Txn((), (Put("/leased", b"", lease), Put("/kept", b""))))
        await store.close()
        store = await SqliteStore.open(path, boot="two")
        assert await store.get("/leased") is None
        assert await store.get("/kept") is not None
        await store.close()

    async def test_lost_lease_file_ends_every_lease(self, path: Path) -> None:
        store = await SqliteStore.open(path)
        lease = await store.grant(600_000)
        await store.txn(Txn((), (Put("/leased", b"", lease),)))
        await store.close()
        for file in path.parent.glob("*.leases*"):
            file.unlink()
        store = await SqliteStore.open(path)
        assert await store.get("/leased") is None
        await store.close()

    async def test_unknown_format_is_refused_in_one_line(self, path: Path) -> None:
        await (await SqliteStore.open(path)).close()
        db = sqlite3.connect(path)
        with db:
            db.execute("UPDATE meta SET value = 99 WHERE name = 'format_version'")
        db.close()
        with pytest.raises(UserError, match="format version 99") as caught:
            await SqliteStore.open(path)
        assert "\n" not in str(caught.value)

    async def test_something_else_is_refused_in_one_line(self, path: Path) -> None:
        path.write_bytes(b"this is not a database, whatever its name says" * 100)
        with pytest.raises(UserError, match="not a metadata store"):
            await SqliteStore.open(path)

    def test_file_system_is_found(self) -> None:
        mounts = "a / ext4 rw 0 0\nb /mnt nfs4 rw 0 0\nc /mnt/my\\040disk xfs rw 0 0\n"
        assert file_system_of(Path("/data/x"), mounts) == "ext4"
        assert file_system_of(Path("/mnt/x"), mounts) == "nfs4"
        assert file_system_of(Path("/mnt/my disk/x"), mounts) == "xfs"

    async def test_network_file_system_is_refused(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("tierlog.metadata.stores.machine.file_system_of", lambda path: "nfs4")
        with pytest.raises(UserError, match="network file system"):
            await SqliteStore.open(path)

    async def test_no_answer_in_time_is_an_unknown_outcome(self, path: Path) -> None:
        store = await SqliteStore.open(path, timeout_ms=50)
        with open(path.with_name("metadata.db.lock"), "r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            with pytest.raises(StoreUnavailable, match="no answer"):
                await store.txn(Txn((), (Put("/a", b""),)))
            fcntl.flock(lock, fcntl.LOCK_UN)
        await store.close()
