"""Mutated frames over many connections at once, each with one frame under way.

A connection sends a frame and waits for one of three ends: a reply (the next frame follows on the same connection), a
close (malformed: reconnect) or silence (acks=0, a parked request, half a frame: drop and reconnect, which also shows
that abandoned requests are let go). Which end is right is not judged here: the broker's own counters are, in ``live``.
"""

from __future__ import annotations

import select
import socket
import struct
import time
from collections import Counter
from collections.abc import Callable, Iterator
from random import Random

from tests.fuzz.wire_corpus import corpus, mutate
from tests.patience import PATIENT_S
from tierlog.broker.api_table import ROWS
from tierlog.errors import MalformedMessage
from tierlog.wire.codec import decode_exact
from tierlog.wire.framing import decode_request_header
from tierlog.wire.messages.create_partitions import CreatePartitionsRequest
from tierlog.wire.messages.create_topics import CreateTopicsRequest
from tierlog.wire.registry import APIS

SILENCE_S = 0.25
POOL_ROUNDS = 12
UNSERVED_SHARE = 0.04
PARTITIONS_AT_MOST = 30
KEPT_TOPIC, DOOMED_TOPIC = "fuzz", "fuzz-doomed"
CREATING = frozenset((19, 37))
DESTROYING = frozenset((19, 20, 33, 37, 44))
"""Create, delete, alter and grow topics: these know only the topic that may go."""


class FramePool:
    """Valid frames to damage: served APIs in every version, and a few of those that no handler serves."""

    def __init__(self, rng: Random, topic_id: bytes, partitions: int) -> None:
        self._rng = rng
        self.served: list[bytes] = []
        self.unserved: list[bytes] = []
        for _ in range(POOL_ROUNDS):
            for key, _, frame in corpus(rng, KEPT_TOPIC, topic_id, partitions=partitions):
                if key not in DESTROYING:
                    (self.served if key in ROWS else self.unserved).append(frame)
            self.served += [f for _, _, f in corpus(rng, DOOMED_TOPIC, keys=DESTROYING)]

    def mutated(self) -> Iterator[bytes]:
        """Damaged frames without end."""
        rng = self._rng
        while True:
            chosen = self.unserved if rng.random() < UNSERVED_SHARE else self.served
            frame = mutate(rng, rng.choice(chosen))
            if not creates_many_partitions(frame):
                yield frame


def creates_many_partitions(frame: bytes) -> bool:
    """A flipped bit makes 3 partitions 8,195, which Kafka and we would both create: not what is tested here."""
    if struct.unpack_from(">h", frame, 4)[0] not in CREATING:
        return False
    try:
        header = decode_request_header(frame, 4)
        if not header.supported:
            return False
        request = decode_exact(APIS[header.api_key].request, header.api_version, frame, header.body_offset)
    except MalformedMessage:
        return False
    if isinstance(request, CreatePartitionsRequest):
        return any(topic.count > PARTITIONS_AT_MOST for topic in request.topics)
    assert isinstance(request, CreateTopicsRequest)
    return any(topic.num_partitions > PARTITIONS_AT_MOST for topic in request.topics)


class Slot:
    """One connection; ``sent_s`` is when its frame went out."""

    __slots__ = ("received", "sent_s", "socket")

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self.received = bytearray()
        self.sent_s = 0.0

    def has_reply(self) -> bool:
        received = self.received
        return len(received) >= 4 and len(received) >= 4 + int.from_bytes(received[:4], "big")


class FrameFuzzer:
    """``run(count)`` sends so many frames; ``ends`` counts how they ended."""

    def __init__(self, port: int, frames: Iterator[bytes], connections: int = 96) -> None:
        self.ends: Counter[str] = Counter()
        self._port = port
        self._frames = frames
        self._epoll = select.epoll()
        self._slots: dict[int, Slot] = {}
        self._connections = connections
        self._left = 0

    def run(self, count: int, is_alive: Callable[[], bool]) -> None:
        self._left = count
        while len(self._slots) < self._connections:
            self._open()
        swept_s = time.monotonic()
        while self._left or any(slot.sent_s for slot in self._slots.values()):
            for descriptor, _ in self._epoll.poll(0.05):
                slot = self._slots.get(descriptor)
                if slot is not None:
                    self._read(slot)
            now_s = time.monotonic()
            if now_s - swept_s > SILENCE_S / 5:
                swept_s = now_s
                assert is_alive(), "the broker has died"
                for slot in list(self._slots.values()):
                    if slot.sent_s and now_s - slot.sent_s > SILENCE_S:
                        self._end(slot, "silence")
                    elif not slot.sent_s and self._left:
                        self._send(slot)

    def close(self) -> None:
        for slot in self._slots.values():
            slot.socket.close()
        self._slots.clear()
        self._epoll.close()

    def _open(self) -> None:
        connection = socket.create_connection(("127.0.0.1", self._port), timeout=PATIENT_S)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # No TIME_WAIT: a million frames would use up the ports.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        slot = self._slots[connection.fileno()] = Slot(connection)
        self._epoll.register(connection.fileno(), select.EPOLLIN)
        self._send(slot)

    def _send(self, slot: Slot) -> None:
        if not self._left:
            slot.sent_s = 0.0
            return
        self._left -= 1
        frame = next(self._frames)
        slot.sent_s = time.monotonic()
        try:
            slot.socket.sendall(frame)
        except ConnectionError:
            self._end(slot, "closed")
            return
        if not 0 <= struct.unpack_from(">i", frame)[0] <= len(frame) - 4:
            self._end(slot, "wrong size")

    def _read(self, slot: Slot) -> None:
        try:
            data = slot.socket.recv(1 << 18)
        except ConnectionError:
            data = b""
        if not data:
            self._end(slot, "closed")
            return
        slot.received += data
        if slot.has_reply():
            slot.received.clear()
            self.ends["replied"] += 1
            self._send(slot)

    def _end(self, slot: Slot, how: str) -> None:
        self.ends[how] += 1
        descriptor = slot.socket.fileno()
        self._epoll.unregister(descriptor)
        del self._slots[descriptor]
        slot.socket.close()
        if self._left:
            self._open()
