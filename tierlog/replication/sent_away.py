"""Remembers where the consumer on one connection was sent for remote records (KIP-392), so that it is not sent to and fro.

A consumer that comes back for the very offset for which it was sent away has got nothing there: the follower has no object
store, or cannot reach it, or knows less of the tier than its leader. Then the leader serves it, for ``HOLD_MS``.

Bound: ``PARTITIONS_MAX`` partitions a connection, the oldest is forgotten.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import NamedTuple

# Who comes back later than this without having moved was paused, or its lease of the replica has ended.
RETURN_MS = 60_000
# As long as clients keep to a replica that they were sent to.
HOLD_MS = 300_000
PARTITIONS_MAX = 1_000


class _Sent(NamedTuple):
    offset: int
    sent_ms: int
    held_until_ms: int = 0


class SentAway:
    """One per connection that was ever sent away."""

    def __init__(self) -> None:
        self._sent: OrderedDict[Hashable, _Sent] = OrderedDict()

    def __len__(self) -> int:
        return len(self._sent)

    def may_send(self, partition: Hashable, fetch_offset: int, now_ms: int) -> bool:
        """Whether to send the consumer to a follower for ``fetch_offset``, which is noted if so. ``now_ms`` is monotonic."""
        last = self._sent.get(partition)
        if last is not None:
            if now_ms < last.held_until_ms:
                return False
            if last.offset == fetch_offset and now_ms - last.sent_ms < RETURN_MS:
                self._sent[partition] = last._replace(held_until_ms=now_ms + HOLD_MS)
                return False
        self._sent[partition] = _Sent(fetch_offset, now_ms)
        self._sent.move_to_end(partition)
        if len(self._sent) > PARTITIONS_MAX:
            self._sent.popitem(last=False)
        return True
