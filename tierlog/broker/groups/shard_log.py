"""The port between a coordinator shard and the partition that keeps its records."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from tierlog.errors import ErrorCode
from tierlog.types import Buffer


class ShardLog(Protocol):
    """One ``__consumer_offsets`` partition led here. A new object per leadership; every method is synchronous
    and on the loop."""

    @property
    def log_start_offset(self) -> int:
        """The first offset that can be read."""

    @property
    def log_end_offset(self) -> int:
        """The next offset to be written."""

    @property
    def high_watermark(self) -> int:
        """Exclusive end of the committed records."""

    def read(self, offset: int, max_bytes: int) -> tuple[Buffer, int]:
        """Returns whole batches and the offset to go on from. The first is the one that holds ``offset``, or
        the next one. About ``max_bytes``, at least one batch; up to the log end, not the high watermark.
        Empty at the log end. May raise StorageError."""

    def append(self, records: bytes, count: int) -> int | ErrorCode:
        """Appends so many encoded records, which know no time of their own, as one v2 batch of now under this leadership's
        epoch, after the checks of acks=all (leader, min ISR, disk). Returns the last offset of the batch, or an error, in
        which case nothing was appended. May raise StorageError."""

    def on_high_watermark(self, callback: Callable[[int], None]) -> None:
        """Has ``callback(high_watermark)`` called on the loop after each advance, also from within ``append``.
        Replaces the callback given before."""
