"""Large messages are freed in steps."""

from __future__ import annotations

import weakref
from pathlib import Path

import pytest

from tests.unit.broker.test_config_effects import running
from tests.unit.broker.test_handlers import call
from tierlog.broker.fetch.wide_fetch import WideFetch
from tierlog.broker.work.freeing import AT_ONCE, FEW, free, long_lists
from tierlog.broker.work.slices import Steps, complete
from tierlog.wire.messages.fetch import FetchPartition, FetchRequest, FetchResponse, FetchTopic
from tierlog.wire.messages.metadata import MetadataRequest, MetadataRequestTopic
from tierlog.wire.messages.offset_fetch import OffsetFetchRequest, OffsetFetchRequestGroup
from tierlog.wire.messages.offset_fetch import OffsetFetchRequestTopics as Topic


class Name(str):
    """Whose end can be seen."""


def groups(count: int, topics: int) -> OffsetFetchRequest:
    return OffsetFetchRequest(
        groups=[
            OffsetFetchRequestGroup(topics=[Topic(name=str(n)) for n in range(topics)]) for _ in range(count)
        ]
    )


def test_long_lists_are_found_at_every_depth() -> None:
    def sizes(message: OffsetFetchRequest) -> list[int]:
        return sorted(map(len, complete(long_lists(message))))

    assert sizes(OffsetFetchRequest()) == []
    assert sizes(groups(3, FEW)) == []
    assert sizes(groups(1, 5000)) == [5000]
    assert sizes(groups(100, 200)) == [100, *[200] * 100]
    assert sizes(OffsetFetchRequest(groups=None)) == []  # type: ignore[arg-type]


def test_it_is_done_in_steps() -> None:
    message = groups(1, 100_000)
    name = Name("first")
    message.groups[0].topics[0].name = name  # type: ignore[index]
    last = weakref.ref(name)
    del name
    lists = complete(long_lists(message))
    del message
    steps = sum(1 for _ in free(lists))
    assert last() is None
    assert steps >= 100_000 // AT_ONCE


def test_a_list_that_somebody_else_has_stays_as_it_was() -> None:
    topics = [MetadataRequestTopic(name=str(n)) for n in range(1000)]
    complete(free(complete(long_lists(MetadataRequest(topics=topics)))))
    assert [topic.name for topic in topics] == [str(n) for n in range(1000)]


@pytest.mark.parametrize("version", [4, 12])
async def test_a_fetch_of_many_partitions_frees_what_it_was_asked_in_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: int
) -> None:
    """What dies with the Fetch itself would be freed in one step."""
    freed: list[int] = []
    left: list[int] = []

    def counted(lists: list[list[object]]) -> Steps[None]:
        freed.extend(len(elements) for elements in lists)
        return free(lists)

    tell_all = WideFetch._tell_all

    def told(self: WideFetch) -> Steps[FetchResponse]:
        response = yield from tell_all(self)
        left.append(len(self.look.reads) + len(self._consumer.context.partitions))
        return response

    monkeypatch.setattr("tierlog.broker.fetch.wide_fetch.free", counted)
    monkeypatch.setattr(WideFetch, "_tell_all", told)
    async with running(tmp_path) as broker:
        asked = [FetchPartition(partition=number, partition_max_bytes=1) for number in range(2000)]
        request = FetchRequest(
            max_wait_ms=0, session_epoch=-1, topics=[FetchTopic(topic="t", partitions=asked)]
        )
        response = await call(broker, request, version)
        assert sum(len(topic.partitions) for topic in response.responses) == 2000
        assert freed.count(2000) == 2, "what the request names, and what is kept of it"
        assert left == [0]
