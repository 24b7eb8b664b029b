"""What has been fetched before: only a second fetch makes bytes worth a place on the disk. Pure.

One long scan thus leaves the cache as it is. As many bytes are remembered as the cache holds, by whole blocks and of a
bounded number of objects; the object that was fetched from the longest ago is forgotten first.
"""

from __future__ import annotations

from collections import OrderedDict

from tiering.disk_cache.entries import BLOCK_BYTES

OBJECTS_MAX = 8192


class Touches:
    """One bit per block of each object."""

    def __init__(self, remembered_bytes: int) -> None:
        self._blocks_max = max(remembered_bytes // BLOCK_BYTES, 1)
        self._block_count = 0
        self._seen: OrderedDict[bytes, int] = OrderedDict()

    def __len__(self) -> int:
        return len(self._seen)

    @property
    def remembered_bytes(self) -> int:
        """Invariant: at most what was given, but for one object."""
        return self._block_count * BLOCK_BYTES

    def note(self, uuid: bytes, start: int, end: int) -> bool:
        """Notes a fetch of [start, end). Whether at least half of it had been fetched before."""
        first, last = start // BLOCK_BYTES, -(-end // BLOCK_BYTES)
        asked = ((1 << (last - first)) - 1) << first
        seen = self._seen.pop(uuid, 0)
        self._seen[uuid] = seen | asked
        again = (seen & asked).bit_count()
        self._block_count += last - first - again
        while len(self._seen) > 1 and (self._block_count > self._blocks_max or len(self._seen) > OBJECTS_MAX):
            _, forgotten = self._seen.popitem(last=False)
            self._block_count -= forgotten.bit_count()
        return 2 * again >= last - first
