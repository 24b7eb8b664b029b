"""When is the data of the last session known to be whole? The rule, the file, and a broker that lives by them."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.broker.test_config_effects import append, create, led, running, until
from tierlog.broker.disk.log_dirs import LogDir
from tierlog.broker.disk.session_file import (
    FILE_NAME,
    Session,
    cast_doubt,
    mount_identity,
    read_session,
    write_session,
)
from tierlog.broker.disk.session_verdict import Evidence, SessionMarkers, Verdict, judge
from tierlog.broker.node import Broker
from tierlog.broker.process import boot_id
from tierlog.errors import StorageError, UserError
from tierlog.log.files.checkpoints import CLEAN_SHUTDOWN

SESSION = Session("boot", "8:1/30", broker_epoch=40, lossless_since=20, dirs=("d1",))
CRASHED = Evidence(SESSION, None, "boot", "8:1/30")
WHOLE = Verdict(20, False)
UNKNOWN = Verdict(0, False)
LOSSY = Verdict(0, True)


@pytest.mark.parametrize(
    ("evidence", "handled_epoch", "verdict"),
    [
        (CRASHED, 40, WHOLE),
        (CRASHED, 0, WHOLE),
        (CRASHED._replace(boot_id="later"), 40, UNKNOWN),
        (CRASHED._replace(mount="8:1/31"), 40, UNKNOWN),
        (CRASHED._replace(session=replace(SESSION, boot_id=""), boot_id=""), 40, UNKNOWN),
        (CRASHED._replace(session=replace(SESSION, mount=""), mount=""), 40, UNKNOWN),
        # A recovery that has not ended may have cut off what it found damaged.
        (CRASHED._replace(session=replace(SESSION, is_doubtful=True)), 40, LOSSY),
        # A start found data missing, and ended before it could register.
        (CRASHED._replace(session=replace(SESSION, is_lossy=True)), 40, LOSSY),
        (CRASHED._replace(session=replace(SESSION, is_lossy=True), clean_epoch=40), 40, LOSSY),
        (CRASHED._replace(session=replace(SESSION, lossless_since=0)), 40, UNKNOWN),
        (CRASHED._replace(session=None), 40, LOSSY),
        (CRASHED._replace(session=None, clean_epoch=40), 40, LOSSY),
        (CRASHED._replace(clean_epoch=40, boot_id="later"), 40, WHOLE),
        # The mark of another session, which a power loss brought back.
        (CRASHED._replace(clean_epoch=30), 40, UNKNOWN),
        # A copy of the directory from before the last session.
        (CRASHED, 41, LOSSY),
        (CRASHED._replace(clean_epoch=40), 41, LOSSY),
    ],
)
def test_the_verdict_on_one_directory(evidence: Evidence, handled_epoch: int, verdict: Verdict) -> None:
    assert judge([evidence], handled_epoch, 0) == verdict
    assert judge([evidence], handled_epoch, 1) == LOSSY


def test_all_directories_must_be_whole() -> None:
    newer = CRASHED._replace(session=replace(SESSION, lossless_since=30))
    assert judge([CRASHED, newer], 40, 0) == Verdict(30, False)
    assert judge([CRASHED, CRASHED._replace(session=None)], 40, 0) == LOSSY
    assert judge([], 40, 0) == UNKNOWN


def test_the_file(tmp_path: Path) -> None:
    assert read_session(tmp_path) is None
    write_session(tmp_path, SESSION, durable=True)
    assert read_session(tmp_path) == SESSION
    assert json.loads((tmp_path / FILE_NAME).read_text()) == {
        "format_version": 1,
        "boot_id": "boot",
        "mount": "8:1/30",
        "broker_epoch": 40,
        "lossless_since": 20,
        "is_doubtful": False,
        "dirs": ["d1"],
        "is_lossy": False,
    }
    cast_doubt(tmp_path)
    assert read_session(tmp_path) == replace(SESSION, is_doubtful=True)
    for torn in ("", "{", "[1]", '{"format_version":1,"boot":1}', "\0\0\0"):
        (tmp_path / FILE_NAME).write_text(torn)
        assert read_session(tmp_path) is None
    (tmp_path / FILE_NAME).write_text('{"format_version":2}')
    with pytest.raises(UserError, match="format version 2, this tierlog knows 1"):
        read_session(tmp_path)


def test_the_mount_is_the_same_for_all_of_a_file_system(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    assert mount_identity(tmp_path) == mount_identity(tmp_path / "below") != ""
    assert mount_identity(tmp_path) != mount_identity(Path("/proc"))
    assert mount_identity(tmp_path / "none") == ""


def test_a_file_system_that_is_mounted_anew_is_another_one(tmp_path: Path) -> None:
    """The kernel gives the freed number of the first mount to the second."""
    here = Path(__file__).resolve().parents[3]
    disk, other = tmp_path / "disk", tmp_path / "other"
    disk.mkdir()
    other.mkdir()
    ask = (
        "from pathlib import Path; from tierlog.broker.disk.session_verdict import mount_identity; "
        f"print(mount_identity(Path({str(disk)!r})))"
    )
    told = f"{sys.executable} -c {shlex.quote(ask)}"
    mount = f"mount --bind {other} {disk}"
    script = f"{mount} && {told} && umount {disk} && {mount} && {told}"
    command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, cwd=here, check=False)
    if done.returncode:
        pytest.skip(f"nothing can be mounted here: {done.stderr}")
    if "/u" not in done.stdout:
        pytest.skip("this kernel does not name mounts for good (Linux 6.8 does)")
    first, second = done.stdout.split()
    assert first != second


# -- a broker


class World:
    """One broker's directory over several starts."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.logs = directory / "logs"

    @asynccontextmanager
    async def broker(self) -> AsyncIterator[Broker]:
        # Checkpoints come soon, and all that a partition needs to know is said at a clean stop.
        async with running(self.directory, replica_high_watermark_checkpoint_interval_ms="50") as broker:
            yield broker

    def session(self) -> Session:
        session = read_session(self.logs)
        assert session is not None
        return session


