"""The metadata store in memory: for simulation and tests; deterministic, without threads or timers.

Time comes from ``now_ms``; leases expire inside the next call of any method, or of ``expire``.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Callable, Sequence
from itertools import count

from tierlog.errors import StoreUnavailable, UnknownOutcome
from tierlog.metadata.keys import prefix_end
from tierlog.metadata.stores.evaluation import Write, evaluate
from tierlog.metadata.stores.port import PAGE_KEYS, Compacted, LeaseNotFound, Page, WatchStream
from tierlog.metadata.stores.watching import QueuedWatch
from tierlog.metadata.transactions import Event, KeyValue, Put, Txn, TxnResult, WatchBatch

HISTORY_REVISIONS = 20_000


class _Lease:
    __slots__ = ("deadline_ms", "keys", "ttl_ms")

    def __init__(self, ttl_ms: int, deadline_ms: int) -> None:
        self.ttl_ms = ttl_ms
        self.deadline_ms = deadline_ms
        self.keys: set[str] = set()


class MemoryStore:
    """One store; several brokers of a simulation share it."""

    def __init__(self, now_ms: Callable[[], int], *, history_revisions: int = HISTORY_REVISIONS) -> None:
        self._now_ms = now_ms
        self._history_revisions = history_revisions
        self._revision = 1
        self._kvs: dict[str, KeyValue] = {}
        self._sorted: list[str] = []
        self._log: deque[tuple[WatchBatch, tuple[Write, ...]]] = deque()
        self._leases: dict[int, _Lease] = {}
        self._lease_ids = count(1)
        self._watches: list[QueuedWatch] = []
        self._lost_outcomes: deque[bool] = deque()
        self._is_closed = False

    @property
    def revision(self) -> int:
        return self._revision

    # -- faults, for tests

    def lose_next_outcome(self, *, applied: bool) -> None:
        """The next transaction raises ``UnknownOutcome``, after or instead of being applied."""
        self._lost_outcomes.append(applied)

    def compact(self) -> None:
        """Forgets all history."""
        self._log.clear()

    # -- the port

    async def get(self, key: str) -> KeyValue | None:
        self._enter()
        return self._kvs.get(key)

    async def range(
        self, prefix: str, revision: int | None = None, limit: int = PAGE_KEYS, cursor: str | None = None
    ) -> Page:
        self._enter()
        at = self._revision if revision is None else revision
        if at < self._revision and at + 1 < self._min_watchable():
            raise Compacted(self._min_watchable())
        end = prefix_end(prefix)
        view, names = self._kvs, self._sorted
        if at < self._revision:
            view = self._as_of(at)
            names = sorted(view)
        first = bisect_left(names, prefix if cursor is None else cursor + "\0")
        found = names[first : min(first + limit, bisect_left(names, end))]
        next_cursor = found[-1] if len(found) == limit else None
        return Page([view[name] for name in found], at, next_cursor)

    async def txn(self, txn: Txn) -> TxnResult:
        self._enter()
        for op in _puts(txn):
            if op.lease and op.lease not in self._leases:
                raise LeaseNotFound(f"lease {op.lease}")
        outcome_lost = bool(self._lost_outcomes)
        if outcome_lost and not self._lost_outcomes.popleft():
            raise UnknownOutcome("the answer was lost")
        evaluation = evaluate(txn, self._kvs.get, self._revision)
        self._commit(evaluation.writes)
        if outcome_lost:
            raise UnknownOutcome("the answer was lost")
        return evaluation.result

    def watch(self, prefixes: Sequence[str], from_revision: int) -> WatchStream:
        watch = QueuedWatch(prefixes, from_revision, self._read_log, self._forget)
        self._watches.append(watch)
        return watch

    async def grant(self, ttl_ms: int) -> int:
        self._enter()
        lease = next(self._lease_ids)
        self._leases[lease] = _Lease(ttl_ms, self._now_ms() + ttl_ms)
        return lease

    async def keepalive(self, lease: int) -> bool:
        self._enter()
        held = self._leases.get(lease)
        if held is None:
            return False
        held.deadline_ms = self._now_ms() + held.ttl_ms
        return True

    async def revoke(self, lease: int) -> None:
        self._enter()
        self._end_lease(lease)

    async def close(self) -> None:
        self._is_closed = True
        for watch in tuple(self._watches):
            watch.close()

    # -- inside

    def expire(self) -> None:
        """Ends the leases whose time has run out."""
        now = self._now_ms()
        for lease in [i for i, held in self._leases.items() if held.deadline_ms <= now]:
            self._end_lease(lease)

    def _enter(self) -> None:
        if self._is_closed:
            raise StoreUnavailable("the store is closed")
        self.expire()

    def _end_lease(self, lease: int) -> None:
        held = self._leases.pop(lease, None)
        if held is not None:
            self._commit([Write(key, None, self._kvs[key]) for key in sorted(held.keys)])

    def _commit(self, writes: Sequence[Write]) -> None:
        if not writes:
            return
        self._revision += 1
        events = []
        for key, put, before in writes:
            if before is not None and before.lease:
                held = self._leases.get(before.lease)
                if held is not None:
                    held.keys.discard(key)
            if put is None:
                del self._kvs[key]
                del self._sorted[bisect_left(self._sorted, key)]
                events.append(Event(key, None))
                continue
            created = self._revision if before is None else before.create_revision
            kv = KeyValue(key, put.value, created, self._revision, put.lease)
            if before is None:
                insort(self._sorted, key)
            if put.lease:
                self._leases[put.lease].keys.add(key)
            self._kvs[key] = kv
            events.append(Event(key, kv))
        batch = WatchBatch(self._revision, tuple(events))
        self._log.append((batch, tuple(writes)))
        while len(self._log) > self._history_revisions:
            self._log.popleft()
        for watch in tuple(self._watches):
            watch.live(batch)

    def _as_of(self, revision: int) -> dict[str, KeyValue]:
        view = dict(self._kvs)
        for batch, writes in reversed(self._log):
            if batch.revision <= revision:
                break
            for key, _, before in writes:
                if before is None:
                    view.pop(key, None)
                else:
                    view[key] = before
        return view

    def _min_watchable(self) -> int:
        return self._log[0][0].revision if self._log else self._revision + 1

    def _read_log(self, watch: QueuedWatch, from_revision: int) -> None:
        if from_revision < self._min_watchable() and from_revision <= self._revision:
            watch.fail(Compacted(self._min_watchable()))
            return
        batches = [batch for batch, _ in self._log if batch.revision >= from_revision]
        watch.history(batches, self._revision, is_complete=True)

    def _forget(self, watch: QueuedWatch) -> None:
        if watch in self._watches:
            self._watches.remove(watch)


def _puts(txn: Txn) -> list[Put]:
    puts = [op for op in txn.then if isinstance(op, Put)]
    for op in txn.then:
        if isinstance(op, Txn):
            puts += _puts(op)
    return puts
