"""A consumer's session over a whole broker: what costs nothing while nothing happens, and that nothing is missed."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.unit.broker.test_config_effects import create, running
from tests.unit.broker.test_handlers import call, fetch_of, fill, part, record_batch, rows_of, settled, start
from tierlog.broker.fetch.consumer_fetch import ConsumerSide
from tierlog.broker.replicas.partition import Partition
from tierlog.wire.messages.fetch import FetchRequest, ForgottenTopic

MANY = 30


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The partitions that are looked at, from now on."""
    found: list[int] = []
    read_one = ConsumerSide.read_one

    def count(self: ConsumerSide, read: object, remaining: int) -> int:
        found.append(read.asked.partition)  # type: ignore[attr-defined]
        return read_one(self, read, remaining)  # type: ignore[arg-type]

    monkeypatch.setattr(ConsumerSide, "read_one", count)
    return found


def waiting_at(partitions: list[Partition]) -> list[int]:
    """How many wait at each."""
    return [len(partition.parked) for partition in partitions]


async def test_a_quiet_session_is_not_looked_at(tmp_path: Path, looks: list[int]) -> None:
    async with running(tmp_path) as broker:
        partitions = await create(broker, MANY, flush_mode="os")
        opened = await call(broker, fetch_of(*map(part, range(MANY)), max_wait_ms=0, session_epoch=0), 12)

        def again(epoch: int, max_wait_ms: int = 0) -> FetchRequest:
            return fetch_of(session_id=opened.session_id, session_epoch=epoch, max_wait_ms=max_wait_ms)

        assert sorted(looks) == list(range(MANY))
        await call(broker, again(1), 12)  # the first that need not name them
        looks.clear()
        assert list(rows_of(await call(broker, again(2), 12))) == []
        assert looks == []
        # A change is looked at once, whether a fetch waits or not.
        await fill(broker, (7, record_batch()))
        answer = await call(broker, again(3), 12)
        assert [row.partition_index for row in rows_of(answer)] == looks == [7]
        answer = await call(
            broker, fetch_of(part(7, 1), session_id=opened.session_id, session_epoch=4, max_wait_ms=0), 12
        )
        assert list(rows_of(answer)) == []
        looks.clear()
        waiting = start(broker, again(5, 60_000), 12)
        assert waiting_at(partitions) == [1] * MANY
        await fill(broker, (3, record_batch()), (5, record_batch()))
        answer = await asyncio.wait_for(settled(waiting), 10)
        assert {row.partition_index for row in rows_of(answer)} == set(looks) == {3, 5}
        # What has left the session is not waited at, and the end of the session leaves nothing behind.
        request = again(6)
        request.topics = []
        request.forgotten_topics_data = [ForgottenTopic(topic="t", partitions=[0, 1, 2, 3])]
        await call(broker, request, 12)
        assert waiting_at(partitions)[:4] == [0] * 4
        assert sum(waiting_at(partitions)) <= MANY - 4
        await call(broker, fetch_of(session_id=opened.session_id, max_wait_ms=0), 12)
        assert sum(waiting_at(partitions)) == 0
