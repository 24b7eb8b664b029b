"""What compaction must do and when: Kafka's contract, without a file.

Dirty ratio and lags decide *whether* to clean (``plan``); the offset map and the transaction view decide *which
records* stay. Contract: of each key the record with the largest offset in the cleaned range stays; tombstones
stay until ``delete.retention.ms`` after the cleaning that first saw them at the head (delete horizon in the
batch, KIP-534); offsets never change; nothing at or above ``end_offset`` is read (it is bounded by the first
unstable offset, the high watermark, the active segment and min.compaction.lag.ms).

The offset map holds at most ``limit_bytes`` (Kafka's ``log.cleaner.dedupe.buffer.size``); when it is full,
the round ends after the last offset that it covers, and the next round goes on from there.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import NamedTuple

from tierlog.config.topic import TopicConfig

# Per log directory: topic, partition, first dirty offset; an offset checkpoint like the others.
CLEANER_OFFSETS = "cleaner-offset-checkpoint"
DEFAULT_MAP_LIMIT_BYTES = 128 * 1024 * 1024

DIGEST_BYTES = 16
# Keys of up to so many bytes are map keys themselves: exact, and cheaper than a digest. A key as long as a digest is
# digested too.
SHORT_KEY_BYTES = 48
# A dict slot at its worst load, the offset and the bytes object around a key: 190-230 measured.
ENTRY_OVERHEAD_BYTES = 230


class CompactionSegment(NamedTuple):
    """A sealed segment as compaction sees it. ``end_offset`` exclusive; timestamps as in the batch
    headers."""

    base_offset: int
    end_offset: int
    size_bytes: int
    largest_timestamp_ms: int


@dataclass(frozen=True, slots=True)
class CompactionPlan:
    """Rewrite all sealed segments below ``end_offset``; keys are collected from ``[first_dirty_offset,
    end_offset)``. ``end_offset`` is exclusive and a segment border. ``clean_bytes`` lie below the first dirty
    offset, ``dirty_bytes`` from there to the end. ``is_due``: dirty enough, or dirty for too long."""

    first_dirty_offset: int
    end_offset: int
    clean_bytes: int
    dirty_bytes: int
    is_due: bool

    @property
    def dirty_ratio(self) -> float:
        total = self.clean_bytes + self.dirty_bytes
        return self.dirty_bytes / total if total else 0.0


def plan(
    sealed: Sequence[CompactionSegment],
    config: TopicConfig,
    *,
    checkpoint_offset: int | None,
    log_start_offset: int,
    cleanable_end_offset: int,
    now_ms: int,
) -> CompactionPlan | None:
    """``sealed`` ascending. ``cleanable_end_offset`` = min(high watermark, first unstable offset). None:
    nothing dirty may be cleaned.

    A checkpoint outside the log (truncation, DeleteRecords) is clamped to it, as Kafka resets it."""
    if not config.is_compacted or not sealed:
        return None
    start = max(log_start_offset, sealed[0].base_offset)
    first_dirty = start if checkpoint_offset is None else max(checkpoint_offset, start)
    if first_dirty > sealed[-1].end_offset:
        first_dirty = start
    end = sealed[0].base_offset
    clean_bytes = dirty_bytes = 0
    oldest_dirty_ms: int | None = None
    for segment in sealed:
        is_settled = segment.largest_timestamp_ms <= now_ms - config.min_compaction_lag_ms
        if segment.end_offset > cleanable_end_offset or (config.min_compaction_lag_ms > 0 and not is_settled):
            break
        end = segment.end_offset
        if segment.end_offset <= first_dirty:
            clean_bytes += segment.size_bytes
            continue
        dirty_bytes += segment.size_bytes
        if segment.size_bytes and oldest_dirty_ms is None:
            oldest_dirty_ms = segment.largest_timestamp_ms
    if dirty_bytes == 0 or end <= first_dirty:
        return None
    is_overdue = oldest_dirty_ms is not None and now_ms - oldest_dirty_ms > config.max_compaction_lag_ms
    ratio = dirty_bytes / (clean_bytes + dirty_bytes)
    is_due = is_overdue or ratio > config.min_cleanable_dirty_ratio
    return CompactionPlan(first_dirty, end, clean_bytes, dirty_bytes, is_due)


class OffsetMap:
    """key -> largest offset, over the dirty range; bounded.

    ``end_offset``: exclusive; every dirty record below it has been offered. After ``freeze`` the map also
    answers by offset, so the second walk over the dirty range looks at no key."""

    __slots__ = ("_live", "_offsets", "_unreadable", "end_offset", "is_full", "limit_bytes", "size_bytes")

    def __init__(self, limit_bytes: int = DEFAULT_MAP_LIMIT_BYTES) -> None:
        self._offsets: dict[bytes, int] = {}
        self._live = array("q")
        self._unreadable = array("q")
        self.limit_bytes = limit_bytes
        self.size_bytes = 0
        self.is_full = False
        self.end_offset = 0

    def __len__(self) -> int:
        return len(self._offsets)

    def put(self, key: bytes, offset: int) -> None:
        """Call with offsets in ascending order."""
        slot = key if len(key) <= SHORT_KEY_BYTES and len(key) != DIGEST_BYTES else digest(key)
        offsets = self._offsets
        known = len(offsets)
        offsets[slot] = offset
        if len(offsets) != known:
            self.size_bytes += ENTRY_OVERHEAD_BYTES + len(slot)
            self.is_full = self.size_bytes >= self.limit_bytes

    def keep(self, offset: int) -> None:
        """For a batch whose keys nobody can tell: its base offset is live."""
        self._unreadable.append(offset)
        self.size_bytes += self._unreadable.itemsize
        self.is_full = self.size_bytes >= self.limit_bytes

    def latest_offset(self, key: bytes) -> int:
        """-1 when the dirty range has no record of the key."""
        slot = key if len(key) <= SHORT_KEY_BYTES and len(key) != DIGEST_BYTES else digest(key)
        return self._offsets.get(slot, -1)

    def freeze(self, end_offset: int) -> None:
        self.end_offset = end_offset
        self._live = array("q", sorted([*self._offsets.values(), *self._unreadable]))

    @property
    def live_offsets(self) -> array[int]:
        """The latest offset of each key, and what else is kept, ascending; fixed by ``freeze``."""
        return self._live


def digest(key: bytes) -> bytes:
    return blake2b(key, digest_size=DIGEST_BYTES).digest()
