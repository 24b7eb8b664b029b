"""One file of the disk cache: a range of an object's bytes behind a header that says which, and their checksums. Pure.

::

    file    := header data
    header  := magic "TLCACHED", version u16, key bytes u16, block bytes u32, version hash u64, start u64, end u64,
               object key, CRC32C u32 per block of data, zeros, CRC32C u32 of all this
    name    := <topic id>-<partition>-<base>-<end>-<epoch>-<uuid>-<version hash>-<start>-<end of range>.chunk

Rules:

* The name is enough to build the index from a listing. The header repeats it: a file under the wrong name is noticed.
* Nothing of a file is used before its checksum has been compared (I18), so nothing needs to be synced to the disk.
* An object is known by its key and by its version in the store. An entry of another version is never used.
"""

from __future__ import annotations

import re
import struct
from typing import NamedTuple

from crc32c import crc32c

from tiering.batches import Buffer
from tiering.codec import CRC_CHUNK_BYTES
from tiering.errors import CorruptObject
from tiering.keys import PartitionKeys, SegmentName
from tiering.model import SegmentEntry

MAGIC = b"TLCACHED"
FORMAT_VERSION = 1
BLOCK_BYTES = CRC_CHUNK_BYTES
HEADER_BYTES = 4096
PAGE_BYTES = 4096
"""File systems give space in such pieces, or smaller ones."""
ENTRY_BYTES_MAX = 16 << 20
TEMPORARY = ".writing-"
"""What the names of unfinished files begin with."""

_HEAD = struct.Struct("<8sHHIQQQ")
_CRC = struct.Struct("<I")
_NAME = re.compile(
    r"([0-9a-f]{32})-(\d{1,10})-(\d{1,19})-(\d{1,19})-(\d{1,10})-([0-9a-f]{32})-([0-9a-f]{1,16})"
    r"-([0-9a-f]{1,12})-([0-9a-f]{1,12})\.chunk"
)


def file_bytes(data_bytes: int) -> int:
    """What the file of a range takes of the disk."""
    return HEADER_BYTES + -(-data_bytes // PAGE_BYTES) * PAGE_BYTES


class CachedObject(NamedTuple):
    """An object of the bucket in one version."""

    keys: PartitionKeys
    segment: SegmentName
    version_hash: int

    @staticmethod
    def of(keys: PartitionKeys, entry: SegmentEntry) -> CachedObject:
        return CachedObject(keys, SegmentName(*entry[:4]), entry.version_hash)

    @property
    def key(self) -> str:
        return self.keys.segment(self.segment)


class Place(NamedTuple):
    """The bytes [start, end) of an object, footer included."""

    object: CachedObject
    start: int
    end: int

    @property
    def file_bytes(self) -> int:
        return file_bytes(self.end - self.start)

    @property
    def name(self) -> str:
        (_, topic_id, partition), segment, version_hash = self.object
        return (
            f"{topic_id.hex()}-{partition}-{segment.base_offset}-{segment.end_offset}-{segment.leader_epoch}"
            f"-{segment.uuid.hex()}-{version_hash:x}-{self.start:x}-{self.end:x}.chunk"
        )


def parse_name(name: str, cluster_id: str) -> Place | None:
    """The place that a file's name tells; None if it is no name of a chunk."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    keys = PartitionKeys(cluster_id, bytes.fromhex(match[1]), int(match[2]))
    segment = SegmentName(int(match[3]), int(match[4]), int(match[5]), bytes.fromhex(match[6]))
    place = Place(CachedObject(keys, segment, int(match[7], 16)), int(match[8], 16), int(match[9], 16))
    return place if 0 < place.end - place.start <= ENTRY_BYTES_MAX and place.name == name else None


def encode_header(place: Place, data: Buffer) -> bytes:
    """The header of a file with this data."""
    view = memoryview(data)
    assert len(view) == place.end - place.start
    key = place.object.key.encode()
    crcs = [crc32c(view[at : at + BLOCK_BYTES]) for at in range(0, len(view), BLOCK_BYTES)]
    head = _HEAD.pack(
        MAGIC, FORMAT_VERSION, len(key), BLOCK_BYTES, place.object.version_hash, place.start, place.end
    )
    body = head + key + struct.pack(f"<{len(crcs)}I", *crcs)
    assert len(body) <= HEADER_BYTES - _CRC.size
    body += bytes(HEADER_BYTES - _CRC.size - len(body))
    return body + _CRC.pack(crc32c(body))


def verify(place: Place, header: Buffer, data: Buffer, position: int) -> None:
    """Check bytes of the object that begin at ``position``, the start of a block of the file, and end with a block. Raises
    ``CorruptObject``."""
    view = memoryview(data)
    first, rest = divmod(position - place.start, BLOCK_BYTES)
    assert rest == 0
    assert position + len(view) <= place.end
    crcs = _checksums(place, memoryview(header))
    for number, at in enumerate(range(0, len(view), BLOCK_BYTES), first):
        if crc32c(view[at : at + BLOCK_BYTES]) != crcs[number]:
            raise CorruptObject(f"{place.name}: the bytes fail their checksum")


def _checksums(place: Place, header: memoryview) -> tuple[int, ...]:
    if len(header) != HEADER_BYTES or _CRC.unpack(header[-4:])[0] != crc32c(header[:-4]):
        raise CorruptObject(f"{place.name}: the header fails its checksum")
    magic, version, key_bytes, block_bytes, *said = _HEAD.unpack_from(header)
    key = bytes(header[_HEAD.size : _HEAD.size + key_bytes])
    if (magic, version, block_bytes) != (MAGIC, FORMAT_VERSION, BLOCK_BYTES):
        raise CorruptObject(f"{place.name}: not of this format")
    if said != [place.object.version_hash, place.start, place.end] or key != place.object.key.encode():
        raise CorruptObject(f"{place.name}: holds another range")
    count = -(-(place.end - place.start) // BLOCK_BYTES)
    return struct.unpack_from(f"<{count}I", header, _HEAD.size + key_bytes)
