"""Which replicas the files call whole, over changes of the flush mode, starts, damage and moves."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.patience import PATIENT_S
from tests.unit.broker.test_config_effects import append, create, led, running, until
from tests.unit.broker.test_session_marker import (
    World,
    emptied,
    emptied_partition,
    old_copy,
    short_file,
)
from tierlog.broker.disk.session_file import cast_doubt
from tierlog.broker.node import Broker
from tierlog.broker.replicas import complete_replicas
from tierlog.broker.replicas.complete_replicas import (
    FILE_NAME,
    CompleteReplicas,
    key_of,
    read_names,
    write_names,
)
from tierlog.broker.replicas.partition import Partition
from tierlog.errors import DiskFull, UserError
from tierlog.log.files.checkpoints import CLEAN_SHUTDOWN
from tierlog.metadata import keys, records
from tierlog.metadata.transactions import Put, Txn
from tierlog.replication.proof import Note


@pytest.fixture(autouse=True)
def quick_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(complete_replicas, "ROUND_S", 0.01)


@pytest.fixture
def adopted(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Of each start: whether the replica of ``t`` was taken for whole before anything else happened."""
    found: list[bool] = []
    begin = CompleteReplicas.begin

    def watched(self: CompleteReplicas) -> None:
        found.extend(p.proof.is_whole for p in self._hosted.values() if p.topic_partition.topic == "t")
        begin(self)

    monkeypatch.setattr(CompleteReplicas, "begin", watched)
    return found


async def set_mode(broker: Broker, mode: str) -> None:
    put = Put(keys.topic_config("t"), records.encode_configs({"flush.mode": mode}))
    revision = (await broker.store.txn(Txn((), (put,)))).revision
    await broker.feed.wait_for_revision(revision)


async def whole(broker: Broker, **configs: str) -> Partition:
    (partition,) = await create(broker, flush_mode="ack", **configs)
    append(partition)
    await until(lambda: partition.proof.is_whole)
    return partition


async def test_a_replica_is_named_while_its_mode_is_ack(tmp_path: Path) -> None:
    async with running(tmp_path) as broker:
        (log_dir,) = broker.log_dirs
        partition = await whole(broker)
        assert read_names(log_dir.path) == {key_of(partition)}
        await set_mode(broker, "os")
        await until(lambda: not partition.flush_acks)
        assert read_names(log_dir.path) == frozenset()
        append(partition)
        await set_mode(broker, "ack")
        assert partition.flush_acks and not partition.proof.is_whole
        await until(lambda: partition.proof.is_whole)
        assert partition.log.recovery_point == partition.log.log_end_offset == 2


async def test_os_mode_takes_effect_when_the_disk_has_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path) as broker:
        partition = await whole(broker)
        begun, may_go_on = threading.Event(), threading.Event()

        def slowly(log_dir: Path, names: frozenset[str]) -> None:
            begun.set()
            assert may_go_on.wait(PATIENT_S)
            write_names(log_dir, names)

        monkeypatch.setattr(complete_replicas, "write_names", slowly)
        await set_mode(broker, "os")
        await until(begun.is_set)
        assert partition.flush_acks and not partition.proof.is_whole
        may_go_on.set()
        await until(lambda: not partition.flush_acks)


async def test_a_write_under_way_says_nothing_of_a_log_that_is_opened_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path) as broker:
        (log_dir,) = broker.log_dirs
        begun, may_go_on = threading.Event(), threading.Event()

        def slowly(log_dir: Path, names: frozenset[str]) -> None:
            begun.set()
            assert may_go_on.wait(PATIENT_S)
            write_names(log_dir, names)

        monkeypatch.setattr(complete_replicas, "write_names", slowly)
        (partition,) = await create(broker, flush_mode="ack")
        await until(begun.is_set)
        monkeypatch.setattr(broker.replicas.roles, "is_in_sync", lambda partition: False)
        topic = broker.feed.image.topic("t")
        assert topic is not None
        broker.replicas._drop(partition)
        broker.replicas._apply_state("t", topic.topic_id, 0, topic.partitions[0])
        await broker.replicas.settled()
        again = broker.replicas.by_name("t", 0)
        assert isinstance(again, Partition) and again is not partition
        may_go_on.set()
        await until(lambda: again.proof.note is Note.ABSENT)
        assert read_names(log_dir.path) == frozenset()


async def test_many_are_named_in_several_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(complete_replicas, "CHANGES_MAX", 3)
    async with running(tmp_path) as broker:
        (log_dir,) = broker.log_dirs
        partitions = await create(broker, 10, flush_mode="ack")
        await until(lambda: read_names(log_dir.path) == {key_of(partition) for partition in partitions})
        for partition in partitions[:7]:
            broker.replicas._drop(partition)
        await until(lambda: len(read_names(log_dir.path)) == 3)


