"""Decides how much of one batch compaction keeps: all of it, some of its records, its empty header, or nothing.

Batches come in offset order over the whole cleaned range. In the dirty range the frozen offset map answers by
offset whether a record is live, so a batch without a live record costs one header; below the dirty range keys
are looked up.

Kept although empty: the batch with the last sequence of a live producer (else its next produce would look out
of order after a restart) and the last batch of the round (else the log's offsets would seem to have a hole).
A batch that cannot be opened although its checksum is right stays as it is: somebody wrote it so, and nobody can tell which
keys it has.
Transaction markers stay until nothing of their transaction is left, then for ``delete.retention.ms`` more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Final, Literal, NamedTuple, TypeAlias

from tierlog.errors import ErrorCode
from tierlog.log.compaction.plan import OffsetMap
from tierlog.records.batch import (
    CONTROL_BIT,
    DELETE_HORIZON_BIT,
    LOG_APPEND_TIME_BIT,
    TRANSACTIONAL_BIT,
    BatchHeader,
    InvalidBatch,
    verify_crc,
)
from tierlog.records.control import ControlType, read_control_type
from tierlog.records.records import assemble, empty_batch, records_body
from tierlog.records.spans import Span, record_spans
from tierlog.records.varint import decode_varint, encode_varint
from tierlog.types import AbortedTransaction


class Verbatim(Enum):
    """The batch stays as it is, byte for byte."""

    KEEP = "keep"


_EARLIEST_MS, _LATEST_MS = -(2**63), 2**63 - 1
KEEP: Final = Verbatim.KEEP
# None: the batch goes. bytearray: what replaces it.
Outcome: TypeAlias = Literal[Verbatim.KEEP] | bytearray | None


class RetentionRules(NamedTuple):
    """``last_batches``: live producer's id -> (its last data offset, inclusive, or None; its producer epoch)."""

    now_ms: int
    delete_retention_ms: int
    last_batches: Mapping[int, tuple[int | None, int]]


class TransactionView:
    """Which batches are aborted, and when a marker has outlived its transaction.

    ``aborted``: every aborted transaction that overlaps the range, in any order. Used for one walk only.
    """

    __slots__ = ("_aborted", "_committed", "_next", "_ongoing", "_seen", "retained")

    def __init__(self, aborted: Sequence[AbortedTransaction]) -> None:
        self._aborted = sorted(aborted, key=lambda txn: txn.first_offset)
        self._next = 0
        self._ongoing: dict[int, AbortedTransaction] = {}
        self._seen: set[int] = set()
        self._committed: set[int] = set()
        # Aborted transactions that the rewritten transaction index still needs; the walker takes them out of here.
        self.retained: list[AbortedTransaction] = []

    def is_aborted(self, header: BatchHeader) -> bool:
        """Call for each data batch in offset order. Whether its transaction was aborted."""
        if not header.attributes & TRANSACTIONAL_BIT:
            return False
        self._open_up_to(header.last_offset)
        if header.producer_id in self._ongoing:
            self._seen.add(header.producer_id)
            return True
        self._committed.add(header.producer_id)
        return False

    def has_outlived(self, kind: ControlType | None, header: BatchHeader) -> bool:
        """Call for each control batch in offset order. True when no batch of its transaction is left, so it may go."""
        self._open_up_to(header.last_offset)
        producer_id = header.producer_id
        if kind is None:
            return True
        if kind is ControlType.ABORT:
            aborted = self._ongoing.pop(producer_id, None)
            if aborted is None or producer_id not in self._seen:
                return True
            self._seen.discard(producer_id)
            self.retained.append(aborted)
            return False
        if kind is ControlType.COMMIT:
            if producer_id not in self._committed:
                return True
            self._committed.discard(producer_id)
        return False

    def _open_up_to(self, offset: int) -> None:
        while self._next < len(self._aborted) and self._aborted[self._next].first_offset <= offset:
            aborted = self._aborted[self._next]
            self._ongoing[aborted.producer_id] = aborted
            self._next += 1


