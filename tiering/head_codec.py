"""The head as bytes: value of the metadata store's tier key, and content of the head copy in the bucket.

Layout: format_version (one byte), features (since version 2), then unsigned varints (timestamps zigzag), CRC32C of all
before (4 bytes, little-endian). Entries store differences (base to the previous end, end to base, timestamps to each other),
so that 64 of them stay near 4 KB and a full head below ``HEAD_BYTES_MAX``. Since version 2 each entry begins with its
length, and what a reader does not know at its end is skipped. ``docs/bucket-format.md`` has it field by field.
"""

from __future__ import annotations

from dataclasses import replace

from crc32c import crc32c

from tiering.errors import CorruptObject
from tiering.formats import FIRST_VERSION, check_format
from tiering.model import (
    DisplacedSegment,
    MetaObject,
    PageIndexRef,
    RetiredMark,
    SegmentEntry,
    StaleObject,
    TierHead,
)

HEAD_BYTES_MAX = 16 << 10
"""Above any head that the bounds of the model allow."""
UUID_BYTES = 16


def encode_head(head: TierHead) -> bytes:
    """At most ``HEAD_BYTES_MAX`` bytes."""
    head.check()
    out = _Writer()
    out.bytes.append(head.format_version)
    if head.format_version > FIRST_VERSION:
        out.unsigned(0)  # Features that the head uses.
    for number in (head.sequence, head.start, head.end, head.removed_end):
        out.unsigned(number)
    ref = head.page_index
    out.unsigned(0 if ref is None else 1)
    if ref is not None:
        out.meta_object(ref.name)
        for number in ref[1:]:
            out.unsigned(number)
    out.unsigned(len(head.tail))
    previous_end = 0
    for entry in head.tail:
        if head.format_version == FIRST_VERSION:
            _write_first(out, entry, previous_end, entry.data_bytes)
        else:
            _write_entry(out, entry, previous_end)
        previous_end = entry.end_offset
    out.unsigned(len(head.retired))
    for mark in head.retired:
        out.unsigned(mark.end_offset)
        out.signed(mark.retired_ms)
    out.unsigned(len(head.stale))
    for stale in head.stale:
        out.meta_object(stale.name)
        out.signed(stale.stale_ms)
    if head.format_version > FIRST_VERSION:
        _write_second(out, head)
    out.bytes += crc32c(bytes(out.bytes)).to_bytes(4, "little")
    assert len(out.bytes) <= HEAD_BYTES_MAX
    return bytes(out.bytes)


def decode_head(data: bytes, where: str = "tier head") -> TierHead:
    """Raises ``UnsupportedFormat`` or ``CorruptObject``, each with one line that names ``where``."""
    if not data:
        raise CorruptObject(f"{where}: empty")
    check_format(where, data[0])
    if len(data) < 5 or crc32c(data[:-4]) != int.from_bytes(data[-4:], "little"):
        raise CorruptObject(f"{where}: fails its checksum")
    try:
        head = _read_head(_Reader(data[:-4], 1), data[0], where)
        head.check()
    except (IndexError, AssertionError, UnicodeDecodeError) as e:
        raise CorruptObject(f"{where}: is not of its format: {e}") from None
    return head


def _read_head(data: _Reader, version: int, where: str) -> TierHead:
    is_first = version == FIRST_VERSION
    if not is_first:
        check_format(where, version, data.unsigned())
    sequence, start, end, removed_end = (data.unsigned() for _ in range(4))
    page_index = None
    if data.unsigned():
        name = data.meta_object()
        page_index = PageIndexRef(name, *(data.unsigned() for _ in range(4)))
    tail: list[SegmentEntry] = []
    previous_end = 0
    for _ in range(data.unsigned()):
        tail.append((_read_first if is_first else _read_entry)(data, previous_end))
        previous_end = tail[-1].end_offset
    retired = tuple(RetiredMark(data.unsigned(), data.signed()) for _ in range(data.unsigned()))
    stale = tuple(StaleObject(data.meta_object(), data.signed()) for _ in range(data.unsigned()))
    head = TierHead(start, end, tuple(tail), page_index, retired, removed_end, stale, sequence, version)
    return head if is_first else replace(head, displaced=_read_displaced(data), origins=_read_origins(data))


def _write_second(out: _Writer, head: TierHead) -> None:
    """What the second version has behind the fields of the first."""
    out.unsigned(len(head.displaced))
    for each in head.displaced:
        out.unsigned(each.base_offset)
        out.unsigned(each.end_offset - each.base_offset)
        out.unsigned(each.leader_epoch)
        out.bytes += each.uuid
        out.signed(each.displaced_ms)
    out.unsigned(len(head.origins))
    for origin in head.origins:
        encoded = origin.encode()
        out.unsigned(len(encoded))
        out.bytes += encoded