async def test_without_room_nobody_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(tmp_path) as broker:
        partition = await whole(broker)
        (log_dir,) = broker.log_dirs

        def full(log_dir: Path, names: frozenset[str]) -> None:
            raise DiskFull("no space")

        monkeypatch.setattr(complete_replicas, "write_names", full)
        await set_mode(broker, "os")
        await until(lambda: not partition.flush_acks)
        assert not (log_dir.path / FILE_NAME).exists()
        monkeypatch.setattr(complete_replicas, "write_names", write_names)
        await set_mode(broker, "ack")
        await until(lambda: partition.proof.is_whole)


def crashed(world: World) -> None:
    (world.logs / CLEAN_SHUTDOWN).unlink()


def rebooted(world: World) -> None:
    crashed(world)
    path = world.logs / ".tierlog-session"
    path.write_text(json.dumps({**json.loads(path.read_text()), "boot_id": "earlier"}))


@pytest.mark.parametrize("how", [lambda world: None, crashed, rebooted], ids=["clean", "kill", "power"])
async def test_who_was_whole_is_whole_at_the_next_start(
    tmp_path: Path, how: Callable[[World], None], adopted: list[bool]
) -> None:
    world = World(tmp_path)
    async with world.broker() as broker:
        await whole(broker)
    how(world)
    async with world.broker() as broker:
        await led(broker, 1)
    assert adopted == [True]


def doubtful(world: World) -> None:
    """The directory failed, or a recovery was cut short."""
    crashed(world)
    cast_doubt(world.logs)


def without_session(world: World) -> None:
    (world.logs / ".tierlog-session").unlink()


@pytest.mark.parametrize(
    "damage", [short_file, emptied, emptied_partition, old_copy, doubtful, without_session]
)
async def test_where_something_is_missing_nobody_is(
    tmp_path: Path, damage: Callable[[World], None], adopted: list[bool]
) -> None:
    world = World(tmp_path)
    async with world.broker() as broker:
        partition = await whole(broker)
        for _ in range(4):
            append(partition)
        await until(lambda: partition.high_watermark == 5)
    damage(world)
    async with world.broker() as broker:
        await led(broker, 1)
    assert adopted == [False]


async def test_the_mode_of_now_counts_and_not_that_of_then(tmp_path: Path, adopted: list[bool]) -> None:
    world = World(tmp_path)
    async with world.broker() as broker:
        await whole(broker)
        # Too late for this process to do anything about it.
        broker.replicas.complete_replicas._is_closed = True
        await set_mode(broker, "os")
        assert read_names(world.logs)
    async with world.broker() as broker:
        (partition,) = await led(broker, 1)
        assert not partition.flush_acks
        assert read_names(world.logs) == frozenset()
    assert adopted == [False]


async def test_a_start_without_room_names_nobody(
    tmp_path: Path, adopted: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path)
    async with world.broker() as broker:
        await whole(broker)
        write_names(world.logs, {*read_names(world.logs), "another-0"})

    def full(log_dir: Path, names: frozenset[str]) -> None:
        raise DiskFull("no space")

    monkeypatch.setattr(complete_replicas, "write_names", full)
    async with world.broker() as broker:
        (partition,) = await led(broker, 1)
        assert partition.offline is None
        assert not (world.logs / FILE_NAME).exists()
    assert adopted == [False]


async def test_a_moved_replica_is_named_where_it_is(tmp_path: Path) -> None:
    logs = [tmp_path / name for name in "ab"]
    async with running(tmp_path, log_dirs=",".join(map(str, logs))) as broker:
        partition = await whole(broker)
        key, source = key_of(partition), partition.log_dir
        (target,) = (log_dir for log_dir in broker.log_dirs if log_dir is not source)
        await broker.dir_moves.move([(partition, target)])
        await until(lambda: read_names(target.path) == {key})
        assert read_names(source.path) == frozenset()


async def test_of_two_of_a_name_none_is_whole(tmp_path: Path, adopted: list[bool]) -> None:
    """A power loss has undone that the directory it was moved from went."""
    logs = [tmp_path / name for name in "ab"]
    dirs = ",".join(map(str, logs))
    async with running(tmp_path, log_dirs=dirs) as broker:
        partition = await whole(broker)
        source = partition.log_dir.path
    (other,) = (path for path in logs if path != source)
    shutil.copytree(source / "t-0", other / "t-0")
    async with running(tmp_path, log_dirs=dirs) as broker:
        await led(broker, 1)
    assert adopted == [False]


async def test_a_replica_that_leaves_is_not_named_any_more(tmp_path: Path) -> None:
    async with running(tmp_path) as broker:
        partition = await whole(broker)
        (log_dir,) = broker.log_dirs
        broker.replicas._drop(partition)
        await until(lambda: read_names(log_dir.path) == frozenset())


def test_a_file_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    write_names(tmp_path, {"b-1", "a-0"})
    path = tmp_path / FILE_NAME
    assert path.read_text() == '{"format_version":1,"replicas":["a-0","b-1"]}'
    assert read_names(tmp_path) == {"a-0", "b-1"}
    path.write_text('{"format_version":2,"replicas":[]}')
    with pytest.raises(UserError, match="format version 2"):
        read_names(tmp_path)
    path.write_text("\0\0")
    assert read_names(tmp_path) == frozenset()
