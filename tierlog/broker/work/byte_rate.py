"""A rate of bytes, kept in the long run: what replication throttles and the replays' quota have in common.

One second's worth may go at once, so that the pauses between requests do not lower the rate. No clock: ``now_s`` is the
loop's time.
"""

from __future__ import annotations

BURST_S = 1.0
UNLIMITED = 2**63 - 1


class ByteRate:
    """Bytes per second."""

    __slots__ = ("_bytes_per_second", "_paid_until_s", "counted_bytes")

    def __init__(self, bytes_per_second: int = UNLIMITED) -> None:
        self._bytes_per_second = bytes_per_second
        # The rate is used up until then by the bytes counted so far.
        self._paid_until_s = 0.0
        self.counted_bytes = 0

    @property
    def bytes_per_second(self) -> int:
        return self._bytes_per_second

    def set_rate(self, bytes_per_second: int) -> None:
        """The rate from now on; the debt of another rate is forgotten."""
        if bytes_per_second != self._bytes_per_second:
            self._bytes_per_second = bytes_per_second
            self._paid_until_s = 0.0

    def count(self, size_bytes: int, now_s: float) -> None:
        self.counted_bytes += size_bytes
        # A rate of 0 lets one fetch through in a very long time.
        worth_s = size_bytes / max(self._bytes_per_second, 1)
        self._paid_until_s = max(self._paid_until_s, now_s) + worth_s

    def pause_s(self, now_s: float) -> float:
        """How long no more bytes may go; 0.0 while there is room."""
        return max(0.0, self._paid_until_s - now_s - BURST_S)
