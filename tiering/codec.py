"""The segment object: Kafka's bytes verbatim, then a footer, then a trailer of fixed size.

::

    object  := data footer trailer
    footer  := sections of length-prefixed little-endian arrays (see ``SegmentFooter.encode``)
    trailer := magic "TLSEGMNT", format_version u16, features u16, footer bytes u32, data bytes u64,
               base offset i64, end offset i64, footer CRC32C u32, trailer CRC32C u32

Rules:

* Positions and indexes are relative to the object, so an object may begin in the middle of a local segment.
* The data is cut into chunks of ``crc_chunk_bytes``, each with its CRC32C: any aligned range can be verified.
* Offset index: one point per ``INDEX_INTERVAL_BYTES``, always at a batch start, the first at position 0.
* Time index: (largest timestamp so far, offset of the first batch that holds it), growing in both.
* Since version 2 the footer names its segment (``SegmentIdentity``): with every manifest lost, the objects alone tell what
  they are. ``data bytes`` are then those that the data takes in the object. Unknown sections are skipped.
* The footer alone is enough to read the segment; with the object's size, one GET of the object's end fetches it.
"""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from sys import byteorder
from typing import NamedTuple

from crc32c import crc32c

from tiering.batches import Buffer
from tiering.errors import CorruptObject
from tiering.formats import FIRST_VERSION, FORMAT_VERSION, check_format

MAGIC = b"TLSEGMNT"
TRAILER = struct.Struct("<8sHHIQqqII")
TRAILER_BYTES = TRAILER.size
CRC_CHUNK_BYTES = 1 << 20
INDEX_INTERVAL_BYTES = 32 << 10
FOOTER_BYTES_MAX = 64 << 20
_SECTION = struct.Struct("<cI")
_IDENTITY = struct.Struct("<16siiI16sQqqqiI")


class AbortedTransaction(NamedTuple):
    """An aborted transaction: its records lie in ``[first_offset, last_offset]``, the marker at ``last_offset``.

    ``last_stable_offset``: the LSO after the marker was written, as in Kafka's transaction index."""

    producer_id: int
    first_offset: int
    last_offset: int
    last_stable_offset: int


class SegmentIdentity(NamedTuple):
    """What an entry tells of a segment, for whoever has only the object. Fields as in ``SegmentEntry``."""

    topic_id: bytes
    partition: int
    leader_epoch: int
    generation: int
    uuid: bytes
    data_bytes: int
    """Size of Kafka's batches as a reader gets them."""
    first_timestamp_ms: int
    max_timestamp_ms: int
    created_ms: int
    last_batch_epoch: int
    flags: int
    cluster_id: str
    """The cluster that wrote the object."""


