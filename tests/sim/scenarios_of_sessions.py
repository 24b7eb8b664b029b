"""Directed scenarios about brokers that lose their registration, or the answer to what they wished. As in ``scenarios``:
clean with the production rules, broken with the mutant of ``KEPT``."""

from __future__ import annotations

from collections.abc import Callable

from tests.sim.store import LEASE_MS
from tests.sim.story import Story


def later(s: Story, ms: int, *alive: int) -> None:
    """Time goes on; these keep their sessions alive."""
    s.world.now_ms += ms
    for b in alive:
        s.broker(b).keep_alive()


def wish_lost(s: Story, b: int = 3) -> None:
    """The broker wishes something, and neither the transaction nor an answer to it arrives."""
    s.broker(b).cordon()
    (call,) = s.hold_calls()
    assert call.on_answer is not None
    s.world.store._give_up(call)


def wish_fails_once() -> None:
    s = Story()
    wish_lost(s)
    session = s.broker(3).session
    assert session is not None
    assert not session.is_as_wished()
    s.world.converge()


def wish_comes_late() -> None:
    """What was wished first is applied behind what was wished instead."""
    s = Story()
    s.broker(3).cordon()
    (first,) = s.hold_calls()
    s.world.store._give_up(first)
    later(s, 20)
    s.broker(3).cordon()
    s.world.store.settle()
    s.release([first])
    s.world.converge()


def registered_anew_at_once() -> None:
    """The controller has dealt with a new registration before its broker has seen that."""
    s = Story()
    s.expire(3)
    s.metadata(1)
    s.see(3)
    s.broker(3).serve()
    assert len(s.world.store.calls) == 1
    s.world.store.settle()
    s.metadata(1, rounds=3)
    s.see(3)
    s.world.converge()


def store_away_for_long() -> None:
    """One call fails so often that its backoff without a bound would be longer than anybody's patience."""
    s = Story()
    s.expire(3)
    s.metadata(1)
    s.see(3)
    session = s.broker(3).session
    assert session is not None
    s.world.store.away_until_ms[3] = 10**9
    for _ in range(8):
        due_ms = session.decides.due_ms()
        assert due_ms is not None
        later(s, max(due_ms - s.world.now_ms, 0))
        s.broker(3).serve()
    s.world.converge()


def store_away_while_one_waits() -> None:
    """Broker 3 waits for the session of its machine's last boot; the store, which is away meanwhile, begins it anew."""
    s = Story()
    assert s.world.checker.may_lose_data(s.broker(3))
    s.world.rng.random = lambda: 1.0  # type: ignore[method-assign]
    s.broker(3).end("power loss")
    s.broker(3).start()
    s.broker(3).serve()
    assert s.world.counts["waits for an older session"] == 1
    s.world.store.away_until_ms = dict.fromkeys(s.world.brokers, 5 * LEASE_MS)
    for _ in range(20):
        later(s, LEASE_MS // 4)
        s.broker(3).serve()
        for lease in tuple(s.world.store.memory._leases):
            assert s.world.store.keepalive(lease)
    s.world.converge()


_ALL = (
    wish_fails_once,
    wish_comes_late,
    registered_anew_at_once,
    store_away_for_long,
    store_away_while_one_waits,
)
STORIES: tuple[Callable[[], None], ...] = _ALL
KEPT: dict[str, Callable[[], None]] = {
    "a_wish_is_written_once": wish_fails_once,
    "late_writes_are_not_seen": wish_comes_late,
    "a_new_registration_is_as_wished": registered_anew_at_once,
    "backoff_without_a_bound": store_away_for_long,
    "outages_count_as_waiting": store_away_while_one_waits,
}
