"""Replies that are kept: never another answer than the handler's, and never more memory than is stated."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest

from tests.asker import AskerInProcess
from tests.unit.broker.test_config_effects import running, until
from tests.unit.broker.test_handlers import call
from tests.unit.broker.test_waiters_end import connected
from tests.unit.telemetry.test_metrics import scrape, values
from tierlog.broker.network.kept_replies import ENTRY_BYTES, KeptReplies
from tierlog.broker.node import Broker
from tierlog.metadata.control.topics import NewTopic
from tierlog.types import Buffer
from tierlog.wire.codec import encode, encode_bytes
from tierlog.wire.framing import encode_request, encode_response
from tierlog.wire.messages.metadata import MetadataRequest, MetadataRequestTopic, MetadataResponse

LIMIT_BYTES = 10_000


class TestKeptReplies:
    def kept(self) -> KeptReplies:
        self.state: Any = SimpleNamespace(revision=1)
        return KeptReplies(lambda: self.state, 3, LIMIT_BYTES)

    def keep(self, kept: KeptReplies, body: bytes, version: int = 5, asked: bytes = b"") -> None:
        kept.keeper((version, "A", asked))([body])

    def found(self, kept: KeptReplies, version: int = 5, listener: str = "A", asked: bytes = b"") -> Any:
        buffers: list[Buffer] | None = kept.find((version, listener, asked), 7)
        return None if buffers is None else b"".join(buffers)

    def test_only_for_who_asks_the_same(self) -> None:
        kept = self.kept()
        self.keep(kept, b"\0\0\0\0body", 5, b"q")
        self.keep(kept, b"body", 2, b"q")
        assert self.found(kept, 5, "A", b"q") == b"\0\0\0\7body", "the throttle time is another's"
        assert self.found(kept, 2, "A", b"q") == b"body", "no version with a throttle time"
        assert self.found(kept, 6, "A", b"q") is None
        assert self.found(kept, 5, "B", b"q") is None
        assert self.found(kept, 5, "A", b"r") is None
        assert kept.hits == 2

    @pytest.mark.parametrize("is_reload", [False, True])
    def test_a_change_ends_all(self, is_reload: bool) -> None:
        kept = self.kept()
        self.keep(kept, b"\0\0\0\0old")
        late = kept.keeper((5, "A", b"late"))
        if is_reload:
            self.state = SimpleNamespace(revision=1)  # the same number, of another image
        else:
            self.state.revision = 2
        assert self.found(kept) is None
        assert kept.used_bytes == 0
        late([b"\0\0\0\0made before the change"])
        assert self.found(kept, asked=b"late") is None

    def test_a_change_between_two_who_keep(self) -> None:
        kept = self.kept()
        late = kept.keeper((5, "A", b"late"))
        self.state.revision = 2
        self.keep(kept, b"\0\0\0\0new")
        late([b"\0\0\0\0made before the change"])
        assert self.found(kept, asked=b"late") is None
        assert self.found(kept) == b"\0\0\0\7new"

    def test_the_bound_holds_against_who_asks_always_anew(self) -> None:
        kept, rng = self.kept(), Random(5)
        self.keep(kept, bytes(100), asked=b"often")
        for number in range(3000):
            self.keep(kept, bytes(rng.choice([0, 4, 100, 3_000, LIMIT_BYTES, 10**6])), asked=b"%d" % number)
            assert self.found(kept, asked=b"often") is not None, "who asks often is not driven out"
            held = sum(ENTRY_BYTES + len(key[2]) + len(body) for key, body in kept._bodies.items())
            assert held == kept.used_bytes <= LIMIT_BYTES
        self.keep(kept, bytes(200), asked=b"often")
        assert len(self.found(kept, asked=b"often")) == 100, "the first of two that were made at once stays"


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[Broker]:
    async with running(tmp_path) as started:
        yield started


async def create(broker: Broker, *names: str) -> None:
    await broker.services.admin.create_topics([NewTopic(name, 1, 1) for name in names])
    await until(lambda: all(broker.services.image.topic(name) is not None for name in names))
    await broker.replicas.settled()


def questions(rng: Random) -> MetadataRequest:
    names = rng.sample(["a", "b", "c", "later", "invalid name"], rng.randrange(4))
    return MetadataRequest(
        topics=rng.choice([None, [MetadataRequestTopic(name=name) for name in names]]),
        allow_auto_topic_creation=False,
        include_topic_authorized_operations=rng.random() < 0.3,
    )


async def test_kept_or_not_the_answer_is_the_same(broker: Broker) -> None:
    """While topics come and go, in all versions."""
    rng = Random(7)
    await create(broker, "a", "b")
    for round_number in range(300):
        if round_number == 100:
            await create(broker, "c")
        elif round_number == 200:
            image = broker.services.image
            topic = image.topic("a")
            assert topic is not None
            await broker.services.admin.delete_topics([topic.topic_id])
            await until(lambda image=image: image.topic("a") is None)
        request, version = questions(rng), rng.choice([4, 7, 8, 9, 10, 12, 13])
        request.include_topic_authorized_operations &= version >= 8
        body = encode(request, version)
        frame = b"".join(encode_request(3, version, round_number, "test", body))[4:]
        asker = AskerInProcess()
        await asyncio.sleep(0)
        broker.dispatcher.dispatch(asker, memoryview(bytearray(frame)))
        (reply,) = asker.replies
        if reply == b"later":
            continue  # this turn of the loop had no time for it
        wanted = encode_bytes(await call(broker, request, version), version)
        assert reply == b"".join(encode_response(3, version, round_number, [wanted]))
    found = values(await scrape(broker.registry))
    assert found[("tierlog_metadata_replies_from_kept_total", ())] > 30
    assert found[("tierlog_metadata_replies_kept_bytes", ())] > 0


async def test_who_creates_by_asking_is_answered_with_what_is_new(broker: Broker) -> None:
    asked = MetadataRequest(topics=[MetadataRequestTopic(name="new")], allow_auto_topic_creation=True)
    async with connected(broker) as peer:
        for _ in range(3):
            peer.send(asked)
            (topic,) = (await peer.receive(MetadataResponse)).topics
            assert (topic.error_code, len(topic.partitions)) == (0, 1)