@dataclass(slots=True)
class SegmentFooter:
    """Index, checksums and state of one segment object. ``end_offset`` is exclusive. Treat as frozen."""

    base_offset: int
    end_offset: int
    data_bytes: int
    crc_chunk_bytes: int = CRC_CHUNK_BYTES
    chunk_crcs: array[int] = field(default_factory=lambda: array("I"))
    index_offsets: array[int] = field(default_factory=lambda: array("q"))
    """Base offsets of the batches at ``index_positions``; ascending."""
    index_positions: array[int] = field(default_factory=lambda: array("q"))
    time_timestamps: array[int] = field(default_factory=lambda: array("q"))
    time_offsets: array[int] = field(default_factory=lambda: array("q"))
    aborted: tuple[AbortedTransaction, ...] = ()
    lineage: tuple[tuple[int, int], ...] = ()
    """(leader epoch, start offset), from the log start on."""
    producer_snapshot: bytes = b""
    identity: SegmentIdentity | None = None
    """None in objects of version 1."""

    # lookups ----------------------------------------------------------------------------------------------

    def position_before(self, offset: int) -> int:
        """Start of the last indexed batch whose base offset is at or below ``offset`` (0 below the first)."""
        at = bisect_right(self.index_offsets, offset) - 1
        return self.index_positions[at] if at >= 0 else 0

    def batch_start_floor(self, position: int) -> tuple[int, int]:
        """(byte position, base offset) of the last indexed batch that starts at or below ``position``."""
        at = max(bisect_right(self.index_positions, position) - 1, 0)
        return self.index_positions[at], self.index_offsets[at]

    def offset_before_timestamp(self, timestamp_ms: int) -> int:
        """An offset below which every batch is older than ``timestamp_ms``: start a search there."""
        at = bisect_left(self.time_timestamps, timestamp_ms) - 1
        return self.time_offsets[at] if at >= 0 else self.base_offset

    @property
    def offset_of_max_timestamp(self) -> int:
        """Base offset of the first batch that holds the largest timestamp; -1 without timestamps."""
        return self.time_offsets[-1] if self.time_offsets else -1

    @property
    def last_batch_epoch(self) -> int:
        return self.lineage[-1][0] if self.lineage else -1

    def aborted_in(self, start_offset: int, end_offset: int) -> list[AbortedTransaction]:
        """The aborted transactions that overlap ``[start_offset, end_offset)``."""
        return [a for a in self.aborted if a.last_offset >= start_offset and a.first_offset < end_offset]

    @property
    def memory_bytes(self) -> int:
        """Rough memory cost of caching the footer."""
        arrays = (self.index_offsets, self.index_positions, self.time_timestamps, self.time_offsets)
        return (
            600
            + sum(len(a) * a.itemsize for a in arrays)
            + 4 * len(self.chunk_crcs)
            + 120 * (len(self.aborted) + len(self.lineage))
            + len(self.producer_snapshot)
        )

    def verify(self, data: Buffer, position: int, key: str) -> None:
        """Check an aligned range of the data that begins at ``position``; raises ``CorruptObject``."""
        size = self.crc_chunk_bytes
        assert position % size == 0
        view = memoryview(data)
        for start in range(0, len(view), size):
            number = (position + start) // size
            if crc32c(view[start : start + size]) != self.chunk_crcs[number]:
                raise CorruptObject(f"{key}: bytes from {position + start} fail their checksum")

    # bytes ------------------------------------------------------------------------------------------------

    def encode(self) -> bytes:
        """Footer and trailer, of version 2 if the footer has an identity."""
        sections: list[tuple[bytes, bytes]] = [
            (b"h", struct.pack("<I", self.crc_chunk_bytes)),
            (b"c", _little(self.chunk_crcs)),
            (b"o", _little(self.index_offsets)),
            (b"p", _little(self.index_positions)),
            (b"t", _little(self.time_timestamps)),
            (b"u", _little(self.time_offsets)),
            (b"a", b"".join(struct.pack("<qqqq", *a) for a in self.aborted)),
            (b"l", b"".join(struct.pack("<iq", *entry) for entry in self.lineage)),
            (b"s", self.producer_snapshot),
        ]
        version = FIRST_VERSION
        if self.identity is not None:
            version = FORMAT_VERSION
            sections.append((b"i", _IDENTITY.pack(*self.identity[:-1]) + self.identity.cluster_id.encode()))
        footer = b"".join(_SECTION.pack(tag, len(body)) + body for tag, body in sections)
        trailer = TRAILER.pack(
            MAGIC,
            version,
            0,  # Features that the object uses.
            len(footer),
            self.data_bytes,
            self.base_offset,
            self.end_offset,
            crc32c(footer),
            0,
        )
        return footer + trailer[:-4] + struct.pack("<I", crc32c(trailer[:-4]))

    @staticmethod
    def decode(data: Buffer, key: str) -> SegmentFooter:
        """From exactly footer and trailer, the bytes behind the data. Raises ``CorruptObject`` or
        ``UnsupportedFormat``."""
        view = memoryview(data)
        trailer = Trailer.decode(view, key)
        footer = view[: len(view) - TRAILER_BYTES]
        if len(footer) != trailer.footer_bytes or crc32c(footer) != trailer.footer_crc:
            raise CorruptObject(f"{key}: the footer fails its checksum")
        return _decode_sections(footer, trailer, key)


