"""All streams of a broker. Pure.

Bound: ``STREAMS_MAX``. A new reader beyond it keeps no place until another one is idle; it is served what is in memory.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterator

from tiering.keys import PartitionKeys
from tiering.reading.holding import Reader, Stream

STREAMS_MAX = 4096


class Streams:
    """In the order in which they were last heard of. A known reader has one per partition."""

    def __init__(self) -> None:
        self._streams: OrderedDict[Hashable, Stream] = OrderedDict()

    def __len__(self) -> int:
        return len(self._streams)

    def __iter__(self) -> Iterator[Stream]:
        return iter(self._streams.values())

    def find(self, keys: PartitionKeys, reader: Reader | None, offset: int, now_s: float) -> Stream | None:
        """The stream that goes on there, which is heard of herewith."""
        stream = self._streams.get((keys, reader) if reader is not None else (keys, reader, offset))
        if stream is None or stream.offset != offset:
            stream = self._streams.get((keys, reader, offset))
        if stream is not None:
            stream.seen_s = now_s
            self._streams.move_to_end(stream.key)
        return stream

    def open(self, keys: PartitionKeys, reader: Reader | None, offset: int, now_s: float) -> Stream | None:
        """A new stream; None if there is no room (``idle`` makes some). Call ``replaced`` first."""
        if len(self._streams) >= STREAMS_MAX:
            return None
        key: Hashable = (keys, reader)
        if reader is None or key in self._streams:
            key = (keys, reader, offset)
        stream = Stream(keys, reader, offset, now_s, key, ready_s=now_s)
        self._streams[key] = stream
        return stream

    def replaced(self, keys: PartitionKeys, reader: Reader | None) -> Stream | None:
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
