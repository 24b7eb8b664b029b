"""Every request that a store makes is counted once, whatever the answer is: against what a proxy before the server saw."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from typing import NamedTuple

import pytest

from tests.contract.objects.conftest import config_of, gcs_config_of
from tests.e2e.test_metered_requests import has_failed_at_google, lost_gcs, of_s3
from tests.servers.fault_proxy import FaultProxy, Mode, Request
from tests.servers.gcs.serving import GcsServer
from tests.servers.processes import S3Server
from tiering.errors import (
    InvalidRange,
    Misconfigured,
    NotFound,
    ObjectStoreError,
    PreconditionFailed,
    Unavailable,
)
from tiering.metering.accounts import Accounts
from tiering.metering.meter import Meter
from tiering.objects.classes import StorageClass
from tiering.objects.gcs.config import GcsConfig
from tiering.objects.gcs.store import GcsObjectStore
from tiering.objects.port import LIST_LIMIT_MAX, ObjectStore
from tiering.objects.retrying import RetryingStore, RetryPolicy
from tiering.objects.s3.config import S3Config
from tiering.objects.s3.store import S3ObjectStore

QUICK = RetryPolicy(first_pause_s=0.001, pause_max_s=0.002)
PART_BYTES = 5 << 20
METHODS = {
    "put": ("PUT", "POST"),
    "get": ("GET",),
    "get_range": ("GET",),
    "head": ("HEAD", "GET"),
    "list": ("GET",),
    "delete": ("POST", "DELETE"),
}


class Asked(NamedTuple):
    requests: Counter[str]
    failed: Counter[str]


class Rig(NamedTuple):
    """``store`` asks past the retries."""

    store: ObjectStore
    retrying: ObjectStore
    accounts: Accounts
    proxy: FaultProxy
    parse: Callable[[Request], tuple[str, bool] | None]

    def counted(self) -> Asked:
        found = Asked(Counter(), Counter())
        for total, sums in self.accounts.totals.items():
            found.requests[total.operation] += sums.requests
            found.failed[total.operation] += sums.failed
        return Asked(+found.requests, +found.failed)

    def seen(self) -> Asked:
        parsed = [row for row in map(self.parse, list(self.proxy.seen)) if row is not None]
        return Asked(Counter(name for name, _ in parsed), Counter(name for name, failed in parsed if failed))

    async def check(self, what: str) -> None:
        """Threads tell of what they have asked a little later."""
        with suppress(TimeoutError):
            async with asyncio.timeout(5):
                while self.counted() != self.seen():
                    await asyncio.sleep(0.01)
        assert self.counted() == self.seen(), what


@asynccontextmanager
async def rig(
    make: Callable[[str, Meter], ObjectStore],
    server: str,
    parse: Callable[[Request], tuple[str, bool] | None],
) -> AsyncIterator[Rig]:
    accounts = Accounts()
    with FaultProxy(server) as proxy:
        store = make(proxy.endpoint, Meter(accounts))
        yield Rig(store, RetryingStore(store, QUICK), accounts, proxy, parse)
        await store.close()


@pytest.fixture(params=["seaweedfs", "moto", "gcs"])
async def made(request: pytest.FixtureRequest, prefix: str) -> AsyncIterator[Rig]:
    name = str(request.param)
    server: S3Server | GcsServer = request.getfixturevalue(f"{name}_server")

    def on_s3(endpoint: str, meter: Meter) -> ObjectStore:
        assert isinstance(server, S3Server)
        return S3ObjectStore(replace(config_of(server, prefix), endpoint=endpoint), meter)

    def on_google(endpoint: str, meter: Meter) -> ObjectStore:
        assert isinstance(server, GcsServer)
        return GcsObjectStore(replace(gcs_config_of(server, prefix), endpoint=endpoint), meter)

    def parse_s3(seen: Request) -> tuple[str, bool] | None:
        found = of_s3(seen, server.bucket, prefix)
        return None if found is None else (found.operation, found.failed or seen.mode is Mode.CUT)

    def parse_google(seen: Request) -> tuple[str, bool]:
        operation = lost_gcs(seen).operation
        return operation, has_failed_at_google(operation, seen.status) or seen.mode is Mode.CUT

    async with rig(
        on_google if name == "gcs" else on_s3, server.endpoint, parse_google if name == "gcs" else parse_s3
    ) as one:
        yield one


async def test_whatever_the_answer_is(made: Rig) -> None:
    """Good ones, 404, 412 and 416; copies, parts, and conditions."""
    store = made.store
    info = await store.put("a", b"12345", size_bytes=5)
    with pytest.raises(PreconditionFailed):
        await store.put("a", b"1", size_bytes=1, if_absent=True)
    with pytest.raises(PreconditionFailed):
        await store.put_if_match("a", b"1", "77" if info.version.isdigit() else '"77"')
    await store.put_if_match("a", b"54321", info.version)
    await made.check("conditions")
    await store.get("a")
    await store.get_range("a", 1, 4)
    for call in (store.get("none"), store.head("none"), store.get_range("none", 0, 1)):
        with pytest.raises(NotFound):
            await call
    with pytest.raises(InvalidRange):
        await store.get_range("a", 10, 20)
    await made.check("reads")
    now = await store.head("a", complete=True)
    moved = await store.copy("a", "b", version=now.version, storage_class=StorageClass.STANDARD)
    assert moved.size_bytes == 5
    await made.check("copies")
    large = bytes(2 * PART_BYTES + 1)
    await store.put("large", large, size_bytes=len(large))
    assert await store.delete(["large", "never", "b"]) == {}
    assert list(await store.list("")) != []
    await store.keeps_old_versions()
    await made.check("parts, deletes of many, a list")
    assert made.seen().failed.total() >= 6


async def test_what_is_refused_and_asked_again(made: Rig) -> None:
    """503 and connections that break, at each verb: the repetition is another request."""
    store = made.retrying
    await store.put("a", b"12345", size_bytes=5)

    async def verb(name: str) -> None:
        calls: dict[str, Callable[[], object]] = {
            "put": lambda: store.put("a", b"12345", size_bytes=5),
            "get": lambda: store.get("a"),
            "get_range": lambda: store.get_range("a", 0, 5),
            "head": lambda: store.head("a"),
            "list": lambda: store.list(""),
            "delete": lambda: store.delete(["none"]),
        }
        await calls[name]()  # type: ignore[misc]

    for mode in (Mode.BUSY, Mode.UNANSWERED, Mode.CUT):
        for name, methods in METHODS.items():
            if mode is Mode.CUT and name not in ("get", "get_range"):
                continue
            before = made.seen().requests.total()
            made.proxy.fail(mode, *methods, limit=1)
            await verb(name)
            await made.check(f"{name}: {mode}")
            assert made.seen().requests.total() == before + 2, (name, mode)


async def test_pages_and_batches(made: Rig) -> None:
    """A page is a request, and so is what one request to delete can name."""
    names = [f"d/{number}" for number in range(7)]
    for name in names:
        await made.store.put(name, b"x", size_bytes=1)
    found, after = list[str](), ""
    while len(page := await made.store.list("d/", start_after=after, limit=3)):
        found += [info.key for info in page]
        after = found[-1]
    assert found == names
    missing = [f"d/{number}" for number in range(7, LIST_LIMIT_MAX + 1)]
    is_google = isinstance(made.store, GcsObjectStore)
    assert await made.store.delete([*names, *missing][:20] if is_google else [*names, *missing]) == {}
    await made.check("pages")
    assert made.seen().requests == Counter(put=7, list=4, delete=20 if is_google else 2)


# -- what never left


@contextmanager
def no_tls() -> Iterator[int]:
    """A port that speaks plain HTTP to whoever says hello in TLS."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def refuse() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    with connection:
                        connection.recv(1024)
                        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=refuse, daemon=True)
        thread.start()
        yield int(listener.getsockname()[1])
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(10)


@pytest.mark.parametrize("kind", ["s3", "gcs"])
async def test_where_no_connection_comes_about_nothing_was_asked(kind: str) -> None:
    accounts = Accounts()
    with no_tls() as port:
        endpoint = f"https://127.0.0.1:{port}"
        store: ObjectStore
        if kind == "s3":
            keys = {"access_key_id": "a", "secret_access_key": "b"}
            s3 = S3Config("b", endpoint=endpoint, **keys, part_retries=0, part_bytes=PART_BYTES)
            store = S3ObjectStore(s3, Meter(accounts))
        else:
            store = GcsObjectStore(GcsConfig("b", endpoint=endpoint, anonymous=True), Meter(accounts))
        large = bytes(PART_BYTES + 1)
        calls = [store.get("k"), store.put("k", b"x", size_bytes=1), store.head("k", complete=True)]
        calls += [store.put("k", large, size_bytes=len(large)), store.list("")]
        for call in calls:
            with pytest.raises((Unavailable, Misconfigured, ObjectStoreError)):
                await call
        await store.close()
    assert {total: sums.numbers for total, sums in accounts.totals.items() if sums.requests} == {}
