"""The process that copies: when it runs, how it steps back, what its death costs, and what it refuses."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
import struct
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from tests.contract.copying.copiers import Rig, rig
from tests.patience import PATIENT_S
from tests.unit.tiering.segments import KEYS, LocalLog, batch, extend, write_source
from tiering import errors
from tiering.copying.port import Target
from tiering.copying.source import CorruptSource, SegmentSource
from tiering.copying.worker.__main__ import NICENESS
from tiering.copying.worker.channel import Channel
from tiering.copying.worker.messages import (
    BODY_BYTES_MAX,
    HEADER_BYTES_MAX,
    TEXT_MAX,
    BadMessage,
    CopyBug,
    CopyWorkerEnded,
    copy_frame,
    error_fields,
    error_of,
    frame,
    header_of,
)
from tiering.errors import Advice, Misconfigured, ObjectStoreError, TieringError
from tiering.objects.classes import StorageClass

MIB = 1 << 20


def target(number: int = 1) -> Target:
    return Target(KEYS, 4, bytes([number] * 16))


def a_segment(directory: Path) -> SegmentSource:
    log = LocalLog()
    extend(log, random.Random(1), 60, payload_bytes=(10, 40_000))
    return write_source(directory / "s.log", log.batches)


def a_large_segment(directory: Path, size_bytes: int) -> SegmentSource:
    path, size, offset, payload = directory / "large.log", 0, 0, bytes(MIB)
    with path.open("wb") as file:
        while size < size_bytes:
            size += file.write(batch(offset, 16, payload))
            offset += 16
    return SegmentSource(str(path), 0, size, 0, offset, ((0, 0),))


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENT_S):
        while not condition():
            await asyncio.sleep(0.005)


def is_alive(pid: int) -> bool:
    """Whether it runs; a zombie has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.fixture
async def one(tmp_path: Path) -> AsyncIterator[Rig]:
    made = rig(tmp_path, "worker")
    yield made
    await made.close()


async def test_it_starts_with_the_first_copy_and_steps_back(one: Rig, tmp_path: Path) -> None:
    assert one.worker.pid is None
    await one.copier.copy(a_segment(tmp_path), target())
    pid = one.worker.pid
    assert pid is not None
    mine = os.getpriority(os.PRIO_PROCESS, 0)
    assert os.getpriority(os.PRIO_PROCESS, pid) == min(19, mine + NICENESS)
    assert len(os.sched_getaffinity(pid)) == 1
    assert "secret" not in Path(f"/proc/{pid}/cmdline").read_text()
    assert str(tmp_path) not in Path(f"/proc/{pid}/cmdline").read_text(), "a URL may hold secrets"
    await one.copier.copy(a_segment(tmp_path), target(2))
    assert one.worker.pid == pid
    await one.copier.close()
    assert not is_alive(pid)
    assert one.deaths == []
    with pytest.raises(CopyWorkerEnded):
        await one.copier.copy(a_segment(tmp_path), target(3))


async def test_an_idle_one_ends_and_is_no_death(tmp_path: Path) -> None:
    one = rig(tmp_path, "worker", idle_s=0.01)
    await one.copier.copy(a_segment(tmp_path), target())
    await until(lambda: one.worker.pid is None)
    await one.copier.copy(a_segment(tmp_path), target(2))
    assert len(one.objects()) == 2
    assert (one.deaths, one.worker.death_count) == ([], 0)
    await one.close()


