"""The custom roles in ``deploy/policies`` hold what a broker and whoever looks after the bucket need, and nothing else."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.contract.objects.conftest import gcs_config_of
from tests.servers.gcs.serving import GcsServer, gcs
from tests.servers.gcs.state import PERMISSIONS
from tiering.doctor.gcs import examine
from tiering.doctor.wanted import Wanted
from tiering.errors import AccessDenied
from tiering.objects.classes import StorageClass
from tiering.objects.gcs.store import GcsObjectStore

POLICIES = Path(__file__).parents[3] / "deploy/policies"
LARGE = bytes(6 * 1024 * 1024)


def role(name: str) -> list[str]:
    found: list[str] = yaml.safe_load((POLICIES / f"{name}.yaml").read_text())["includedPermissions"]
    return found


@pytest.fixture
def server() -> Iterator[GcsServer]:
    with gcs() as running:
        yield running


async def use(server: GcsServer) -> None:
    """All that a broker does with the objects of its tier."""
    store = GcsObjectStore(gcs_config_of(server, "tier"))
    try:
        made = await store.put("k", b"one", size_bytes=3, if_absent=True)
        made = await store.put_if_match("k", b"two", made.version)
        await store.put("large", LARGE, size_bytes=len(LARGE))
        await store.copy("k", "k", version=made.version, storage_class=StorageClass.COLD)
        await store.get("k")
        await store.get_range("large", 1, 2)
        await store.head("k", complete=True)
        await store.list("")
        for error in (await store.delete(["k", "large"])).values():
            raise error
    finally:
        await store.close()


async def test_the_role_of_a_broker_suffices(server: GcsServer) -> None:
    assert set(role("gcs-broker")) <= PERMISSIONS
    server.state.grant_only(role("gcs-broker"))
    await use(server)


@pytest.mark.parametrize("permission", role("gcs-broker"))
async def test_each_permission_of_it_is_needed(server: GcsServer, permission: str) -> None:
    server.state.grant_only(set(role("gcs-broker")) - {permission})
    with pytest.raises(AccessDenied, match=permission):
        await use(server)


async def test_with_the_role_of_a_doctor_nothing_stays_unknown(server: GcsServer) -> None:
    server.state.grant_only(role("gcs-broker"))
    alone = await examine(gcs_config_of(server), Wanted(), time.time_ns() // 1_000_000)
    server.state.grant_only([*role("gcs-broker"), *role("gcs-doctor")])
    both = await examine(gcs_config_of(server), Wanted(), time.time_ns() // 1_000_000)
    assert [each.check for each in alone if "unknown" in each.message] == ["bucket"]
    assert [each.check for each in both if "unknown" in each.message] == []
    assert [each for each in (*alone, *both) if each.level == "error"] == []
