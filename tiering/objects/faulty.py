"""A store that fails as real ones do, from a seed. For tests and drills.

It produces: latency, bursts of 503, lost requests, timeouts of writes that were applied nevertheless, truncated
bodies, objects that vanished, and outages that a test switches on and off.
It never produces what the port forbids: stale lists or reads, torn objects, success without effect.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

from tiering.errors import AccessDenied, NotFound, ObjectStoreError, Throttled, Timeout, Unavailable
from tiering.objects.port import Buffer, ObjectStore
from tiering.objects.wrapping import Call, WrappedStore

R = TypeVar("R")

_WRITES = frozenset({"put", "put_if_match", "copy", "delete"})


@dataclass(frozen=True, slots=True)
class Faults:
    """Probabilities per call. A burst answers ``burst_calls`` calls in a row with 503."""

    latency_s_max: float = 0.0
    burst: float = 0.0
    burst_calls: int = 5
    lost_request: float = 0.0
    applied_but_timed_out: float = 0.0
    truncated_body: float = 0.0


class FaultyStore(WrappedStore):
    """``outage`` makes every call fail with this error until it is None again; ``missing`` names keys whose objects are
    gone for every reader; ``undeletable`` says which keys the store refuses to delete; ``fault_count`` counts the
    faults."""

    def __init__(self, inner: ObjectStore, faults: Faults, seed: int) -> None:
        super().__init__(inner)
        self.faults = faults
        self.outage: type[ObjectStoreError] | None = None
        self.missing: set[str] = set()
        self.undeletable: Callable[[str], bool] = lambda key: False
        self.fault_count = 0
        self._rng = random.Random(seed)
        self._burst_left = 0

    def _happens(self, probability: float) -> bool:
        happens = self._rng.random() < probability
        self.fault_count += happens
        return happens

    def _refusal(self, call: Call) -> ObjectStoreError | None:
        """Why this call never reaches the store."""
        if self.outage is not None:
            return self.outage("outage", key=call.key)
        if call.key in self.missing and call.verb in ("get", "get_range", "head"):
            return NotFound("no such object", key=call.key)
        if not self._burst_left and self._happens(self.faults.burst):
            self._burst_left = self.faults.burst_calls
        if self._burst_left:
            self._burst_left -= 1
            return Throttled("503 SlowDown", key=call.key)
        if self._happens(self.faults.lost_request):
            return Unavailable("connection reset", key=call.key)
        return None

    async def _parts(self, call: Call, work: Callable[[], Awaitable[R]]) -> R:
        if self.faults.latency_s_max:
            await asyncio.sleep(self._rng.uniform(0, self.faults.latency_s_max))
        refusal = self._refusal(call)
        if refusal is not None:
            raise refusal
        result = await work()
        if call.verb in _WRITES and self._happens(self.faults.applied_but_timed_out):
            raise Timeout("no answer", key=call.key)
        return result

    async def delete(self, keys: Iterable[str]) -> dict[str, ObjectStoreError]:
        named = tuple(keys)
        kept = [key for key in named if self.undeletable(key)]
        refused = await super().delete(key for key in named if key not in kept)
        self.fault_count += len(kept)
        return refused | {key: AccessDenied("under a legal hold", key=key) for key in kept}

    async def get_range(self, key: str, start: int, end: int) -> Buffer:
        data = await super().get_range(key, start, end)
        if self._happens(self.faults.truncated_body):
            return data[: self._rng.randrange(len(data))]
        return data