def _read_displaced(data: _Reader) -> tuple[DisplacedSegment, ...]:
    found = []
    for _ in range(data.unsigned()):
        base = data.unsigned()
        found.append(
            DisplacedSegment(
                base, base + data.unsigned(), data.unsigned(), data.take(UUID_BYTES), data.signed()
            )
        )
    return tuple(found)


def _read_origins(data: _Reader) -> tuple[str, ...]:
    return tuple(data.take(data.unsigned()).decode() for _ in range(data.unsigned()))


def _write_first(out: _Writer, entry: SegmentEntry, previous_end: int, stored_bytes: int) -> None:
    """The fields of the first version."""
    out.unsigned(entry.base_offset - previous_end)
    out.unsigned(entry.end_offset - entry.base_offset)
    out.unsigned(entry.leader_epoch)
    out.bytes += entry.uuid
    out.unsigned(entry.data_bytes)
    out.unsigned(entry.object_bytes - stored_bytes)
    out.signed(entry.created_ms)
    out.signed(entry.max_timestamp_ms)
    out.signed(entry.max_timestamp_ms - entry.first_timestamp_ms)
    out.signed(entry.last_batch_epoch)
    out.unsigned(entry.flags)
    out.unsigned(entry.location)


def _read_first(data: _Reader, previous_end: int) -> SegmentEntry:
    base = previous_end + data.unsigned()
    end = base + data.unsigned()
    leader_epoch = data.unsigned()
    uuid = data.take(UUID_BYTES)
    data_bytes = data.unsigned()
    object_bytes = data_bytes + data.unsigned()
    created_ms, max_timestamp_ms = data.signed(), data.signed()
    first_timestamp_ms = max_timestamp_ms - data.signed()
    last_batch_epoch = data.signed()
    flags, location = data.unsigned(), data.unsigned()
    return SegmentEntry(
        base,
        end,
        leader_epoch,
        uuid,
        data_bytes,
        data_bytes,
        object_bytes,
        first_timestamp_ms,
        max_timestamp_ms,
        created_ms,
        last_batch_epoch,
        flags,
        location,
        class_since_ms=created_ms,
    )


def _write_entry(out: _Writer, entry: SegmentEntry, previous_end: int) -> None:
    """The fields of the first version, then those of the second, behind their length."""
    body = _Writer()
    _write_first(body, entry, previous_end, entry.stored_bytes)
    body.signed(entry.data_bytes - entry.stored_bytes)
    body.unsigned(entry.storage_class)
    body.signed(entry.class_since_ms - entry.created_ms)
    body.unsigned(entry.generation)
    body.unsigned(entry.origin)
    body.unsigned(entry.version_hash)
    out.unsigned(len(body.bytes))
    out.bytes += body.bytes


def _read_entry(data: _Reader, previous_end: int) -> SegmentEntry:
    body = _Reader(data.take(data.unsigned()), 0)
    first = _read_first(body, previous_end)
    saved_bytes = body.signed()
    storage_class, class_age_ms, generation, origin = (
        body.unsigned(),
        body.signed(),
        body.unsigned(),
        body.unsigned(),
    )
    return first._replace(
        stored_bytes=first.data_bytes - saved_bytes,
        object_bytes=first.object_bytes - saved_bytes,
        storage_class=storage_class,
        class_since_ms=first.created_ms + class_age_ms,
        generation=generation,
        origin=origin,
        version_hash=body.unsigned(),
    )


class _Writer:
    def __init__(self) -> None:
        self.bytes = bytearray()

    def unsigned(self, number: int) -> None:
        assert number >= 0
        while number > 0x7F:
            self.bytes.append(number & 0x7F | 0x80)
            number >>= 7
        self.bytes.append(number)

    def signed(self, number: int) -> None:
        self.unsigned(number << 1 if number >= 0 else (-number << 1) - 1)

    def meta_object(self, name: MetaObject) -> None:
        self.unsigned(name.sequence)
        self.unsigned(name.leader_epoch)
        self.bytes += name.uuid


class _Reader:
    def __init__(self, data: bytes, position: int) -> None:
        self._data = data
        self._position = position

    def unsigned(self) -> int:
        number = shift = 0
        while True:
            byte = self._data[self._position]
            self._position += 1
            number |= (byte & 0x7F) << shift
            if byte < 0x80:
                return number
            shift += 7

    def signed(self) -> int:
        number = self.unsigned()
        return number >> 1 if not number & 1 else -((number + 1) >> 1)

    def take(self, count: int) -> bytes:
        taken = self._data[self._position : self._position + count]
        if len(taken) < count:
            raise IndexError("ends early")
        self._position += count
        return taken

    def meta_object(self) -> MetaObject:
        return MetaObject(self.unsigned(), self.unsigned(), self.take(UUID_BYTES))
