"""What the ledger does not tell of topics: how old their oldest batches are, here and there, and how far batches are packed.

The oldest remote time is that of the first live segment, the oldest local one that of the first batch on the leader's disk.
Compression is measured: the first ``SAMPLE_BYTES`` of a few segments are read and opened, of those in the standard class,
which asks nothing for reading. Bounds: ``PARTITIONS_MAX`` partitions are looked at, ``SAMPLES`` segments of a topic read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import NamedTuple

from tiering.catalog import Catalog
from tiering.errors import TieringError
from tiering.model import NO_TIMESTAMP, STANDS_FOR_LOST_PAGE, SegmentEntry
from tiering.objects.classes import StorageClass
from tierlog.admin.capacity import Seen
from tierlog.errors import UserError
from tierlog.records.batch import HEADER_BYTES, InvalidBatch, parse_header, verify_crc
from tierlog.records.compression import unpacked
from tierlog.replay.bucket import Bucket
from tierlog.replay.cluster import EARLIEST_LOCAL, LATEST, Cluster
from tierlog.replay.ledger import UNCOUNTED
from tierlog.replay.resolve import Origin
from tierlog.types import Buffer, TopicPartition

PARTITIONS_MAX = 2_000
SAMPLES = 3
SAMPLE_BYTES = 1 << 19
ONE_BATCH = 1


class Opened(NamedTuple):
    """Bytes of whole batches, and what they are without compression."""

    bytes: int = 0
    plain_bytes: int = 0


async def seen_topics(
    bootstrap: str | None, bucket_url: str | None, topics: Iterable[str], warn: Callable[[str], None]
) -> dict[str, Seen]:
    """Those that could be looked at; ``warn`` is told of all others in a line."""
    origin = Origin(bootstrap, bucket_url, caller=UNCOUNTED)
    found: dict[str, Seen] = {}
    left = PARTITIONS_MAX
    try:
        await origin.start()
        known = set(await origin.topics())
        for topic in sorted(known.intersection(topics)):
            partitions = await origin.partitions(topic)
            left -= len(partitions)
            if left < 0:
                warn(f"times and compression of {topic} and later topics are left out: too many partitions")
                break
            try:
                found[topic] = await _seen(origin, [TopicPartition(topic, number) for number in partitions])
            except (UserError, TieringError) as error:
                warn(f"times and compression of {topic} are left out: {error}")
    except (UserError, TieringError) as error:
        warn(f"times and compression of topics are left out: {error}")
    finally:
        await origin.close()
    return found


async def _seen(origin: Origin, partitions: Iterable[TopicPartition]) -> Seen:
    local, remote = [], []
    opened = Opened()
    samples = SAMPLES
    for where in partitions:
        bucket, topic_id, catalog = await origin.remote(where)
        if bucket is not None and catalog is not None:
            remote += _oldest_remote(catalog)
            if samples and (entry := _sampled(catalog)) is not None:
                samples -= 1
                one = await _open(bucket, where, topic_id, catalog, entry)
                opened = Opened(opened.bytes + one.bytes, opened.plain_bytes + one.plain_bytes)
        if origin.cluster is not None:
            time_ms = await asyncio.to_thread(_oldest_local, origin.cluster, where)
            local += [] if time_ms is None else [time_ms]
    return Seen(min(local, default=None), min(remote, default=None), *opened)


def _oldest_remote(catalog: Catalog) -> list[int]:
    """Of the first live segment; nothing where there is none, or the page that lists it is lost."""
    for entry in catalog.starting_at(catalog.start):
        if entry.flags & STANDS_FOR_LOST_PAGE:
            return []
        return [entry.created_ms if entry.first_timestamp_ms == NO_TIMESTAMP else entry.first_timestamp_ms]
    return []


def _sampled(catalog: Catalog) -> SegmentEntry | None:
    """The newest segment that may be read for nothing, and lies there as it was written."""
    newest = None
    for entry in catalog.starting_at(catalog.start):
        is_plain = entry.stored_bytes == entry.data_bytes and not entry.flags & STANDS_FOR_LOST_PAGE
        if is_plain and entry.storage_class == StorageClass.STANDARD:
            newest = entry
    return newest


async def _open(
    bucket: Bucket, where: TopicPartition, topic_id: bytes, catalog: Catalog, entry: SegmentEntry
) -> Opened:
    read = next(iter(bucket.segments(where, topic_id, catalog, entry.base_offset)))
    data = await bucket.store.get_range(read.key, 0, min(SAMPLE_BYTES, entry.data_bytes))
    return await asyncio.to_thread(opened_batches, data)


def opened_batches(data: Buffer) -> Opened:
    """Of the whole batches that ``data`` begins with; a damaged one ends them."""
    at = plain_bytes = 0
    while len(data) - at >= HEADER_BYTES:
        try:
            header = parse_header(data, at)
            if not verify_crc(data, at, header):
                break
            records = memoryview(data)[at + HEADER_BYTES : at + header.size_bytes]
            plain_bytes += HEADER_BYTES + sum(map(len, unpacked(header.compression, records)))
        except InvalidBatch:
            break
        at += header.size_bytes
    return Opened(at, plain_bytes)


def _oldest_local(cluster: Cluster, where: TopicPartition) -> int | None:
    """None where nothing is on the leader's disk."""
    offset = cluster.offset_at(where, EARLIEST_LOCAL)
    if offset < 0 or offset >= cluster.offset_at(where, LATEST):
        return None
    data = cluster.fetch(where, offset, ONE_BATCH).records
    return parse_header(data).max_timestamp if len(data) >= HEADER_BYTES else None
