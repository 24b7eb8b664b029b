"""The timer of waits that end before their time nearly always."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.fetch_rounds import SteppedLoop
from tierlog.broker.work.lazy_timer import LONGEST_S, NEVER_S, LazyTimer


async def test_it_calls_when_it_is_due_and_sets_few_timers() -> None:
    stepped: Any = SteppedLoop(asyncio.get_running_loop())
    called: list[float] = []
    timer = LazyTimer(stepped, lambda: called.append(stepped.now_s))
    for step in range(100):
        timer.set(stepped.now_s + 0.5)
        assert len(stepped.timers) == 1, step
        stepped.pass_time(0.01)
    assert called == []
    due_s = timer.due_s
    while stepped.now_s < due_s + 0.1:
        stepped.pass_time(0.01)
    assert len(called) == 1
    assert due_s <= called[0] < due_s + 0.011


async def test_an_earlier_time_counts_and_an_end_too() -> None:
    stepped: Any = SteppedLoop(asyncio.get_running_loop())
    called: list[float] = []
    timer = LazyTimer(stepped, lambda: called.append(stepped.now_s))
    timer.set(stepped.now_s + 1_000_000)
    assert stepped.timers[-1].at_s <= stepped.now_s + LONGEST_S
    timer.set(stepped.now_s + 0.1)
    stepped.pass_time(0.1)
    assert len(called) == 1
    timer.set(stepped.now_s + 0.1)
    timer.due_s = NEVER_S
    stepped.pass_time(2 * LONGEST_S)
    assert len(called) == 1
    assert stepped.timers == []
