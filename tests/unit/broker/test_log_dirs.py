"""Log directories at the start: which are offline, which are refused, and what a broker does without one of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.unit.broker.test_config_effects import append, create, led, running, until
from tierlog.broker.disk.log_dirs import LOCK_NAME, LogDir, open_log_dirs
from tierlog.broker.disk.opening import found_directories, may_lie_elsewhere
from tierlog.broker.disk.session_file import FILE_NAME
from tierlog.broker.node import Broker
from tierlog.broker.reports.offline_replicas import lost_dir
from tierlog.errors import ErrorCode, UserError
from tierlog.log.files.checkpoints import CLEAN_SHUTDOWN, HIGH_WATERMARKS, META_PROPERTIES
from tierlog.metadata.control.configs import ConfigAlteration, ConfigOp, ConfigOperation
from tierlog.metadata.control.topics import NewTopic
from tierlog.metadata.records import PartitionState


@contextmanager
def opened(*paths: Path) -> Iterator[list[LogDir]]:
    log_dirs = open_log_dirs([str(path) for path in paths], 0)
    try:
        yield log_dirs
    finally:
        for log_dir in log_dirs:
            log_dir.close()


def claimed(path: Path) -> str:
    """A directory of node 1; its uuid."""
    with opened(path) as (log_dir,):
        return log_dir.identify("c", 1)


def in_its_place(path: Path) -> None:
    path.rename(path.with_name("away"))
    path.touch()


def of_no_form(path: Path) -> None:
    (path / META_PROPERTIES).write_text("what is this")


def unreadable(name: str) -> Callable[[Path], None]:
    def spoil(path: Path) -> None:
        (path / name).unlink(missing_ok=True)
        (path / name).mkdir()

    return spoil


def looping(path: Path) -> None:
    path.rename(path.with_name("away"))
    path.symlink_to(path)


@pytest.mark.parametrize(
    ("spoil", "knows_uuid"),
    [
        (in_its_place, False),
        (looping, False),
        (of_no_form, False),
        (unreadable(META_PROPERTIES), False),
        (unreadable(LOCK_NAME), True),
        (unreadable(FILE_NAME), True),
    ],
)
def test_what_cannot_be_used_is_offline(
    tmp_path: Path, spoil: Callable[[Path], None], knows_uuid: bool
) -> None:
    bad, good = tmp_path / "bad", tmp_path / "good"
    uuid = claimed(bad)
    spoil(bad)
    with opened(bad, good) as log_dirs:
        assert [log_dir.is_online for log_dir in log_dirs] == [False, True]
        assert log_dirs[0].why_offline and not log_dirs[0].is_new
        assert log_dirs[0].directory_id == (uuid if knows_uuid else "")
        assert found_directories(log_dirs) == {}
    with pytest.raises(UserError, match=f"cannot use {bad} .*; mend it, or name another directory"):
        open_log_dirs([str(bad)], 0)


@pytest.mark.parametrize("name", [HIGH_WATERMARKS, CLEAN_SHUTDOWN])
def test_what_cannot_be_loaded_is_offline(tmp_path: Path, name: str) -> None:
    bad, good = tmp_path / "bad", tmp_path / "good"
    for path in (bad, good):
        claimed(path)
        (path / "t-0").mkdir()
    unreadable(name)(bad)
    with opened(bad, good) as log_dirs:
        assert found_directories(log_dirs) == {"t-0": (log_dirs[1], good / "t-0")}
        assert [log_dir.is_online for log_dir in log_dirs] == [False, True]


def test_what_the_user_has_to_mend(tmp_path: Path) -> None:
    first, second, third = (tmp_path / name for name in ("a", "b", "c"))
    second.symlink_to(first)
    with pytest.raises(UserError, match=f"{second} and {first} are one directory; name it once"):
        open_log_dirs([str(first), str(second)], 0)
    claimed(first)
    third.mkdir()
    (third / META_PROPERTIES).write_bytes((first / META_PROPERTIES).read_bytes())
    with pytest.raises(UserError, match=f"{third} is a copy of {first}"):
        open_log_dirs([str(first), str(third)], 0)
    with opened(first), pytest.raises(UserError, match="in use by another broker"):
        open_log_dirs([str(tmp_path / "d"), str(first)], 0)
    with opened(first) as (log_dir,):
        with pytest.raises(UserError, match=r"belongs to node\.id 1, this is 2"):
            log_dir.identify("c", 2)
        with pytest.raises(UserError, match=r"belongs to cluster\.id c, this is e"):
            log_dir.identify("e", 1)


@pytest.mark.parametrize(
    ("isr", "elr", "adding", "may"),
    [
        ((1, 2), (), (), True),
        ((2,), (1,), (), True),
        ((2,), (), (), True),  # a copy that was complete once
        ((2,), (), (1,), False),
        ((1, 2), (), (1,), True),
        ((), (2,), (1,), False),
        ((), (), (1,), True),
    ],
)
def test_who_may_lie_in_a_directory_that_is_missing(
    isr: tuple[int, ...], elr: tuple[int, ...], adding: tuple[int, ...], may: bool
) -> None:
    leader = isr[-1] if isr else -1
    state = PartitionState(
        leader=leader, leader_epoch=0, isr=isr, replicas=(1, 2), min_isr=2, elr=elr, adding=adding
    )
    assert may_lie_elsewhere(state, 1) is may


# -- a broker


def two(directory: Path) -> dict[str, str]:
    return {
        "log_dirs": f"{directory / 'a'},{directory / 'b'}",
        "metadata_store": f"sqlite:{directory / 'metadata.db'}",
        "replica_high_watermark_checkpoint_interval_ms": "50",
    }


def offline_dirs(broker: Broker) -> tuple[str, ...]:
    registration = broker.feed.image.brokers[1].registration
    assert registration is not None
    return registration.offline_dirs


def leaders(broker: Broker) -> list[int]:
    topic = broker.feed.image.topic("t")
    assert topic is not None
    return [topic.partitions[index].leader for index in range(2)]


@pytest.mark.parametrize(("spoil", "knows_uuid"), [(in_its_place, False), (unreadable(LOCK_NAME), True)])
async def test_sole_replicas_wait_for_their_directory(
    tmp_path: Path, spoil: Callable[[Path], None], knows_uuid: bool
) -> None:
    async with running(tmp_path, **two(tmp_path)) as broker:
        for partition in await create(broker, 2):
            append(partition)
        lost = next(p.topic_partition.partition for p in broker.replicas if p.log_dir is broker.log_dirs[0])
        uuid = broker.log_dirs[0].directory_id
    spoil(tmp_path / "a")

    for _ in range(2):
        async with running(tmp_path, **two(tmp_path)) as broker:
            assert [log_dir.is_online for log_dir in broker.log_dirs] == [False, True]
            assert broker.replicas.by_name("t", lost) is ErrorCode.KAFKA_STORAGE_ERROR
            await until(lambda: leaders(broker) == [-1 if n == lost else 1 for n in range(2)])
            assert offline_dirs(broker) == ((uuid,) if knows_uuid else ()) + (lost_dir(1),)
            assert not (tmp_path / "b" / f"t-{lost}").exists()

    if (tmp_path / "a").is_dir():
        (tmp_path / "a" / LOCK_NAME).rmdir()
    else:
        (tmp_path / "a").unlink()
        (tmp_path / "away").rename(tmp_path / "a")
    async with running(tmp_path, **two(tmp_path)) as broker:
        partitions = await led(broker, 2)
        assert [partition.log.log_end_offset for partition in partitions] == [1, 1]
        assert offline_dirs(broker) == ()


@pytest.mark.parametrize("is_emptied", [False, True])
async def test_what_lay_in_a_directory_that_is_named_no_more_is_lost(
    tmp_path: Path, is_emptied: bool
) -> None:
    places = two(tmp_path)
    async with running(tmp_path, **places) as broker:
        for partition in await create(broker, 2):
            append(partition)
        source, target = broker.log_dirs
        moving = [(partition, target) for partition in broker.replicas.in_log_dir(source)]
        if is_emptied:
            await broker.dir_moves.move(moving)
            await until(lambda: len(broker.replicas.in_log_dir(target)) == 2)
            await led(broker, 2)
    in_its_place(tmp_path / "a")
    async with running(tmp_path, **places) as broker:
        assert broker.replicas.lossy_count == 0, "it may come back"
    async with running(tmp_path, **places | {"log_dirs": str(tmp_path / "b")}) as broker:
        partitions = await led(broker, 2)
        assert broker.replicas.lossy_count == (0 if is_emptied else 1)
        assert sum(partition.log.log_end_offset for partition in partitions) == (2 if is_emptied else 1)
    async with running(tmp_path, **places | {"log_dirs": str(tmp_path / "b")}) as broker:
        assert broker.replicas.lossy_count == 0


async def test_the_controller_is_told_of_cordoned_directories(tmp_path: Path) -> None:
    async def cordon(broker: Broker, value: str) -> None:
        alteration = ConfigAlteration(
            "broker", "1", (ConfigOperation("cordoned.log.dirs", ConfigOp.SET, value),)
        )
        (result,) = await broker.services.admin.alter_configs([alteration])
        assert result.error is ErrorCode.NONE

    def told(broker: Broker) -> tuple[str, ...]:
        registration = broker.feed.image.brokers[1].registration
        assert registration is not None
        return registration.cordoned_dirs

    first = str(tmp_path / "a")
    async with running(tmp_path, **two(tmp_path), cordoned_log_dirs=first) as broker:
        uuids = [log_dir.directory_id for log_dir in broker.log_dirs]
        assert told(broker) == (uuids[0],)
        await cordon(broker, f"{first},{tmp_path / 'b'}")
        await until(lambda: told(broker) == tuple(uuids))
        (refused,) = await broker.services.admin.create_topics([NewTopic("t", 1, 1)])
        assert refused.error is ErrorCode.INVALID_REPLICATION_FACTOR
        assert "all their log directories cordoned" in (refused.message or "")
    async with running(tmp_path, **two(tmp_path)) as broker:
        assert told(broker) == tuple(uuids), "the dynamic config holds from the start"
        await cordon(broker, first)
        await until(lambda: told(broker) == (uuids[0],))
        assert [p.log_dir for p in await create(broker)] == [broker.log_dirs[1]]
