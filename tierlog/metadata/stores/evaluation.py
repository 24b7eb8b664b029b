"""Evaluates a transaction on a given state: shared by the backends that are not a server of their own.

Pure: the state comes in as a lookup function, the writes come out as a list for the backend to apply under
the revision that the result names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from tierlog.metadata.transactions import (
    MAX_TXN_OPS,
    Compare,
    Delete,
    Get,
    KeyValue,
    Operation,
    Put,
    Txn,
    TxnResult,
)

Lookup = Callable[[str], KeyValue | None]


class Write(NamedTuple):
    """One key's change: ``put`` None deletes it. ``before``: the key's previous value."""

    key: str
    put: Put | None
    before: KeyValue | None


class Evaluation(NamedTuple):
    result: TxnResult
    writes: list[Write]


def evaluate(txn: Txn, lookup: Lookup, revision: int) -> Evaluation:
    """``revision``: the store's present one. The writes take effect at ``result.revision``, which is ``revision``
    + 1 when there are any."""
    refuse_malformed(txn)
    writes: list[Write] = []
    _collect(txn, lookup, writes)
    new_revision = revision + 1 if writes else revision
    return Evaluation(_result(txn, lookup, new_revision), writes)


def _holds(compare: Compare, lookup: Lookup) -> bool:
    kv = lookup(compare.key)
    if kv is None:
        return compare.revision == 0
    actual = kv.mod_revision if compare.field == "mod" else kv.create_revision
    return actual == compare.revision


def _succeeds(txn: Txn, lookup: Lookup) -> bool:
    return all(_holds(compare, lookup) for compare in txn.compares)


def _collect(txn: Txn, lookup: Lookup, writes: list[Write]) -> None:
    if not _succeeds(txn, lookup):
        return
    for op in txn.then:
        if isinstance(op, Put):
            writes.append(Write(op.key, op, lookup(op.key)))
        elif isinstance(op, Delete):
            before = lookup(op.key)
            if before is not None:
                writes.append(Write(op.key, None, before))
        elif isinstance(op, Txn):
            _collect(op, lookup, writes)


def _result(txn: Txn, lookup: Lookup, revision: int) -> TxnResult:
    ok = _succeeds(txn, lookup)
    branch: tuple[Operation, ...] = txn.then if ok else txn.orelse
    gets = tuple(lookup(op.key) for op in branch if isinstance(op, Get))
    nested = tuple(_result(op, lookup, revision) for op in branch if isinstance(op, Txn))
    return TxnResult(ok, revision, gets, nested)


def refuse_malformed(txn: Txn) -> None:
    """Refuses transactions that are bugs of the caller and that etcd would refuse as well."""
    written: set[str] = set()
    count = 0
    for depth, op in _walk(txn, 0):
        count += 1
        assert depth == 0 or not isinstance(op, Txn), "one level of nesting is allowed"
        if isinstance(op, (Put, Delete)):
            assert op.key not in written, f"{op.key} is written twice in one transaction"
            written.add(op.key)
    assert count <= MAX_TXN_OPS, f"{count} operations in one transaction, allowed are {MAX_TXN_OPS}"
    # As etcd counts: comparisons weigh as much as operations, and nested ones share what the outer one leaves.
    inner = max((_width(op) for op in txn.then if isinstance(op, Txn)), default=0)
    width = _width(txn) + inner
    assert width <= MAX_TXN_OPS, (
        f"a transaction {width} comparisons or operations wide, allowed are {MAX_TXN_OPS}"
    )


def _width(txn: Txn) -> int:
    return max(len(txn.compares), len(txn.then), len(txn.orelse))


def _walk(txn: Txn, depth: int) -> Iterator[tuple[int, Operation]]:
    for op in txn.then:
        yield depth, op
        if isinstance(op, Txn):
            yield from _walk(op, depth + 1)
