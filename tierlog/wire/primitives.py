"""The variable-length pieces of the protocol, and the bounds that every length obeys.

Generated and hand-written codecs inline the hot cases; the rare or long ones are here. All functions take a position
and return the one behind what they read. They raise ``MalformedMessage`` or IndexError, never read past ``end``, and
never allocate by a length that the remaining bytes do not cover.
"""

from __future__ import annotations

from tierlog.errors import MalformedMessage
from tierlog.types import Buffer

MAX_VARINT_BYTES = 5
MAX_VARINT = (1 << 32) - 1
MAX_STRING_BYTES = 32767  # Kafka's readers accept no more, even in compact form
MAX_TAGS = 10_000  # tagged fields in one struct, as in Kafka


def read_uvarint(data: bytes | memoryview, at: int) -> tuple[int, int]:
    """An unsigned varint of at most 32 bits (five bytes)."""
    value = data[at]
    if value < 128:
        return value, at + 1
    value &= 127
    for index in range(1, MAX_VARINT_BYTES):
        byte = data[at + index]
        value |= (byte & 127) << (7 * index)
        if byte < 128:
            if value > MAX_VARINT:
                break
            return value, at + index + 1
    raise MalformedMessage("varint longer than 32 bits")


def uvarint(value: int) -> bytes:
    """``value`` as an unsigned varint."""
    if value < 128:
        return bytes((value,))
    out = bytearray()
    while value > 127:
        out.append((value & 127) | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def skip_tags(data: bytes | memoryview, count: int, at: int, end: int) -> int:
    """Skips the tagged fields behind a count of one byte. A count byte above 127 is the start of a longer
    varint, whose low seven bits are ``count & 127``."""
    if count > 127:
        count, at = read_uvarint(data, at - 1)
    if count * 2 > end - at:
        raise MalformedMessage(f"{count} tagged fields in {end - at} bytes")
    if count > MAX_TAGS:
        raise MalformedMessage(f"{count} tagged fields in one struct; at most {MAX_TAGS} are allowed")
    for _ in range(count):
        _, size, at = read_tag(data, at, end)
        at += size
    return at


def read_tag(data: bytes | memoryview, at: int, end: int) -> tuple[int, int, int]:
    """The head of one tagged field: (tag, size in bytes, position of its body); the body lies before
    ``end``."""
    tag, at = read_uvarint(data, at)
    size, at = read_uvarint(data, at)
    if size > end - at:
        raise MalformedMessage(f"tagged field of {size} bytes where {end - at} remain")
    return tag, size, at


def append_records(iovecs: list[Buffer], records: object) -> int:
    """Appends one buffer, or a sequence of buffers, by reference; returns the bytes appended."""
    if isinstance(records, (bytes, bytearray, memoryview)):
        iovecs.append(records)
        return len(records)
    assert isinstance(records, (list, tuple))
    iovecs.extend(records)
    return sum(map(len, records))
