"""Group commit: everybody who asked is told, errors go to those they hit, and a stop waits for the last round."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tierlog.broker.disk.flusher import SYNCFS_FROM_FILES, Flusher, Plan, Planned
from tierlog.errors import StorageError


class FakePlan:
    def __init__(self, fails: bool) -> None:
        self.fails = fails

    def run(self) -> None:
        if self.fails:
            raise StorageError("EIO")


class FakePartition:
    """Dirty until flushed; asks again from within ``end_flush`` ``again`` times."""

    def __init__(
        self, flusher: Flusher, fails: bool = False, again: int = 0, flush_root: str | None = None
    ) -> None:
        self.flusher = flusher
        self.flush_root = flush_root or flusher.roots[0]
        self.fails = fails
        self.again = again
        self.flushed = 0
        self.errors: list[StorageError] = []

    def begin_flush(self) -> Plan | None:
        return FakePlan(self.fails)

    def end_flush(self, plan: Plan) -> None:
        self.flushed += 1
        if self.again:
            self.again -= 1
            self.flusher.request(self)

    def fail_flush(self, error: StorageError) -> None:
        self.errors.append(error)


def flusher(tmp_path: Path, rounds: list[int]) -> Flusher:
    class Counted(Flusher):
        def _done(self, group: list[Planned], error: StorageError | None) -> None:
            rounds.append(len(group))
            super()._done(group, error)

    return Counted(asyncio.get_running_loop(), [str(tmp_path)])


async def test_few_and_many_are_flushed(tmp_path: Path) -> None:
    rounds: list[int] = []
    under_test = flusher(tmp_path, rounds)
    few = [FakePartition(under_test) for _ in range(2)]
    for partition in few:
        under_test.request(partition)
        under_test.request(partition)
    while sum(p.flushed for p in few) < 2:
        await asyncio.sleep(0)
    assert rounds == [1, 1]
    many = [FakePartition(under_test) for _ in range(SYNCFS_FROM_FILES)]
    for partition in many:
        under_test.request(partition)
    await under_test.drain()
    assert [p.flushed for p in many] == [1] * SYNCFS_FROM_FILES
    assert rounds == [1, 1, SYNCFS_FROM_FILES]


async def test_an_error_reaches_the_one_it_hit(tmp_path: Path) -> None:
    under_test = flusher(tmp_path, [])
    good, bad = FakePartition(under_test), FakePartition(under_test, fails=True)
    under_test.request(good)
    under_test.request(bad)
    await under_test.drain()
    assert (good.flushed, good.errors) == (1, [])
    assert bad.flushed == 0
    assert len(bad.errors) == 1


async def test_asking_from_within_a_round_starts_another_and_drain_waits_for_it(tmp_path: Path) -> None:
    under_test = flusher(tmp_path, [])
    partition = FakePartition(under_test, again=3)
    under_test.request(partition)
    await under_test.drain()
    assert partition.flushed == 4


async def test_a_failing_directory_is_no_other_ones_business(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    roots = [str(tmp_path / name) for name in "ab"]
    for root in roots:
        Path(root).mkdir()
    under_test = Flusher(asyncio.get_running_loop(), roots)
    synced = {descriptor: root for root, descriptor in under_test._dirs.items()}

    def sync(descriptor: int) -> None:
        if synced[descriptor] == roots[0]:
            raise StorageError("EIO")

    monkeypatch.setattr("tierlog.broker.disk.flusher.sync_file_system", sync)
    partitions = [FakePartition(under_test, flush_root=roots[n % 2]) for n in range(2 * SYNCFS_FROM_FILES)]
    for partition in partitions:
        under_test.request(partition)
    await under_test.idle()
    assert [(len(p.errors), p.flushed) for p in partitions] == [(1, 0), (0, 1)] * SYNCFS_FROM_FILES
    await under_test.drain()
