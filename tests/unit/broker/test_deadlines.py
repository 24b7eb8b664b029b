"""The wheel of deadlines: nobody early, nobody forgotten, one timer, and nothing left of those that were answered."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st

from tierlog.broker.work.deadlines import SLOT_S, Deadlines


class Clock:
    """A loop with a clock that is moved by hand."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.timers: list[tuple[float, Callable[[], None]]] = []

    def time(self) -> float:
        return self.now_s

    def call_at(self, at_s: float, callback: Callable[[], None]) -> SimpleNamespace:
        timer = (at_s, callback)
        self.timers.append(timer)
        return SimpleNamespace(cancel=lambda: self.timers.remove(timer))

    def advance(self, seconds: float) -> None:
        self.now_s += seconds
        while due := sorted(each for each in self.timers if each[0] <= self.now_s):
            self.timers.remove(due[0])
            due[0][1]()


class Request:
    def __init__(self, clock: Clock, timeout_s: float) -> None:
        self.at_s = clock.now_s + timeout_s
        self.told_s: float | None = None
        self.slot = 0
        self._clock = clock

    def on_deadline(self) -> None:
        assert self.told_s is None
        self.told_s = self._clock.now_s


timeouts = st.one_of(st.floats(0, 1), st.sampled_from([-1.0, 0.0, 30.0, 2.0**31 / 1000]))
steps = st.lists(
    st.one_of(
        timeouts.map(lambda s: ("add", s)),
        st.integers(0, 100).map(lambda n: ("answer", n)),
        st.floats(0, 2).map(lambda s: ("wait", s)),
    ),
    max_size=40,
)


@given(steps)
def test_who_is_told_and_when(steps: list[tuple[str, Any]]) -> None:
    clock = Clock()
    deadlines = Deadlines(cast(Any, clock))
    waiting: list[Request] = []
    for step, value in steps:
        if step == "add":
            request = Request(clock, value)
            request.slot = deadlines.add(request, request.at_s)
            waiting.append(request)
        elif step == "answer" and waiting:
            gone = waiting.pop(value % len(waiting))
            deadlines.discard(gone, gone.slot)
            deadlines.discard(gone, gone.slot)
        elif step == "wait":
            clock.advance(value)
        assert len(clock.timers) <= 1
        for request in waiting:
            if request.told_s is None:
                assert clock.now_s <= request.at_s + SLOT_S + 1e-6 or step != "wait"
            else:
                assert request.told_s >= request.at_s
        waiting = [request for request in waiting if request.told_s is None]
        assert len(deadlines) == len(waiting)
        assert len(deadlines._slots) <= len(waiting), "no slot without one"
        assert clock.timers or not waiting


def test_many_that_come_and_go_need_few_timers() -> None:
    clock = Clock()
    deadlines = Deadlines(cast(Any, clock))
    made = 0
    arm = clock.call_at

    def counted(at_s: float, callback: Callable[[], None]) -> SimpleNamespace:
        nonlocal made
        made += 1
        return arm(at_s, callback)

    clock.call_at = counted  # type: ignore[method-assign]
    for _ in range(10_000):
        request = Request(clock, 30.0)
        request.slot = deadlines.add(request, request.at_s)
        clock.advance(0.01)
        deadlines.discard(request, request.slot)
        assert len(deadlines) == 0
    assert made <= 5, "one for each time that it rings"
