"""Streams: one reader of one partition at a position each, until it is not heard of for ``IDLE_S``. Pure.

Bound: ``STREAMS_MAX``. A new reader beyond it keeps no place until another one is idle; it is served what is in memory.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tiering.keys import PartitionKeys
from tiering.model import SegmentEntry

if TYPE_CHECKING:
    from tiering.reading.admission import Want
    from tiering.reading.chunks import Chunk

STREAMS_MAX = 4096
# So long a stream that does not ask keeps its chunks and its place in the queue.
IDLE_S = 5.0
# So long a stream that does ask keeps one chunk while others wait for memory.
TURN_S = 30.0
# A reader's pace is reckoned over so many bytes.
PACE_BYTES = 2 << 20


@dataclass(slots=True, eq=False)
class Stream:
    """Where a reader goes on, what it holds, and what it waits for."""

    keys: PartitionKeys
    reader: Hashable
    """Who reads, for fairness: a client's connection, or "" where that is not known."""
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

    def is_idle(self, now_s: float) -> bool:
        return not self.waiting_count and now_s - self.seen_s > IDLE_S


class Streams:
    """In the order in which they were last heard of. A reader that is known by name has one per partition."""

    def __init__(self) -> None:
        self._streams: OrderedDict[Hashable, Stream] = OrderedDict()

    def __len__(self) -> int:
        return len(self._streams)

    def __iter__(self) -> Iterator[Stream]:
        return iter(self._streams.values())

    def find(self, keys: PartitionKeys, reader: Hashable, offset: int, now_s: float) -> Stream | None:
        """The stream that goes on there, which is heard of herewith."""
        stream = self._streams.get((keys, reader) if reader else (keys, reader, offset))
        if stream is None or stream.offset != offset:
            stream = self._streams.get((keys, reader, offset))
        if stream is not None:
            stream.seen_s = now_s
            self._streams.move_to_end(stream.key)
        return stream

    def open(self, keys: PartitionKeys, reader: Hashable, offset: int, now_s: float) -> Stream | None:
        """A new stream; None if there is no room (``idle`` makes some). Call ``replaced`` first."""
        if len(self._streams) >= STREAMS_MAX:
            return None
        key: Hashable = (keys, reader)
        if not reader or key in self._streams:
            key = (keys, reader, offset)
        stream = Stream(keys, reader, offset, now_s, key, ready_s=now_s)
        self._streams[key] = stream
        return stream

    def replaced(self, keys: PartitionKeys, reader: Hashable) -> Stream | None:
        """Removes the reader's stream, if it now begins elsewhere."""
        stream = self._streams.get((keys, reader))
        if stream is None or stream.waiting_count:
            return None
        del self._streams[keys, reader]
        return stream

    def move(self, stream: Stream, offset: int) -> Stream | None:
        """The stream has read up to ``offset``. Returns the stream whose place it takes, if another one was there."""
        stream.offset = offset
        if stream.key == (stream.keys, stream.reader):
            return None
        del self._streams[stream.key]
        stream.key = (stream.keys, stream.reader, offset)
        other = self._streams.pop(stream.key, None)
        self._streams[stream.key] = stream
        return other

    def idle(self, now_s: float) -> list[Stream]:
        """Removes the streams that have become idle."""
        gone = []
        for _ in range(len(self._streams)):
            key, stream = next(iter(self._streams.items()))
            if stream.waiting_count:
                stream.seen_s = now_s
                self._streams.move_to_end(key)
            elif stream.is_idle(now_s):
                gone.append(self._streams.pop(key))
            else:
                break
        return gone

    def forget(self, keys: PartitionKeys) -> list[Stream]:
        """Removes the streams of a partition."""
        gone = [stream for stream in self if stream.keys == keys]
        for stream in gone:
            del self._streams[stream.key]
        return gone
