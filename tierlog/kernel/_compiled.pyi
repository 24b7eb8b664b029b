"""The functions of ``src/``. Positions are bytes; ranges are half-open; data may be anything with a buffer."""

from typing import TypeVar

from tierlog.types import Buffer

_Header = TypeVar("_Header", bound=tuple[int, ...])

CRC32C: str
"""How checksums are computed here: by ``instruction`` or by ``table``."""

def crc32c(data: Buffer, crc: int = 0, by_table: bool = False, /) -> int:
    """CRC32C of the data behind whatever ``crc`` stands for."""

def headers(
    data: Buffer, start: int, end: int, verify: bool, limit: int, header_type: type[_Header], /
) -> tuple[list[_Header], int]:
    """The headers of the whole batches from ``start`` on, at most ``limit``, and the start of the first that is none:
    cut off, malformed, or with ``verify`` one whose checksum does not hold. ``header_type``: the named tuple of a header's
    13 fields in their order. Raises ValueError for a start outside of the data."""

def followed(
    data: Buffer, end_offset: int, epoch: int, header_type: type[_Header], /
) -> tuple[list[_Header], int]:
    """The headers of the batches at the start of ``data`` that a follower appends to a log that ends at ``end_offset`` and
    has reached ``epoch``, and where they stop: before what ``replicated_batches`` refuses or leaves out, and before a
    marker."""

def noted(
    data: Buffer, count: int, position: int, interval: int, since: int, timestamp: int, offset: int, /
) -> tuple[int, int, int, int, list[tuple[int, int, int, int]]]:
    """``Segment.note_batch`` for the first ``count`` batches of ``data``, which lie at ``position``: how many were noted,
    the bytes since the last index entry, the largest timestamp and its offset, and the entries that are due, each (last
    offset, position, largest timestamp, its offset)."""

def told(data: Buffer, count: int, remembered: int, /) -> list[tuple[int, int]]:
    """(number, position) of those of the first ``count`` batches of ``data`` of which producers must be told: all that
    have a producer id, without those that are forgotten at once, for ``remembered`` more of the same producer and epoch
    follow, none of them of a transaction. Raises ValueError for a ``remembered`` outside of [1, 16]."""

def whole_below(data: Buffer, end_offset: int, /) -> tuple[int, int]:
    """(bytes, end offset) of the batches at the start of ``data`` that end at or below ``end_offset``; (0, -1) for none.
    Stops at whatever is no batch."""

def walk_segment(
    data: Buffer,
    state: tuple[int, int, int, int, int, int, int, int, int, int, int],
    base_offset: int,
    index_interval_bytes: int,
    crc_chunk_bytes: int,
    /,
) -> tuple[
    int, tuple[int, int, int, int, int, int, int, int, int, int, int], bytes, bytes, bytes, bytes, bytes
]:
    """``tiering.copying.scan.WalkSegment``; without the lock over more than 256 KB. Raises ValueError for no state."""
