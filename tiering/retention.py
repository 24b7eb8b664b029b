"""How far the log start moves by ``retention.ms`` and ``retention.bytes``: whole segments, oldest first.

Rules:

* One snapshot of the head decides, and the size of local-only data is given for the offsets at and behind that head's
  end. So nothing is counted twice, whatever is copied or deleted meanwhile.
* Only tiered data goes: the start never passes the tiered end (data not yet copied is removed only by DeleteRecords or
  with its topic), unless copying is switched off and that data would stay for ever.
* The stricter of the two limits wins. -1 is no limit.
* Time compares the segment's largest record timestamp; without one, the time it was copied.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from tiering.catalog import Catalog

SEGMENTS_PER_STEP = 10_000
"""A step never walks further, so that it stays within milliseconds; the next step goes on."""


@dataclass(frozen=True, slots=True)
class StartMove:
    """The new log start that retention asks for."""

    offset: int
    by_time: int
    """Segments retired because of ``retention.ms``."""
    by_size: int
    """Further segments retired because of ``retention.bytes``."""


class Expiring(NamedTuple):
    """One segment, as retention looks at it. ``end_offset`` is exclusive."""

    end_offset: int
    data_bytes: int
    timestamp_ms: int
    """Largest record timestamp; if none can be trusted, the time when the segment was copied or last written."""


def retained_start(
    catalog: Catalog,
    local_only_bytes: int,
    retention_ms: int,
    retention_bytes: int,
    now_ms: int,
    never_copied: Sequence[Expiring] = (),
) -> StartMove | None:
    """The new log start, or None if it stays.

    ``local_only_bytes``: size of the local segments that begin at or behind ``catalog.end``. ``never_copied``: sealed
    local segments that end behind ``catalog.end`` and are to be treated as if they were tiered; oldest first."""
    start = catalog.start
    by_time = by_size = 0
    excess = 0
    if retention_bytes >= 0:
        excess = catalog.data_bytes + local_only_bytes - retention_bytes
    is_time_over = retention_ms >= 0
    for segment in _oldest_first(catalog, never_copied, now_ms):
        if by_time + by_size >= SEGMENTS_PER_STEP:
            break
        is_time_over = is_time_over and segment.timestamp_ms < now_ms - retention_ms
        is_too_much = retention_bytes >= 0 and excess >= segment.data_bytes
        if not is_time_over and not is_too_much:
            break
        by_time += is_time_over
        by_size += not is_time_over
        excess -= segment.data_bytes
        start = segment.end_offset
    assert start <= catalog.end or never_copied
    return StartMove(start, by_time, by_size) if start > catalog.start else None


def _oldest_first(catalog: Catalog, never_copied: Sequence[Expiring], now_ms: int) -> Iterator[Expiring]:
    for entry in catalog:
        yield Expiring(entry.end_offset, entry.data_bytes, entry.retention_timestamp_ms(now_ms))
    yield from never_copied
