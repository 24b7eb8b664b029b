"""What the objects of a tierlog bucket hold, byte by byte: written from ``docs/bucket-format.md``, no code of tierlog's.

Bytes in, values out; ``Refused`` for all that is unknown, damaged or cut short. ``end`` and ``end_offset`` are exclusive.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from crc32c import crc32c

VERSIONS = (1, 2)
TRAILER = struct.Struct("<8sHHIQqqII")
IDENTITY = struct.Struct("<16siiI16sQqqqiI")
BATCH_HEADER = struct.Struct(">qiibIhiqqqhii")
BATCH_LENGTH_FROM = 12  # the length of a batch counts the bytes behind itself
BATCH_CRC_FROM = 21  # its checksum covers the attributes and all behind them
CONTROL_BIT = 0x20


class Refused(ValueError):
    """One line: which object, and what is wrong with it."""


class Entry(NamedTuple):
    """One segment object; the fields are named as the columns of a page."""

    base_offset: int
    end_offset: int
    leader_epoch: int
    uuid: bytes
    data_bytes: int
    stored_bytes: int
    object_bytes: int
    first_timestamp_ms: int
    max_timestamp_ms: int
    created_ms: int
    last_batch_epoch: int
    flags: int
    location: int
    storage_class: int
    class_since_ms: int
    generation: int
    origin: int
    version_hash: int


class PageIndex(NamedTuple):
    """``name`` is the last part of its object's name."""

    name: str
    base_offset: int
    end_offset: int
    entry_count: int
    page_count: int


class Head(NamedTuple):
    """``start`` is the log start offset; it may lie inside the first live entry."""

    version: int
    sequence: int
    start: int
    end: int
    removed_end: int
    page_index: PageIndex | None
    tail: tuple[Entry, ...]
    origins: tuple[str, ...]


class Segment(NamedTuple):
    """``data`` are Kafka's record batches; ``sections`` are the footer's, by tag."""

    version: int
    base_offset: int
    end_offset: int
    data: bytes
    sections: dict[str, bytes]


class Batch(NamedTuple):
    """A record batch in Kafka's own bytes; ``last_offset`` is inclusive."""

    base_offset: int
    last_offset: int
    record_count: int
    is_control: bool
    data: bytes


def check(holds: bool, name: str, wrong: str) -> None:
    if not holds:
        raise Refused(f"{name}: {wrong}")


def check_version(version: int, features: int, name: str) -> None:
    check(version in VERSIONS, name, f"format version {version} is unknown; known are 1 and 2")
    check(version == 1 or features == 0, name, f"features {features:#x} are unknown")


class Numbers:
    """Varints, and the bytes between them."""

    def __init__(self, data: bytes, name: str) -> None:
        self.data, self.at, self.name = data, 0, name

    def raw(self, size: int) -> bytes:
        self.at += size
        check(self.at <= len(self.data), self.name, "ends inside a field")
        return self.data[self.at - size : self.at]

    def unsigned(self) -> int:
        value = shift = 0
        while (byte := self.raw(1)[0]) >= 0x80:
            value |= (byte & 0x7F) << shift
            shift += 7
        return value | byte << shift

    def signed(self) -> int:
        value = self.unsigned()
        return (value >> 1) ^ -(value & 1)

    def meta_name(self) -> str:
        return f"{self.unsigned():020}-{self.unsigned()}-{self.raw(16).hex()}"


def decode_head(data: bytes, name: str) -> Head:
    check(len(data) > 5, name, "is too short for a head")
    version, fields = data[0], Numbers(data[1:-4], name)
    check_version(version, 0, name)  # the rest may be anything where it is unknown
    check(crc32c(data[:-4]) == int.from_bytes(data[-4:], "little"), name, "fails its checksum")
    check_version(version, fields.unsigned() if version >= 2 else 0, name)
    sequence, start, end, removed_end = (fields.unsigned() for _ in range(4))
    page_index = None
    if fields.unsigned():
        page_index = PageIndex(fields.meta_name() + ".index", *(fields.unsigned() for _ in range(4)))
    tail: list[Entry] = []
    for _ in range(fields.unsigned()):
        own = Numbers(fields.raw(fields.unsigned()), name) if version >= 2 else fields
        tail.append(decode_entry(own, version, tail[-1].end_offset if tail else 0))
    for _ in range(fields.unsigned()):  # retired marks
        fields.unsigned(), fields.signed()
    for _ in range(fields.unsigned()):  # stale pages and indexes
        fields.meta_name(), fields.signed()
    origins: list[str] = []
    if version >= 2:
        for _ in range(fields.unsigned()):  # displaced segments
            fields.unsigned(), fields.unsigned(), fields.unsigned(), fields.raw(16), fields.signed()
        origins = [fields.raw(fields.unsigned()).decode() for _ in range(fields.unsigned())]
    check(fields.at == len(fields.data), name, "goes on behind its last field")
    check(
        all(entry.origin <= len(origins) for entry in tail),
        name,
        "has an entry of an origin that it does not name",
    )
    return Head(version, sequence, start, end, removed_end, page_index, tuple(tail), tuple(origins))


