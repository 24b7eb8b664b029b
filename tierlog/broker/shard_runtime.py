"""Drives the group shards of this broker: load, decide, replay, append per loop tick, park replies until
committed.

API (what handlers and the composition root use)::

    runtime = ShardRuntime(config: GroupConfig, partition_count: int, now_ms: Callable[[], int], fresh_id:
    Callable[[], str]) runtime.lead(partition: int, log: ShardLog) -> None      # leadership won: load in
    slices, then serve runtime.resign(partition: int) -> None                   # leadership lost:
    NOT_COORDINATOR to everyone runtime.call(group_id, decide, refuse) -> Response | Future[Response]
    runtime.close() -> None

``ShardLog`` is the port that replicas implement; every method is synchronous and on the loop.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from tierlog.errors import ErrorCode
from tierlog.types import Buffer


class ShardLog(Protocol):
    """One ``__consumer_offsets`` partition led here, as the coordinator sees it. A new object per
    leadership."""

    @property
    def log_start_offset(self) -> int:
        """First offset that can be read."""

    @property
    def log_end_offset(self) -> int:
        """Next offset to be written."""

    @property
    def high_watermark(self) -> int:
        """Exclusive end of what is committed."""

    def read(self, offset: int, max_bytes: int) -> tuple[Buffer, int]:
        """Whole batches from the one that holds ``offset`` on, up to the log end (not the high watermark):
        about ``max_bytes`` (at least one batch), and the offset to go on from. May raise StorageError."""

    def append(self, records: Sequence[tuple[bytes, bytes | None]]) -> int | ErrorCode:
        """Append ``records`` as one uncompressed v2 batch with acks=all admission (leader epoch, min ISR,
        disk); give the last offset, or the error that refused it with nothing appended. May raise
        StorageError."""

    def on_high_watermark(self, callback: Callable[[int], None]) -> None:
        """Call ``callback(high_watermark)`` after each advance, from within the loop; may be called inside
        append."""