class BatchFilter:
    """Call ``decide`` for each batch of the range, ascending. The offset map is frozen; the round ends at the
    map's ``end_offset`` (exclusive)."""

    __slots__ = (
        "_first_dirty",
        "_live",
        "_live_index",
        "_map",
        "_rules",
        "kept_count",
        "read_count",
        "transactions",
        "unreadable_count",
    )

    def __init__(
        self,
        offset_map: OffsetMap,
        first_dirty_offset: int,
        rules: RetentionRules,
        transactions: TransactionView,
    ) -> None:
        self._map = offset_map
        self._first_dirty = first_dirty_offset
        self._live = [*offset_map.live_offsets, 2**63]
        self._live_index = 0
        self._rules = rules
        self.transactions = transactions
        self.read_count = 0
        self.kept_count = 0
        self.unreadable_count = 0

    def decide(self, buf: bytes, at: int, header: BatchHeader) -> Outcome:
        """``buf[at:]`` begins with the whole batch. Raises InvalidBatch for a batch that cannot be trusted;
        the segment must then not be rewritten."""
        base_offset = header.base_offset
        self.read_count += header.records_count
        attributes = header.attributes
        if attributes & (CONTROL_BIT | TRANSACTIONAL_BIT):
            if attributes & CONTROL_BIT:
                return self._decide_control(buf, at, header)
            if self.transactions.is_aborted(header):
                return self._without_records(header)
        if base_offset >= self._map.end_offset:
            self.kept_count += header.records_count
            return KEEP
        if base_offset >= self._first_dirty:
            live, index = self._live, self._live_index
            while live[index] < base_offset:
                index += 1
            self._live_index = index
            if live[index] > base_offset + header.last_offset_delta:
                return self._without_records(header)
        elif header.records_count == 0:
            return self._without_records(header)
        return self._filtered(buf, at, header)

    def _without_records(self, header: BatchHeader) -> Outcome:
        """The batch's records are all gone; does its header stay?"""
        if header.next_offset != self._map.end_offset and not self._is_last_of_producer(header):
            return None
        return KEEP if header.records_count == 0 else empty_batch(header)

    def _is_last_of_producer(self, header: BatchHeader) -> bool:
        last = self._rules.last_batches.get(header.producer_id)
        if last is None:
            return False
        last_data_offset, producer_epoch = last
        if last_data_offset is not None:
            return header.last_offset == last_data_offset
        return header.is_control and header.producer_epoch == producer_epoch

    def _decide_control(self, buf: bytes, at: int, header: BatchHeader) -> Outcome:
        require_crc(buf, at, header)
        try:
            kind = read_control_type(buf, at, header)
        except InvalidBatch:
            return self._unreadable(header)
        if not self.transactions.has_outlived(kind, header):
            self.kept_count += header.records_count
            return KEEP
        if header.records_count == 0:
            return self._without_records(header)
        horizon_ms = header.delete_horizon_ms
        if horizon_ms is not None and horizon_ms <= self._rules.now_ms:
            return self._without_records(header)
        self.kept_count += header.records_count
        if horizon_ms is not None:
            return KEEP
        body = records_body(buf, at, header)
        return self._with_horizon(header, body, record_spans(body, header.records_count))

    def _filtered(self, buf: bytes, at: int, header: BatchHeader) -> Outcome:
        require_crc(buf, at, header)
        try:
            body = records_body(buf, at, header)
            spans = record_spans(body, header.records_count)
            require_in_range(header, spans)
        except InvalidBatch:
            return self._unreadable(header)
        horizon_ms = header.delete_horizon_ms
        tombstones_go = horizon_ms is not None and self._rules.now_ms >= horizon_ms
        base_offset, latest_offset = header.base_offset, self._map.latest_offset
        kept: list[Span] = []
        has_tombstone = False
        for span in spans:
            key_start = span[4]
            # A compacted log allows no record without a key, and no later record could replace it: it goes.
            if key_start < 0 or base_offset + span[3] < latest_offset(body[key_start : span[5]]):
                continue
            if span[6] < 0:
                if tombstones_go:
                    continue
                has_tombstone = True
            kept.append(span)
        self.kept_count += len(kept)
        if not kept:
            return self._without_records(header)
        if has_tombstone and horizon_ms is None:
            return self._with_horizon(header, body, kept)
        if len(kept) == len(spans):
            return KEEP
        parts = [body[span[0] : span[1]] for span in kept]
        return assemble(_header_for(header, kept), b"".join(parts))

    def _unreadable(self, header: BatchHeader) -> Outcome:
        self.kept_count += header.records_count
        self.unreadable_count += 1
        return KEEP

    def _with_horizon(self, header: BatchHeader, body: bytes, kept: list[Span]) -> bytearray:
        """The base timestamp becomes the delete horizon, so every timestamp delta is rewritten
        (KIP-534)."""
        horizon_ms = self._rules.now_ms + self._rules.delete_retention_ms
        shift = header.base_timestamp - horizon_ms
        parts: list[bytes] = []
        for span in kept:
            _, attributes_at = decode_varint(body, span[0])
            timestamp_delta, rest_at = decode_varint(body, attributes_at + 1)
            record = b"".join(
                (
                    body[attributes_at : attributes_at + 1],
                    encode_varint(timestamp_delta + shift),
                    body[rest_at : span[1]],
                )
            )
            parts += (encode_varint(len(record)), record)
        marked = _header_for(header, kept)._replace(
            base_timestamp=horizon_ms, attributes=header.attributes | DELETE_HORIZON_BIT
        )
        return assemble(marked, b"".join(parts))


def require_crc(buf: bytes, at: int, header: BatchHeader) -> None:
    """A rewritten batch gets a new checksum, so a bad one must not be passed on."""
    if not verify_crc(buf, at, header):
        raise InvalidBatch(ErrorCode.CORRUPT_MESSAGE, f"batch at offset {header.base_offset} fails its CRC")


def require_in_range(header: BatchHeader, spans: list[Span]) -> None:
    """No record lies outside of the batch's offsets, or at a time that is none."""
    offsets, times = [span[3] for span in spans], [span[2] for span in spans]
    require_offsets_in_range(header, offsets)
    base_ms = header.base_timestamp
    if times and not (_EARLIEST_MS <= base_ms + min(times) <= base_ms + max(times) <= _LATEST_MS):
        raise InvalidBatch(ErrorCode.CORRUPT_MESSAGE, "a record at a time that is none")


def require_offsets_in_range(header: BatchHeader, offset_deltas: list[int]) -> None:
    if offset_deltas and not (0 <= min(offset_deltas) <= max(offset_deltas) <= header.last_offset_delta):
        raise InvalidBatch(ErrorCode.CORRUPT_MESSAGE, "a record outside of its batch's offsets")


def _header_for(header: BatchHeader, kept: list[Span]) -> BatchHeader:
    """Offsets, sequences and base timestamp stay; count and largest timestamp follow the records."""
    if header.attributes & LOG_APPEND_TIME_BIT:
        return header._replace(records_count=len(kept))
    largest = header.base_timestamp + max([span[2] for span in kept])
    return header._replace(records_count=len(kept), max_timestamp=largest)