class Trailer(NamedTuple):
    """The last ``TRAILER_BYTES`` of every segment object."""

    footer_bytes: int
    data_bytes: int
    base_offset: int
    end_offset: int
    footer_crc: int

    @staticmethod
    def decode(tail: Buffer, key: str) -> Trailer:
        """From any tail of the object. Raises ``CorruptObject`` or ``UnsupportedFormat``."""
        view = memoryview(tail)[-TRAILER_BYTES:]
        if len(view) < TRAILER_BYTES or bytes(view[:8]) != MAGIC:
            raise CorruptObject(f"{key}: no segment trailer at the end of the object")
        _magic, version, features, footer_bytes, data_bytes, base, end, footer_crc, crc = TRAILER.unpack(view)
        if crc32c(view[:-4]) != crc:
            raise CorruptObject(f"{key}: the trailer fails its checksum")
        check_format(key, version, features if version > FIRST_VERSION else 0)
        if footer_bytes > FOOTER_BYTES_MAX:
            raise CorruptObject(f"{key}: a footer of {footer_bytes} bytes")
        return Trailer(footer_bytes, data_bytes, base, end, footer_crc)


def _decode_sections(footer: memoryview, trailer: Trailer, key: str) -> SegmentFooter:
    bodies: dict[bytes, memoryview] = {}
    position = 0
    while position < len(footer):
        tag, size = _SECTION.unpack_from(footer, position)
        position += _SECTION.size
        bodies[tag] = footer[position : position + size]
        position += size
    try:
        decoded = SegmentFooter(
            base_offset=trailer.base_offset,
            end_offset=trailer.end_offset,
            data_bytes=trailer.data_bytes,
            crc_chunk_bytes=struct.unpack("<I", bodies[b"h"])[0],
            chunk_crcs=_array("I", bodies[b"c"]),
            index_offsets=_array("q", bodies[b"o"]),
            index_positions=_array("q", bodies[b"p"]),
            time_timestamps=_array("q", bodies[b"t"]),
            time_offsets=_array("q", bodies[b"u"]),
            aborted=tuple(AbortedTransaction(*row) for row in struct.iter_unpack("<qqqq", bodies[b"a"])),
            lineage=tuple(struct.iter_unpack("<iq", bodies[b"l"])),
            producer_snapshot=bytes(bodies[b"s"]),
            identity=_identity(bodies.get(b"i")),
        )
    except (KeyError, ValueError, struct.error) as e:
        raise CorruptObject(f"{key}: the footer is not of its format: {e}") from None
    chunks = -(-decoded.data_bytes // decoded.crc_chunk_bytes) if decoded.crc_chunk_bytes else -1
    if len(decoded.chunk_crcs) != chunks:
        raise CorruptObject(f"{key}: {len(decoded.chunk_crcs)} chunk checksums where {chunks} are due")
    return decoded


def _identity(body: memoryview | None) -> SegmentIdentity | None:
    if body is None:
        return None
    cluster_id = str(body[_IDENTITY.size :], "utf-8")
    return SegmentIdentity._make((*_IDENTITY.unpack_from(body), cluster_id))


def _little(values: array[int]) -> bytes:
    if byteorder == "little":
        return values.tobytes()
    swapped = array(values.typecode, values)
    swapped.byteswap()
    return swapped.tobytes()


def _array(typecode: str, body: memoryview) -> array[int]:
    values: array[int] = array(typecode)
    values.frombytes(body)
    if byteorder != "little":
        values.byteswap()
    return values


def trimmed_lineage(lineage: Sequence[tuple[int, int]], end_offset: int) -> tuple[tuple[int, int], ...]:
    """The epochs that wrote below ``end_offset``."""
    return tuple((epoch, start) for epoch, start in lineage if start < end_offset)
