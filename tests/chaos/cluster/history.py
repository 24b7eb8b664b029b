"""What the clients did and were told, as plain values, in the order in which each client saw it.

Every record's value names its producer, its number there and its partition, and ends with a checksum, so that a record
that is read says by itself who wrote it and whether it is whole. The records of one producer to one partition are numbered
in the order of their sends; numbers may be shared out over several partitions.
"""

from __future__ import annotations

import threading
import zlib
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple


class Outcome(Enum):
    """Of a send. ``FAILED`` only where the broker surely did not take it; everything else that is no success is UNKNOWN."""

    ACKNOWLEDGED = "acknowledged"
    FAILED = "failed"
    UNKNOWN = "unknown"


class Place(NamedTuple):
    """A partition of a topic."""

    topic: str
    partition: int

    def __str__(self) -> str:
        return f"{self.topic}-{self.partition}"


class Written(NamedTuple):
    """Which record: unique in a history."""

    producer: str
    number: int

    def __str__(self) -> str:
        return f"{self.producer}#{self.number}"


@dataclass(slots=True)
class Send:
    """One record. Times are of the monotonic clock; ``offset`` only where the broker told it."""

    record: Written
    place: Place
    began_s: float
    ended_s: float = 0.0
    outcome: Outcome = Outcome.UNKNOWN
    offset: int | None = None


@dataclass(slots=True)
class Poll:
    """One record that a consumer got; ``record`` is None where its bytes are not what any producer of ours writes.

    ``run``: counts the consumer's assignments; within one run it must see every offset, once and in order."""

    consumer: str
    run: int
    place: Place
    offset: int
    record: Written | None


class Batch(NamedTuple):
    """What the header of a batch in the log says. Offsets are inclusive; sequences of one batch do not wrap here."""

    first_offset: int
    last_offset: int
    producer_id: int
    producer_epoch: int
    base_sequence: int


@dataclass
class History:
    """``final``: what each partition holds at the end, read from its start to its end offset; ``batches``: the batches in
    which it lies, by offset."""

    sends: list[Send] = field(default_factory=list)
    polls: list[Poll] = field(default_factory=list)
    final: dict[Place, list[tuple[int, Written | None]]] = field(default_factory=dict)
    batches: dict[Place, list[Batch]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add_send(self, send: Send) -> None:
        with self.lock:
            self.sends.append(send)

    def add_poll(self, poll: Poll) -> None:
        with self.lock:
            self.polls.append(poll)

    def snapshot(self) -> list[Send]:
        """The sends so far; what is under way may still change."""
        with self.lock:
            return list(self.sends)


FILLER = bytes(33 + n % 90 for n in range(400))


def encode_value(record: Written, place: Place) -> bytes:
    """Some hundred bytes."""
    body = f"{record.producer} {record.number} {place.topic} {place.partition} ".encode() + FILLER
    return b"%08x " % zlib.crc32(body) + body


def decode_value(value: bytes | None, place: Place) -> Written | None:
    """None for what is damaged, not ours, or of another partition."""
    if value is None:
        return None
    checksum, _, body = value.partition(b" ")
    parts = body.split(b" ", 4)
    if checksum != b"%08x" % zlib.crc32(body) or len(parts) != 5:
        return None
    if (parts[2].decode(), int(parts[3])) != place:
        return None
    return Written(parts[0].decode(), int(parts[1]))
