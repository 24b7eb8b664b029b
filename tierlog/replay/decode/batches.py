"""Bytes of many record batches to Arrow record batches of a bounded size.

Left out: control batches, batches outside of the wanted offsets, and those of aborted transactions that the caller names.
Each batch that is read is checked against its CRC32C first.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress

import numpy as np

from tierlog import kernel
from tierlog.errors import ErrorCode
from tierlog.records.batch import (
    COMPRESSION_MASK,
    CONTROL_BIT,
    HEADER_BYTES,
    BatchHeader,
    InvalidBatch,
    verify_crc,
    walk,
    walk_whole,
)
from tierlog.replay.decode.codecs import Opener, body_limit
from tierlog.replay.decode.columns import Batches, Decoded, Wanted, record_batch
from tierlog.replay.decode.compiled import in_one_call
from tierlog.replay.decode.fields import fields_of
from tierlog.replay.decode.plain import plain_record_batch
from tierlog.replay.decode.varints import SLACK_BYTES, Arena, Positions, Unusual
from tierlog.types import Buffer

GROUP_BYTES = 8 << 20
"""Uncompressed batches that are decoded at once: so many bytes, or one batch."""
IsAborted = Callable[[BatchHeader], bool]


def none_aborted(header: BatchHeader) -> bool:
    return False


def decode(
    data: Buffer,
    wanted: Wanted,
    is_aborted: IsAborted = none_aborted,
    *,
    start: int = 0,
    end: int | None = None,
    parts: int = 1,
) -> Iterator[Decoded]:
    """The records of the whole batches in ``data[start:end]``. Record batches may be empty of rows, never of columns.

    Raises InvalidBatch at the first damaged batch; what came before it has been yielded."""
    stop = len(data) if end is None else end
    bytes_max = GROUP_BYTES // parts
    if kernel.compiled is None:
        yield from _in_steps(data, wanted, is_aborted, start, stop, bytes_max)
        return
    left_out = _left_out(data, start, stop, is_aborted)
    for made in in_one_call(kernel.compiled, data, wanted, left_out, start, stop, bytes_max):
        if isinstance(made, Decoded):
            yield made
        else:
            yield from _in_steps(data, wanted, is_aborted, *made, bytes_max)


def _left_out(data: Buffer, start: int, end: int, is_aborted: IsAborted) -> array[int]:
    """Positions of the batches of aborted transactions, up to whatever is no batch."""
    found = array("q")
    if is_aborted is not none_aborted:
        with suppress(InvalidBatch):
            found.extend(at for at, header in walk_whole(data, start, end) if is_aborted(header))
    return found


def _in_steps(
    data: Buffer, wanted: Wanted, is_aborted: IsAborted, start: int, end: int, bytes_max: int
) -> Iterator[Decoded]:
    group = _Group(data, wanted, bytes_max)
    start_offset, end_offset = wanted.start_offset, wanted.end_offset
    asks = is_aborted is not none_aborted
    try:
        for pos, header in walk(data, start, end):
            base_offset = header.base_offset
            if base_offset + header.last_offset_delta < start_offset:
                continue
            if base_offset >= end_offset:
                break
            if not header.records_count or header.attributes & CONTROL_BIT or (asks and is_aborted(header)):
                continue
            if not verify_crc(data, pos, header):
                raise _at(header, InvalidBatch(ErrorCode.CORRUPT_MESSAGE, "fails its checksum"))
            if not group.takes(header):
                yield group.take()
            group.add(pos, header)
        if group.headers:
            yield group.take()
    finally:
        group.close()


def _at(header: BatchHeader, error: InvalidBatch) -> InvalidBatch:
    return InvalidBatch(error.error_code, f"the batch at offset {header.base_offset}: {error}")


_spare: deque[bytearray] = deque(maxlen=2)
"""Buffers of groups that are done, of any thread: fresh memory costs as much as decoding does."""


class _Group:
    """Batches that wait to be decoded together: all compressed, and opened into one buffer, or all as they came."""

    def __init__(self, data: Buffer, wanted: Wanted, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._data, self._view, self._wanted = data, memoryview(data), wanted
        self._buffer = bytearray()
        self._opener = Opener()
        self._clear()

    def _clear(self) -> None:
        self.headers: list[BatchHeader] = []
        self._is_packed = False
        self._places: list[tuple[int, int]] = []
        """Of the bodies, in the buffer or in the data."""
        self._body_bytes = 0

    def close(self) -> None:
        if self._buffer:
            _spare.append(self._buffer)

    def takes(self, header: BatchHeader) -> bool:
        if not self.headers:
            return True
        is_packed = header.attributes & COMPRESSION_MASK != 0
        return is_packed == self._is_packed and self._body_bytes < self._bytes_max

    def add(self, pos: int, header: BatchHeader) -> None:
        """Raises InvalidBatch."""
        begin, end = pos + HEADER_BYTES, pos + header.size_bytes
        if header.attributes & COMPRESSION_MASK:
            packed = self._view[begin:end]
            try:
                body = self._opener.opened(header.compression, packed, body_limit(len(packed)))
            except InvalidBatch as error:
                raise _at(header, error) from error
            self._is_packed = True
            begin, end = self._body_bytes, self._body_bytes + len(body)
            self._reserve(end + SLACK_BYTES)
            self._buffer[begin:end] = body
        self._body_bytes += end - begin
        self._places.append((begin, end))
        self.headers.append(header)

    def _reserve(self, size_bytes: int) -> None:
        """Room for so many bytes of the buffer. Arrow may look at the old one still, so that one is left as it is."""
        if size_bytes > len(self._buffer):
            try:
                spare = _spare.pop()
            except IndexError:  # Other threads decode too.
                spare = bytearray()
            if len(spare) < size_bytes:
                spare = bytearray(max(size_bytes, self._bytes_max + self._bytes_max // 4))
            spare[: self._body_bytes] = self._buffer[: self._body_bytes]
            self._buffer = spare

    def take(self) -> Decoded:
        headers, wanted = self.headers, self._wanted
        counts = np.array([header.records_count for header in headers], dtype=np.int64)
        try:
            arena, begins, ends = self._arena()
            fields = fields_of(arena, begins, ends, counts)
            made = record_batch(arena, Batches.of(headers), fields, wanted)
        except Unusual:
            whole = memoryview(self._buffer) if self._is_packed else self._view
            bodies = [bytes(whole[begin:end]) for begin, end in self._places]
            made = plain_record_batch(bodies, headers, wanted)
        next_offset = min(headers[-1].next_offset, wanted.end_offset)
        self._clear()
        return Decoded(made, next_offset)

    def _arena(self) -> tuple[Arena, Positions, Positions]:
        """A buffer that holds all bodies and some bytes more, and where in it they are."""
        places = np.array(self._places, dtype=np.int64)
        first, end = int(places[0, 0]), int(places[-1, 1])
        if self._is_packed:
            arena = Arena.of(memoryview(self._buffer)[: end + SLACK_BYTES])
        elif end + SLACK_BYTES <= len(self._data):
            arena = Arena.of(self._view[first : end + SLACK_BYTES])
        else:
            arena = Arena.of(b"".join([self._view[first:end], bytes(SLACK_BYTES)]))
        return arena, places[:, 0] - first, places[:, 1] - first
