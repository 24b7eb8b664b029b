"""Attacks on the memory that all connections share, an honest client beside each: it loses nothing and goes on."""

from __future__ import annotations

import struct
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import pytest

from tests.conftest import NO_RETENTION
from tests.servers.honest import HonestClient, rss_bytes
from tests.servers.raw_client import Disconnected, RawClient, one_batch, produce_request
from tests.servers.tierlog import BrokerProcess
from tierlog.errors import ErrorCode
from tierlog.wire.codec import encode
from tierlog.wire.framing import encode_request
from tierlog.wire.messages.fetch import FetchPartition, FetchRequest, FetchTopic
from tierlog.wire.messages.metadata import MetadataRequest, MetadataRequestTopic
from tierlog.wire.messages.produce import ProduceResponse

MIB = 1 << 20
BIG_COUNT = 60
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
            for _ in range(BIG_COUNT):
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


def half_a_frame(size_bytes: int) -> bytes:
    return struct.pack(">ihhih", size_bytes, 0, 12, 1, -1) + bytes(size_bytes // 2)


class TestRequests:
    def test_half_frames_that_fill_the_memory(self, broker: BrokerProcess) -> None:
        before = memory(broker)
        with ExitStack() as stack:
            half = half_a_frame(MIB // 2)
            for _ in range(90):
                stack.enter_context(RawClient(broker.port)).send_raw(half)
            with HonestClient(broker.port, "beside-halves", value_bytes=100_000) as honest:
                honest.goes_on(20)
                assert memory(broker) - before < 2 * REQUEST_MEMORY_BYTES + SLACK_BYTES

    def test_half_frames_that_go_on_byte_by_byte(self, broker: BrokerProcess) -> None:
        stop = threading.Event()

        def drip(attackers: list[RawClient]) -> None:
            while not stop.wait(0.5):
                for each in attackers:
                    each.socket.setblocking(False)
                    with suppress(OSError):
                        each.socket.send(b"x")

        with ExitStack() as stack:
            half = half_a_frame(MIB // 2)
            attackers = [stack.enter_context(RawClient(broker.port)) for _ in range(60)]
            for each in attackers:
                each.send_raw(half)
            dripping = threading.Thread(target=drip, args=(attackers,))
            dripping.start()
            try:
                with HonestClient(broker.port, "beside-drips", value_bytes=100_000) as honest:
                    honest.goes_on(10)
            finally:
                stop.set()
                dripping.join()

    def test_many_large_frames_at_once_all_arrive(self, broker: BrokerProcess) -> None:
        """Nobody attacks: the memory is just not enough for all at once. Sent in pieces, so that all are half there."""
        with RawClient(broker.port) as client:
            client.create_topic("crowd")
        frames = [one_batch(b"%03d" % n + bytes(MIB)) for n in range(24)]
        with ExitStack() as stack, HonestClient(broker.port, "beside-crowd", value_bytes=100_000) as honest:
            producers = [stack.enter_context(RawClient(broker.port, 60)) for _ in frames]
            requests = [framed_produce("crowd", batch) for batch in frames]
            for producer, request in zip(producers, requests, strict=True):
                producer.send_raw(request[: 600 * 1024])
            threads = [
                threading.Thread(target=producer.send_raw, args=(request[600 * 1024 :],))
                for producer, request in zip(producers, requests, strict=True)
            ]
            for thread in threads:
                thread.start()
            for producer in producers:
                _, answer = producer.receive(ProduceResponse, 12)
                assert answer.responses[0].partition_responses[0].error_code == ErrorCode.NONE
            for thread in threads:
                thread.join()
            honest.goes_on(3)


def framed_produce(topic: str, batch: bytes) -> bytes:
    request = produce_request(topic, {0: batch}, timeout_ms=30_000)
    return b"".join(encode_request(0, 12, 1, "crowd", encode(request, 12)))


class TestReplies:
    """Each attacker's memory comes back when it is gone, too."""

    @pytest.fixture(autouse=True)
    def nothing_stays(self, broker: BrokerProcess) -> Iterator[None]:
        yield
        deadline_s = time.monotonic() + 30
        while broker.metrics()["tierlog_reply_memory_used_bytes"]:
            assert time.monotonic() < deadline_s
            time.sleep(0.05)

    def test_fetches_that_nobody_reads(self, broker: BrokerProcess) -> None:
        before = memory(broker)
        with HonestClient(broker.port, "beside-unread") as honest, ExitStack() as stack:
            for _ in range(40):
                stack.enter_context(RawClient(broker.port)).send(big_fetch(), 12)
            honest.goes_on(20)
            assert memory(broker) - before < REPLY_MEMORY_BYTES + SLACK_BYTES

    def test_many_fetches_in_one_packet(self, broker: BrokerProcess) -> None:
        before = memory(broker)
        packet = b"".join(encode_request(1, 12, 1, "many", encode(big_fetch(), 12))) * 500
        with HonestClient(broker.port, "beside-packets") as honest, ExitStack() as stack:
            for _ in range(5):
                stack.enter_context(RawClient(broker.port)).send_raw(packet)
            honest.goes_on(20)
            assert memory(broker) - before < REPLY_MEMORY_BYTES + SLACK_BYTES

    def test_fetches_that_wait_for_more_than_there_is(self, broker: BrokerProcess) -> None:
        before = memory(broker)
        patient = big_fetch(min_bytes=1 << 30, max_wait_ms=2**31 - 1)
        with HonestClient(broker.port, "beside-patient") as honest, ExitStack() as stack:
            for _ in range(40):
                stack.enter_context(RawClient(broker.port)).send(patient, 12)
            honest.goes_on(20)
            assert memory(broker) - before < REPLY_MEMORY_BYTES + SLACK_BYTES

    def test_other_large_replies_that_nobody_reads(self, broker: BrokerProcess) -> None:
        before = memory(broker)
        names = [MetadataRequestTopic(name=f"{n:0249}") for n in range(400)]
        request = MetadataRequest(topics=names, allow_auto_topic_creation=False)
        packet = b"".join(encode_request(3, 9, 1, "many", encode(request, 9)))

        def send(attacker: RawClient) -> None:
            attacker.socket.settimeout(2)
            with suppress(OSError, Disconnected):
                for _ in range(150):
                    attacker.send_raw(packet)

        with HonestClient(broker.port, "beside-metadata") as honest, ExitStack() as stack:
            attackers = [stack.enter_context(RawClient(broker.port)) for _ in range(12)]
            threads = [threading.Thread(target=send, args=(attacker,)) for attacker in attackers]
            for thread in threads:
                thread.start()
            honest.goes_on(10)
            assert memory(broker) - before < REPLY_MEMORY_BYTES + REQUEST_MEMORY_BYTES + SLACK_BYTES
            for thread in threads:
                thread.join()
            honest.goes_on(3)

    def test_readers_that_take_a_byte_now_and_then(self, broker: BrokerProcess) -> None:
        before = memory(broker)
        with HonestClient(broker.port, "beside-sips", value_bytes=100_000) as honest, ExitStack() as stack:
            attackers = [stack.enter_context(RawClient(broker.port)) for _ in range(80)]
            for each in attackers:
                each.send(big_fetch(), 12)
            for _ in range(20):
                for each in attackers:
                    with suppress(OSError):
                        each.socket.recv(1)
                honest.goes_on(1)
            assert memory(broker) - before < REPLY_MEMORY_BYTES + SLACK_BYTES

    def test_an_honest_reader_of_much_gets_it_all(self, broker: BrokerProcess) -> None:
        """In smaller pieces, while the others hold what they do not read."""
        with ExitStack() as stack:
            for _ in range(40):
                stack.enter_context(RawClient(broker.port)).send(big_fetch(), 12)
            with RawClient(broker.port, 60) as reader:
                assert len(reader.records("big")) == BIG_COUNT
