"""What serializers write before a value: a zero, the schema's id, and of Protobuf the path to the message. Pure."""

from __future__ import annotations

from tierlog.replay.values.port import DEPTH_MAX, Undecodable

HEADER_BYTES = 5
_VARINT_BYTES_MAX = 5


def schema_id_of(value: bytes) -> int:
    """Raises Undecodable."""
    if len(value) < HEADER_BYTES or value[0] != 0:
        raise Undecodable("does not begin with a schema id")
    return int.from_bytes(value[1:HEADER_BYTES], "big")


def message_path_of(value: bytes) -> tuple[tuple[int, ...], int]:
    """The message's number in the file, then those of messages inside messages; and where the message itself begins.
    Raises Undecodable."""
    count, at = _zigzag(value, HEADER_BYTES)
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
