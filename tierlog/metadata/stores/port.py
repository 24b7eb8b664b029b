"""The metadata store port: keys with revisions, guarded transactions, ordered watches and leases.

The model is etcd's, so that etcd itself can stand behind it:

* One store has one ``revision``, a counter from 1. A transaction that writes anything takes the next
  revision, and all its writes carry it. ``create_revision`` is the revision that created the key (deleting
  and creating again gives a new one), ``mod_revision`` the one that wrote it last. Zero in a ``Compare``
  means "the key is absent".
* A transaction writes each key at most once and holds at most ``MAX_TXN_OPS`` operations (nested ones included;
  comparisons have a count of their own, those of a nested one on top of the outer ones). Every comparison, those of
  nested transactions too, is evaluated against the state before the transaction. A nested transaction whose
  comparisons fail takes its own ``orelse`` without failing the outer one; one level of nesting is allowed.
  Reads inside a transaction see the state before it.
* A watch yields, for each revision that touched its prefixes, exactly one batch with all the touching
  events: in order, once, never torn. It resumes from any revision that is not compacted.
* A lease that is not kept alive dies, and all its keys are deleted in one revision.

Errors: ``StoreUnavailable`` when nothing was done; ``UnknownOutcome`` when a transaction may have been
applied (re-read, never retry blindly); ``Compacted`` and ``LeaseNotFound`` below.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import NamedTuple, Protocol

from tierlog.errors import TierlogError
from tierlog.metadata.transactions import KeyValue, Txn, TxnResult, WatchBatch

PAGE_KEYS = 2000


class Compacted(TierlogError):
    """The revision asked for is no longer kept; ``min_revision`` is the oldest that can be watched from."""

    def __init__(self, min_revision: int) -> None:
        super().__init__(f"revisions before {min_revision} are compacted")
        self.min_revision = min_revision


class LeaseNotFound(TierlogError):
    """The lease has expired or never existed; a transaction that names it applied nothing."""


class Page(NamedTuple):
    """Keys in byte order. ``cursor`` goes into the next call with the same ``revision``; None: the last
    page."""

    kvs: list[KeyValue]
    revision: int
    cursor: str | None


class WatchStream(Protocol):
    """An endless iterator over batches; ``close`` lets the store forget it and ends the iteration."""

    def __aiter__(self) -> AsyncIterator[WatchBatch]: ...

    async def __anext__(self) -> WatchBatch: ...

    def close(self) -> None: ...


class MetadataStore(Protocol):
    """See the module head for the model. All methods belong to one event loop."""

    async def get(self, key: str) -> KeyValue | None:
        """Linearizable read."""
        ...

    async def range(
        self, prefix: str, revision: int | None = None, limit: int = PAGE_KEYS, cursor: str | None = None
    ) -> Page:
        """One page of the keys under ``prefix`` as of ``revision`` (None: now). Raises ``Compacted``."""
        ...

    async def txn(self, txn: Txn) -> TxnResult:
        """Raises ``UnknownOutcome``, ``StoreUnavailable``, ``LeaseNotFound``."""
        ...

    def watch(self, prefixes: Sequence[str], from_revision: int) -> WatchStream:
        """Batches from ``from_revision`` (inclusive) on, without an end; iterating raises ``Compacted``."""
        ...

    async def grant(self, ttl_ms: int) -> int:
        """A new lease that lives ``ttl_ms`` from now; its id is never reused."""
        ...

    async def keepalive(self, lease: int) -> bool:
        """Extends the lease by its full time to live; False when it is gone, and its keys with it."""
        ...

    async def revoke(self, lease: int) -> None:
        """Ends the lease and deletes its keys; without effect when it is gone."""
        ...

    async def close(self) -> None:
        """Finishes earlier calls, then ends every watch and connection. Leases are not revoked."""
        ...
