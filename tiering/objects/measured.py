"""Counts the calls of a store, how long they take and how they fail. Requests are counted by the backends that make them
(``tiering.metering``); for those that make none (a directory, memory), here, as if they were S3.

Plain ints and floats, written only on the loop and read by any renderer of metrics. Wrap the backend itself, below
``retrying``, so that every attempt is counted.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from tiering.errors import ObjectStoreError
from tiering.ledger.rows import Operation
from tiering.metering.accounts import Accounts
from tiering.metering.attribution import of_class
from tiering.metering.meta_sizes import Listed, MetaSizes
from tiering.metering.meter import VERB, Meter
from tiering.objects.classes import StorageClass
from tiering.objects.port import LIST_LIMIT_MAX, PLAIN, Content, ObjectInfo, ObjectStore, PutOptions
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
    """One ``VerbStats`` per verb of the port, and accounts of all requests. ``meta_sizes``: if somebody wants them."""

    verbs: dict[Verb, VerbStats] = field(default_factory=lambda: {verb: VerbStats() for verb in VERBS})
    accounts: Accounts = field(default_factory=Accounts)
    meta_sizes: MetaSizes | None = None

    def __getitem__(self, verb: Verb) -> VerbStats:
        return self.verbs[verb]


_OPERATIONS: dict[Verb, Operation] = {
    "put_if_match": Operation.PUT,
    "get": Operation.GET,
    "get_range": Operation.GET,
    "head": Operation.HEAD,
    "list": Operation.LIST,
    "delete": Operation.DELETE,
    "list_uploads": Operation.LIST_UPLOADS,
    "abort_upload": Operation.ABORT_UPLOAD,
    "keeps_old_versions": Operation.DESCRIBE,
}


class MeasuredStore(WrappedStore):
    """``put_requests``: bytes of an object → the requests in which S3 would take it; None for a backend that counts its
    requests itself. ``delete_batch``: how many keys a request deletes."""

    def __init__(
        self,
        inner: ObjectStore,
        stats: StoreStats | None = None,
        *,
        put_requests: Callable[[int], int] | None = lambda size_bytes: 1,
        delete_batch: int = 1_000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(inner)
        self.stats = stats or StoreStats()
        self._meter = Meter(self.stats.accounts)
        self._put_requests = put_requests
        self._delete_batch = delete_batch
        self._clock = clock

    async def put(
        self,
        key: str,
        content: Content,
        *,
        size_bytes: int,
        if_absent: bool = False,
        options: PutOptions = PLAIN,
    ) -> ObjectInfo:
        work = super().put(key, content, size_bytes=size_bytes, if_absent=if_absent, options=options)
        return await self._of_class(options.storage_class, work)

    async def copy(
        self, source: str, target: str, *, version: str, storage_class: StorageClass
    ) -> ObjectInfo:
        work = super().copy(source, target, version=version, storage_class=storage_class)
        return await self._of_class(storage_class, work)

    async def list(
        self, prefix: str, *, start_after: str = "", limit: int = LIST_LIMIT_MAX
    ) -> Sequence[ObjectInfo]:
        sizes = self.stats.meta_sizes
        if sizes is None:
            return await super().list(prefix, start_after=start_after, limit=limit)
        with sizes.listing() as are_listed:
            page = await super().list(prefix, start_after=start_after, limit=limit)
            are_listed(Listed(info.key, info.size_bytes) for info in page)
        return page

    def _note_meta(self, sizes: MetaSizes, call: Call, result: object) -> None:
        if call.verb in ("put", "put_if_match"):
            sizes.is_there(call.key, call.sent_bytes)
        elif call.verb == "get":
            sizes.is_there(call.key, len(result[1]))  # type: ignore[index]
        elif call.verb == "delete":
            sizes.is_gone(key for key in call.keys if key not in result)  # type: ignore[operator]

    async def _of_class(self, storage_class: StorageClass, work: Awaitable[R]) -> R:
        with of_class(storage_class.label):
            return await work

    def _note_as_s3(self, call: Call, received_bytes: int, failed: bool) -> None:
        note = self._meter.note
        if call.verb == "put":
            assert self._put_requests is not None
            count = 1 if failed else self._put_requests(call.sent_bytes)
            if count == 1:
                note(Operation.PUT, call.key, failed=failed, sent_bytes=call.sent_bytes)
            else:
                note(Operation.CREATE_UPLOAD, call.key)
                note(Operation.PART, call.key, count=count - 2, sent_bytes=call.sent_bytes)
                note(Operation.COMPLETE_UPLOAD, call.key)
        elif call.verb == "copy":
            note(Operation.COPY, call.key, failed=failed)
            if (
                not failed
            ):  # S3's copy does not tell the size and time of what it made: a second request does.
                note(Operation.HEAD, call.key)
        else:
            count = -(-len(call.keys) // self._delete_batch) if call.keys else 1
            note(
                _OPERATIONS[call.verb],
                call.key,
                count=count,
                failed=failed,
                sent_bytes=call.sent_bytes,
                received_bytes=received_bytes,
            )

    async def _parts(self, call: Call, work: Callable[[], Awaitable[R]]) -> R:
        stats = self.stats[call.verb]
        stats.calls += 1
        stats.in_flight += 1
        begun = self._clock()
        token = VERB.set(stats)
        received_bytes, failed = 0, True
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
            failed = False
            if self.stats.meta_sizes is not None:
                self._note_meta(self.stats.meta_sizes, call, result)
            if call.verb == "get_range":
                received_bytes = len(result)  # type: ignore[arg-type]
            elif call.verb == "get":
                received_bytes = len(result[1])  # type: ignore[index]
            elif call.verb == "delete":
                for refusal in result.values():  # type: ignore[attr-defined]
                    kind = type(refusal).__name__
                    stats.errors[kind] = stats.errors.get(kind, 0) + 1
            return result
        finally:
            if self._put_requests is not None:
                self._note_as_s3(call, received_bytes, failed)
            VERB.reset(token)
            stats.in_flight -= 1
            elapsed_s = self._clock() - begun
            stats.seconds += elapsed_s
            stats.buckets[bisect_left(LATENCY_BOUNDS_S, elapsed_s)] += 1
