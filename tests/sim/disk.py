"""A replica's log in the simulation: records in a list, of which the disk holds some for certain.

Lineage and producer state are the production classes. A process crash keeps the list (page cache); a power loss keeps a
random prefix of it that has at least what was synced. Truncation is synced at once, as the protocol demands.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import NamedTuple

from tierlog.errors import ErrorCode
from tierlog.log.leader_epochs import EpochLineage
from tierlog.log.producer_state import KnownBatch, ProducerState
from tierlog.records.batch import BatchHeader


class Record(NamedTuple):
    """A batch of one record. ``value`` is unique in the world; ``producer_id`` -1: not idempotent."""

    leader_epoch: int
    value: int
    producer_id: int = -1
    sequence: int = -1


def header_of(record: Record, offset: int) -> BatchHeader:
    return BatchHeader(
        offset, 0, record.leader_epoch, 2, 0, 0, 0, 0, 0, record.producer_id, 0, record.sequence, 1
    )


class SimLog:
    """``records[i]`` has offset i: nothing is deleted here."""

    log_start_offset = 0
    local_log_start_offset = 0

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.synced_end_offset = 0
        self.epochs = EpochLineage()
        self.producers = ProducerState()

    @property
    def log_end_offset(self) -> int:
        return len(self.records)

    def check_producer(self, record: Record) -> ErrorCode | KnownBatch:
        if record.producer_id < 0:
            return ErrorCode.NONE
        return self.producers.check(header_of(record, 0))

    def append(self, records: Sequence[Record]) -> None:
        for record in records:
            offset = len(self.records)
            self.epochs.assign(record.leader_epoch, offset)
            self.records.append(record)
            if record.producer_id >= 0:
                self.producers.update(header_of(record, offset), offset, 0)

    def assign_epoch(self, leader_epoch: int) -> None:
        self.epochs.assign(leader_epoch, len(self.records))

    def truncate_to(self, offset: int) -> None:
        del self.records[offset:]
        self.epochs.truncate_from_end(offset)
        self.synced_end_offset = min(self.synced_end_offset, offset)
        self.producers = ProducerState()
        for i, record in enumerate(self.records):
            if record.producer_id >= 0:
                self.producers.update(header_of(record, i), i, 0)

    def sync(self) -> None:
        self.synced_end_offset = len(self.records)

    def lose_power(self, rng: random.Random) -> int:
        """How many records are gone."""
        end = rng.randint(self.synced_end_offset, len(self.records))
        lost = len(self.records) - end
        self.truncate_to(end)
        self.sync()
        return lost

    def restart(self) -> None:
        """Recovery: the lineage is rebuilt from the records, since it is not synced at an election."""
        self.epochs = EpochLineage()
        for offset, record in enumerate(self.records):
            self.epochs.assign(record.leader_epoch, offset)
