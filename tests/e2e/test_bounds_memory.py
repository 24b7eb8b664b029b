"""Attacks on the memory that all connections share, an honest client beside each: it loses nothing and goes on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.conftest import NO_RETENTION
from tests.servers.honest import HonestClient, rss_bytes
from tests.servers.raw_client import RawClient, one_batch
from tests.servers.tierlog import BrokerProcess
from tierlog.errors import ErrorCode
from tierlog.wire.messages.fetch import FetchPartition, FetchRequest, FetchTopic

MIB = 1 << 20
REPLY_MEMORY_BYTES = 32 * MIB
REQUEST_MEMORY_BYTES = 8 * MIB
# Beside what is bounded: the interpreter's own, sockets, and what malloc keeps.
SLACK_BYTES = 64 * MIB


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    small = {
        "tierlog.reply.memory.bytes": str(REPLY_MEMORY_BYTES),
        "tierlog.request.memory.bytes": str(REQUEST_MEMORY_BYTES),
        "message.max.bytes": str(4 * MIB),
    }
    with BrokerProcess(tmp_path_factory.mktemp("bounds"), NO_RETENTION | small) as running:
        with RawClient(running.port) as client:
            client.create_topic("big")
            for _ in range(60):
                assert client.produce("big", one_batch(bytes(MIB // 2))).error_code == ErrorCode.NONE
        yield running


def memory(broker: BrokerProcess) -> int:
    assert broker.process is not None
    return rss_bytes(broker.process.pid)


def big_fetch(min_bytes: int = 1, max_wait_ms: int = 500) -> FetchRequest:
    asked = FetchPartition(partition=0, fetch_offset=0, partition_max_bytes=1 << 30)
    return FetchRequest(
        max_wait_ms=max_wait_ms,
        min_bytes=min_bytes,
        max_bytes=1 << 30,
        session_epoch=-1,
        topics=[FetchTopic(topic="big", partitions=[asked])],
    )


class TestReplies:
    def test_fetches_that_nobody_reads(self, broker: BrokerProcess) -> None:
        before = memory(broker)
        with HonestClient(broker.port, "beside-unread") as honest, ExitStack() as stack:
            for _ in range(40):
                stack.enter_context(RawClient(broker.port)).send(big_fetch(), 12)
            honest.goes_on(20)
            assert memory(broker) - before < REPLY_MEMORY_BYTES + SLACK_BYTES
