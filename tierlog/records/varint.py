"""Zigzag varints of the v2 record format: encode, and a decoder for the numbers longer than one byte.

Readers inline the one-byte case (lengths and deltas below 64), which is nearly all of them.
"""

from __future__ import annotations

from tierlog.types import Buffer

MAX_VARINT_BYTES = 10


def _encode(value: int) -> bytes:
    number = (value << 1) ^ (value >> 63)
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


_SMALL_COUNT = 2048
_SMALL = [_encode(value) for value in range(_SMALL_COUNT)]


def encode_varint(value: int) -> bytes:
    """Encode ``value``, which must be within int64."""
    if 0 <= value < _SMALL_COUNT:
        return _SMALL[value]
    return _encode(value)


def decode_varint(buf: Buffer, pos: int) -> tuple[int, int]:
    """(value, position behind it). Raises IndexError at the buffer's end, ValueError beyond ten bytes; callers turn
    both into InvalidBatch, once per batch."""
    number = buf[pos]
    pos += 1
    if number < 0x80:
        return (number >> 1) ^ -(number & 1), pos
    number &= 0x7F
    shift = 7
    while True:
        byte = buf[pos]
        pos += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
        shift += 7
        if shift >= 7 * MAX_VARINT_BYTES:
            raise ValueError("varint too long")
    if number > 0xFFFFFFFFFFFFFFFF:
        raise ValueError("varint too large")
    return (number >> 1) ^ -(number & 1), pos
