"""Producer ids of one log: sequences, duplicates, open transactions (KIP-98, KIP-360).

The leader calls ``check`` before the append and ``update`` (or ``end_transaction`` for a marker) after it;
followers and recovery only replay. All state is a function of the batches in the log, plus ``last_seen_ms``.

Rules, as Kafka's: the last five batches of a producer are remembered, and a duplicate of one is answered with its
first offsets; within an epoch sequences have no gap and wrap from 2^31 - 1 to 0; a new epoch starts at 0; an older
epoch is refused; an unknown producer may start at any sequence (its records may have been deleted).

Unlike Kafka: a producer expires by the time it was last *seen*, not by its record timestamps, so that writing old
data does not lose idempotence. The table is bounded: the producer unseen for longest, without an open transaction,
goes first. Invariant I6: per producer id and epoch, sequences in the log have no gap and no duplicate.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import NamedTuple, TypeAlias

from tierlog.errors import ErrorCode
from tierlog.log.producers.snapshot_file import EarlierBatch, decode_whole_snapshot, encode_snapshot
from tierlog.records.batch import CONTROL_BIT, TRANSACTIONAL_BIT, BatchHeader
from tierlog.records.control import EndTransactionMarker, readable_marker
from tierlog.types import (
    NO_PRODUCER_EPOCH,
    NO_SEQUENCE,
    NO_TIMESTAMP,
    UNKNOWN_OFFSET,
    AbortedTransaction,
    Buffer,
)

REMEMBERED_BATCHES_COUNT = 5
CUT_PRODUCERS_MAX = 5_000
"""So many producers are looked at in one step; a cut of more is prepared by reading the log (``cuts``)."""
MAX_SEQUENCE = 0x7FFFFFFF
DEFAULT_MAX_PRODUCERS_COUNT = 1_000_000


class KnownBatch(NamedTuple):
    """An appended batch, kept to answer its duplicate. Offsets and sequences are inclusive."""

    first_offset: int
    last_offset: int
    first_sequence: int
    last_sequence: int
    timestamp: int


Verdict: TypeAlias = ErrorCode | KnownBatch


class ProducerEntry:
    """One producer. ``txn_first_offset``: first offset of its open transaction, -1 without one. ``batches``: oldest
    first, at most five, all of ``producer_epoch``."""

    __slots__ = (
        "batches",
        "coordinator_epoch",
        "generation",
        "last_seen_ms",
        "last_timestamp",
        "producer_epoch",
        "producer_id",
        "txn_first_offset",
    )

    def __init__(self, producer_id: int, last_seen_ms: int, generation: int = 0) -> None:
        self.producer_id = producer_id
        self.generation = (
            generation  # lower than the state's: a thread may read this entry, so copy it before a change
        )
        self.producer_epoch = NO_PRODUCER_EPOCH
        self.coordinator_epoch = -1
        self.last_timestamp = NO_TIMESTAMP
        self.txn_first_offset = UNKNOWN_OFFSET
        self.batches: list[KnownBatch] = []
        self.last_seen_ms = last_seen_ms

    def copy(self, generation: int) -> ProducerEntry:
        other = ProducerEntry(self.producer_id, self.last_seen_ms, generation)
        other.producer_epoch = self.producer_epoch
        other.coordinator_epoch = self.coordinator_epoch
        other.last_timestamp = self.last_timestamp
        other.txn_first_offset = self.txn_first_offset
        other.batches = self.batches.copy()
        return other

    @property
    def last_data_offset(self) -> int | None:
        return self.batches[-1].last_offset if self.batches else None


class ProducerState:
    """All producers of one log.

    ``map_end_offset``: exclusive; all batches below it are reflected here; the log moves it for batches without
    producer id. ``first_unstable_offset``: first offset of the oldest transaction that is open, or whose marker
    is not yet below the high watermark; None when there is none.
    """

    __slots__ = (
        "_entries",
        "_generation",
        "_max_producers_count",
        "_ongoing",
        "_unreplicated",
        "first_unstable_offset",
        "map_end_offset",
    )

    def __init__(self, *, max_producers_count: int = DEFAULT_MAX_PRODUCERS_COUNT) -> None:
        # Ordered by last_seen_ms, so that expiry and eviction look at the front only.
        self._entries: OrderedDict[int, ProducerEntry] = OrderedDict()
        self._generation = 0  # number of ``freeze`` calls so far
        self._max_producers_count = max_producers_count
        self._ongoing: dict[int, int] = {}  # first offset (ascending, as appended) -> producer id
        self._unreplicated: dict[int, int] = {}  # first offset -> offset of the marker
        self.map_end_offset = 0
        self.first_unstable_offset: int | None = None

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, producer_id: int) -> ProducerEntry | None:
        return self._entries.get(producer_id)

    def entries(self) -> Iterable[ProducerEntry]:
        return self._entries.values()

    # -- before the append, on the leader

    def check(self, header: BatchHeader) -> Verdict:
        """For a data batch of a producer id. ``ErrorCode.NONE``: append it. A KnownBatch: a duplicate; answer
        with its offsets, append nothing. Any other code: refuse the batch with it."""
        entry = self._entries.get(header.producer_id)
        epoch, sequence = header.producer_epoch, header.base_sequence
        if entry is None:
            return ErrorCode.NONE if epoch >= NO_PRODUCER_EPOCH else ErrorCode.INVALID_PRODUCER_EPOCH
        batches = entry.batches
        if epoch == entry.producer_epoch:
            last_sequence = batches[-1][3] if batches else NO_SEQUENCE
            if sequence != (last_sequence + 1) & MAX_SEQUENCE:
                return self._duplicate(batches, header) or ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
        elif epoch < entry.producer_epoch:
            return ErrorCode.INVALID_PRODUCER_EPOCH
        elif sequence != 0 and entry.producer_epoch != NO_PRODUCER_EPOCH:
            return ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
        if entry.txn_first_offset >= 0 and not header.attributes & TRANSACTIONAL_BIT:
            return ErrorCode.INVALID_TXN_STATE
        return ErrorCode.NONE

    @staticmethod
    def _duplicate(batches: list[KnownBatch], header: BatchHeader) -> KnownBatch | None:
        first_sequence, last_sequence = header.base_sequence, header.last_sequence
        for batch in batches:
            if batch.first_sequence == first_sequence and batch.last_sequence == last_sequence:
                return batch
        return None

    def check_marker(self, header: BatchHeader, marker: EndTransactionMarker) -> ErrorCode:
        """Whether the coordinator's marker may be appended."""
        entry = self._entries.get(header.producer_id)
        if entry is None:
            return ErrorCode.NONE
        if header.producer_epoch < entry.producer_epoch:
            return ErrorCode.INVALID_PRODUCER_EPOCH
        if marker.coordinator_epoch < entry.coordinator_epoch:
            return ErrorCode.TRANSACTION_COORDINATOR_FENCED
        return ErrorCode.NONE

    # -- after the append, and in replay

    def update(self, header: BatchHeader, base_offset: int, now_ms: int) -> None:
        """Call when a data batch of a producer id has been written at ``base_offset``. Never refuses."""
        last_offset = base_offset + header.last_offset_delta
        entry = self._seen(header.producer_id, now_ms)
        batches = entry.batches
        if entry.producer_epoch != header.producer_epoch:
            entry.producer_epoch = header.producer_epoch
            batches.clear()
        entry.last_timestamp = header.max_timestamp
        if header.base_sequence >= 0:
            first_sequence = header.base_sequence
            last_sequence = (first_sequence + header.last_offset_delta) & MAX_SEQUENCE
            batches.append(
                KnownBatch(base_offset, last_offset, first_sequence, last_sequence, header.max_timestamp)
            )
            if len(batches) > REMEMBERED_BATCHES_COUNT:
                del batches[0]
        if header.attributes & TRANSACTIONAL_BIT and entry.txn_first_offset < 0:
            entry.txn_first_offset = base_offset
            self._ongoing[base_offset] = entry.producer_id
            self._refresh_first_unstable_offset()
        self.map_end_offset = last_offset + 1

    def end_transaction(
        self, header: BatchHeader, base_offset: int, marker: EndTransactionMarker, now_ms: int
    ) -> AbortedTransaction | None:
        """Call when a COMMIT or ABORT marker has been written at ``base_offset``. Returns the entry for the
        transaction index: the aborted transaction, if one was open here."""
        entry = self._seen(header.producer_id, now_ms)
        if entry.producer_epoch != header.producer_epoch:
            entry.producer_epoch = header.producer_epoch
            entry.batches.clear()
        entry.coordinator_epoch = marker.coordinator_epoch
        entry.last_timestamp = header.max_timestamp
        self.map_end_offset = base_offset + 1
        first_offset = entry.txn_first_offset
        if first_offset < 0:
            return None
        entry.txn_first_offset = UNKNOWN_OFFSET
        self._ongoing.pop(first_offset, None)  # two entries of a damaged snapshot may name the same offset
        self._unreplicated[first_offset] = base_offset
        self._refresh_first_unstable_offset()
        if marker.is_commit:
            return None
        last_stable_offset = next(iter(self._ongoing), base_offset + 1)
        return AbortedTransaction(entry.producer_id, first_offset, base_offset, last_stable_offset)

    def replay(self, buf: Buffer, pos: int, header: BatchHeader, now_ms: int) -> AbortedTransaction | None:
        """Replay any batch of the log, with or without producer id. Control batches are opened for their marker; one that
        cannot be read is skipped, as it was at its append: a stored batch is never refused."""
        if header.producer_id < 0:
            self.map_end_offset = header.next_offset
            return None
        if not header.attributes & CONTROL_BIT:
            self.update(header, header.base_offset, now_ms)
            return None
        marker = readable_marker(buf, pos, header)
        if marker is not None:
            return self.end_transaction(header, header.base_offset, marker, now_ms)
        self.map_end_offset = header.next_offset
        return None

    def _seen(self, producer_id: int, now_ms: int) -> ProducerEntry:
        entry = self._entries.get(producer_id)
        if entry is None:
            if len(self._entries) >= self._max_producers_count:
                self._evict_longest_unseen()
            entry = self._entries[producer_id] = ProducerEntry(producer_id, now_ms, self._generation)
            return entry
        if entry.generation != self._generation:
            entry = self._entries[producer_id] = entry.copy(self._generation)
        entry.last_seen_ms = now_ms
        self._entries.move_to_end(producer_id)
        return entry

    def _evict_longest_unseen(self) -> None:
        """Open transactions stay (the coordinator's timeout bounds them), so the table may exceed its bound
        by their count."""
        for producer_id, entry in self._entries.items():
            if entry.txn_first_offset < 0:
                del self._entries[producer_id]
                return

    def _refresh_first_unstable_offset(self) -> None:
        oldest_ongoing = next(iter(self._ongoing), None)
        oldest = min(self._unreplicated, default=oldest_ongoing)
        if oldest is not None and oldest_ongoing is not None:
            oldest = min(oldest, oldest_ongoing)
        self.first_unstable_offset = oldest

    # -- moving bounds

    def advance_high_watermark(self, high_watermark: int) -> None:
        """Transactions whose marker is below the high watermark become stable."""
        if not self._unreplicated:
            return
        done = [
            first for first, marker_offset in self._unreplicated.items() if marker_offset < high_watermark
        ]
        for first_offset in done:
            del self._unreplicated[first_offset]
        if done:
            self._refresh_first_unstable_offset()

    def advance_log_start(self, log_start_offset: int) -> None:
        """Closed transactions wholly below the new log start are forgotten; producers are kept."""
        self.advance_high_watermark(log_start_offset)
        self.map_end_offset = max(self.map_end_offset, log_start_offset)

    def expire(self, now_ms: int, expiration_ms: int) -> int:
        """Forget producers unseen for ``expiration_ms``, except those with an open transaction. Returns their number."""
        expired = []
        for producer_id, entry in self._entries.items():
            if now_ms - entry.last_seen_ms < expiration_ms:
                break
            if entry.txn_first_offset < 0:
                expired.append(producer_id)
        for producer_id in expired:
            del self._entries[producer_id]
        return len(expired)

    def forget_some(self, count: int) -> bool:
        """Takes up to ``count`` producers out of a state that nobody uses any more; returns whether there are more. Freeing
        a hundred thousand at once takes some 30 ms."""
        for _ in range(min(count, len(self._entries))):
            self._entries.popitem()
        return bool(self._entries)

    def clear(self) -> None:
        self._entries.clear()
        self._ongoing.clear()
        self._unreplicated.clear()
        self.first_unstable_offset = None
        self.map_end_offset = 0

    def can_be_cut(self, end_offset: int) -> bool:
        """Whether memory can give the state at ``end_offset``, the new log end: each producer still has a remembered batch
        below it, and no transaction is open or was just closed. False also where there are too many to look at."""
        if self._ongoing or self._unreplicated or len(self._entries) > CUT_PRODUCERS_MAX:
            return False
        for entry in self._entries.values():
            batches = entry.batches
            if not batches or batches[0][1] >= end_offset:
                return False  # only the log knows the earlier batches
        return True

    def cut(self, end_offset: int) -> None:
        """Forget what lies at or above ``end_offset``. Call only when ``can_be_cut``."""
        for producer_id, known in self._entries.items():
            if known.batches[-1].last_offset >= end_offset:
                entry = self._entries[producer_id] = known.copy(self._generation)
                entry.batches = [batch for batch in entry.batches if batch.last_offset < end_offset]
                entry.last_timestamp = entry.batches[-1].timestamp
        self.map_end_offset = end_offset

    # -- snapshots

    def freeze(self) -> list[ProducerEntry]:
        """All entries as they are now. Later changes replace an entry instead of changing it, so a thread may read these."""
        self._generation += 1
        return list(self._entries.values())

    def encode_snapshot(self) -> bytes:
        """The bytes of ``<map end offset>.snapshot``."""
        return encode_entries(self._entries.values())

    def load_snapshot(self, data: Buffer, end_offset: int, now_ms: int) -> None:
        """Replace all state by the snapshot taken at ``end_offset``. Raises CorruptSnapshot and then changes
        nothing."""
        rows, earlier = decode_whole_snapshot(data)
        self.clear()
        self.map_end_offset = end_offset
        for row in sorted(rows, key=lambda row: row.txn_first_offset):
            entry = ProducerEntry(row.producer_id, now_ms, self._generation)
            entry.producer_epoch = row.producer_epoch
            entry.coordinator_epoch = row.coordinator_epoch
            entry.last_timestamp = row.timestamp
            entry.txn_first_offset = row.txn_first_offset
            if row.last_offset >= 0:
                first_sequence = (row.last_sequence - row.offset_delta) & MAX_SEQUENCE
                first_offset = row.last_offset - row.offset_delta
                entry.batches.append(
                    KnownBatch(
                        first_offset, row.last_offset, first_sequence, row.last_sequence, row.timestamp
                    )
                )
            self._entries[row.producer_id] = entry
            if row.txn_first_offset >= 0:
                self._ongoing[row.txn_first_offset] = row.producer_id
        for batch in reversed(earlier):
            self._remember_earlier(batch)
        self._refresh_first_unstable_offset()

    def _remember_earlier(self, batch: EarlierBatch) -> None:
        entry = self._entries.get(batch.producer_id)
        if entry is not None and 0 < len(entry.batches) < REMEMBERED_BATCHES_COUNT:
            last_offset = batch.first_offset + batch.offset_delta
            last_sequence = (batch.first_sequence + batch.offset_delta) & MAX_SEQUENCE
            entry.batches.insert(
                0,
                KnownBatch(
                    batch.first_offset, last_offset, batch.first_sequence, last_sequence, batch.timestamp
                ),
            )


def last_batches(entries: Iterable[ProducerEntry]) -> dict[int, tuple[int | None, int]]:
    """producer id -> (last data offset or None, producer epoch): the producers whose last batch compaction must keep."""
    return {entry.producer_id: (entry.last_data_offset, entry.producer_epoch) for entry in entries}


def encode_entries(entries: Iterable[ProducerEntry]) -> bytes:
    """The snapshot file's bytes for these entries, in their order."""
    rows, earlier = [], []
    for entry in entries:
        batches = entry.batches
        last_sequence, last_offset, offset_delta = NO_SEQUENCE, UNKNOWN_OFFSET, 0
        if batches:
            first_offset, last_offset, _, last_sequence, _ = batches[-1]
            offset_delta = last_offset - first_offset
        rows.append(
            (
                entry.producer_id,
                entry.producer_epoch,
                last_sequence,
                last_offset,
                offset_delta,
                entry.last_timestamp,
                entry.coordinator_epoch,
                entry.txn_first_offset,
            )
        )
        for first_offset, end, first_sequence, _, timestamp in batches[:-1]:
            earlier.append((entry.producer_id, first_offset, end - first_offset, first_sequence, timestamp))
    return encode_snapshot(rows, earlier)
