"""The kernel finds an attribute wherever its type keeps it: in a slot, in a property, in a dictionary, or nowhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.asker import AskerInProcess
from tests.unit.broker.test_config_effects import running, until
from tierlog import kernel
from tierlog.broker.handlers.hot_produce import hot_produce
from tierlog.broker.replicas.partition import Partition
from tierlog.metadata.control.topics import NewTopic
from tierlog.records.records import Record, build_batch
from tierlog.telemetry.requests import ApiMetrics
from tierlog.wire.codec import encode
from tierlog.wire.framing import encode_request
from tierlog.wire.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData

NOW_MS = 1_700_000_000_000
pytestmark = pytest.mark.skipif(kernel.compiled is None, reason="no kernel here")


class Sub(ApiMetrics):
    """Slots of its base, and a dictionary."""


class Odd(ApiMetrics):
    """A property stands before the slot of its base."""

    __slots__ = ("own",)

    @property
    def count(self) -> int:  # type: ignore[override]
        return self.own

    @count.setter
    def count(self, value: int) -> None:
        self.own = value


class Plain:
    """A dictionary only, and what is read is made up."""

    def __init__(self, name: str) -> None:
        self.__dict__.update({slot: getattr(ApiMetrics(name), slot) for slot in ApiMetrics.__slots__})

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(name)


def short_lived() -> type[ApiMetrics]:
    """A type of its own each time, with the slots elsewhere: none is mistaken for one that lay in the same place."""
    return type("ShortLived", (ApiMetrics,), {"__slots__": ()})


async def test_wherever_an_attribute_lies(tmp_path: Path) -> None:
    async with running(tmp_path) as broker:
        await broker.services.admin.create_topics([NewTopic("t", 1, 1, configs={"flush.mode": "os"})])
        await until(lambda: isinstance(broker.replicas.by_name("t", 0), Partition))
        found = broker.replicas.by_name("t", 0)
        assert isinstance(found, Partition)
        await until(lambda: found.leader is not None)
        row = PartitionProduceData(index=0, records=build_batch([Record(b"k", b"v", NOW_MS)]))
        request = ProduceRequest(
            acks=1, timeout_ms=1000, topic_data=[TopicProduceData(name="t", partition_data=[row])]
        )
        frame = b"".join(encode_request(0, 9, 5, "c", encode(request, 9)))[4:]
        broker.dispatcher.dispatch(AskerInProcess(), memoryview(bytearray(frame)))
        kinds: list[Any] = [ApiMetrics, Sub, Odd, Plain, *(short_lived() for _ in range(20)), ApiMetrics]
        for number, kind in enumerate(kinds):
            recorder = kind("Produce")
            hot = hot_produce(broker.services, recorder)
            assert hot is not None
            for _ in range(3):
                assert hot.serve(AskerInProcess(), memoryview(bytearray(frame)), 0.0) is True, number
            assert (recorder.count, recorder.versions, sum(recorder._counts)) == (3, {9: 3}, 3)
        lacking = ApiMetrics("Produce")
        del lacking.count
        hot = hot_produce(broker.services, lacking)
        assert hot is not None
        with pytest.raises(AttributeError, match="count"):
            hot.serve(AskerInProcess(), memoryview(bytearray(frame)), 0.0)
