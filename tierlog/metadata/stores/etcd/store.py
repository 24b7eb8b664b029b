"""The metadata store in etcd (3.4 and newer): the port over ``endpoints`` and ``watch``.

etcd counts seconds where the port counts milliseconds: a lease's time is rounded up. etcd itself may lengthen it (by its own
minimum, and a change of its leader restarts all leases). That only delays an expiry.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Self

import grpc
import structlog

from tierlog.errors import StoreUnavailable, UserError
from tierlog.metadata.stores.etcd import messages
from tierlog.metadata.stores.etcd.endpoints import AccessRefused, Endpoint, Endpoints, Refusal
from tierlog.metadata.stores.etcd.keyspace import Keyspace
from tierlog.metadata.stores.etcd.settings import EtcdSettings
from tierlog.metadata.stores.etcd.watch import EtcdWatch
from tierlog.metadata.stores.evaluation import refuse_malformed
from tierlog.metadata.stores.port import PAGE_KEYS, Compacted, LeaseNotFound, Page, WatchStream
from tierlog.metadata.transactions import KeyValue, Txn, TxnResult

# None of our keys begins with this: a watch over it delivers nothing.
_NOWHERE = "!"

logger = structlog.get_logger()


class EtcdStore:
    """Create with ``await EtcdStore.open(settings)``; implements ``MetadataStore``."""

    def __init__(self, settings: EtcdSettings) -> None:
        self._settings = settings
        self._keyspace = Keyspace(settings.prefix)
        self._endpoints = Endpoints(settings, self._leave)
        self._watches: set[EtcdWatch] = set()
        self._is_closed = False

    @classmethod
    async def open(cls, settings: EtcdSettings) -> Self:
        """Returns once etcd has answered. Raises ``UserError``: at once when it refuses, else after
        ``start_timeout_ms``."""
        store = cls(settings)
        try:
            await store._await_answer()
        except BaseException:
            await store.close()
            raise
        return store

    async def _await_answer(self) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._settings.start_timeout_ms / 1000
        is_first = True
        while True:
            try:
                await self.get("/")
                return
            except (AccessRefused, Refusal) as error:
                raise UserError(f"metadata.store: {self._settings.where} refuses: {error}") from None
            except StoreUnavailable as error:
                if loop.time() >= deadline:
                    seconds = self._settings.start_timeout_ms / 1000
                    raise UserError(
                        f"metadata.store: given up after {seconds:g} s: {error}; does it run, are address and TLS right?"
                    ) from None
                if is_first:
                    logger.warning("the metadata store does not answer: trying again", why=str(error))
                is_first = False

    # -- the port

    async def get(self, key: str) -> KeyValue | None:
        answer = await self._range(messages.range_request(self._keyspace.key(key)))
        return self._keyspace.key_value(answer.kvs[0]) if answer.kvs else None

    async def range(
        self, prefix: str, revision: int | None = None, limit: int = PAGE_KEYS, cursor: str | None = None
    ) -> Page:
        first, end = self._keyspace.span(prefix)
        if cursor is not None:
            first = self._keyspace.key(cursor + "\0")
        request = messages.range_request(first, range_end=end, limit=limit, revision=revision or 0)
        answer = await self._range(request)
        kvs = [self._keyspace.key_value(kv) for kv in answer.kvs]
        at = answer.revision if revision is None else revision
        return Page(kvs, at, kvs[-1].key if answer.more else None)

    async def txn(self, txn: Txn) -> TxnResult:
        refuse_malformed(txn)
        request = self._keyspace.txn_request(txn)
        try:
            answer = await self._endpoints.once(messages.TXN, request)
        except Refusal as error:
            if error.code is grpc.StatusCode.NOT_FOUND:
                raise LeaseNotFound(error.details) from None
            assert error.code is not grpc.StatusCode.INVALID_ARGUMENT, error.details
            raise self._refused(error) from None
        return self._keyspace.txn_result(txn, messages.txn_answer(answer))

    def watch(self, prefixes: Sequence[str], from_revision: int) -> WatchStream:
        return self._watch(prefixes, from_revision)

    async def grant(self, ttl_ms: int) -> int:
        # If an answer is lost, the lease is granted twice and the first one expires unused.
        request = messages.lease_grant_request(-(-ttl_ms // 1000))
        try:
            answer = await self._endpoints.repeatable(messages.LEASE_GRANT, request)
        except Refusal as error:
            raise self._refused(error) from None
        lease, _ = messages.lease_answer(answer)
        return lease

    async def keepalive(self, lease: int) -> bool:
        try:
            answer = await self._endpoints.exchange(messages.LEASE_KEEP_ALIVE, messages.lease_request(lease))
        except Refusal as error:
            if error.code is grpc.StatusCode.NOT_FOUND:
                return False
            raise self._refused(error) from None
        _, ttl_s = messages.lease_answer(answer)
        return ttl_s > 0

    async def revoke(self, lease: int) -> None:
        try:
            await self._endpoints.repeatable(messages.LEASE_REVOKE, messages.lease_request(lease))
        except Refusal as error:
            if error.code is not grpc.StatusCode.NOT_FOUND:
                raise self._refused(error) from None

    async def close(self) -> None:
        self._is_closed = True
        await self._endpoints.finish()
        watches = tuple(self._watches)
        for watch in watches:
            watch.close()
        for watch in watches:
            await watch.ended()
        await self._endpoints.close()

    # -- inside

    async def _range(self, request: bytes) -> messages.RangeAnswer:
        try:
            answer = await self._endpoints.repeatable(messages.RANGE, request)
        except Refusal as error:
            if error.code is grpc.StatusCode.OUT_OF_RANGE and "compacted" in error.details:
                raise Compacted(await self._min_watchable()) from None
            raise self._refused(error) from None
        return messages.range_answer(answer)

    async def _min_watchable(self) -> int:
        """etcd tells its compacted revision only to a watch."""
        watch = self._watch([_NOWHERE], 1)
        try:
            async with asyncio.timeout(self._settings.request_timeout_ms / 1000):
                await watch.__anext__()
        except Compacted as error:
            return error.min_revision
        except TimeoutError:
            pass
        finally:
            watch.close()
        raise StoreUnavailable(f"{self._settings.where}: it does not tell what is compacted")

    def _watch(self, prefixes: Sequence[str], from_revision: int) -> EtcdWatch:
        watch = EtcdWatch(
            self._endpoints,
            self._keyspace,
            prefixes,
            from_revision,
            timeout_s=self._settings.request_timeout_ms / 1000,
            forget=self._watches.discard,
        )
        self._watches.add(watch)
        if self._is_closed:
            watch.close()
        return watch

    def _leave(self, endpoint: Endpoint) -> None:
        for watch in tuple(self._watches):
            watch.leave(endpoint)

    def _refused(self, error: Refusal) -> StoreUnavailable:
        return StoreUnavailable(f"{self._settings.where} refuses: {error.details}")
