"""Starts with two things wrong at once, with another cluster's place in the bucket, and with an etcd that is empty."""

from __future__ import annotations

import re
from itertools import combinations
from pathlib import Path

import pytest

from tests.servers.etcd import Member, binary, etcd
from tests.unit.broker import test_identity
from tests.unit.broker.test_identity import refused
from tests.unit.offload.test_fit import filled, served
from tierlog.metadata.stores.etcd.settings import EtcdSettings
from tierlog.metadata.stores.etcd.store import EtcdStore

WRONG = {
    "node.id": "node.id=2",
    "cluster.id": "tierlog.cluster.id=other",
    "an empty store": "metadata.store=sqlite:{root}/typo.db",
    "their store": "metadata.store=sqlite:{root}/theirs/metadata.db",
    "their directory": "log.dirs={root}/theirs/logs",
    "both directories": "log.dirs={root}/ours/logs,{root}/theirs/logs",
    "a new directory": "log.dirs={root}/new/logs",
    "their bucket": "tierlog.object.store=dir:{root}/theirs/objects",
    "an empty bucket": "tierlog.object.store=dir:{root}/new/objects",
    "no bucket": "remote.log.storage.system.enable=false",
}
# What is right together: a broker that has lost its disks. The wrong node id of nobody makes a new broker of it.
RIGHT = {("a new directory",), ("node.id", "a new directory")}
ADVICE = re.compile(r"(set|name|point|leave|delete|choose|begin) ")


def property_of(wrong: str) -> str:
    return WRONG[wrong].partition("=")[0]


async def test_two_wrongs_at_once(tmp_path: Path) -> None:
    """Any two of different properties: one line, and nothing has changed; both clusters have all their records."""
    await filled(tmp_path / "ours")
    await test_identity.filled(tmp_path / "theirs")
    pairs = [pair for pair in combinations(WRONG, 2) if property_of(pair[0]) != property_of(pair[1])]
    for wrongs in [*((name,) for name in WRONG), *pairs]:
        if wrongs in RIGHT:
            continue
        overrides = [WRONG[name].format(root=tmp_path) for name in wrongs]
        line = await refused(tmp_path, tmp_path / "ours", *overrides)
        assert ADVICE.search(line), f"{wrongs}: {line}"
        assert not (tmp_path / "typo.db").exists()
        assert not (tmp_path / "new").exists()
    await served(tmp_path / "ours")
    await test_identity.served(tmp_path / "theirs")


@pytest.mark.parametrize("has_its_own", [False, True])
async def test_another_prefix_of_the_bucket(tmp_path: Path, has_its_own: bool) -> None:
    """With the cluster id of who is there, it is still not where our records lie."""
    ours, theirs = (f"tierlog.object.store=dir:{tmp_path}/bucket/{name}" for name in ("ours", "theirs"))
    await filled(tmp_path / "one", ours, "tierlog.cluster.id=one")
    if has_its_own:
        await filled(tmp_path / "two", theirs, "tierlog.cluster.id=two")
    for cluster_id in ("one", "two"):
        line = await refused(
            tmp_path,
            tmp_path / "one",
            theirs,
            f"tierlog.cluster.id={cluster_id}",
        )
        assert "name the" in line or "leave the property out" in line
    # No directory and no store of its own: only the cluster id is compared with the bucket.
    line = await refused(tmp_path, tmp_path / "three", ours, "tierlog.cluster.id=two")
    assert "the bucket belongs to cluster one" in line
    assert not (tmp_path / "three").exists()
    await served(tmp_path / "one", ours, "tierlog.cluster.id=one")


@pytest.mark.skipif(binary() is None, reason="this machine has no etcd server")
async def test_an_etcd_that_is_empty(tmp_path: Path) -> None:
    """Another etcd, and another prefix of the right one: no key is written in either. Nor beside a second mistake."""
    for name in ("ours", "empty"):
        (tmp_path / name).mkdir()
    with etcd(tmp_path / "ours") as (ours,), etcd(tmp_path / "empty") as (empty,):
        right = f"metadata.store=etcd://{ours.address}"
        broker = tmp_path / "broker"
        await filled(broker, right)
        before = await all_keys(ours)
        for wrong in (
            [f"metadata.store=etcd://{empty.address}"],
            [right, "tierlog.etcd.prefix=/typo"],
            [f"metadata.store=etcd://{empty.address}", f"tierlog.object.store=dir:{tmp_path}/new"],
            [f"metadata.store=etcd://{empty.address}", "tierlog.cluster.id=other"],
            [f"metadata.store=etcd://{empty.address}", "node.id=2"],
        ):
            line = await refused(broker, broker, *wrong)
            assert ADVICE.search(line), line
            assert "is empty, and the log directory" in line or "node.id" in line or "cluster.id" in line
        assert (await all_keys(empty), await all_keys(ours)) == ([], before)
        assert not (tmp_path / "new").exists()
        await served(broker, right)


async def all_keys(member: Member) -> list[tuple[str, bytes, int]]:
    """(key, value, revision) under any prefix."""
    store = await EtcdStore.open(EtcdSettings((member.address,), ""))
    try:
        return [(kv.key, kv.value, kv.mod_revision) for kv in (await store.range("/")).kvs]
    finally:
        await store.close()
