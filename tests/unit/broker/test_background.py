"""Nothing that runs beside the requests ends unnoticed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from tests.unit.broker.test_config_effects import append, create, running
from tierlog.broker import bugs
from tierlog.broker.node import Broker
from tierlog.broker.work import background as module
from tierlog.broker.work.background import Background, Ended


@pytest.fixture(autouse=True)
def _bugs_are_survived(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(bugs.FATAL_VARIABLE, raising=False)
    monkeypatch.setattr(module, "PAUSE_MIN_S", 0.001)


@pytest.fixture
async def fatal() -> list[BaseException]:
    return []


@pytest.fixture
async def background() -> AsyncIterator[Background]:
    background = Background()
    yield background
    await background.close()
    assert not background.kept


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.001)


async def raises() -> None:
    raise ValueError("a bug")


async def ends() -> None:
    pass


async def waits_for_what_is_cancelled() -> None:
    future = asyncio.get_running_loop().create_future()
    future.cancel()
    await future


@pytest.mark.parametrize("run", [raises, ends, waits_for_what_is_cancelled])
@pytest.mark.parametrize("is_vital", [False, True])
async def test_what_is_to_run_for_ever(
    background: Background, fatal: list[BaseException], run: module.Run, is_vital: bool
) -> None:
    runs = 0

    async def counted() -> None:
        nonlocal runs
        runs += 1
        await run()

    kept = background.forever("x", counted, vital=fatal.append if is_vital else None)
    if is_vital:
        await until(lambda: kept.is_over)
        assert (runs, len(fatal)) == (1, 1)
    else:
        await until(lambda: runs >= 3)
        assert not fatal
    assert background.failures["x"] >= 1
    await kept.stop()
    assert kept not in background.kept


@pytest.mark.parametrize("is_vital", [False, True])
async def test_whoever_cancels_it_from_outside_is_noticed(
    background: Background, fatal: list[BaseException], is_vital: bool
) -> None:
    runs = 0

    async def waits() -> None:
        nonlocal runs
        runs += 1
        await asyncio.Event().wait()

    kept = background.forever("x", waits, vital=fatal.append if is_vital else None)
    await until(lambda: runs == 1)
    assert kept.task is not None
    kept.task.cancel()
    if is_vital:
        await until(lambda: bool(fatal))
        assert isinstance(fatal[0], Ended)
    else:
        await until(lambda: runs == 2)
    assert background.failures == {"x": 1}
    await kept.stop()
    assert runs == (1 if is_vital else 2)


async def test_a_job_is_run_until_it_is_done(background: Background) -> None:
    runs = 0

    async def fails_twice() -> None:
        nonlocal runs
        runs += 1
        if runs < 3:
            raise ValueError("a bug")

    await background.job("x", fails_twice).wait()
    assert (runs, background.failures["x"]) == (3, 2)


async def test_what_is_asked_for_is_its_askers(background: Background) -> None:
    async def answer() -> int:
        return 7

    assert await background.ask("x", answer()) == 7
    with pytest.raises(ValueError, match="a bug"):
        await background.ask("x", raises())
    assert not background.failures


async def test_stopping_is_no_failure(background: Background, fatal: list[BaseException]) -> None:
    async def waits() -> None:
        await asyncio.Event().wait()

    kept = [background.forever("a", waits, vital=fatal.append), background.job("b", waits)]
    asked = background.ask("c", waits())
    await asyncio.sleep(0)
    await kept[0].stop()
    await background.close()
    assert asked.cancelled() and kept[1].is_over
    assert not fatal and not background.failures


async def test_no_task_of_a_running_broker_ends_unnoticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each that the broker itself names is cancelled, and raises when it begins again."""
    stopped: list[BaseException] = []
    monkeypatch.setattr(Broker, "fail", lambda self, why: stopped.append(why))
    async with running(tmp_path) as broker:
        owner = broker.background
        names = {kept.name for kept in owner.kept}
        assert {
            "housekeeping",
            "isr changes",
            "cleaner",
            "metadata feed",
            "controller",
            "registration",
        } <= names
        for kept in [kept for kept in owner.kept if kept.vital is None and not kept.ends]:
            original, failed = kept.run, owner.failures[kept.kind]
            kept.run, kept.pause_s = raises, 0.001
            assert kept.task is not None
            kept.task.cancel()
            await until(lambda: owner.failures[kept.kind] >= failed + 3)  # noqa: B023
            kept.run = original
            kept.pause_s = 0.001
            failed = owner.failures[kept.kind]
            await asyncio.sleep(0.05)
            await until(lambda: kept.task is not None and not kept.task.done())  # noqa: B023
        assert not stopped
        (partition,) = await create(broker)
        append(partition)
        for n, kept in enumerate([kept for kept in owner.kept if kept.vital is not None]):
            assert kept.task is not None
            kept.task.cancel()
            await until(lambda: len(stopped) == n + 1)  # noqa: B023
            assert kept.name in str(stopped[n]) and kept.is_over


async def test_a_stop_in_the_pause_between_two_runs(background: Background) -> None:
    kept = background.forever("x", raises)
    kept.pause_s = 600
    await until(lambda: background.failures["x"] == 1)
    async with asyncio.timeout(30):
        await kept.stop()
