"""The cluster's part of etcd's keys, and transactions in etcd's form.

Rules:

* A key in etcd is the prefix followed by the key; no other keys of etcd are ever read or written.
* Reads in a transaction of the port see the state before it, but etcd carries out operations one after the other. So each
  branch begins with its reads; a read of a nested transaction, of a key that another part writes, moves to the front of
  the outer transaction.
"""

from __future__ import annotations

from collections.abc import Sequence

from tierlog.metadata.keys import prefix_end
from tierlog.metadata.stores.etcd import messages
from tierlog.metadata.stores.etcd.messages import EtcdEvent, EtcdKeyValue, OpAnswer, TxnAnswer
from tierlog.metadata.transactions import Delete, Event, Get, KeyValue, Operation, Put, Txn, TxnResult


class Keyspace:
    def __init__(self, prefix: str) -> None:
        self._prefix = prefix.encode()
        self._skipped = len(self._prefix)

    def key(self, key: str) -> bytes:
        return self._prefix + key.encode()

    def span(self, prefix: str) -> tuple[bytes, bytes]:
        """The range of all keys under ``prefix``: first key and end."""
        return self.key(prefix), self.key(prefix_end(prefix))

    def key_value(self, kv: EtcdKeyValue) -> KeyValue:
        key, value, create_revision, mod_revision, lease = kv
        return KeyValue(key[self._skipped :].decode(), value, create_revision, mod_revision, lease)

    def event(self, event: EtcdEvent) -> Event:
        kv = event.kv
        if event.is_delete:
            return Event(kv.key[self._skipped :].decode(), None)
        return Event(kv.key[self._skipped :].decode(), self.key_value(kv))

    # -- transactions

    def txn_request(self, txn: Txn) -> bytes:
        return self._txn(txn, [messages.range_op(self.key(key)) for key in _lifted(txn)])

    def _txn(self, txn: Txn, reads: Sequence[bytes]) -> bytes:
        success = [*reads, *map(self._op, _reads_first(txn.then))]
        failure = [self._op(op) for op in txn.orelse]
        compares = [messages.compare(self.key(c.key), c.field, c.revision) for c in txn.compares]
        return messages.txn_request(compares, success, failure)

    def _op(self, op: Operation) -> bytes:
        if isinstance(op, Put):
            return messages.put_op(self.key(op.key), op.value, op.lease)
        if isinstance(op, Get):
            return messages.range_op(self.key(op.key))
        if isinstance(op, Delete):
            return messages.delete_op(self.key(op.key))
        return messages.txn_op(self._txn(op, ()))

    def txn_result(self, txn: Txn, answer: TxnAnswer) -> TxnResult:
        lifted = _lifted(txn) if answer.succeeded else []
        before = {key: self._read(op) for key, op in zip(lifted, answer.ops[: len(lifted)], strict=True)}
        return self._result(txn, answer, answer.ops[len(lifted) :], answer.revision, before)

    def _result(
        self,
        txn: Txn,
        answer: TxnAnswer,
        ops: Sequence[OpAnswer],
        revision: int,
        before: dict[str, KeyValue | None],
    ) -> TxnResult:
        branch: Sequence[Operation] = _reads_first(txn.then) if answer.succeeded else txn.orelse
        gets: list[KeyValue | None] = []
        nested: list[TxnResult] = []
        for op, op_answer in zip(branch, ops, strict=True):
            if isinstance(op, Get):
                gets.append(before[op.key] if op.key in before else self._read(op_answer))
            elif isinstance(op, Txn):
                assert op_answer.txn is not None, "etcd answered something else than was asked"
                nested.append(self._result(op, op_answer.txn, op_answer.txn.ops, revision, before))
        return TxnResult(answer.succeeded, revision, tuple(gets), tuple(nested))

    def _read(self, answer: OpAnswer) -> KeyValue | None:
        assert answer.range is not None, "etcd answered something else than was asked"
        return self.key_value(answer.range.kvs[0]) if answer.range.kvs else None


def _reads_first(ops: Sequence[Operation]) -> list[Operation]:
    return sorted(ops, key=lambda op: not isinstance(op, Get))


def _lifted(txn: Txn) -> list[str]:
    """Keys that a nested transaction reads and another part of ``txn`` writes."""
    parts = [txn, *(op for op in txn.then if isinstance(op, Txn))]
    writer = {op.key: n for n, part in enumerate(parts) for op in part.then if isinstance(op, (Put, Delete))}
    return sorted(
        {
            op.key
            for n, part in enumerate(parts)
            for op in (*part.then, *part.orelse)
            if n > 0 and isinstance(op, Get) and writer.get(op.key, n) != n
        }
    )