async def test_a_killed_one_costs_the_copies_under_way(tmp_path: Path) -> None:
    """The large one is in the middle of its upload, its first part written; the small one waits for its bytes."""
    one = rig(tmp_path, "worker", bytes_per_second=9 * MIB)
    source = a_large_segment(tmp_path, 24 * MIB)
    copies = [asyncio.ensure_future(one.copier.copy(source, target()))]
    await until(lambda: any(path.stat().st_size for path in (tmp_path / "objects" / ".tmp").iterdir()))
    one.store.set_rates(1, 0)
    copies.append(asyncio.ensure_future(one.copier.copy(a_segment(tmp_path), target(2))))
    await until(lambda: len(one.taken) >= 3)
    await until(lambda: one.stats["put"].in_flight == 2)
    assert one.worker.pid is not None
    os.kill(one.worker.pid, signal.SIGKILL)
    for copying in copies:
        with pytest.raises(CopyWorkerEnded, match="was ended by SIGKILL"):
            await copying
    assert one.objects() == []
    assert len(list((tmp_path / "objects" / ".tmp").iterdir())) == 1
    assert one.deaths == ["was ended by SIGKILL"]
    assert one.stats["put"].in_flight == 0
    one.store.set_rates(0, 0)
    entry = await one.copier.copy(source, target(3))
    assert [path.stat().st_size for path in one.objects()] == [entry.object_bytes]
    # The file of the dead writer is one that a sweep finds and may remove.
    (left,) = await one.store.list_uploads("")
    await one.store.abort_upload(left)
    assert list((tmp_path / "objects" / ".tmp").iterdir()) == []
    await one.close()


async def test_deaths_in_a_row_make_the_pauses_longer(one: Rig, tmp_path: Path) -> None:
    source, pauses = a_segment(tmp_path), list[float]()
    one.worker._on_death = lambda why, pause_s: pauses.append(pause_s)
    for number in range(3):
        await one.copier.copy(source, target(number))
        pid = one.worker.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        await until(lambda number=number: len(pauses) == number + 1)  # type: ignore[misc]
    assert pauses == [0.1, 0.2, 0.4]
    assert one.worker.death_count == 3


BROKER = """
import asyncio, sys
from pathlib import Path
from tests.contract.copying.copiers import rig
from tests.unit.tiering.test_copy_worker import a_segment, target

async def main(directory):
    one = rig(directory, "worker")
    await one.copier.copy(a_segment(directory), target())
    print(one.worker.pid, flush=True)
    await asyncio.sleep(3600)

asyncio.run(main(Path(sys.argv[1])))
"""


@pytest.mark.parametrize("is_stopped", [False, True])
async def test_it_dies_with_its_broker(tmp_path: Path, is_stopped: bool) -> None:
    """By the end of its input; and where it cannot read that, by the kernel."""
    broker = await asyncio.create_subprocess_exec(
        sys.executable, "-c", BROKER, str(tmp_path), stdout=asyncio.subprocess.PIPE
    )
    assert broker.stdout is not None
    pid = int(await broker.stdout.readline())
    assert is_alive(pid)
    if is_stopped:
        os.kill(pid, signal.SIGSTOP)
    broker.kill()
    await broker.wait()
    await until(lambda: not is_alive(pid))


async def test_it_does_so_many_copies_at_once(tmp_path: Path) -> None:
    one = rig(tmp_path, "worker", bytes_per_second=1, jobs_max=2)
    source, asked = a_segment(tmp_path), list[int]()

    def class_of(timestamp_ms: int, data_bytes: int) -> StorageClass:
        asked.append(data_bytes)
        return StorageClass.STANDARD

    copies = [asyncio.ensure_future(one.copier.copy(source, target(n), class_of)) for n in range(5)]
    await until(lambda: len(asked) == 2)
    assert one.worker._run is not None
    assert one.worker._run.job_count == 2
    assert len(asked) == 2
    one.store.set_rates(0, 0)
    await asyncio.gather(*copies)
    assert (len(one.objects()), len(asked)) == (5, 5)
    await one.close()


async def test_its_memory_does_not_grow_with_the_segment(one: Rig, tmp_path: Path) -> None:
    """Mapped slices count while they are mapped, so this is what the process ever has of both."""
    await one.copier.copy(a_segment(tmp_path), target())
    before = peak_bytes(one)
    entry = await one.copier.copy(a_large_segment(tmp_path, 256 * MIB), target(2))
    assert entry.data_bytes > 256 * MIB
    assert peak_bytes(one) - before < 32 * MIB
    assert peak_bytes(one) < 96 * MIB


