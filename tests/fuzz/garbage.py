"""Batches that no broker would take, as they may lie in a segment all the same: an older version took them, or a disk erred.

Their checksums are right and their offsets follow each other, so recovery keeps them; what is in them is not.
"""

from __future__ import annotations

import struct
from pathlib import Path
from random import Random

import zstandard

from tests.fuzz.wire_corpus import record_batch, zigzag
from tests.servers.tierlog import BrokerProcess
from tierlog.records.batch import COUNT_AT, HEADER_BYTES, LAST_OFFSET_DELTA_AT, LENGTH_AT, seal

ATTRIBUTES_LOW_AT = 22
GZIP, SNAPPY, LZ4, ZSTD = 1, 2, 3, 4
BOMB_BYTES = 300 << 20


def bodies(rng: Random) -> list[tuple[int, int, bytes]]:
    """(codec, count of records, body), each wrong in its own way."""
    bomb = zstandard.ZstdCompressor(level=1).compress(bytes(BOMB_BYTES))
    empties = zstandard.ZstdCompressor(level=1).compress((zigzag(6) + bytes(6)) * 2_000_000)
    long = zigzag(1 << 30)
    return [
        (0, 3, rng.randbytes(200)),
        (0, 3, b""),
        (0, 1 << 30, rng.randbytes(64)),
        (0, -1, rng.randbytes(64)),
        (0, 3, long + rng.randbytes(64)),
        (0, 1, zigzag(20) + bytes(5) + long + bytes(10)),
        (0, 1, zigzag(12) + bytes(3) + zigzag(-1) + zigzag(0) + zigzag(1 << 20) + bytes(8)),
        (0, 3, b"\xff" * 100),
        (ZSTD, 3, bomb),
        (ZSTD, 2_000_000, empties),
        (ZSTD, 3, rng.randbytes(100)),
        (ZSTD, 3, bomb[:1000]),
        (GZIP, 3, b"\x1f\x8b\x08" + rng.randbytes(60)),
        (SNAPPY, 3, b"\xff\xff\xff\xff\x0f" + rng.randbytes(60)),
        (LZ4, 3, b"\x04\x22\x4d\x18" + rng.randbytes(60)),
        (7, 3, rng.randbytes(60)),
    ]


def garbage(rng: Random, base_offset: int) -> bytes:
    """A stretch of a log with a sound batch behind each bad one."""
    out = bytearray()
    for codec, count, body in bodies(rng):
        bad = bytearray(record_batch(rng, 3)[:HEADER_BYTES] + body)
        bad[ATTRIBUTES_LOW_AT] = codec
        struct.pack_into(">i", bad, COUNT_AT, count)
        for batch in (bad, bytearray(record_batch(rng, 3))):
            struct.pack_into(">q", batch, 0, base_offset)
            struct.pack_into(">i", batch, LAST_OFFSET_DELTA_AT, 2)
            struct.pack_into(">i", batch, LENGTH_AT, len(batch) - 12)
            seal(batch, 0, len(batch))
            base_offset += 3
            out += batch
    return bytes(out)


def store_garbage(
    broker: BrokerProcess, topic: str, partitions: int, ends: dict[int, int], rng: Random
) -> None:
    """Kills the broker, writes into its files, and starts it again. ``ends``: where each partition's log ends."""
    broker.kill()
    for partition in range(partitions):
        directory: Path = broker.log_dir / f"{topic}-{partition}"
        active = max(directory.glob("*.log"))
        with active.open("ab") as file:
            file.write(garbage(rng, ends[partition]))
    broker.start()
