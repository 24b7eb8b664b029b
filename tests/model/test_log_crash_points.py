"""A fixed life of a log, stopped at every single system call that changes the disk, and opened again.

Two kinds of stop. *Process*: all that was written is in the files; the call in which it stopped wrote half.
*Power*: besides, what was never synced is cut to a random length (renames and removals count as done).
After each: the log opens, is one contiguous log that holds what was acknowledged (after a power loss:
what was flushed) and goes on. A second life changes the topic's config between its steps; its log is opened under each of
them, since what was right when it was written stays right.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import cycle
from pathlib import Path

import pytest

from tests.e2e.tiered import figure
from tests.unit.log.logs import NOW_MS, FailingFilesystem, batch, config, headers, open_log, read_all
from tests.unit.log.test_append import marker
from tierlog.errors import ErrorCode
from tierlog.log.append import AppendOrigin
from tierlog.log.compaction.output import CleanedSegment
from tierlog.log.log import Log
from tierlog.records.batch import parse_header, walk

# ``make figures`` tries all; the test command tries each stop under fewer configs.
IS_WHOLE = "CRASH_POINTS_WHOLE" in os.environ

TOPIC = config(segment_bytes=420, index_interval_bytes=50)
COMPACT, DELETE = frozenset({"compact"}), frozenset({"delete"})
TOPICS = {
    "delete": TOPIC,
    "compact": replace(TOPIC, cleanup_policy=COMPACT),
    "both": replace(TOPIC, cleanup_policy=COMPACT | DELETE),
    "tiered": replace(TOPIC, remote_storage_enable=True, local_retention_ms=1),
    "acks after the disk": replace(TOPIC, flush_mode="ack"),
}


class Stopped(BaseException):
    """The machine is off."""


class StoppingFilesystem(FailingFilesystem):
    """Stops at call number ``stop_at`` and at every later one."""

    def __init__(self, stop_at: int) -> None:
        super().__init__(self.count)
        self.stop_at = stop_at
        self.calls = 0
        self.half_at = -1
        self.synced: dict[int, int] = {}  # inode -> durable size

    def count(self, name: str) -> int | None:
        self.calls += 1
        if self.calls < self.stop_at:
            return None
        raise Stopped

    def pwrite(self, fd: int, data: bytes | bytearray | memoryview, position: int) -> int:  # type: ignore[override]
        if self.calls + 1 == self.stop_at:
            os.pwrite(fd, memoryview(data)[: len(data) // 2], position)
        return super().pwrite(fd, data, position)

    def fdatasync(self, fd: int) -> None:  # type: ignore[override]
        self.count("fdatasync")  # what the disk would do is told by ``cut_power``
        self.note_synced(fd)

    def fsync(self, fd: int) -> None:  # type: ignore[override]
        self.count("fsync")
        self.note_synced(fd)

    def note_synced(self, fd: int) -> None:
        found = os.fstat(fd)
        self.synced[found.st_ino] = found.st_size

    def cut_power(self, directory: Path, rng: random.Random) -> None:
        for path in sorted(directory.rglob("*")):
            found = path.stat()
            if path.is_file():
                durable = min(self.synced.get(found.st_ino, 0), found.st_size)
                is_whole = path.name == "partition.metadata"
                cut = (
                    rng.choice([durable, found.st_size]) if is_whole else rng.randint(durable, found.st_size)
                )
                os.truncate(path, cut)


class Life:
    """What was asked and acknowledged: ``content``, the batches of the local log."""

    def __init__(self, log_dir: Path, filesystem: StoppingFilesystem) -> None:
        self.log_dir = log_dir
        self.filesystem = filesystem
        self.content: list[bytes] = []
        self.pending: list[list[bytes]] = []  # contents that the running operation may leave
        self.flushed_offset = 0
        self.sequence = 0
        self.log: Log | None = None
        self.steps: Sequence[Callable[[Life, Log], None]] = STEPS

    def live(self) -> None:
        self.log = open_log(self.log_dir, TOPIC, filesystem=self.filesystem)
        for step in self.steps:
            self.pending = []
            step(self, self.log)
            self.pending = []

    def append(self, log: Log, epoch: int, origin: AppendOrigin, records: memoryview) -> None:
        copy = bytearray(records)
        copy[0:8] = log.log_end_offset.to_bytes(8, "big")
        copy[12:16] = epoch.to_bytes(4, "big")
        self.pending = [[*self.content, bytes(copy)]]
        result = log.append_as_leader(records, epoch, NOW_MS, origin)
        assert result.error is ErrorCode.NONE, result
        self.content = self.pending[0]

    def copy(self, log: Log, records: memoryview) -> None:
        self.pending = [[*self.content, bytes(records)]]
        assert log.append_as_follower(records, NOW_MS).error is ErrorCode.NONE
        self.content = self.pending[0]

    def end_offset(self) -> int:
        return parse_header(self.content[-1], 0).next_offset if self.content else 0


def appends(count: int, epoch: int) -> Callable[[Life, Log], None]:
    def step(life: Life, log: Log) -> None:
        for _ in range(count):
            records = batch(2, producer_id=9, sequence=life.sequence, timestamp=NOW_MS + life.sequence)
            life.append(log, epoch, AppendOrigin.CLIENT, records)
            life.sequence += 2

    return step


def aborts(life: Life, log: Log) -> None:
    life.append(log, 3, AppendOrigin.CLIENT, batch(2, producer_id=11, is_transactional=True))
    life.append(log, 3, AppendOrigin.COORDINATOR, marker(is_commit=False))


def flushes(life: Life, log: Log) -> None:
    log.flush()
    life.flushed_offset = log.recovery_point


def rolls(life: Life, log: Log) -> None:
    log.roll(NOW_MS)


def truncates(life: Life, log: Log) -> None:
    keep = len(life.content) - 4
    life.pending = [life.content[:count] for count in range(keep, len(life.content))]
    life.flushed_offset = min(life.flushed_offset, parse_header(life.content[keep], 0).base_offset)
    log.truncate_to(parse_header(life.content[keep], 0).base_offset, NOW_MS)
    life.content = life.content[:keep]
    life.sequence = log.producers.get(9).batches[-1].last_sequence + 1  # type: ignore[union-attr]


def deletes(life: Life, log: Log) -> None:
    first, second = log.sealed_segments()[:2]
    life.pending = [
        [one for one in life.content if parse_header(one, 0).base_offset >= start]
        for start in (first.end_offset, second.end_offset)
    ]
    log.delete_segments_below(second.end_offset, NOW_MS)
    life.content = life.pending[-1]


def compacts(life: Life, log: Log) -> None:
    """Every second batch of three segments goes: two of them become one, in the same swap as the third."""
    sealed = log.sealed_segments()[:3]
    after = [one for one in life.content if parse_header(one, 0).base_offset >= sealed[-1].end_offset]
    kept, groups = [], []
    for group in (sealed[:2], sealed[2:]):
        cleaned = CleanedSegment(life.filesystem, log.directory, group[0].base_offset, 50)
        cleaned.old_base_offsets = [segment.base_offset for segment in group]
        start, end = group[0].base_offset, group[-1].end_offset
        mine = [one for one in life.content if start <= parse_header(one, 0).base_offset < end][1::2]
        assert mine
        for one in mine:
            cleaned.append(memoryview(one))
        cleaned.finish()
        kept += mine
        groups.append(cleaned)
    life.pending = [[*kept, *after]]
    log.replace_segments(groups, NOW_MS)
    life.content = life.pending[0]


def closes(life: Life, log: Log) -> None:
    log.close_clean()
    life.flushed_offset = log.recovery_point


STEPS: list[Callable[[Life, Log], None]] = [
    appends(3, 1),
    flushes,
    appends(5, 1),
    rolls,
    aborts,
    truncates,
    appends(9, 4),
    flushes,
    compacts,
    appends(3, 5),
    deletes,
    appends(2, 6),
    closes,
]


def becomes(name: str) -> Callable[[Life, Log], None]:
    return lambda life, log: log.reconfigure(TOPICS[name])


def compacts_ends(life: Life, log: Log) -> None:
    """Of each but the last sealed segment the first batch stays, of one nothing: holes lie at their ends."""
    for number, segment in enumerate(log.sealed_segments()[:-1]):
        start, end = segment.base_offset, segment.end_offset
        mine = [one for one in life.content if start <= parse_header(one, 0).base_offset < end]
        rest = [one for one in life.content if one not in mine]
        kept = mine[:1] if number != 2 else []
        cleaned = CleanedSegment(life.filesystem, log.directory, start, 50)
        cleaned.old_base_offsets = [start]
        for one in kept:
            cleaned.append(memoryview(one))
        cleaned.finish()
        life.pending = [sorted([*kept, *rest], key=lambda one: parse_header(one, 0).base_offset)]
        log.replace_segments([cleaned], NOW_MS)
        life.content = life.pending[0]


def copies_holes(life: Life, log: Log) -> None:
    """What a follower gets from a leader that has compacted: one batch in two is not there."""
    for _ in range(9):
        end = log.log_end_offset
        life.copy(log, batch(2, base_offset=end + 2, leader_epoch=8, timestamp=NOW_MS + end))


def loses_start(life: Life, log: Log) -> None:
    """As local retention does."""
    end = log.sealed_segments()[3].end_offset
    ends = [segment.end_offset for segment in log.sealed_segments()[:4]]
    life.pending = [
        [one for one in life.content if parse_header(one, 0).base_offset >= start] for start in ends
    ]
    log.delete_segments_below(end, NOW_MS)
    life.content = life.pending[-1]


CHANGING_STEPS: list[Callable[[Life, Log], None]] = [
    appends(9, 1),
    becomes("compact"),
    appends(9, 2),
    flushes,
    compacts_ends,
    appends(3, 3),
    rolls,
    becomes("delete"),
    appends(2, 4),
    copies_holes,
    becomes("acks after the disk"),
    flushes,
    copies_holes,
    becomes("tiered"),
    loses_start,
    becomes("both"),
    copies_holes,
    rolls,
    becomes("delete"),
    copies_holes,
]


def run_until(log_dir: Path, stop_at: int, steps: Sequence[Callable[[Life, Log], None]] = STEPS) -> Life:
    life = Life(log_dir, StoppingFilesystem(stop_at))
    life.steps = steps
    try:
        life.live()
    except Stopped:
        assert life.filesystem.calls >= stop_at
    if life.log is not None:
        life.log.close_abruptly()
    return life


def check(life: Life, *, power: bool) -> None:
    log = open_log(life.log_dir, TOPIC, recovery_point=life.flushed_offset)
    # A power loss may take the middle of what was never flushed: then the replica says so.
    assert power or not log.is_lossy, log.lossy_reason
    found = read_all(log)
    allowed = [life.content, *life.pending]
    if power:
        # Any end at or behind the flushed point.
        allowed += [
            content[:count]
            for content in list(allowed)
            for count in range(len(content))
            if not content[:count] or parse_header(content[count - 1], 0).next_offset >= life.flushed_offset
        ]
        assert log.log_end_offset >= life.flushed_offset
    assert found in [b"".join(content) for content in allowed]
    for segment in log.sealed_segments():
        assert segment.log_path.stat().st_size == segment.size_bytes
    end_offset = log.log_end_offset
    assert log.latest_epoch == (headers(found)[-1].partition_leader_epoch if found else log.latest_epoch)
    for header in headers(found):
        located = log.locate(header.base_offset, 1, end_offset)
        assert located is not None
        assert parse_header(log.read(located), 0).base_offset == header.base_offset
    known = log.producers.get(9)
    next_sequence = known.batches[-1].last_sequence + 1 if known and known.batches else 0
    result = log.append_as_leader(batch(2, producer_id=9, sequence=next_sequence), 9, NOW_MS)
    assert (result.error, result.base_offset) == (ErrorCode.NONE, end_offset)
    log.close_abruptly()


@pytest.fixture(scope="module")
def calls_count(tmp_path_factory: pytest.TempPathFactory) -> int:
    life = run_until(tmp_path_factory.mktemp("whole"), 1 << 30)
    check(life, power=False)
    assert life.filesystem.calls > 100
    return life.filesystem.calls


def directories(tmp_path: Path, count: int) -> list[Path]:
    found = [tmp_path / str(number) for number in range(1, count + 1)]
    for path in found:
        path.mkdir()
    return found


def test_every_stop_of_the_process(tmp_path: Path, calls_count: int) -> None:
    for stop_at, log_dir in enumerate(directories(tmp_path, calls_count), 1):
        life = run_until(log_dir, stop_at)
        check(life, power=False)


def test_every_stop_of_the_power(tmp_path: Path, calls_count: int) -> None:
    rng = random.Random(7)
    for stop_at, log_dir in enumerate(directories(tmp_path, calls_count), 1):
        life = run_until(log_dir, stop_at)
        life.filesystem.cut_power(log_dir, rng)
        check(life, power=True)


def test_a_stop_while_opening_again(tmp_path: Path, calls_count: int) -> None:
    """Recovery itself may be interrupted anywhere."""
    for stop_at, log_dir in enumerate(directories(tmp_path, calls_count), 1):
        if stop_at % 7:
            continue
        life = run_until(log_dir, stop_at)
        for again in range(1, 40):
            try:
                open_log(
                    log_dir, TOPIC, recovery_point=life.flushed_offset, filesystem=StoppingFilesystem(again)
                ).close_abruptly()
            except Stopped:
                continue
            break
        check(life, power=False)


def check_changed(life: Life, topic: str, *, power: bool) -> None:
    """``recovery_point`` as a checkpoint of some time ago has it, and as it is: nothing goes, no offset comes twice."""
    log = open_log(life.log_dir, TOPICS[topic], recovery_point=life.flushed_offset)
    found = [bytes(one) for one in split(read_all(log))]
    allowed = [life.content, *life.pending]
    end_offsets = [parse_header(each[-1], 0).next_offset if each else 0 for each in allowed]
    if power:
        kept = range(log.local_log_start_offset, life.flushed_offset)
        assert any(
            is_subsequence(found, each)
            and set(found) >= {one for one in each if parse_header(one, 0).base_offset in kept}
            for each in allowed
        )
        assert log.log_end_offset >= life.flushed_offset
    else:
        assert not log.is_lossy, log.lossy_reason
        assert found in allowed
        assert log.log_end_offset >= end_offsets[allowed.index(found)]
    end_offset = log.log_end_offset
    result = log.append_as_leader(batch(2), 9, NOW_MS)
    assert (result.error, result.base_offset) == (ErrorCode.NONE, end_offset)
    log.truncate_to(end_offset, NOW_MS)
    log.close_abruptly()


def split(data: bytes) -> list[bytes]:
    return [data[at : at + header.size_bytes] for at, header in walk(data)]


def is_subsequence(some: list[bytes], of: list[bytes]) -> bool:
    rest = iter(of)
    return all(one in rest for one in some)


@pytest.fixture(scope="module")
def changing_calls_count(tmp_path_factory: pytest.TempPathFactory) -> int:
    life = run_until(tmp_path_factory.mktemp("whole"), 1 << 30, CHANGING_STEPS)
    for topic in TOPICS:
        check_changed(life, topic, power=False)
    assert life.filesystem.calls > 200
    return life.filesystem.calls


def test_every_stop_of_a_process_across_config_changes(tmp_path: Path, changing_calls_count: int) -> None:
    topics = cycle(TOPICS)
    for stop_at, log_dir in enumerate(directories(tmp_path, changing_calls_count), 1):
        life = run_until(log_dir, stop_at, CHANGING_STEPS)
        if IS_WHOLE or stop_at % 2:
            check_changed(life, next(topics), power=False)
        if IS_WHOLE or not stop_at % 2:
            life.flushed_offset = 0  # the checkpoint is old, or gone
            check_changed(life, next(topics), power=False)
    opened = "two" if IS_WHOLE else "one"
    figure(
        f"{changing_calls_count} crash points across config changes, each opened under {opened} of {len(TOPICS)} configs"
    )


def test_every_stop_of_the_power_across_config_changes(tmp_path: Path, changing_calls_count: int) -> None:
    rng, topics = random.Random(11), cycle(TOPICS)
    for stop_at, log_dir in enumerate(directories(tmp_path, changing_calls_count), 1):
        if stop_at % 3 and not IS_WHOLE:
            continue
        life = run_until(log_dir, stop_at, CHANGING_STEPS)
        life.filesystem.cut_power(log_dir, rng)
        check_changed(life, next(topics), power=True)
