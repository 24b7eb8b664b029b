"""Bytes of many record batches to Arrow record batches of a bounded size.

Left out: control batches, batches outside of the wanted offsets, and those of aborted transactions that the caller names.
Each batch that is read is checked against its CRC32C first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from tierlog.errors import ErrorCode
from tierlog.records.batch import (
    COMPRESSION_MASK,
    HEADER_BYTES,
    BatchHeader,
    InvalidBatch,
    verify_crc,
    walk,
)
from tierlog.records.compression import output_limit
from tierlog.records.spans import bounded_count
from tierlog.replay.decode.codecs import opened
from tierlog.replay.decode.columns import Batches, Wanted, record_batch
from tierlog.replay.decode.fields import fields_of
from tierlog.replay.decode.plain import plain_record_batch
from tierlog.replay.decode.varints import SLACK_BYTES, Arena, Positions, Unusual
from tierlog.types import Buffer

GROUP_BYTES = 8 << 20
"""Uncompressed batches that are decoded at once: so many bytes, or one batch."""
BODY_BYTES_MAX = 1 << 30
"""Of one batch; a column of Arrow holds 2 GiB."""
IsAborted = Callable[[BatchHeader], bool]


class Decoded(NamedTuple):
    """Some records, and the offset behind them and whatever was left out among them."""

    batch: pa.RecordBatch
    next_offset: int


def none_aborted(header: BatchHeader) -> bool:
    return False


def decode(
    data: Buffer,
    wanted: Wanted,
    is_aborted: IsAborted = none_aborted,
    *,
    start: int = 0,
    end: int | None = None,
) -> Iterator[Decoded]:
    """The records of the whole batches in ``data[start:end]``. Record batches may be empty of rows, never of columns.

    Raises InvalidBatch at the first damaged batch; what came before it has been yielded."""
    group = _Group(data, wanted)
    for pos, header in walk(data, start, end):
        if header.next_offset <= wanted.start_offset:
            continue
        if header.base_offset >= wanted.end_offset:
            break
        if not header.records_count or header.is_control or is_aborted(header):
            continue
        if not verify_crc(data, pos, header):
            where = f"the batch at offset {header.base_offset}"
            raise InvalidBatch(ErrorCode.CORRUPT_MESSAGE, f"{where} fails its checksum")
        group.add(pos, header)
        if group.body_bytes >= GROUP_BYTES:
            yield group.take()
    if group.headers:
        yield group.take()


class _Group:
    """Batches that wait to be decoded together. While none is compressed they stay where they are."""

    def __init__(self, data: Buffer, wanted: Wanted) -> None:
        self._data, self._view, self._wanted = data, memoryview(data), wanted
        self._clear()

    def _clear(self) -> None:
        self.headers: list[BatchHeader] = []
        self.body_bytes = 0
        self._places: list[tuple[int, int]] = []
        """Of the bodies in the data."""
        self._opened: dict[int, bytes] = {}
        """The compressed ones, by number."""

    def add(self, pos: int, header: BatchHeader) -> None:
        """Raises InvalidBatch."""
        begin, end = pos + HEADER_BYTES, pos + header.size_bytes
        if header.attributes & COMPRESSION_MASK:
            packed = self._view[begin:end]
            limit = min(output_limit(len(packed)), BODY_BYTES_MAX)
            try:
                body = opened(header.compression, packed, limit)
            except InvalidBatch as error:
                where = f"the batch at offset {header.base_offset}"
                raise InvalidBatch(error.error_code, f"{where}: {error}") from error
            self._opened[len(self.headers)] = body
            self.body_bytes += len(body)
        else:
            self.body_bytes += end - begin
        bounded_count(header.records_count, BODY_BYTES_MAX, 1)
        self._places.append((begin, end))
        self.headers.append(header)

    def take(self) -> Decoded:
        headers, wanted = self.headers, self._wanted
        try:
            arena, begins, ends = self._arena()
            counts = np.array([header.records_count for header in headers], dtype=np.int64)
            fields = fields_of(arena, begins, ends, counts)
            made = record_batch(arena, Batches.of(headers), fields, wanted)
        except Unusual:
            made = plain_record_batch([self._body(number) for number in range(len(headers))], headers, wanted)
        next_offset = min(headers[-1].next_offset, wanted.end_offset)
        self._clear()
        return Decoded(made, next_offset)

    def _body(self, number: int) -> bytes:
        begin, end = self._places[number]
        return self._opened.get(number) or bytes(self._view[begin:end])

    def _arena(self) -> tuple[Arena, Positions, Positions]:
        """A buffer that holds all bodies and some bytes more, and where in it they are."""
        places = np.array(self._places, dtype=np.int64)
        last_end = int(places[-1, 1])
        if not self._opened and last_end + SLACK_BYTES <= len(self._data):
            first = int(places[0, 0])
            return (
                Arena.of(self._view[first : last_end + SLACK_BYTES]),
                places[:, 0] - first,
                places[:, 1] - first,
            )
        bodies: list[Buffer] = [
            self._opened[number] if number in self._opened else self._view[begin:end]
            for number, (begin, end) in enumerate(self._places)
        ]
        sizes = np.array([len(body) for body in bodies], dtype=np.int64)
        ends = np.cumsum(sizes)
        return Arena.of(b"".join([*bodies, bytes(SLACK_BYTES)])), ends - sizes, ends
