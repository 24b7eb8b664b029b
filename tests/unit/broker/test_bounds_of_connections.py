"""Connections opened and left, requests begun and left (I15): who is late, and who is only kept waiting."""

from __future__ import annotations

import asyncio
import gc
import struct
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.unit.broker.test_config_effects import create, running, until
from tests.unit.broker.test_handlers import produce_of, record_batch
from tests.unit.broker.test_waiters_end import Peer, connected
from tierlog.broker.network.connection import Connection
from tierlog.broker.node import Broker
from tierlog.wire.codec import encode
from tierlog.wire.framing import encode_request
from tierlog.wire.messages.metadata import MetadataRequest, MetadataResponse
from tierlog.wire.messages.produce import ProduceResponse

MIB = 1 << 20


@pytest.fixture
async def broker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Broker]:
    monkeypatch.setattr("tierlog.broker.network.server.SWEEP_S", 0.05)
    monkeypatch.setattr("tierlog.broker.network.server.PARTIAL_FRAME_S", 0.5)
    overrides = {"max_connections": "60", "max_connections_per_ip_overrides": "127.0.0.2:20"}
    async with running(
        tmp_path, tierlog_request_memory_bytes=str(MIB), connections_max_idle_ms="1500", **overrides
    ) as started:
        yield started


async def from_host(broker: Broker, host: str) -> asyncio.StreamWriter:
    port = broker.listeners[0].port
    _, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(host, 0))
    return writer


async def ask(peer: Peer) -> None:
    peer.send(MetadataRequest(topics=[]))
    await peer.receive(MetadataResponse)


async def test_no_more_of_one_host_than_it_may_have(broker: Broker) -> None:
    async with connected(broker) as honest:
        writers = [await from_host(broker, "127.0.0.2") for _ in range(40)]
        await until(lambda: broker.listeners[0].created >= 21)
        await ask(honest)
        assert len(broker.listeners[0].connections) <= 21
        async with connected(broker) as other:
            await ask(other)
        for writer in writers:
            writer.transport.abort()


async def test_no_more_connections_than_there_may_be_and_idle_ones_go(broker: Broker) -> None:
    async with connected(broker) as honest:
        await ask(honest)
        writers = [await from_host(broker, "127.0.0.1") for _ in range(80)]
        await until(lambda: broker.listeners[0].created >= 60)
        await ask(honest)
        assert len(broker.listeners[0].connections) <= 60
        while len(broker.listeners[0].connections) > 1:
            await ask(honest)  # so it is not idle
            await asyncio.sleep(0.02)
        async with connected(broker) as other:
            await ask(other)
        for writer in writers:
            writer.transport.abort()


async def test_half_a_request_is_not_waited_for_for_ever(broker: Broker) -> None:
    async with connected(broker) as honest, connected(broker) as attacker:
        attacker._writer.write(struct.pack(">i", 1000) + bytes(100))
        await until(lambda: broker.receive_turns.memory.used_bytes > 0)
        while len(broker.listeners[0].connections) > 1:
            await ask(honest)
            await asyncio.sleep(0.02)
        assert broker.receive_turns.memory.used_bytes == 0


def alive() -> int:
    gc.collect()  # the test's own streams hold circles
    return sum(isinstance(found, Connection | asyncio.Transport) for found in gc.get_objects())


@pytest.mark.parametrize("is_muted", [False, True])
async def test_nothing_is_kept_of_connections_that_are_closed(
    broker: Broker, is_muted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No timer of one: at a thousand a second those of the last seconds are more than the collector can go over."""
    monkeypatch.setattr("tierlog.broker.network.connection.FLUSH_S", 600.0)
    async with connected(broker) as honest:
        await ask(honest)
        (first,) = broker.listeners[0].connections
        before = alive()
        for _ in range(40):
            _, writer = await asyncio.open_connection("127.0.0.1", broker.listeners[0].port)
            await until(lambda: len(broker.listeners[0].connections) == 2)
            if is_muted:
                (attacker,) = set(broker.listeners[0].connections) - {first}
                attacker.mute_until(broker.loop.time() + 600)
                del attacker
                writer.transport.abort()
            else:
                writer.write(struct.pack(">i", 1000) + b"\xff" * 1000)
            await until(lambda: len(broker.listeners[0].connections) == 1)
            writer.transport.abort()
            del writer
            await ask(honest)  # so it is not idle
        await until(lambda: alive() <= before + 1)  # the last reader
        await ask(honest)


async def test_who_is_kept_waiting_is_not_late(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its request lies in its socket, for twice the time that half a request may take, while memory is short."""
    (partition,) = await create(broker, max_message_bytes=str(4 * MIB))
    memory, turns = broker.receive_turns.memory, broker.receive_turns
    held = memory.acquire(MIB)
    async with connected(broker) as turn, connected(broker) as honest:
        size = struct.pack(">i", 3 * MIB)
        # Has the turn, and sends too much for losing it.
        turn._writer.write(size + bytes(100_000))
        await until(lambda: turns.turn is not None)
        monkeypatch.setattr("tierlog.broker.network.receive_turns.PAUSE_S", 60.0)
        monkeypatch.setattr("tierlog.broker.network.receive_turns.TURN_S", 60.0)
        batch = record_batch(3 * MIB)
        request = produce_of((0, batch), acks=-1, timeout_ms=30_000)
        frame = b"".join(encode_request(0, 12, 1, "peer", encode(request, 12)))
        honest._writer.write(frame)
        await until(lambda: turns.waiting_count == 1)
        for _ in range(60):
            turn._writer.write(bytes(1000))
            await asyncio.sleep(0.02)
        assert turns.waiting_count == 1
        memory.release(held)
        answer = await honest.receive(ProduceResponse)
        assert answer.responses[0].partition_responses[0].error_code == 0
        assert partition.log.log_end_offset == 1
    await until(lambda: not broker.listeners[0].connections)
    assert memory.used_bytes == 0
