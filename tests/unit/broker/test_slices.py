"""Long work in slices."""

from __future__ import annotations

import asyncio
import gc
import time

import pytest

from tierlog.broker.work import slices
from tierlog.broker.work.large_work import NEVER, LargeWork
from tierlog.broker.work.slices import Slices, Steps, Unfinished, complete, in_slices


def busy(steps: int, seconds: float, done: list[str], name: str) -> Steps[str]:
    for _ in range(steps):
        until_s = time.perf_counter() + seconds
        while time.perf_counter() < until_s:
            pass
        yield
    done.append(name)
    return name


async def test_short_work_is_done_at_once() -> None:
    assert Slices(asyncio.get_running_loop()).at_once(busy(3, 0, [], "short")) == "short"


async def test_the_works_of_one_turn_share_its_time() -> None:
    shared = Slices(asyncio.get_running_loop())
    pieces = [busy(3, slices.AT_ONCE_S / 2, [], "x") for _ in range(20)]
    started_s = time.thread_time()
    assert all(isinstance(shared.at_once(steps), Unfinished) for steps in pieces)
    # The first takes it all, each other goes one step.
    assert time.thread_time() - started_s < 30 * slices.AT_ONCE_S


async def test_others_run_between_the_slices() -> None:
    shared = Slices(asyncio.get_running_loop())
    done: list[str] = []
    long = asyncio.ensure_future(shared.run(busy(40, slices.SLICE_S / 2, done, "long")))
    short = asyncio.ensure_future(shared.run(busy(10, slices.SLICE_S / 2, done, "short")))
    turns = 0
    while not long.done():
        await asyncio.sleep(0)
        turns += 1
    assert done == ["short", "long"], "a short one need not wait for the end of a long one"
    assert await short == "short"
    assert turns >= 10
    assert len(shared) == 0


async def test_only_so_many_are_begun() -> None:
    shared = Slices(asyncio.get_running_loop())
    begun: list[int] = []

    def steps(n: int) -> Steps[None]:
        begun.append(n)
        yield from busy(3, slices.SLICE_S, [], "x")

    works = [shared.later(steps(n)) for n in range(slices.IN_TURN + 3)]
    for _ in range(slices.IN_TURN + 1):
        await asyncio.sleep(0)
    assert begun == list(range(slices.IN_TURN))
    while not works[-1].done():
        await asyncio.sleep(0)
    assert begun == list(range(slices.IN_TURN + 3))


async def test_cancelled_work_is_dropped() -> None:
    shared = Slices(asyncio.get_running_loop())
    done: list[str] = []
    first = shared.later(busy(4, slices.SLICE_S, done, "first"))
    second = shared.later(busy(4, slices.SLICE_S, done, "second"))
    third = shared.later(busy(4, slices.SLICE_S, done, "third"))
    second.cancel()
    await asyncio.sleep(0)
    first.cancel()
    while not third.done():
        await asyncio.sleep(0)
    assert done == ["third"]


async def test_an_error_is_that_of_its_work() -> None:
    def failing() -> Steps[None]:
        yield
        raise ValueError("no")

    shared = Slices(asyncio.get_running_loop())
    with pytest.raises(ValueError, match="no"):
        await shared.run(failing())
    broken = shared.later(failing())
    sound = shared.later(busy(1, 0, [], "sound"))
    while not sound.done():
        await asyncio.sleep(0)
    assert isinstance(broken.exception(), ValueError)
    assert sound.result() == "sound"


async def test_going_over_items_lets_others_run() -> None:
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.ensure_future(count())
    async for _ in in_slices(range(20)):
        complete(busy(1, slices.SLICE_S / 2, [], "x"))
    counting.cancel()
    assert turns >= 5


def test_the_collector_leaves_old_objects_alone_while_large_work_lives() -> None:
    before = gc.get_threshold()
    one, two = LargeWork(), LargeWork()
    del one
    assert gc.get_threshold()[2] == NEVER
    del two
    assert gc.get_threshold() == before
