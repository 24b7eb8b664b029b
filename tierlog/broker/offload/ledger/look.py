"""Looks at what is held: on this broker's disks by each replica, and in the bucket of each partition that is led here.

* ``local``: ``.log`` files of a replica that holds any bytes; ``duplicated_bytes``: sealed segments that the tier has too;
* ``stored``: segment objects that the head of a partition names, retired ones included as long as they exist, footers
  counted;
* ``overhead``: what lies in the bucket beside segments, of the topics whose partitions are led here, and by the controller
  what is of no topic;
* ``disk``: a log directory; used by others is all that is not free and not in ``.log`` files of this broker.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from tiering.keys import deletion_markers_prefix, topic_id_text, topic_record
from tiering.ledger.held import Amount, Held, Place
from tiering.ledger.names import ledger_prefix
from tiering.ledger.rows import Cause, Kind
from tiering.metering.meta_sizes import OF_ALL, MetaSizes
from tiering.metering.meter import STANDARD
from tiering.objects.classes import StorageClass
from tierlog.broker.disk.log_dirs import LogDir
from tierlog.broker.offload.tier import PartitionTier
from tierlog.broker.replicas.partition import Partition
from tierlog.broker.work.slices import in_slices
from tierlog.log.log import Log


class Shared(NamedTuple):
    """What is of no topic, and told by the broker for which ``is_mine`` holds."""

    cluster_id: str
    is_mine: Callable[[], bool]


class Look:
    """Over one broker's replicas and log directories, each time it is told to. ``sizes``: of what it has met in buckets."""

    def __init__(
        self,
        held: Held,
        hosted: Callable[[], Iterable[Partition]],
        tier_of: Callable[[Partition], PartitionTier | None],
        log_dirs: Iterable[LogDir],
        sizes: MetaSizes,
        shared: Shared,
    ) -> None:
        self._held = held
        self._hosted = hosted
        self._tier_of = tier_of
        self._log_dirs = list(log_dirs)
        self._sizes = sizes
        self._shared = shared

    async def take(self, at_ms: int) -> None:
        """Samples everything; ``at_ms`` of the monotonic clock stands for the whole look."""
        found: set[Place] = set()
        on_disk: dict[str, list[int]] = defaultdict(list)
        beside: dict[Place, list[str]] = defaultdict(list)
        async for partition in in_slices(list(self._hosted())):
            if partition.offline is not None:
                continue
            for place, amount in self._of(partition):
                self._held.sample(place, amount, at_ms)
                found.add(place)
                if place.kind is Kind.LOCAL:
                    on_disk[place.log_dir].append(amount.held_bytes)
            tier = self._tier_of(partition)
            if tier is not None:
                beside[_beside_segments(Cause.COMMIT, tier)] += _folders_of(tier)
        for log_dir in self._log_dirs:
            if log_dir.is_online:
                path = str(log_dir.path)
                place = Place(Kind.DISK, log_dir=path)
                self._held.sample(place, _disk(log_dir, on_disk[path]), at_ms)
                found.add(place)
        async for place in in_slices(self._look_beside(beside, at_ms)):
            found.add(place)
        self._held.looked(found, at_ms)

    def _look_beside(self, folders: dict[Place, list[str]], at_ms: int) -> Iterator[Place]:
        if self._shared.is_mine():
            cluster_id = self._shared.cluster_id
            folders[_beside_segments(Cause.START)] = [OF_ALL]
            folders[_beside_segments(Cause.DELETE)] = [deletion_markers_prefix(cluster_id)]
            folders[_beside_segments(Cause.LEDGER)] = [ledger_prefix(cluster_id)]
        self._sizes.keep({each for some in folders.values() for each in some})
        for place, mine in folders.items():
            objects, size_bytes = map(sum, zip(*map(self._sizes.of, mine), strict=True))
            if objects:
                self._held.sample(place, Amount(size_bytes, objects), at_ms)
                yield place

    def _of(self, partition: Partition) -> Iterator[tuple[Place, Amount]]:
        topic, index = partition.topic_partition
        topic_id, log = topic_id_text(partition.topic_id), partition.log
        tier = self._tier_of(partition)
        is_known = tier is not None and tier.is_loaded
        tiered_end = tier.end_offset if tier is not None and is_known else partition.tiered_end_offset
        if log.size_bytes:
            local = Amount(log.size_bytes, log.segment_count, duplicated_bytes(log, tiered_end))
            yield Place(Kind.LOCAL, topic_id, topic, index, log_dir=str(partition.log_dir.path)), local
        if tier is not None and is_known:
            for number, objects, size_bytes in tier.catalog.held_by_class():
                name = StorageClass(number).label
                yield Place(Kind.STORED, topic_id, topic, index, name), Amount(size_bytes, objects)


def _beside_segments(cause: Cause, tier: PartitionTier | None = None) -> Place:
    """By topic, since there may be very many partitions."""
    if tier is None:
        return Place(Kind.OVERHEAD, storage_class=STANDARD, cause=cause)
    topic = tier.partition.topic_partition.topic
    return Place(Kind.OVERHEAD, topic_id_text(tier.keys.topic_id), topic, storage_class=STANDARD, cause=cause)


def _folders_of(tier: PartitionTier) -> list[str]:
    keys = tier.keys
    return [keys.meta_prefix, *([] if keys.partition else [topic_record(keys.cluster_id, keys.topic_id)])]


def duplicated_bytes(log: Log, tiered_end: int | None) -> int:
    """Bytes of the sealed segments that end at or below the tiered end; few are not, so those are looked at."""
    if tiered_end is None:
        return 0
    size_bytes = log.size_bytes - log.segments.active.size_bytes
    for segment in reversed(log.segments.sealed()):
        if segment.end_offset <= tiered_end:
            return size_bytes
        size_bytes -= segment.size_bytes
    return 0


def _disk(log_dir: LogDir, held: list[int]) -> Amount:
    space = log_dir.space()
    held_bytes, used_bytes = sum(held), max(space.total_bytes - space.usable_bytes, 0)
    return Amount(held_bytes, len(held), max(used_bytes - held_bytes, 0), max(space.total_bytes, 0))
