"""The part of Protocol Buffers' wire format that etcd's messages need.

Encoding concatenates fields; a zero number or empty bytes is left out, as proto3 wants it. Decoding yields every field
of a message in order; unknown ones are for the caller to ignore.
"""

from __future__ import annotations

from collections.abc import Iterator

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


class BadMessage(ValueError):
    """The peer does not speak Protocol Buffers."""


def varint(value: int) -> bytes:
    assert value >= 0, value
    if value < 0x80:
        return bytes((value,))
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def number(field: int, value: int) -> bytes:
    """A non-negative integer, a boolean or an enum."""
    return varint(field << 3) + varint(value) if value else b""


def blob(field: int, data: bytes) -> bytes:
    """Bytes or text."""
    return message(field, data) if data else b""


def message(field: int, data: bytes) -> bytes:
    """A nested message, which is written even when it is empty."""
    return varint(field << 3 | _BYTES) + varint(len(data)) + data


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """The value at ``at`` and where it ends."""
    value = data[at]
    at += 1
    if value < 0x80:
        return value, at
    value &= 0x7F
    shift = 7
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def fields(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Each field as (field number, integer, bytes); the one of the two that the field does not have is 0 or empty.
    Raises ``BadMessage``."""
    at, end = 0, len(data)
    try:
        while at < end:
            tag, at = read_varint(data, at)
            kind = tag & 7
            if kind == _BYTES:
                size, at = read_varint(data, at)
                at += size
                if at > end:
                    raise BadMessage("a field ends behind its message")
                yield tag >> 3, 0, data[at - size : at]
            elif kind == _VARINT:
                value, at = read_varint(data, at)
                yield tag >> 3, value, b""
            elif kind in (_FIXED64, _FIXED32):
                at += 8 if kind == _FIXED64 else 4
            else:
                raise BadMessage(f"wire type {kind}")
    except IndexError:
        raise BadMessage("the message is cut") from None
