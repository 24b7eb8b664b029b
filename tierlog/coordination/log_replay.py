"""Turns the batches of a ``__consumer_offsets`` partition into the events that make its shard.

Only the last record of a key counts: that is what compaction promises, so a compacted and an uncompacted log
give the same shard. Hence ``feed`` keeps raw values by raw key and nothing is decoded before ``events``.
Records of a transaction count from its commit marker on and vanish with an abort (KIP-98).

Bound: the live keys of the partition and the records of its open transactions.
"""

from __future__ import annotations

from collections.abc import Iterator

from tierlog.coordination.records import Event, decode_event
from tierlog.errors import MalformedMessage
from tierlog.records.batch import BatchHeader, walk
from tierlog.records.control import read_end_transaction_marker
from tierlog.records.records import records_body
from tierlog.records.spans import record_spans
from tierlog.types import Buffer


class LogReplay:
    """Feed it the log in order, then take the events. ``malformed_count``: records that were passed over."""

    __slots__ = ("_last", "_open", "malformed_count")

    def __init__(self) -> None:
        self._last: dict[bytes, bytes | None] = {}
        self._open: dict[int, dict[bytes, bytes | None]] = {}  # producer id -> records of its transaction
        self.malformed_count = 0

    def feed(self, batches: Buffer) -> None:
        """Whole batches. Raises InvalidBatch for bytes that are none."""
        for position, header in walk(batches):
            if header.is_control:
                self._end_transaction(batches, position, header)
            elif header.is_transactional:
                self._take(batches, position, header, self._open.setdefault(header.producer_id, {}))
            else:
                self._take(batches, position, header, self._last)

    def _take(
        self, batches: Buffer, position: int, header: BatchHeader, into: dict[bytes, bytes | None]
    ) -> None:
        body = records_body(batches, position, header)
        for span in record_spans(body, header.records_count):
            _, _, _, _, key_start, key_end, value_start, value_end = span
            if key_start < 0:
                self.malformed_count += 1
            else:
                into[body[key_start:key_end]] = body[value_start:value_end] if value_start >= 0 else None

    def _end_transaction(self, batches: Buffer, position: int, header: BatchHeader) -> None:
        marker = read_end_transaction_marker(batches, position, header)
        if marker is None:
            return
        records = self._open.pop(header.producer_id, {})
        if marker.is_commit:
            self._last.update(records)

    def events(self) -> Iterator[Event]:
        """The events to replay, one per live key; the order does not matter, since keys are independent."""
        for key, value in self._last.items():
            if value is None:
                continue
            try:
                event = decode_event(key, value)
            except MalformedMessage:
                self.malformed_count += 1
                continue
            if event is not None:
                yield event