def state_of(broker: Broker) -> tuple[bool, int]:
    """(recovering, lossless_since of the registration)."""
    topic = broker.feed.image.topic("t")
    registration = broker.feed.image.brokers[1].registration
    assert topic is not None and registration is not None
    return topic.partitions[0].recovering, registration.lossless_since


async def written(world: World, count: int = 5) -> int:
    """The broker epoch of a session that has appended so many batches and stopped cleanly."""
    async with world.broker() as broker:
        (partition,) = await create(broker)
        for _ in range(count):
            append(partition)
        await until(lambda: partition.high_watermark == count)
        epoch = broker.registration.broker_epoch
        (log_dir,) = broker.log_dirs
        dirs = (log_dir.directory_id,)
        assert world.session() == Session(boot_id(), mount_identity(world.logs), epoch, epoch, dirs=dirs)
        assert broker.registration.lossless_since == epoch
    return epoch


async def test_a_clean_stop_and_a_crash_carry_what_was_known(tmp_path: Path) -> None:
    world = World(tmp_path)
    epoch = await written(world)
    async with world.broker() as broker:
        await led(broker, 1)
        assert state_of(broker) == (False, epoch)
        assert world.session().broker_epoch == broker.registration.broker_epoch > epoch
        assert world.session().lossless_since == epoch
        assert broker.replicas.lossy_count == 0
    (world.logs / CLEAN_SHUTDOWN).unlink()
    async with world.broker() as broker:
        await led(broker, 1)
        assert state_of(broker) == (False, epoch)


def short_file(world: World) -> None:
    """Below the high watermark that was checkpointed; the clean mark stays."""
    (log,) = world.logs.glob("t-0/*.log")
    with log.open("r+b") as file:
        file.truncate(log.stat().st_size // 2)
    for index in world.logs.glob("t-0/*index"):
        index.unlink()


def emptied(world: World) -> None:
    shutil.rmtree(world.logs)
    world.logs.mkdir()


def emptied_partition(world: World) -> None:
    shutil.rmtree(world.logs / "t-0")


def old_copy(world: World) -> None:
    session = world.session()
    write_session(world.logs, replace(session, broker_epoch=session.broker_epoch - 1), durable=False)


@pytest.mark.parametrize(
    ("damage", "lossy_count"),
    [(short_file, 1), (emptied, 1), (emptied_partition, 1), (old_copy, 0)],
)
async def test_what_is_missing_is_said_and_no_clean_stop_vouches_for_it(
    tmp_path: Path, damage: Callable[[World], None], lossy_count: int, capsys: pytest.CaptureFixture[str]
) -> None:
    world = World(tmp_path)
    epoch = await written(world)
    damage(world)
    async with world.broker() as broker:
        (partition,) = await led(broker, 1)
        assert state_of(broker) == (True, 0)
        assert broker.replicas.lossy_count == lossy_count
        assert bool(partition.lossy_reason) is bool(lossy_count)
        said = [line for line in capsys.readouterr().out.splitlines() if "has lost records" in line]
        assert len(said) == lossy_count
        assert all("t-0" in line for line in said)
        # It goes on from what is left, and loses nothing of that.
        append(partition)
        since = broker.registration.broker_epoch
        assert world.session().lossless_since == since > epoch
    async with world.broker() as broker:
        await led(broker, 1)
        assert broker.replicas.lossy_count == 0
        assert state_of(broker)[1] == since


async def test_a_failed_directory_is_no_clean_stop(tmp_path: Path) -> None:
    world = World(tmp_path)
    async with world.broker() as broker:
        await create(broker)
        (log_dir,) = broker.log_dirs
        log_dir.fail(StorageError("pulled"))
    assert world.session().is_doubtful
    assert not (world.logs / CLEAN_SHUTDOWN).exists()
    async with world.broker() as broker:
        await led(broker, 1)
        assert state_of(broker) == (True, 0)


def test_a_start_that_ends_early_keeps_what_it_found(tmp_path: Path) -> None:
    mount = mount_identity(tmp_path)
    write_session(tmp_path, replace(SESSION, boot_id="boot", mount=mount), durable=False)
    log_dir = LogDir(tmp_path, 0)
    start = SessionMarkers([log_dir], "boot")
    start.begin()
    found = read_session(tmp_path)
    assert found is not None and found.is_doubtful  # should it end while logs are recovered
    assert start.judge(40, 0) == WHOLE
    assert read_session(tmp_path) == replace(SESSION, mount=mount)
    again = SessionMarkers([log_dir], "boot")
    again.begin()
    assert again.judge(40, 2) == LOSSY
    for _ in range(2):  # recovery finds nothing any more: what was damaged is cut off
        later = SessionMarkers([log_dir], "another boot")
        later.begin()
        assert later.judge(40, 0) == LOSSY, "a clean stop before the loss does not vouch for it"
    later.registered(41, 41)
    after = SessionMarkers([log_dir], "another boot")
    after.begin()
    assert after.judge(41, 0) == Verdict(41, False)
    log_dir.close()


def test_a_loss_is_kept_in_mind_without_a_file_too(tmp_path: Path) -> None:
    log_dir = LogDir(tmp_path, 0)
    for lossy_count in (1, 0):
        start = SessionMarkers([log_dir], "boot")
        start.begin()
        assert start.judge(0, lossy_count) == LOSSY
    log_dir.close()
