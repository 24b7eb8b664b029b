"""Starts whose parts do not belong together: refused with one line, and nothing has changed; the right start goes on."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.unit.broker.test_config_effects import append, create, led, until
from tiering.keys import CLUSTER_MARKER, cluster_marker
from tierlog.broker import identity
from tierlog.broker.disk.log_dirs import LOCK_NAME
from tierlog.broker.node import Broker
from tierlog.broker.replicas.partition import Partition
from tierlog.cli.broker import embedded
from tierlog.config.broker import BrokerConfig
from tierlog.errors import UserError
from tierlog.log.files.checkpoints import META_PROPERTIES
from tierlog.metadata import keys, records
from tierlog.metadata.control.topics import NewTopic
from tierlog.metadata.features import TIER_FORMAT, supported_ranges
from tierlog.metadata.stores.sqlite import SqliteStore

RECORDS = 100
# By a broker that runs.
WRITTEN_LATE = ("leader-epoch-checkpoint", ".tierlog-whole")
ACCEPT = "tierlog.metadata.store.accept.empty=true"


async def started(directory: Path, *overrides: str) -> Broker:
    broker = Broker(embedded(directory, "127.0.0.1", 0, -1, ["tierlog.disk.reserve.bytes=65536", *overrides]))
    await broker.start()
    return broker


async def filled(directory: Path, *overrides: str) -> None:
    """A broker that has held RECORDS records of t-0 and has stopped."""
    broker = await started(directory, *overrides)
    (partition,) = await create(broker)
    for _ in range(RECORDS):
        append(partition)
    await broker.stop()


async def served(directory: Path, *overrides: str) -> None:
    """A start that has it all, and goes on behind it; a second one too."""
    for more in range(2):
        broker = await started(directory, *overrides)
        (partition,) = await led(broker, 1)
        assert (partition.log_start_offset, partition.log.log_end_offset) == (0, RECORDS + more)
        append(partition)
        assert not partition.lossy_reason
        await broker.stop()


def content(directory: Path) -> dict[str, bytes | None]:
    """All files, and what the metadata store says; without locks."""
    found: dict[str, bytes | None] = {}
    for path in sorted(directory.rglob("*")):
        name = str(path.relative_to(directory))
        if path.name.startswith((LOCK_NAME, "metadata.db", *WRITTEN_LATE)):
            continue
        found[name] = path.read_bytes() if path.is_file() else None
    for path in (path for path in sorted(directory.rglob("metadata.db")) if path.stat().st_size):
        with closing(sqlite3.connect(path)) as db:
            found[str(path)] = repr(db.execute("SELECT * FROM kv ORDER BY k").fetchall()).encode()
    return found


async def refused(root: Path, directory: Path, *overrides: str) -> str:
    """The line; everything under ``root`` is as it was."""
    before = content(root)
    with pytest.raises(UserError) as raised:
        await started(directory, *overrides)
    after = content(root)
    assert {
        name for name in before.keys() | after.keys() if before.get(name, 0) != after.get(name, 0)
    } == set()
    line = str(raised.value)
    assert "\n" not in line and len(line) < 600
    return line


async def test_another_node_id(tmp_path: Path) -> None:
    await filled(tmp_path)
    line = await refused(tmp_path, tmp_path, "node.id=2")
    assert "belongs to node.id 1, this is 2; set node.id=1, or name the directories of 2" in line
    await served(tmp_path)


@pytest.mark.parametrize("store", ["sqlite:{}/typo.db", "sqlite:{}/not/mounted/metadata.db", "memory:"])
async def test_an_empty_store(tmp_path: Path, store: str) -> None:
    await filled(tmp_path)
    line = await refused(tmp_path, tmp_path, f"metadata.store={store.format(tmp_path)}")
    assert "is empty, and the log directory" in line and ACCEPT in line
    await served(tmp_path)


async def test_a_store_that_is_gone(tmp_path: Path) -> None:
    await filled(tmp_path)
    away = tmp_path / "away.db"
    (tmp_path / "metadata.db").rename(away)
    for _ in range(2):
        assert "is empty" in await refused(tmp_path, tmp_path)
    (tmp_path / "metadata.db").touch()  # as a mount point would have it
    assert "is empty" in await refused(tmp_path, tmp_path)
    away.rename(tmp_path / "metadata.db")
    await served(tmp_path)


async def test_the_store_and_the_directories_of_another_cluster(tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    await filled(ours)
    await filled(theirs)  # the same topic name, another topic id
    line = await refused(tmp_path, ours, f"metadata.store=sqlite:{theirs}/metadata.db")
    assert "is of cluster" in line and "point metadata.store at the right store" in line
    both = f"log.dirs={ours}/logs,{theirs}/logs"
    assert "name directories of one cluster only" in await refused(tmp_path, ours, both)
    assert "is of cluster" in await refused(tmp_path, ours, f"log.dirs={theirs}/logs")
    await served(ours)
    await served(theirs)


async def test_directories_of_two_brokers(tmp_path: Path) -> None:
    """Of one cluster: swapped, and mixed."""
    store = f"metadata.store=sqlite:{tmp_path}/metadata.db"
    await filled(tmp_path / "one", store)
    other = await started(tmp_path / "two", store, "node.id=2")
    await other.stop()
    one, two = tmp_path / "one", tmp_path / "two"
    assert "belongs to node.id 2, this is 1" in await refused(tmp_path, two, store)
    assert "belongs to node.id 1, this is 2" in await refused(tmp_path, one, store, "node.id=2")
    mixed = f"log.dirs={one}/logs,{two}/logs"
    assert "belongs to node.id 2, this is 1" in await refused(tmp_path, one, store, mixed)
    assert "belongs to node.id 1, this is 2" in await refused(tmp_path, one, store, mixed, "node.id=2")
    await served(one, store)


async def test_a_new_directory_beside_full_ones_is_legal(tmp_path: Path) -> None:
    await filled(tmp_path)
    await served(tmp_path, f"log.dirs={tmp_path}/logs,{tmp_path}/more")
    assert (tmp_path / "more" / META_PROPERTIES).exists()


async def test_another_cluster_id(tmp_path: Path) -> None:
    await filled(tmp_path)
    line = await refused(tmp_path, tmp_path, "tierlog.cluster.id=other")
    assert "tierlog.cluster.id=other: the log directory" in line
    new = f"log.dirs={tmp_path}/new/logs"
    assert "tierlog.cluster.id says that we belong" in await refused(
        tmp_path, tmp_path, new, "tierlog.cluster.id=other"
    )
    assert not (tmp_path / "new").exists()
    await served(tmp_path)


@pytest.mark.parametrize("is_known", [True, False])
async def test_a_bucket_of_another_cluster(tmp_path: Path, is_known: bool) -> None:
    """Beside a broker that has run, and at the first start of one."""
    if is_known:
        await filled(tmp_path)
    marker = tmp_path / "foreign" / CLUSTER_MARKER
    marker.parent.mkdir(parents=True)
    marker.write_bytes(cluster_marker("theirs"))
    line = await refused(tmp_path, tmp_path, f"tierlog.object.store=dir:{tmp_path}/foreign")
    assert "the bucket belongs to cluster theirs" in line and "name the bucket and prefix" in line
    if is_known:
        await served(tmp_path)
    else:
        assert sorted(path.name for path in tmp_path.iterdir()) == ["foreign"]


@pytest.mark.parametrize("has_store", [False, True])
async def test_another_broker_makes_the_cluster_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_store: bool
) -> None:
    """Between the look at the metadata store, or at the lack of one, and the look at the bucket."""
    common = [f"metadata.store=sqlite:{tmp_path}/m.db", f"tierlog.object.store=dir:{tmp_path}/objects"]
    if has_store:
        await (await SqliteStore.open(tmp_path / "m.db")).close()
    compare = identity.compare

    async def late(config: BrokerConfig, *found: Any) -> bool:
        monkeypatch.setattr(identity, "compare", compare)
        other = await started(tmp_path / "1", *common)
        await until((tmp_path / "objects" / CLUSTER_MARKER).exists)
        await other.stop()
        return await compare(config, *found)

    monkeypatch.setattr(identity, "compare", late)
    broker = await started(tmp_path / "2", "node.id=2", *common)
    assert identity.compare is compare
    await broker.stop()


async def test_who_runs_already(tmp_path: Path) -> None:
    """The same directories, and the same node id with others."""
    broker = await started(tmp_path)
    (partition,) = await create(broker)
    for _ in range(RECORDS):
        append(partition)
    assert "is in use by another broker" in await refused(tmp_path, tmp_path)
    new = f"log.dirs={tmp_path}/new"
    assert "broker id 1 is taken by a running broker at" in await refused(tmp_path, tmp_path, new)
    assert not (tmp_path / "new").exists()
    await broker.stop()
    await served(tmp_path)


def nothing(path: Path) -> None:
    path.write_text("")


def garbage(path: Path) -> None:
    path.write_bytes(b"\xff\x00 what")


def without_node_id(path: Path) -> None:
    lines = path.read_text().splitlines()
    path.write_text("\n".join(line for line in lines if not line.startswith("node.id=")))


@pytest.mark.parametrize("spoil", [Path.unlink, nothing, garbage, without_node_id])
async def test_no_owner(tmp_path: Path, spoil: Callable[[Path], None]) -> None:
    """The only directory: refused. One of two: what lies there is offline, and the rest is served."""
    await filled(tmp_path)
    path = tmp_path / "logs" / META_PROPERTIES
    before = path.read_bytes()
    spoil(path)
    line = await refused(tmp_path, tmp_path)
    assert "cannot use" in line and META_PROPERTIES in line
    logs = content(tmp_path / "logs")
    broker = await started(tmp_path, f"log.dirs={tmp_path}/logs,{tmp_path}/more")
    assert [log_dir.is_online for log_dir in broker.log_dirs] == [False, True]
    assert not isinstance(broker.replicas.by_name("t", 0), Partition)
    await broker.stop()
    assert content(tmp_path / "logs") == logs
    path.write_bytes(before)
    await served(tmp_path, f"log.dirs={tmp_path}/logs,{tmp_path}/more")


async def test_an_empty_store_that_is_accepted(tmp_path: Path) -> None:
    """All is set aside, with another topic of the same name in its place, and comes back with the right store."""
    await filled(tmp_path)
    other = f"metadata.store=sqlite:{tmp_path}/other.db"
    broker = await started(tmp_path, other, ACCEPT)
    assert not len(broker.replicas) and broker.replicas.stray_count == 1
    (partition,) = await create(broker)
    append(partition)
    await broker.stop()
    broker = await started(tmp_path, other)
    (partition,) = await led(broker, 1)
    assert partition.log.log_end_offset == 1
    await broker.stop()
    await served(tmp_path)


async def test_an_older_copy_of_the_store(tmp_path: Path) -> None:
    """It does not know a topic that lies on the disk, and knows one that was deleted since."""
    broker = await started(tmp_path)
    await broker.services.admin.create_topics([NewTopic("early", 1, 1)])
    await until(lambda: isinstance(broker.replicas.by_name("early", 0), Partition))
    await broker.stop()
    shutil.copy(tmp_path / "metadata.db", tmp_path / "older.db")
    await filled(tmp_path)
    older = f"metadata.store=sqlite:{tmp_path}/older.db"
    for _ in range(2):
        broker = await started(tmp_path, older)
        assert broker.replicas.stray_count == 1
        await broker.stop()
    await served(tmp_path)


async def test_what_was_deleted_stays_deleted_when_a_log_comes_back(tmp_path: Path) -> None:
    broker = await started(tmp_path)
    (partition,) = await create(broker)
    for _ in range(RECORDS):
        append(partition)
    await broker.replicas.advance_log_start(partition, 10)
    await broker.stop()
    broker = await started(tmp_path, f"metadata.store=sqlite:{tmp_path}/other.db", ACCEPT)
    await broker.stop()
    broker = await started(tmp_path)
    (partition,) = await led(broker, 1)
    assert (partition.log_start_offset, partition.log.log_end_offset) == (10, RECORDS)
    await broker.stop()


async def test_a_stray_of_an_older_release_comes_back(tmp_path: Path) -> None:
    """It was set aside by a start with another node id, and an empty log took its place."""
    await filled(tmp_path)
    logs = tmp_path / "logs"
    (logs / "t-0").rename(logs / "t-0-stray")
    (logs / "t-0").mkdir()
    shutil.copy(logs / "t-0-stray" / "partition.metadata", logs / "t-0")
    (logs / "t-0" / f"{0:020}.log").touch()
    await served(tmp_path)


async def test_two_logs_with_records_stay_as_they_are(tmp_path: Path) -> None:
    await filled(tmp_path)
    logs = tmp_path / "logs"
    shutil.copytree(logs / "t-0", logs / "t-0-stray")
    await served(tmp_path)
    assert (logs / "t-0-stray").exists()


async def test_a_feature_level_that_this_version_does_not_know(tmp_path: Path) -> None:
    await filled(tmp_path)
    level(tmp_path, 3)
    line = await refused(tmp_path, tmp_path)
    assert (
        "finalized tierlog.tier.format at level 3, this tierlog supports 1-2: start the version that" in line
    )
    level(tmp_path, 2)
    await served(tmp_path)


async def test_a_cluster_of_an_earlier_version_goes_on_at_the_first_level(tmp_path: Path) -> None:
    await filled(tmp_path)
    level(tmp_path, None)
    broker = await started(tmp_path)
    assert broker.feed.image.features.level(TIER_FORMAT) == 1
    registration = broker.feed.image.brokers[1].registration
    assert registration is not None and registration.features == supported_ranges()
    await broker.stop()
    await served(tmp_path)


def level(directory: Path, number: int | None) -> None:
    """Writes the level into the store of a stopped broker, past everything that would refuse it; None: there is no key."""
    with closing(sqlite3.connect(directory / "metadata.db")) as db, db:
        if number is None:
            changed = db.execute("DELETE FROM kv WHERE k = ?", (keys.FEATURES,))
        else:
            value = records.encode_features({TIER_FORMAT: number})
            changed = db.execute("UPDATE kv SET v = ? WHERE k = ?", (value, keys.FEATURES))
        assert changed.rowcount == 1
