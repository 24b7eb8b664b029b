"""The port between a coordinator shard and the partition that keeps its records."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from tierlog.errors import ErrorCode
from tierlog.types import Buffer


class ShardLog(Protocol):
    """One ``__consumer_offsets`` partition led here. A new object per leadership; every method is synchronous
    and on the loop."""

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
        """Whole batches from the one that holds ``offset`` (or the next one) on, up to the log end and not
        the high watermark: about ``max_bytes``, at least one batch; and the offset to go on from. Empty at
        the log end. May raise StorageError."""

    def append(self, records: Sequence[tuple[bytes, bytes | None]]) -> int | ErrorCode:
        """Appends (key, value) records as one v2 batch under this leadership's epoch, with the admission of
        acks=all (leader, min ISR, disk). The last offset, or the error that refused it with nothing appended.
        May raise StorageError."""

    def on_high_watermark(self, callback: Callable[[int], None]) -> None:
        """``callback(high_watermark)`` is to be called on the loop after each advance, also from within
        ``append``. Replaces the callback given before."""
