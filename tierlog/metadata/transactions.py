"""Requests and answers of a metadata store: plain values; see ``stores.port`` for their rules."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

MAX_TXN_OPS = 128
# Nested transactions in one transaction: with one write each they stay within ``MAX_TXN_OPS``.
MAX_NESTED = 60
NO_LEASE = 0


class KeyValue(NamedTuple):
    key: str
    value: bytes
    create_revision: int
    mod_revision: int
    lease: int = NO_LEASE


class Compare(NamedTuple):
    """True when the key's ``mod`` or ``create`` revision equals ``revision``; an absent key has 0 for
    both."""

    key: str
    field: Literal["mod", "create"]
    revision: int


class Put(NamedTuple):
    """Writes the key; ``lease`` replaces the key's lease (``NO_LEASE`` detaches it)."""

    key: str
    value: bytes
    lease: int = NO_LEASE


class Delete(NamedTuple):
    """Removes the key; without effect, and without an event, when it is absent."""

    key: str


class Get(NamedTuple):
    key: str


@dataclass(frozen=True, slots=True)
class Txn:
    """``then`` is carried out when all ``compares`` hold, else ``orelse``."""

    compares: tuple[Compare, ...] = ()
    then: tuple[Put | Delete | Get | Txn, ...] = ()
    orelse: tuple[Get, ...] = ()


class TxnResult(NamedTuple):
    """``revision``: the store's after the transaction. ``gets`` and ``nested``: in the order of the branch that
    was taken."""

    ok: bool
    revision: int
    gets: tuple[KeyValue | None, ...] = ()
    nested: tuple[TxnResult, ...] = ()


class Event(NamedTuple):
    """One key's change; ``kv`` is None when the key was deleted."""

    key: str
    kv: KeyValue | None


class WatchBatch(NamedTuple):
    """All events of one revision, in the order in which the transaction wrote them."""

    revision: int
    events: tuple[Event, ...]


Operation: TypeAlias = Put | Delete | Get | Txn
