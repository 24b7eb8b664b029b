"""Large messages are freed in steps."""

from __future__ import annotations

import weakref

from tierlog.broker.work.freeing import AT_ONCE, FEW, free, long_lists
from tierlog.broker.work.slices import complete
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