def decode_entry(fields: Numbers, version: int, previous_end: int) -> Entry:
    base = previous_end + fields.unsigned()
    end = base + fields.unsigned()
    epoch, uuid, data_bytes = fields.unsigned(), fields.raw(16), fields.unsigned()
    beside_bytes, created, max_timestamp = fields.unsigned(), fields.signed(), fields.signed()
    times = (max_timestamp - fields.signed(), max_timestamp, created)
    facts = (fields.signed(), fields.unsigned(), fields.unsigned())
    stored_bytes, storage = data_bytes, (0, created, 0, 0, 0)
    if version >= 2:
        stored_bytes -= fields.signed()
        storage_class, class_since = fields.unsigned(), created + fields.signed()
        storage = (storage_class, class_since, fields.unsigned(), fields.unsigned(), fields.unsigned())
    sizes = (data_bytes, stored_bytes, stored_bytes + beside_bytes)
    return Entry(base, end, epoch, uuid, *sizes, *times, *facts, *storage)


def decode_segment(data: bytes, name: str) -> Segment:
    check(len(data) >= TRAILER.size, name, "is too short for a segment object")
    trailer = data[-TRAILER.size :]
    magic, version, features, footer_bytes, data_bytes, base, end, footer_crc, own_crc = TRAILER.unpack(
        trailer
    )
    check(magic == b"TLSEGMNT", name, "does not end as a segment object does")
    check_version(version, features, name)
    check(crc32c(trailer[:-4]) == own_crc, name, "fails the checksum of its trailer")
    check(data_bytes + footer_bytes + TRAILER.size == len(data), name, "has not the size that it names")
    footer = data[data_bytes : -TRAILER.size]
    check(crc32c(footer) == footer_crc, name, "fails the checksum of its footer")
    sections: dict[str, bytes] = {}
    fields = Numbers(footer, name)
    while fields.at < len(footer):
        tag = fields.raw(1).decode("latin-1")
        sections[tag] = fields.raw(int.from_bytes(fields.raw(4), "little"))
    chunk_bytes = int.from_bytes(sections.get("h", b""), "little")
    check(chunk_bytes > 0, name, "does not say how large its chunks are")
    chunks = (data[at : min(at + chunk_bytes, data_bytes)] for at in range(0, data_bytes, chunk_bytes))
    checksums = b"".join(struct.pack("<I", crc32c(chunk)) for chunk in chunks)
    check(sections.get("c") == checksums, name, "fails a checksum of its data")
    return Segment(version, base, end, data[:data_bytes], sections)


def split_batches(data: bytes, name: str) -> Iterator[Batch]:
    at = 0
    while at < len(data):
        where = f"the batch at byte {at}"
        check(len(data) - at >= BATCH_HEADER.size, name, f"{where} is cut short")
        base, length, _, magic, crc, attributes, last_delta, *_, count = BATCH_HEADER.unpack_from(data, at)
        batch = data[at : at + BATCH_LENGTH_FROM + length]
        check(len(batch) == BATCH_LENGTH_FROM + length >= BATCH_HEADER.size, name, f"{where} is cut short")
        check(magic == 2, name, f"{where} has format {magic}; known is 2")
        check(crc32c(batch[BATCH_CRC_FROM:]) == crc, name, f"{where} fails its checksum")
        yield Batch(base, base + last_delta, count, bool(attributes & CONTROL_BIT), batch)
        at += len(batch)
