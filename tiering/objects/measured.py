"""Counts the requests to a store: the source of metrics and of measured costs.

Plain ints and floats, written only on the loop and read by any renderer of metrics. Wrap the backend itself, below
``retrying``, so that every attempt is counted.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeVar

from tiering.errors import ObjectStoreError
from tiering.objects.port import ObjectStore
from tiering.objects.wrapping import VERBS, Call, Verb, WrappedStore

R = TypeVar("R")

LATENCY_BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


@dataclass(slots=True)
class VerbStats:
    """``buckets[i]`` counts calls that took at most ``LATENCY_BOUNDS_S[i]`` seconds and more than the bound before;
    the last bucket holds the rest. ``seconds`` and ``buckets`` include failed and cancelled calls."""

    calls: int = 0
    requests: int = 0
    sent_bytes: int = 0
    received_bytes: int = 0
    cancelled: int = 0
    in_flight: int = 0
    seconds: float = 0.0
    errors: dict[str, int] = field(default_factory=dict)
    buckets: list[int] = field(default_factory=lambda: [0] * (len(LATENCY_BOUNDS_S) + 1))

    @property
    def error_count(self) -> int:
        return sum(self.errors.values())


@dataclass(slots=True)
class StoreStats:
    """One ``VerbStats`` per verb of the port."""

    verbs: dict[Verb, VerbStats] = field(default_factory=lambda: {verb: VerbStats() for verb in VERBS})

    def __getitem__(self, verb: Verb) -> VerbStats:
        return self.verbs[verb]


class MeasuredStore(WrappedStore):
    """``put_requests``: bytes of an object → the requests that the backend needs to put it; ``delete_batch``: how many keys
    it deletes per request; ``copy_requests``: how many it asks for a copy. With these, ``requests`` is the number that a
    provider would bill."""

    def __init__(
        self,
        inner: ObjectStore,
        stats: StoreStats | None = None,
        *,
        put_requests: Callable[[int], int] = lambda size_bytes: 1,
        delete_batch: int = 1_000,
        copy_requests: int = 1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(inner)
        self.stats = stats or StoreStats()
        self._put_requests = put_requests
        self._delete_batch = delete_batch
        self._copy_requests = copy_requests
        self._clock = clock

    def _requests(self, call: Call) -> int:
        if call.verb == "put":
            return self._put_requests(call.sent_bytes)
        if call.verb == "copy":
            return self._copy_requests
        return -(-len(call.keys) // self._delete_batch) if call.keys else 1

    async def _parts(self, call: Call, work: Callable[[], Awaitable[R]]) -> R:
        stats = self.stats[call.verb]
        stats.calls += 1
        stats.requests += self._requests(call)
        stats.in_flight += 1
        begun = self._clock()
        try:
            result = await work()
        except ObjectStoreError as error:
            kind = type(error).__name__
            stats.errors[kind] = stats.errors.get(kind, 0) + 1
            raise
        except BaseException:
            stats.cancelled += 1
            raise
        else:
            stats.sent_bytes += call.sent_bytes
            if call.verb == "get_range":
                stats.received_bytes += len(result)  # type: ignore[arg-type]
            elif call.verb == "get":
                stats.received_bytes += len(result[1])  # type: ignore[index]
            elif call.verb == "delete":
                for refusal in result.values():  # type: ignore[attr-defined]
                    kind = type(refusal).__name__
                    stats.errors[kind] = stats.errors.get(kind, 0) + 1
            return result
        finally:
            stats.in_flight -= 1
            elapsed_s = self._clock() - begun
            stats.seconds += elapsed_s
            stats.buckets[bisect_left(LATENCY_BOUNDS_S, elapsed_s)] += 1
