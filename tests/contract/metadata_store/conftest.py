"""Every backend of the metadata store, one after the other."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.contract.metadata_store.harness import EtcdHarness, Harness, MemoryHarness, SqliteHarness
from tests.servers.etcd import KINDS, Member, binary, etcd
from tierlog.metadata.stores.port import MetadataStore

_prefixes = map("/test{}".format, itertools.count())


@pytest.fixture(scope="session")
def shared_etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Member]]:
    """One server of each kind for the whole session, started when first asked for."""
    running: dict[str, Member] = {}
    with ExitStack() as stack:

        def get(kind: str) -> Member:
            if binary(kind) is None:
                pytest.skip(f"this machine has no {kind} server")
            if kind not in running:
                (running[kind],) = stack.enter_context(etcd(tmp_path_factory.mktemp(kind), kind=kind))
            return running[kind]

        yield get


@pytest.fixture(params=["memory", "sqlite", *KINDS])
async def harness(
    request: pytest.FixtureRequest, tmp_path: Path, shared_etcd: Callable[[str], Member]
) -> AsyncIterator[Harness]:
    made: Harness
    if request.param == "memory":
        made = MemoryHarness()
    elif request.param == "sqlite":
        made = SqliteHarness(tmp_path)
    else:
        made = EtcdHarness(shared_etcd(request.param), next(_prefixes))
    await made.open()
    yield made
    await made.close()


@pytest.fixture
def store(harness: Harness) -> MetadataStore:
    return harness.store
