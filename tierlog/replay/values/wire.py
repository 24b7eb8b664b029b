"""What serializers write before a value, or into a header of its record: which schema it has. Pure.

A zero and the schema's id, or a one and its GUID; of Protobuf, then the path to the message. What a header has of these
is put before the value, so both are read alike.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pyarrow as pa
import pyarrow.compute as pc

from tierlog.replay.values.port import DEPTH_MAX, Undecodable

HEADER = "__value_schema_id"
ID_BYTES, GUID_BYTES = 5, 17
_VARINT_BYTES_MAX = 5


def headers_of(batch: pa.RecordBatch) -> dict[int, bytes]:
    """By the row's number, what the first such header says."""
    column = batch["headers"]
    pairs = column.flatten()
    if not len(pairs):
        return {}
    found: Any = pc.indices_nonzero(pc.equal(pairs.field("key"), HEADER))
    rows = pc.list_parent_indices(column).take(found).to_pylist()
    told = pairs.field("value").take(found).to_pylist()
    return {row: data for row, data in reversed(list(zip(rows, told, strict=True))) if data is not None}


def schema_id_of(value: bytes) -> tuple[int | str, int]:
    """The schema's id or its GUID, and where what follows begins. Raises Undecodable."""
    if len(value) >= ID_BYTES and value[0] == 0:
        return int.from_bytes(value[1:ID_BYTES], "big"), ID_BYTES
    if len(value) >= GUID_BYTES and value[0] == 1:
        return str(UUID(bytes=value[1:GUID_BYTES])), GUID_BYTES
    raise Undecodable("does not begin with a schema id")


def message_path_of(value: bytes, at: int) -> tuple[tuple[int, ...], int]:
    """From there, the message's number in the file, then those of messages inside messages; and where the message itself
    begins. Raises Undecodable."""
    count, at = _zigzag(value, at)
    if count == 0:
        return (0,), at
    if not 0 < count <= DEPTH_MAX:
        raise Undecodable(f"a path of {count} messages")
    path = []
    for _ in range(count):
        number, at = _zigzag(value, at)
        path.append(number)
    return tuple(path), at


def _zigzag(value: bytes, at: int) -> tuple[int, int]:
    """The number, and where the next one begins."""
    raw = 0
    for number, byte in enumerate(value[at : at + _VARINT_BYTES_MAX]):
        raw |= (byte & 0x7F) << (7 * number)
        if byte < 0x80:
            return (raw >> 1) ^ -(raw & 1), at + number + 1
    raise Undecodable("the path to its message is cut off")
