"""Chunks of objects in memory, the streams that read them, and what streams wait for. Pure.

A stream is one reader of one partition at a position, until it is not heard of for ``IDLE_S``.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import NamedTuple

from tiering.errors import TieringError
from tiering.keys import PartitionKeys
from tiering.model import SegmentEntry

# So long a stream that does not ask keeps its chunks and its place in the queue.
IDLE_S = 5.0
# A reader's pace is reckoned over so many bytes.
PACE_BYTES = 2 << 20


class Chunk:
    """Loading while ``data`` is None."""

    __slots__ = (
        "ahead_of",
        "client",
        "data",
        "end",
        "entry",
        "holders",
        "keys",
        "read_bytes",
        "reserved_bytes",
        "start",
    )

    def __init__(
        self, keys: PartitionKeys, entry: SegmentEntry, start: int, end: int, client: Hashable = None
    ) -> None:
        assert 0 <= start < end <= entry.data_bytes
        self.keys = keys
        self.entry = entry
        self.start = start
        self.end = end
        self.client = client
        """Who asked for it first, and so pays for it."""
        self.data: memoryview | None = None
        self.reserved_bytes = 0
        """Of the budget. A chunk larger than the budget takes all of it."""
        self.holders: dict[Stream, float] = {}
        """Streams in the middle of it, and since when (loop's clock)."""
        self.read_bytes = 0
        """What readers have used of it, as often as they have."""
        self.ahead_of: Stream | None = None
        """The stream that it was read ahead for; None once a stream has come to it, or the stream is gone."""

    def shrink(self, start: int) -> int:
        """Keeps only what begins at ``start``, as a copy, so that the rest is freed. Returns the bytes given back."""
        assert self.data is not None
        assert self.start <= start < self.end
        self.data = memoryview(bytes(self.data[start - self.start :]))
        self.start = start
        self.read_bytes = 0
        freed_bytes = max(self.reserved_bytes - len(self.data), 0)
        self.reserved_bytes -= freed_bytes
        return freed_bytes


class Reader(NamedTuple):
    """Who reads. ``client``: what takes turns with others in a partition, (client id, host) where it is a consumer;
    ``connection``: what reads a partition at one place at a time."""

    client: Hashable
    connection: Hashable


@dataclass(slots=True, eq=False)
class Stream:
    """Where a reader goes on, what it holds, and what it waits for."""

    keys: PartitionKeys
    reader: Reader | None
    """None where it is not known."""
    offset: int
    """Where its next read begins."""
    seen_s: float
    key: Hashable = None
    """Its place among all streams."""
    entry: SegmentEntry | None = None
    position: int = 0
    """In the object of ``entry``: where the batch that holds ``offset`` begins, or a batch in front of it as long as
    not ``is_located``."""
    is_located: bool = False
    is_sequential: bool = False
    waiting_count: int = 0
    """Reads that wait for it now: meanwhile it is not idle."""
    failure: BaseException | None = None
    """Why what it asked for could not be loaded, until it is told."""
    is_watched: bool = False
    """Whether the load of a footer is under way that nobody waits for."""
    window_bytes: int = 0
    """How far to read ahead. Grows while the reader has to wait, shrinks when what was read ahead had to go."""
    pace_bytes_per_s: float = 0.0
    """How fast it has lately read what was ready; 0: not known."""
    read_bytes: int = 0
    """Read since the pace was reckoned, in ``spent_s``, which leaves out what it waited."""
    spent_s: float = 0.0
    ready_s: float = 0.0
    want: Want | None = None
    held: dict[Chunk, None] = field(default_factory=dict)
    """Chunks that it is in the middle of, or waits for."""

    @property
    def client(self) -> Hashable:
        """Whose turn it takes in the queue."""
        return self.reader.client if self.reader is not None else None

    @property
    def uuid(self) -> bytes:
        return self.entry.uuid if self.entry is not None else b""

    def note_asked(self, now_s: float, read_bytes: int = 0) -> None:
        """The reader has asked again, since what it was given last or waited for was ready; it was given ``read_bytes``."""
        self.spent_s += now_s - self.ready_s
        self.ready_s = now_s
        self.read_bytes += read_bytes
        if self.read_bytes >= PACE_BYTES and self.spent_s > 0:
            pace = self.read_bytes / self.spent_s
            self.pace_bytes_per_s = (self.pace_bytes_per_s or pace) / 2 + pace / 2
            self.read_bytes, self.spent_s = 0, 0.0

    def note_failure(self, error: BaseException | None) -> None:
        """Keeps the error for the next read, but for the frames that it went through: they hold what was read."""
        self.failure = error
        while isinstance(error, TieringError):
            error.__traceback__ = None
            error = error.__cause__ or error.__context__

    def is_idle(self, now_s: float) -> bool:
        return not self.waiting_count and now_s - self.seen_s > IDLE_S


@dataclass(slots=True, eq=False)
class Want:
    """Bytes that a stream waits for: [position, needed_end), of a batch that begins at ``batch_start``."""

    stream: Stream
    entry: SegmentEntry
    batch_start: int
    position: int
    needed_end: int

    @property
    def place(self) -> tuple[bytes, int, int, int]:
        return self.entry.uuid, self.batch_start, self.position, self.needed_end
