"""ReplyMemory: who gets how much, who waits, who loses."""

from __future__ import annotations

import asyncio

import pytest

from tests.unit.broker.test_config_effects import until
from tierlog.broker.network.reply_memory import PROGRESS_BYTES, ReplyMemory

LIMIT = 8000


class Client:
    """A connection whose client takes what it is told to take."""

    def __init__(self, memory: ReplyMemory, untaken_bytes: int, held_bytes: int = 1000) -> None:
        self.memory = memory
        self.untaken_bytes = untaken_bytes
        self.held_bytes = held_bytes
        self.is_closed = False
        memory.hold(self, held_bytes)

    def close(self) -> None:
        self.is_closed = True
        held_bytes, self.held_bytes = self.held_bytes, 0
        self.memory.let_go(self, held_bytes)


@pytest.fixture
async def memory() -> ReplyMemory:
    return ReplyMemory(asyncio.get_running_loop(), LIMIT)


async def test_half_of_what_is_left_and_never_the_last_eighth(memory: ReplyMemory) -> None:
    assert memory.grant(3500) == 3500
    assert memory.grant(7000) == 3500
    assert memory.shrunk_count == 1
    memory.reserve(6990)
    assert memory.grant(7000) == 5
    assert not memory.is_exhausted, "one batch each, still"
    memory.reserve(1010)
    assert memory.is_exhausted
    assert memory.grant(7000) == 0
    assert memory.grant(7000, least_bytes=100) == 100
    assert memory.grant(50, least_bytes=100) == 50


async def test_those_who_wait_come_in_turn_and_only_while_there_is_memory(memory: ReplyMemory) -> None:
    memory.reserve(LIMIT)
    came: list[int] = []

    def come(number: int) -> None:
        came.append(number)
        memory.reserve(LIMIT // 2)

    for number in range(4):
        memory.wait(number, lambda number=number: come(number))
    memory.forget(1)
    memory.give_back(LIMIT)
    assert came == [], "not in the middle of something"
    await until(lambda: came == [0, 2])
    assert memory.waiting_count == 1
    memory.give_back(LIMIT)
    await until(lambda: came == [0, 2, 3])


async def test_who_has_taken_nothing_for_the_longest_loses(
    memory: ReplyMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tierlog.broker.network.reply_memory.STALLED_S", 0.2)
    monkeypatch.setattr("tierlog.broker.network.reply_memory.LOOK_S", 0.02)
    behind = Client(memory, 0)
    first = Client(memory, 50 * PROGRESS_BYTES)
    await asyncio.sleep(0.01)
    stalled = [Client(memory, 10 * PROGRESS_BYTES) for _ in range(5)]
    slow = Client(memory, 50 * PROGRESS_BYTES)
    await asyncio.sleep(0.3)
    assert memory.closed_count == 0, "nobody waits"
    woken: list[int] = []
    memory.wait("w", lambda: woken.append(1))
    while not woken:
        slow.untaken_bytes -= 2 * PROGRESS_BYTES
        first.untaken_bytes -= 1
        await asyncio.sleep(0.02)
    assert first.is_closed, "a byte now and then is no reading"
    assert not slow.is_closed
    assert not behind.is_closed, "as long as others can go"
    assert sum(client.is_closed for client in stalled) < len(stalled), "no more than are needed"
