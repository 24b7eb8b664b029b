"""Arrow buffers that the kernel fills, and the record batch that they make.

How large they must be is known once they are full, so it is guessed from what a group before took, or the first batch alone:
what is too small ends a group early, what is too large is memory that is never touched.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from tierlog.replay.decode.columns import Decoded, Wanted, topic_column
from tierlog.replay.decode.schema import HEADER
from tierlog.types import Buffer

SLACK_BYTES = 64
"""Behind each column's bytes: short strings are copied in pieces of fixed size."""
SHRINK_BELOW = 0.5
"""A buffer of which less is used is made smaller; above it, Arrow's allocator would leave it where it is."""


class Sizes(NamedTuple):
    """Room for so much; of each kind of bytes together."""

    rows: int
    key_bytes: int
    value_bytes: int
    headers: int
    name_bytes: int
    content_bytes: int

    def times(self, factor: float) -> Sizes:
        return Sizes(*(int(each * factor) + 1 for each in self))

    @property
    def string_bytes(self) -> int:
        return self.key_bytes + self.value_bytes + self.name_bytes + self.content_bytes


_TALLY = (
    "rows",
    "timestamp_nulls",
    "next_offset",
    "batches",
    "key_bytes",
    "key_nulls",
    "value_bytes",
    "value_nulls",
    "headers",
    "name_bytes",
    "content_bytes",
    "content_nulls",
)
"""The kernel's int64 numbers, in its order."""


class Buffers:
    """One group's. ``columns`` and ``tally`` are what ``kernel.columns`` takes."""

    def __init__(self, wanted: Wanted, room: Sizes) -> None:
        self._wanted = wanted
        self.tally = np.zeros(len(_TALLY), dtype=np.int64)
        names = set(wanted.schema.names)
        bits, ends = room.rows // 8 + 1, 4 * (room.rows + 1)
        header_bits, header_ends = room.headers // 8 + 1, 4 * (room.headers + 1)
        self._buffers: dict[str, Any] = {
            "offset": _buffer("offset" in names, 8 * room.rows),
            "timestamp": _buffer("timestamp" in names, 8 * room.rows),
            "timestamp_valid": _buffer("timestamp" in names, bits),
            "timestamp_type": _buffer("timestamp_type" in names, room.rows),
            "leader_epoch": _buffer("leader_epoch" in names, 4 * room.rows),
            "key_ends": _buffer("key" in names, ends),
            "key": _buffer("key" in names, room.key_bytes),
            "key_valid": _buffer("key" in names, bits),
            "value_ends": _buffer("value" in names, ends),
            "value": _buffer("value" in names, room.value_bytes),
            "value_valid": _buffer("value" in names, bits),
            "headers_ends": _buffer("headers" in names, ends),
            "name_ends": _buffer("headers" in names, header_ends),
            "name": _buffer("headers" in names, room.name_bytes),
            "name_valid": None,
            "content_ends": _buffer("headers" in names, header_ends),
            "content": _buffer("headers" in names, room.content_bytes),
            "content_valid": _buffer("headers" in names, header_bits),
        }
        self.columns: tuple[Buffer | None, ...] = tuple(self._buffers.values())

    def used(self) -> Sizes:
        told = self._told()
        return Sizes(*(told[name] for name in Sizes._fields))

    @property
    def is_empty(self) -> bool:
        return not self._told()["batches"]

    def taken(self) -> Decoded:
        """The records; nothing can be added any more."""
        told, wanted = self._told(), self._wanted
        arrays = [self._array(field, told) for field in wanted.schema]
        batch = pa.RecordBatch.from_arrays(arrays, schema=wanted.schema)
        return Decoded(batch, min(told["next_offset"], wanted.end_offset))

    def _told(self) -> dict[str, int]:
        return dict(zip(_TALLY, self.tally.tolist(), strict=True))

    def _array(self, field: pa.Field, told: dict[str, int]) -> pa.Array:
        rows, name = told["rows"], field.name
        if name == "topic":
            return topic_column(self._wanted.topic, rows)
        if name == "partition":
            return pa.array(np.full(rows, self._wanted.partition, dtype=np.int32))
        if name in ("key", "value"):
            return self._strings(name, field.type, rows, told)
        if name == "headers":
            parts = [
                self._strings("name", pa.string(), told["headers"], told),
                self._strings("content", pa.binary(), told["headers"], told),
            ]
            pairs = pa.StructArray.from_arrays(parts, fields=list(HEADER))
            ends = self._cut("headers_ends", 4 * (rows + 1))
            return pa.Array.from_buffers(field.type, rows, [None, ends], children=[pairs])
        data = self._cut(name, rows * field.type.bit_width // 8)
        return pa.Array.from_buffers(field.type, rows, [self._valid(name, rows, told), data])

    def _strings(self, name: str, kind: pa.DataType, count: int, told: dict[str, int]) -> pa.Array:
        ends, data = self._cut(f"{name}_ends", 4 * (count + 1)), self._cut(name, told[f"{name}_bytes"])
        return pa.Array.from_buffers(kind, count, [self._valid(name, count, told), ends, data])

    def _valid(self, name: str, count: int, told: dict[str, int]) -> pa.Buffer | None:
        return self._cut(f"{name}_valid", -(-count // 8)) if told.get(f"{name}_nulls") else None

    def _cut(self, name: str, size_bytes: int) -> pa.Buffer:
        buffer = self._buffers[name]
        buffer.resize(size_bytes, shrink_to_fit=size_bytes < SHRINK_BELOW * buffer.size)
        return buffer


def _buffer(is_wanted: bool, size_bytes: int) -> pa.Buffer | None:
    return pa.allocate_buffer(size_bytes + SLACK_BYTES, resizable=True) if is_wanted else None
