"""Which partitions a follower's next Fetch names, and how long it may park: one per leader broker (KIP-227).

In a fetch session a request names only partitions whose fetch has changed; the leader remembers the others. So a request
names the partitions that were stirred (marked to be asked for) since the last one, and takes those out that may not be
fetched now.

Rules:

* one request is under way at a time. It names ``MAX_NAMED`` partitions at most, so that neither side stalls on thousands;
  while more are to be named it does not park at all;
* a partition that waits for the disk or its back-off leaves the session. Each round looks at such partitions again, at some
  of them in turn. Only a new request can name one that may be fetched again, so requests park only briefly meanwhile;
* the session ends with its last partition. A new one names all partitions again, in several requests.

A round is ``begin`` (the partitions to look at), one of ``ask``, ``leave_out``, ``await_disk`` and ``await_retry`` for each
of them, and ``end``. Invariant: a partition is stirred, or waits, or neither; never both.
"""

from __future__ import annotations

from itertools import islice
from typing import NamedTuple

MAX_NAMED = 500
# How long a request parks at most: when a partition begins to wait for the disk; while more wait than were looked at.
SHORT_WAIT_MS = 5
UNSEEN_WAIT_MS = 50

NO_SESSION_ID = 0
INITIAL_EPOCH = 0
LAST_EPOCH = 2**31 - 1

# Topic id and partition.
Key = tuple[bytes, int]


class Round(NamedTuple):
    """What the request carries besides the partitions. ``forgotten``: those that leave the session."""

    session_id: int
    session_epoch: int
    wait_ms: int
    forgotten: list[Key]


class FetchSchedule:
    """The partitions followed from one leader broker. All times are monotonic ms."""

    def __init__(self) -> None:
        self._followed: dict[Key, None] = {}
        # In the order in which they are asked for.
        self._stirred: dict[Key, None] = {}
        self._waiting: dict[Key, None] = {}
        self._in_session: set[Key] = set()
        self._forgotten: list[Key] = []
        self._session_id = NO_SESSION_ID
        self._session_epoch = INITIAL_EPOCH
        self._wait_ms = 0
        # Since when a partition has waited for the disk; and the retry time that a timer was last set for.
        self._disk_wait_since_ms: dict[Key, int] = {}
        self._timer_at_ms: dict[Key, int] = {}

    @property
    def has_stirred(self) -> bool:
        return bool(self._stirred)

    def follow(self, key: Key) -> None:
        """The partition is followed from now on, or has a new ``Follower``."""
        self._followed[key] = None
        self._forget_waits(key)
        self.stir(key)

    def unfollow(self, key: Key) -> None:
        self._followed.pop(key, None)
        self._forget_waits(key)
        self.stir(key)

    def stir(self, key: Key) -> None:
        """The next request asks for the partition, or takes it out of the session."""
        self._stirred[key] = None
        self._waiting.pop(key, None)

    # -- a round

    def begin(self, max_wait_ms: int) -> list[Key]:
        """The partitions to look at now; each gets one answer before ``end``."""
        keys = _take(self._stirred, MAX_NAMED)
        keys += _take(self._waiting, MAX_NAMED - len(keys))
        self._forgotten = []
        self._wait_ms = 0 if self._stirred else max_wait_ms
        if self._waiting:
            self._wait_ms = min(self._wait_ms, UNSEEN_WAIT_MS)
        return keys

    def ask(self, key: Key) -> None:
        """The request names the partition."""
        self._in_session.add(key)
        self._disk_wait_since_ms.pop(key, None)

    def leave_out(self, key: Key) -> None:
        """Takes the partition out of the session. Unless it waits, only ``stir`` brings it back."""
        if key in self._in_session:
            self._in_session.discard(key)
            self._forgotten.append(key)

    def park_at_most(self, wait_ms: int) -> None:
        """The request of this round comes back within that time."""
        self._wait_ms = min(self._wait_ms, wait_ms)

    def await_disk(self, key: Key, now_ms: int) -> None:
        """The partition waits for a sync. Requests park as long as it has waited so far: so they are few, and its wait at
        most doubles."""
        since_ms = self._disk_wait_since_ms.setdefault(key, now_ms)
        self.park_at_most(max(SHORT_WAIT_MS, now_ms - since_ms))
        self._wait(key)

    def await_retry(self, key: Key, retry_ms: int, now_ms: int) -> int | None:
        """The partition waits for its back-off. Returns the delay in ms after which to ``stir`` it; None if that is under
        way already."""
        delay_ms = retry_ms - now_ms + 1
        self.park_at_most(delay_ms)
        self._wait(key)
        if self._timer_at_ms.get(key) == retry_ms:
            return None
        self._timer_at_ms[key] = retry_ms
        return delay_ms

    def _wait(self, key: Key) -> None:
        self.leave_out(key)
        self._waiting[key] = None

    def end(self) -> Round | None:
        """The request to send; None if there is nothing to fetch in this round."""
        if not self._in_session:
            self._session_epoch = INITIAL_EPOCH
            return None
        return Round(self._session_id, self._session_epoch, self._wait_ms, self._forgotten)

    # -- the session

    def on_answer(self, session_id: int) -> None:
        """The leader answered. The partitions that it named have to be stirred."""
        if session_id == NO_SESSION_ID:
            self.end_session()  # the leader had no room for a session
        else:
            self._session_epoch = next_session_epoch(self._session_epoch)
        self._session_id = session_id

    def on_session_unknown(self) -> None:
        """The leader has forgotten the session."""
        self._session_id = NO_SESSION_ID
        self.end_session()

    def end_session(self) -> None:
        """The next request opens a new session, and all partitions are asked for again."""
        self._session_epoch = INITIAL_EPOCH
        self._in_session.clear()
        self._stirred = dict.fromkeys(self._followed)
        self._waiting.clear()

    def _forget_waits(self, key: Key) -> None:
        self._disk_wait_since_ms.pop(key, None)
        self._timer_at_ms.pop(key, None)


def next_session_epoch(epoch: int) -> int:
    """The session epoch of the request after that one (KIP-227): it wraps to 1, since 0 opens a session."""
    return 1 if epoch == LAST_EPOCH else epoch + 1


def _take(keys: dict[Key, None], count: int) -> list[Key]:
    taken = list(islice(keys, count))
    for key in taken:
        del keys[key]
    return taken
