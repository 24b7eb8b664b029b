"""What a read has brought, and the replies' way to the socket: a broker with the kernel and one without take the same bytes,
over a transport in every state, and answer, keep and tell the same."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from random import Random
from typing import Any, TypeAlias

import pytest

from tests.unit.kernel.test_produce import NOW_MS, PRODUCE, broker_with_topics, log_of
from tests.unit.kernel.test_runs import frame_of
from tierlog import kernel
from tierlog.broker import bugs
from tierlog.broker.handlers.hot_produce import hot_produce
from tierlog.broker.network.connection import Connection
from tierlog.broker.network.places import PendingReply
from tierlog.broker.node import Broker
from tierlog.broker.replicas.partition import Partition
from tierlog.records.records import Record, build_batch
from tierlog.types import Buffer

pytestmark = pytest.mark.skipif(kernel.compiled is None, reason="no kernel here")


class Transport:
    """A plain socket, or with ``is_tls`` none that may be written to; holds whatever is left to it until ``drain``."""

    def __init__(self, is_tls: bool = False) -> None:
        self.ours, self.peer = socket.socketpair()
        self.ours.setblocking(False)
        self.peer.setblocking(False)
        self.is_tls = is_tls
        self.is_closed = False
        self.held = b""
        self.told: list[str] = []
        self.protocol: Any = None

    def get_extra_info(self, name: str) -> Any:
        return {"socket": self.ours, "sslcontext": self.is_tls or None}.get(name)

    def set_write_buffer_limits(self, high: int) -> None:
        assert high == 0, "so that it tells when it holds anything"

    def is_closing(self) -> bool:
        return self.is_closed

    def get_write_buffer_size(self) -> int:
        return len(self.held)

    def writelines(self, buffers: list[Buffer]) -> None:
        self.held += b"".join(buffers)
        self.protocol.pause_writing()

    def pause_reading(self) -> None:
        self.told.append("pause")

    def resume_reading(self) -> None:
        self.told.append("resume")

    def close(self) -> None:
        self.is_closed = True

    abort = close


class Side:
    """One connection of a broker, given its bytes by hand."""

    def __init__(self, broker: Broker, is_tls: bool = False) -> None:
        self.broker = broker
        self.transport = Transport(is_tls)
        self.connection = Connection(broker.listeners[0], broker.dispatcher)
        self.transport.protocol = self.connection
        self.connection.connection_made(self.transport)  # type: ignore[arg-type]
        self._drained = b""

    async def send(self, data: bytes) -> None:
        """In pieces where there is no more room. For the twin, one turn of the loop may be too short."""
        while data:
            memory = self.memory()
            taken = min(len(memory), len(data))
            memory[:taken] = data[:taken]
            self.connection.buffer_updated(taken)
            data = data[taken:]
        await self.quiet()

    def memory(self) -> memoryview:
        """What both are given by the kernel, and what it is by the twin."""
        memory, wanted = self.connection.get_buffer(-1), self.connection._frames.writable()
        assert (memory.obj, len(memory)) == (wanted.obj, len(wanted))
        return memory

    async def quiet(self) -> None:
        for _ in range(5):
            await asyncio.sleep(0)
        while self.connection._awaits_turn:
            await asyncio.sleep(0)

    def drain(self) -> None:
        """The transport sends what it holds."""
        held, self.transport.held = self.transport.held, b""
        self._drained = self.taken() + held
        if held:
            self.connection.resume_writing()

    def taken(self) -> bytes:
        """What came at the peer since, if it is still there."""
        taken, self._drained = self._drained, b""
        with suppress(OSError):
            while more := self.transport.peer.recv(1 << 20):
                taken += more
        return taken

    def state(self) -> object:
        """Of a connection that is closed, whatever was received stays where it is."""
        connection, frames = self.connection, self.connection._frames
        return (
            connection.closing or (frames.held_bytes, frames.private_bytes, frames._start, frames._end),
            (connection._reading, connection._is_draining, connection._in_process),
            (bool(connection.partial_since_s), bool(connection._pending), len(connection._outgoing)),
            (connection.held_bytes > 0, connection.appended),
        )

    def end(self) -> None:
        self.connection.connection_lost(None)
        for each in (self.transport.ours, self.transport.peer):
            each.close()

    def log(self) -> object:
        found = self.broker.replicas.by_name("plain", 0)
        assert isinstance(found, Partition)
        return log_of(found)


@asynccontextmanager
async def two_brokers(directory: Path) -> AsyncIterator[tuple[Broker, Broker]]:
    async with (
        broker_with_topics(directory / "kernel") as hot,
        broker_with_topics(directory / "twin") as twin,
    ):
        hot.dispatcher.hot = hot_produce(hot.services, hot.requests.by_key[PRODUCE])
        twin.dispatcher.hot = None
        yield hot, twin


def produce(value: bytes = b"v", topic: str = "plain", row: int = 0, acks: int = 1) -> bytes:
    return frame_of(topic, b"", row, bytes(build_batch([Record(b"k", value, NOW_MS)])), acks=acks)


API_VERSIONS = bytes.fromhex("0000000b0012000000000009000163")
"""For the handler."""
MALFORMED = bytes.fromhex("ffffffff")


async def test_a_frame_that_is_cut_at_each_byte(tmp_path: Path) -> None:
    frame = produce()
    stream = frame + produce(b"w" * 50)
    async with two_brokers(tmp_path) as brokers:
        sides = [Side(broker) for broker in brokers]
        for at in range(1, len(frame)):
            told = []
            for side in sides:
                await side.send(stream[:at])
                told.append((side.taken(), side.state()))
                await side.send(stream[at:])
                told.append((side.taken(), side.state()))
            assert told[:2] == told[2:], at
            assert len(told[1][0]) == len(told[3][0]) > 0
        assert sides[0].log() == sides[1].log()
        for side in sides:
            side.end()


@pytest.mark.parametrize("is_tls", [False, True])
async def test_any_pieces_over_a_socket_that_is_full_at_times(tmp_path: Path, is_tls: bool) -> None:
    rng = Random(7)
    frames = [
        produce(rng.randbytes(rng.choice([1, 300])), rng.choice(["plain", "small"]), rng.randrange(2), acks)
        for acks in rng.choices([1, 1, 1, -1, 0], k=600)
    ]
    frames = [API_VERSIONS if rng.random() < 0.05 else frame for frame in frames]
    async with two_brokers(tmp_path) as brokers:
        sides = [Side(broker, is_tls) for broker in brokers]
        for side in sides:
            side.transport.ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4608)
        answers, held_count, pieces = [b"", b""], 0, iter(frames)
        while sent := b"".join(
            frame for frame, _ in zip(pieces, range(rng.choice([1, 2, 30])), strict=False)
        ):
            cut, is_drained = rng.randrange(len(sent)), rng.random() < 0.3
            for number, side in enumerate(sides):
                await side.send(sent[:cut])
                await side.send(sent[cut:])
                held_count += len(side.transport.held) > 0 and number == 0
                if is_drained:
                    side.drain()
                    await side.quiet()
        for number, side in enumerate(sides):
            for _ in range(len(frames)):
                side.drain()
                answers[number] += side.taken()
                await side.quiet()
        assert answers[0] == answers[1]
        assert len(answers[0]) > 20_000 and held_count > 5
        assert sides[0].state() == sides[1].state()
        assert sides[0].log() == sides[1].log()
        for side in sides:
            side.end()


class Broken:
    """The real one, but for two questions."""

    def __init__(self, real: Any) -> None:
        self._real = real

    def __getattr__(self, name: str) -> Any:
        if name in {"used_bytes", "get_write_buffer_size"}:
            raise RuntimeError("a bug")
        return getattr(self._real, name)


Spoil: TypeAlias = Callable[[Side], None]


def with_closing_transport(side: Side) -> None:
    side.transport.is_closed = True


def with_reading_paused(side: Side) -> None:
    side.connection._reading = False


def with_replies_in_the_transport(side: Side) -> None:
    side.transport.held = b"before"


def with_peer_gone(side: Side) -> None:
    side.transport.peer.close()


def with_bug_before(side: Side) -> None:
    side.connection._reply_memory = Broken(side.connection._reply_memory)  # type: ignore[assignment]


def with_bug_in_the_writer(side: Side) -> None:
    side.connection._writer._transport = Broken(side.transport)  # type: ignore[assignment]


def with_closed_connection(side: Side) -> None:
    side.connection.closing = True


def with_held_replies(side: Side) -> None:
    side.connection._hold(100)
    side.connection._unsent_bytes = 0


def with_mute(side: Side) -> None:
    side.connection._muted_until_s = 1e12


def with_no_receive_memory(side: Side) -> None:
    memory = side.connection.listener.receive_memory
    memory.used_bytes += memory.limit_bytes


def with_a_reply_that_waits(side: Side) -> None:
    side.connection.keep_place(PendingReply(True, None, None, False))  # type: ignore[arg-type]


def with_a_reply_that_all_wait_for(side: Side) -> None:
    side.connection.keep_place(PendingReply(False, None, None, False))  # type: ignore[arg-type]


SPOILS: list[Spoil] = [
    with_a_reply_that_waits,
    with_a_reply_that_all_wait_for,
    with_closing_transport,
    with_reading_paused,
    with_replies_in_the_transport,
    with_peer_gone,
    with_bug_before,
    with_bug_in_the_writer,
    with_closed_connection,
    with_held_replies,
    with_mute,
    with_no_receive_memory,
]
STREAMS = {
    "one": produce(),
    "two": produce() + produce(b"w"),
    "one for the handler": API_VERSIONS,
    "the handler's last": produce() + API_VERSIONS,
    "the handler's first": API_VERSIONS + produce(),
    "cut": produce()[:-1],
    "one and a piece": produce() + produce()[:7],
    "malformed": produce() + MALFORMED,
}


async def told_of(broker: Broker, spoil: Spoil, stream: bytes) -> list[object]:
    side = Side(broker)
    await side.send(produce())
    told: list[object] = [side.taken()]
    memory = side.connection.listener.receive_memory
    used_bytes = memory.used_bytes
    spoil(side)
    added_bytes, transport = memory.used_bytes - used_bytes, side.transport
    side.memory()
    try:
        await side.send(stream)
    except RuntimeError as error:
        side.connection.closing = True  # as the loop closes it
        told.append(repr(error))
    memory.used_bytes -= added_bytes
    told += [side.taken(), transport.held, transport.is_closed, transport.told, side.state(), side.log()]
    side.end()
    return told


async def test_whatever_stands_in_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(bugs.FATAL_VARIABLE, raising=False)
    async with two_brokers(tmp_path) as brokers:
        for spoil in SPOILS:
            for name, stream in STREAMS.items():
                if spoil is with_bug_before and name == "cut":
                    continue  # the twin asks later
                found, wanted = [await told_of(broker, spoil, stream) for broker in brokers]
                assert found == wanted, (spoil, name)