def peak_bytes(one: Rig) -> int:
    rows = Path(f"/proc/{one.worker.pid}/status").read_text().splitlines()
    return next(int(row.split()[1]) for row in rows if row.startswith("VmHWM")) * 1024


# -- the protocol


async def a_worker() -> tuple[asyncio.subprocess.Process, Channel]:
    ours, theirs = socket.socketpair()
    with theirs:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "tiering.copying.worker"),
            stdin=theirs.fileno(),
            stderr=asyncio.subprocess.DEVNULL,
        )
    return process, await Channel.over(ours)


@pytest.mark.parametrize("attack", ["prefix", "body", "jobs", "twice", "garbage"])
async def test_a_worker_ends_when_its_bounds_are_attacked(tmp_path: Path, attack: str) -> None:
    process, channel = await a_worker()
    channel.say("open", url=f"dir:{tmp_path}/objects", jobs_max=1)
    source = a_segment(tmp_path)
    match attack:
        case "prefix":
            channel.send(struct.pack("<II", HEADER_BYTES_MAX + 1, 0))
        case "body":
            channel.send(struct.pack("<II", 10, 0xFFFFFFFF))
        case "jobs" | "twice":
            for number in (1, 2 if attack == "jobs" else 1):
                channel.send(copy_frame(number, source, target()))
        case "garbage":
            channel.send(struct.pack("<II", 4, 0) + b"\xff\x00[]")
    async with asyncio.timeout(PATIENT_S):
        assert await process.wait() != 0
    channel.close()


async def test_a_broker_reads_no_message_beyond_the_bounds() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        channel = await Channel.over(ours)
        theirs.sendall(struct.pack("<II", 100, BODY_BYTES_MAX + 1))
        with pytest.raises(BadMessage, match="a message of 100 and"):
            await channel.receive()
        channel.close()


def test_a_segment_with_a_footer_that_nobody_could_read_is_refused() -> None:
    source = SegmentSource("p", 0, 1, 0, 1, (), producer_snapshot=bytes(BODY_BYTES_MAX + 1))
    with pytest.raises(BadMessage):
        copy_frame(1, source, target())


@pytest.mark.parametrize("text", [b"[]", b"{", b'{"say": 1}', b"\xff"])
def test_what_is_no_message(text: bytes) -> None:
    with pytest.raises(BadMessage):
        header_of(text)


KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, TieringError)]


@pytest.mark.parametrize("kind", [*KINDS, CorruptSource, BadMessage], ids=lambda kind: kind.__name__)
def test_errors_come_back_as_they_were(kind: type[TieringError]) -> None:
    made = kind("it said no", key="a/b") if issubclass(kind, ObjectStoreError) else kind("it said no")
    back = error_of(error_fields(made))
    assert (type(back), str(back)) == (kind, str(made))
    assert getattr(back, "key", None) == getattr(made, "key", None)


def test_advice_comes_back_too() -> None:
    made = Misconfigured(Advice("region", "it is in eu-west-1", "set region"), key="k")
    back = error_of(error_fields(made))
    assert isinstance(back, Misconfigured)
    assert (back.advice, str(back)) == (made.advice, str(made))


def test_errors_of_the_disk_and_bugs() -> None:
    back = error_of(error_fields(FileNotFoundError(2, "No such file", "/a/b")))
    assert isinstance(back, FileNotFoundError)
    assert (back.errno, back.filename) == (2, "/a/b")
    bug = error_of(error_fields(ZeroDivisionError("oh"), "in line 7"))
    assert isinstance(bug, CopyBug)
    assert str(bug) == "ZeroDivisionError: oh\nin line 7"


def test_the_longest_error_fits() -> None:
    long = "\U0001f600" * 10 * TEXT_MAX
    for error in (
        Misconfigured(Advice(long, long, long), key=long[:900]),
        CorruptSource(long),
        ZeroDivisionError(long),
        OSError(2, "No such file", "\U0001f600" * 1_000),
    ):
        assert len(frame({"say": "failed", "job": 1, "error": error_fields(error, long)})) < HEADER_BYTES_MAX
