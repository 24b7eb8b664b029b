"""When to list a partition's objects and delete those that no head names, and how much could not be deleted. Pure.

A sweep finds the objects that nobody remembers: orphans of older leaders, uploads that appeared late, and objects that the
store refused to delete (a legal hold, a missing permission). Nothing else waits for these: heads no longer name them, and
copying and retention go on.

Rules:

* At the beginning of a leadership, and once more ``AGAIN_MS`` later: by then the last uploads of a deposed leader have
  arrived.
* ``AGAIN_MS`` after a commit without an answer, which may take effect late: the sweep reads the head again.
* While objects wait for deletion, again and again, at pauses that double up to ``RETRY_MAX_MS``.
* Otherwise once in ``idle_ms``: a listing costs a request per 1,000 objects.

All requests of all sweeps keep to an ``HourlyBudget``.
"""

from __future__ import annotations

from dataclasses import dataclass, field

AGAIN_MS = 600_000
RETRY_MIN_MS = 60_000
RETRY_MAX_MS = 3_600_000
IDLE_MS = 86_400_000
HOUR_MS = 3_600_000


@dataclass(slots=True)
class Waiting:
    """Objects that could not be deleted."""

    objects: int = 0
    bytes: int = 0
    """As far as sizes are known; the next listing gives all of them."""

    def add(self, size_bytes: int) -> None:
        self.objects += 1
        self.bytes += size_bytes


@dataclass(slots=True)
class Sweeps:
    """The sweeps of one partition during one leadership."""

    next_ms: int = 0
    done_count: int = 0
    pause_ms: int = RETRY_MIN_MS
    waiting: Waiting = field(default_factory=Waiting)
    again_ms: int = AGAIN_MS
    retry_min_ms: int = RETRY_MIN_MS
    retry_max_ms: int = RETRY_MAX_MS
    idle_ms: int = IDLE_MS

    def is_due(self, now_ms: int) -> bool:
        return now_ms >= self.next_ms

    def wanted(self, now_ms: int) -> None:
        """The store refused a deletion: sweep soon."""
        self.next_ms = min(self.next_ms, now_ms + self.pause_ms)

    def doubted(self, now_ms: int) -> None:
        """An object may appear that nobody will remember: sweep once it has had time to appear."""
        self.next_ms = min(self.next_ms, now_ms + self.again_ms)

    def done(self, waiting: Waiting, now_ms: int) -> None:
        """A sweep listed all objects; ``waiting`` are those that still exist and should not."""
        self.waiting = waiting
        self.done_count += 1
        if waiting.objects:
            self.next_ms = now_ms + self.pause_ms
            self.pause_ms = min(2 * self.pause_ms, self.retry_max_ms)
        else:
            self.pause_ms = self.retry_min_ms
            self.next_ms = now_ms + (self.again_ms if self.done_count == 1 else self.idle_ms)

    def failed(self, now_ms: int) -> None:
        """The store did not answer a listing."""
        self.next_ms = now_ms + self.pause_ms
        self.pause_ms = min(2 * self.pause_ms, self.retry_max_ms)


@dataclass(slots=True)
class HourlyBudget:
    """At most so many requests in each hour, the hours counted from the first request."""

    requests_per_hour: int
    begun_ms: int = -HOUR_MS
    spent: int = 0

    def wait_ms(self, now_ms: int) -> int:
        """0 if a request may be made now; it is counted in the same step. Else how long to wait before asking again."""
        if not 0 <= now_ms - self.begun_ms < HOUR_MS:
            self.begun_ms, self.spent = now_ms, 0
        if self.spent >= self.requests_per_hour:
            return self.begun_ms + HOUR_MS - now_ms
        self.spent += 1
        return 0
