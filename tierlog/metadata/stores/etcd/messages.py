"""The etcd messages that are used here: field numbers are those of etcd's rpc.proto, kv.proto and auth.proto (API 3).

Requests are functions that return the encoded message, answers are named tuples with a function that decodes them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from tierlog.metadata.stores.etcd.protobuf import BadMessage, blob, fields, message, number, read_varint

RANGE = "/etcdserverpb.KV/Range"
TXN = "/etcdserverpb.KV/Txn"
WATCH = "/etcdserverpb.Watch/Watch"
LEASE_GRANT = "/etcdserverpb.Lease/LeaseGrant"
LEASE_REVOKE = "/etcdserverpb.Lease/LeaseRevoke"
LEASE_KEEP_ALIVE = "/etcdserverpb.Lease/LeaseKeepAlive"
AUTHENTICATE = "/etcdserverpb.Auth/Authenticate"

_CREATE, _MOD = 1, 2  # Compare.target


class EtcdKeyValue(NamedTuple):
    key: bytes
    value: bytes
    create_revision: int
    mod_revision: int
    lease: int


class RangeAnswer(NamedTuple):
    revision: int
    kvs: list[EtcdKeyValue]
    more: bool


class OpAnswer(NamedTuple):
    """The answer to one operation of a transaction: of a range, of a nested transaction, or neither."""

    range: RangeAnswer | None
    txn: TxnAnswer | None


class TxnAnswer(NamedTuple):
    revision: int
    succeeded: bool
    ops: list[OpAnswer]


class EtcdEvent(NamedTuple):
    is_delete: bool
    kv: EtcdKeyValue


class WatchAnswer(NamedTuple):
    """``compact_revision``: not 0 when the watch asked for a compacted revision. ``events``: still encoded, since there
    may be very many (see ``watch_event``)."""

    revision: int
    watch_id: int
    created: bool
    canceled: bool
    compact_revision: int
    cancel_reason: str
    is_fragment: bool
    events: list[bytes]


# -- requests


def range_request(key: bytes, *, range_end: bytes = b"", limit: int = 0, revision: int = 0) -> bytes:
    """Linearizable: ``serializable`` stays unset. Sorted by key, as etcd keeps them."""
    return blob(1, key) + blob(2, range_end) + number(3, limit) + number(4, revision)


def compare(key: bytes, field: str, revision: int) -> bytes:
    """Equality of the ``mod`` or ``create`` revision."""
    target, union = (_MOD, 6) if field == "mod" else (_CREATE, 5)
    return number(2, target) + blob(3, key) + number(union, revision)


def range_op(key: bytes) -> bytes:
    return message(1, blob(1, key))


def put_op(key: bytes, value: bytes, lease: int) -> bytes:
    return message(2, blob(1, key) + blob(2, value) + number(3, lease))


def delete_op(key: bytes) -> bytes:
    return message(3, blob(1, key))


def txn_op(txn: bytes) -> bytes:
    return message(4, txn)


def txn_request(compares: Sequence[bytes], success: Sequence[bytes], failure: Sequence[bytes]) -> bytes:
    parts = [message(1, each) for each in compares]
    parts += [message(2, each) for each in success]
    parts += [message(3, each) for each in failure]
    return b"".join(parts)


def watch_request(key: bytes, range_end: bytes, start_revision: int) -> bytes:
    """Asks for progress notifications, but not for fragments, so that one answer never ends inside a revision."""
    return message(1, blob(1, key) + blob(2, range_end) + number(3, start_revision) + number(4, 1))


def lease_grant_request(ttl_s: int) -> bytes:
    return number(1, ttl_s)


def lease_request(lease: int) -> bytes:
    """The request of ``LeaseRevoke`` and ``LeaseKeepAlive``."""
    return number(1, lease)


def authenticate_request(name: str, password: str) -> bytes:
    return blob(1, name.encode()) + blob(2, password.encode())


# -- answers


def key_value(data: bytes) -> EtcdKeyValue:
    """Decoded by hand, since one load has 100,000 of them: this takes a third of the time of ``fields``."""
    key = value = b""
    create_revision = mod_revision = lease = 0
    at, end = 0, len(data)
    try:
        while at < end:
            tag = data[at]
            if tag == 0x0A or tag == 0x2A:
                size, at = read_varint(data, at + 1)
                if tag == 0x0A:
                    key = data[at : at + size]
                else:
                    value = data[at : at + size]
                at += size
            elif tag & 7 == 0 and tag < 0x80:
                integer, at = read_varint(data, at + 1)
                if tag == 0x10:
                    create_revision = integer
                elif tag == 0x18:
                    mod_revision = integer
                elif tag == 0x30:
                    lease = integer
            else:
                raise BadMessage(f"a key with a field of tag {tag}")
    except IndexError:
        raise BadMessage("the message is cut") from None
    if at > end:
        raise BadMessage("a field ends behind its message")
    return EtcdKeyValue(key, value, create_revision, mod_revision, lease)


def revision_of(header: bytes) -> int:
    return next((integer for field, integer, _ in fields(header) if field == 3), 0)


def range_answer(data: bytes) -> RangeAnswer:
    revision, more = 0, False
    kvs: list[EtcdKeyValue] = []
    for field, integer, chunk in fields(data):
        if field == 2:
            kvs.append(key_value(chunk))
        elif field == 1:
            revision = revision_of(chunk)
        elif field == 3:
            more = bool(integer)
    return RangeAnswer(revision, kvs, more)


def txn_answer(data: bytes) -> TxnAnswer:
    revision, succeeded = 0, False
    ops: list[OpAnswer] = []
    for field, integer, chunk in fields(data):
        if field == 1:
            revision = revision_of(chunk)
        elif field == 2:
            succeeded = bool(integer)
        elif field == 3:
            ops.append(_op_answer(chunk))
    return TxnAnswer(revision, succeeded, ops)


def _op_answer(data: bytes) -> OpAnswer:
    for field, _, chunk in fields(data):
        if field == 1:
            return OpAnswer(range_answer(chunk), None)
        if field == 4:
            return OpAnswer(None, txn_answer(chunk))
    return OpAnswer(None, None)


def watch_answer(data: bytes) -> WatchAnswer:
    revision = watch_id = compact_revision = 0
    created = canceled = is_fragment = False
    cancel_reason = ""
    events: list[bytes] = []
    for field, integer, chunk in fields(data):
        if field == 11:
            events.append(chunk)
        elif field == 1:
            revision = revision_of(chunk)
        elif field == 2:
            watch_id = integer
        elif field == 3:
            created = bool(integer)
        elif field == 4:
            canceled = bool(integer)
        elif field == 5:
            compact_revision = integer
        elif field == 6:
            cancel_reason = chunk.decode(errors="replace")
        elif field == 7:
            is_fragment = bool(integer)
    return WatchAnswer(
        revision, watch_id, created, canceled, compact_revision, cancel_reason, is_fragment, events
    )


def watch_event(data: bytes) -> EtcdEvent:
    is_delete, kv = False, None
    for field, integer, chunk in fields(data):
        if field == 1:
            is_delete = integer == 1
        elif field == 2:
            kv = key_value(chunk)
    if kv is None:
        raise BadMessage("an event without a key")
    return EtcdEvent(is_delete, kv)


def lease_answer(data: bytes) -> tuple[int, int]:
    """(lease, time to live in seconds) of ``LeaseGrant`` and ``LeaseKeepAlive``; the time is 0 when the lease is gone."""
    lease = ttl_s = 0
    for field, integer, _ in fields(data):
        if field == 2:
            lease = integer
        elif field == 3:
            ttl_s = integer if integer < 1 << 63 else 0
    return lease, ttl_s


def token_of(data: bytes) -> str:
    """The token in the answer to ``Authenticate``."""
    return next((chunk.decode() for field, _, chunk in fields(data) if field == 2), "")
