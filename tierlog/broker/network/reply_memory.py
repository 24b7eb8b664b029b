"""Memory of replies: those that are being read, those that wait for their turn, those that a client does not take.

Rules:

* bytes that a socket takes at once cost nothing; ``hold`` is called for the rest, ``let_go`` once the socket has taken it;
* a fetch asks how much it may read (``grant``): at most half of what is left, so that one slow client leaves something to
  the next. The last eighth of the limit is for fetches that are granted nothing: one batch each, however large (KIP-74);
* at the limit, requests that would make another large reply wait (``wait``), first come, first served;
* while somebody waits, connections whose clients have taken nothing for ``STALLED_S`` are closed, the longest-stalled
  first. Without that, clients that never read could stop all others.

Bound: ``tierlog.reply.memory.bytes``, plus the one reply that passed it. At most one request per connection waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

STALLED_S = 2.0
LOOK_S = 0.25
# A client has to take so much within STALLED_S: one byte now and then does not count as reading.
PROGRESS_BYTES = 64 * 1024
ONE_BATCH_SHARE = 8


class Holder(Protocol):
    """A connection with replies that its client has not taken."""

    @property
    def untaken_bytes(self) -> int:
        """Bytes that the socket has not taken yet."""

    @property
    def held_bytes(self) -> int:
        """Reply memory in use by the connection."""

    def close(self) -> None: ...


class _Progress:
    """When a holder's client last took something, and what was left then."""

    __slots__ = ("since_s", "untaken_bytes")

    def __init__(self, since_s: float, untaken_bytes: int) -> None:
        self.since_s = since_s
        self.untaken_bytes = untaken_bytes


class ReplyMemory:
    """The replies of one event loop. ``used_bytes`` and ``limit_bytes`` may be read directly."""

    __slots__ = (
        "_fetch_limit_bytes",
        "_holders",
        "_is_waking",
        "_loop",
        "_timer",
        "_waiting",
        "closed_count",
        "limit_bytes",
        "shrunk_count",
        "used_bytes",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop, limit_bytes: int) -> None:
        self._loop = loop
        self.limit_bytes = limit_bytes
        self._fetch_limit_bytes = limit_bytes - limit_bytes // ONE_BATCH_SHARE
        self.used_bytes = 0
        # Fetches that were granted less than they asked for, and connections that were closed for stalling.
        self.shrunk_count = 0
        self.closed_count = 0
        self._holders: dict[Holder, _Progress] = {}
        self._waiting: dict[object, Callable[[], None]] = {}
        self._is_waking = False
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_exhausted(self) -> bool:
        return self.used_bytes >= self.limit_bytes

    @property
    def waiting_count(self) -> int:
        return len(self._waiting)

    def grant(self, wanted_bytes: int, least_bytes: int = 0) -> int:
        """How many of ``wanted_bytes`` a fetch may read; 0: its first batch only. ``least_bytes`` are always granted."""
        free = self._fetch_limit_bytes - self.used_bytes
        if 2 * wanted_bytes <= free:
            return wanted_bytes
        self.shrunk_count += 1
        return max(free // 2, min(least_bytes, wanted_bytes))

    def reserve(self, size_bytes: int) -> None:
        """Counts a read that is under way beside the loop; ``give_back`` returns the bytes."""
        self.used_bytes += size_bytes

    def give_back(self, size_bytes: int) -> None:
        self.used_bytes -= size_bytes
        assert self.used_bytes >= 0, "I15: more reply memory given back than was taken"
        if self._waiting and self.used_bytes < self.limit_bytes:
            self._wake_soon()

    # -- what sockets do not take

    def hold(self, holder: Holder, size_bytes: int) -> None:
        self.used_bytes += size_bytes
        if holder not in self._holders:
            self._holders[holder] = _Progress(self._loop.time(), holder.untaken_bytes)

    def let_go(self, holder: Holder, size_bytes: int) -> None:
        """Called after ``holder.held_bytes`` was reduced by ``size_bytes``."""
        if not holder.held_bytes:
            del self._holders[holder]
        self.give_back(size_bytes)

    # -- waiting

    def wait(self, key: object, resume: Callable[[], None]) -> None:
        """The loop calls ``resume`` once there is memory; ``resume`` has to check that there still is."""
        self._waiting[key] = resume
        if self._timer is None:
            self._timer = self._loop.call_later(LOOK_S, self._look)
        if not self.is_exhausted:
            self._wake_soon()

    def forget(self, key: object) -> None:
        """``key`` waits no more."""
        self._waiting.pop(key, None)

    def _wake_soon(self) -> None:
        # By the loop: whoever gives memory back is in the middle of something.
        if not self._is_waking:
            self._is_waking = True
            self._loop.call_soon(self._wake)

    def _wake(self) -> None:
        self._is_waking = False
        # Only those that wait now: those that have to wait again line up behind them.
        for key in list(self._waiting):
            if self.is_exhausted:
                return
            resume = self._waiting.pop(key, None)
            if resume is not None:
                resume()

    def _look(self) -> None:
        """While somebody waits, closes connections whose clients take nothing."""
        self._timer = None
        if not self._waiting:
            return
        self._timer = self._loop.call_later(LOOK_S, self._look)
        now_s = self._loop.time()
        stalled = []
        for holder, progress in self._holders.items():
            untaken_bytes = holder.untaken_bytes
            if untaken_bytes > progress.untaken_bytes:
                # A longer backlog is no progress; but where there was none before, the client's time begins now.
                progress.since_s = progress.since_s if progress.untaken_bytes else now_s
                progress.untaken_bytes = untaken_bytes
            elif progress.untaken_bytes - untaken_bytes >= PROGRESS_BYTES:
                progress.since_s, progress.untaken_bytes = now_s, untaken_bytes
            elif now_s - progress.since_s >= STALLED_S:
                # Holders whose replies only wait behind another that is not ready yet come last.
                stalled.append((untaken_bytes == 0, progress.since_s, holder))
        excess_bytes = self.used_bytes - self._fetch_limit_bytes
        for *_, holder in sorted(stalled, key=lambda entry: entry[:2]):
            if excess_bytes < 0:
                break
            excess_bytes -= holder.held_bytes
            self.closed_count += 1
            holder.close()
