"""Retries, where they can help and cannot hurt.

* Only ``retriable`` errors are tried again, with full jitter (tenacity), until the attempts or the time are
  used up; a pause that would end after ``total_s`` is not begun: the last error comes out at once.
* A caller with a deadline of its own cancels (``asyncio.timeout``); nothing here swallows that.
* A one-shot stream gets one attempt.
* A conditional write whose outcome is unknown is tried again. If the retry meets an object, the object is read: if it
  holds exactly the bytes to be written, the write has happened. So the contents of racing conditional writes must
  differ between writers (a uuid in them does it).
* A ranged read of the wrong length is a broken connection, whatever the store said about it.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt, stop_before_delay

from tiering.errors import NotFound, ObjectStoreError, PreconditionFailed, Throttled, Timeout, Unavailable
from tiering.objects.classes import StorageClass
from tiering.objects.port import PLAIN, Buffer, Content, ObjectInfo, ObjectStore, PutOptions, check_whole
from tiering.objects.streams import is_repeatable, whole
from tiering.objects.wrapping import Call, WrappedStore

R = TypeVar("R")

COPY_TIMEOUT_S = 300.0
"""The store itself moves the bytes of a segment, some tens of MB a second at worst."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """``attempt_timeout_s`` bounds each attempt, except of a put, whose requests the backend bounds by
    itself."""

    attempts_max: int = 6
    total_s: float = 60.0
    attempt_timeout_s: float = 30.0
    first_pause_s: float = 0.1
    pause_max_s: float = 5.0

    def pause_s(self, attempt: int, rng: random.Random) -> float:
        """How long to wait after so many attempts. Full jitter: anything up to an exponentially growing bound."""
        return rng.uniform(0, min(self.pause_max_s, self.first_pause_s * 2.0**attempt))


def _is_retriable(error: BaseException) -> bool:
    return isinstance(error, ObjectStoreError) and error.retriable


class RetryingStore(WrappedStore):
    """``retry_count`` counts attempts after the first ones, for metrics. ``last_failure`` is what the error before the
    latest retry says, for callers that lose patience before the call is over; the error itself would keep what was sent."""

    def __init__(
        self, inner: ObjectStore, policy: RetryPolicy | None = None, rng: random.Random | None = None
    ) -> None:
        super().__init__(inner)
        self.policy = policy or RetryPolicy()
        self._rng = rng or random.Random()
        self.retry_count = 0
        self.last_failure = ""

    def _pause_s(self, state: RetryCallState) -> float:
        return self.policy.pause_s(state.attempt_number, self._rng)

    def _count(self, state: RetryCallState) -> None:
        self.retry_count += 1
        self.last_failure = str(state.outcome.exception()) if state.outcome is not None else ""

    async def _repeat(self, work: Callable[[], Awaitable[R]]) -> R:
        retrying = AsyncRetrying(
            stop=stop_after_attempt(self.policy.attempts_max) | stop_before_delay(self.policy.total_s),
            wait=self._pause_s,
            retry=retry_if_exception(_is_retriable),
            before_sleep=self._count,
            sleep=asyncio.sleep,
            reraise=True,
        )
        result: R = await retrying(work)
        return result

    async def _parts(self, call: Call, work: Callable[[], Awaitable[R]]) -> R:
        async def attempt() -> R:
            if call.verb == "put":
                return await work()
            try:
                async with asyncio.timeout(self.policy.attempt_timeout_s):
                    return await work()
            except TimeoutError:
                raise Timeout(f"no answer to {call.verb}", key=call.key) from None

        return await self._repeat(attempt)

    async def put(
        self,
        key: str,
        content: Content,
        *,
        size_bytes: int,
        if_absent: bool = False,
        options: PutOptions = PLAIN,
    ) -> ObjectInfo:
        if if_absent:
            check_whole(key, size_bytes)
            data = await whole(key, content, size_bytes, options.crc32c)
            return await self._put_on_condition(
                key,
                data,
                lambda: self.inner.put(key, data, size_bytes=size_bytes, if_absent=True, options=options),
            )
        if not is_repeatable(content):
            return await self.inner.put(key, content, size_bytes=size_bytes, options=options)
        return await super().put(key, content, size_bytes=size_bytes, options=options)

    async def put_if_match(self, key: str, data: Buffer, version: str) -> ObjectInfo:
        return await self._put_on_condition(key, data, lambda: self.inner.put_if_match(key, data, version))

    async def _put_on_condition(
        self, key: str, data: Buffer, work: Callable[[], Awaitable[ObjectInfo]]
    ) -> ObjectInfo:
        outcome_unknown = False

        async def attempt() -> ObjectInfo:
            nonlocal outcome_unknown
            try:
                return await work()
            except PreconditionFailed:
                if outcome_unknown:
                    written = await self._find_equal(key, data)
                    if written is not None:
                        return written
                raise
            except ObjectStoreError as error:
                outcome_unknown |= error.retriable and not isinstance(error, Throttled)
                raise

        return await self._repeat(attempt)

    async def copy(
        self, source: str, target: str, *, version: str, storage_class: StorageClass
    ) -> ObjectInfo:
        """A copy onto the same key that was applied without an answer has changed the version, perhaps: then the class
        tells."""
        outcome_unknown = False

        async def attempt() -> ObjectInfo:
            nonlocal outcome_unknown
            try:
                async with asyncio.timeout(COPY_TIMEOUT_S):
                    return await self.inner.copy(source, target, version=version, storage_class=storage_class)
            except TimeoutError:
                outcome_unknown = True
                raise Timeout("no answer to copy", key=target) from None
            except PreconditionFailed:
                if outcome_unknown and source == target:
                    found = await self.inner.head(target, complete=True)
                    if found.storage_class == storage_class:
                        return found
                raise
            except ObjectStoreError as error:
                outcome_unknown |= error.retriable and not isinstance(error, Throttled)
                raise

        return await self._repeat(attempt)

    async def _find_equal(self, key: str, data: Buffer) -> ObjectInfo | None:
        try:
            info, found = await self.inner.get(key)
        except NotFound:
            return None
        return info if found == data else None

    async def delete(self, keys: Iterable[str]) -> dict[str, ObjectStoreError]:
        """Retries the keys whose refusal may pass; the keys that are gone are not deleted again."""
        left = tuple(keys)
        refused: dict[str, ObjectStoreError] = {}
        if not left:
            return refused

        async def attempt() -> None:
            nonlocal left
            answer = await self.inner.delete(left)
            refused.update(answer)
            for key in left:
                if key not in answer:
                    refused.pop(key, None)
            left = tuple(key for key, error in answer.items() if error.retriable)
            if left:
                raise answer[left[0]]

        try:
            await self._parts(Call("delete", left[0], keys=left), attempt)
        except ObjectStoreError as error:
            if refused.get(error.key) is not error:
                raise
        return refused

    async def get_range(self, key: str, start: int, end: int) -> Buffer:
        async def exact() -> Buffer:
            data = await self.inner.get_range(key, start, end)
            if len(data) != end - start:
                raise Unavailable(f"{len(data)} of {end - start} bytes came", key=key)
            return data

        return await self._parts(Call("get_range", key), exact)


def last_failure(store: ObjectStore) -> str:
    """What the error before the latest retry of a store says, however it is wrapped; empty if there was none."""
    inner: object = store
    while isinstance(inner, WrappedStore):
        if isinstance(inner, RetryingStore):
            return inner.last_failure
        inner = inner.inner
    return ""


def attempts_of(store: ObjectStore) -> tuple[ObjectStore, RetryPolicy]:
    """What a store's retries try, and how, for a caller that retries by itself. One attempt if it does not retry."""
    inner: object = store
    while isinstance(inner, WrappedStore):
        if isinstance(inner, RetryingStore):
            return inner.inner, inner.policy
        inner = inner.inner
    return store, RetryPolicy(attempts_max=1)
