"""Leaf values that every room shares.

Ranges are half-open; units stand at the end of names. Nothing here knows a clock, a file or a socket.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

Buffer: TypeAlias = bytes | bytearray | memoryview

UNKNOWN_OFFSET = -1
NO_TIMESTAMP = -1
NO_PARTITION_LEADER_EPOCH = -1
NO_PRODUCER_ID = -1
NO_PRODUCER_EPOCH = -1
NO_SEQUENCE = -1


class TopicPartition(NamedTuple):
    """A partition by topic name; compares and sorts by (topic, partition)."""

    topic: str
    partition: int

    def __str__(self) -> str:
        return f"{self.topic}-{self.partition}"


class EpochEntry(NamedTuple):
    """One line of an epoch lineage: ``leader_epoch`` wrote from ``start_offset`` (inclusive) on."""

    leader_epoch: int
    start_offset: int


class AbortedTransaction(NamedTuple):
    """A transaction of ``producer_id`` whose records lie in ``[first_offset, last_offset]``; the abort marker
    is at ``last_offset``. ``last_stable_offset`` is the LSO after the marker was written (KIP-98)."""

    producer_id: int
    first_offset: int
    last_offset: int
    last_stable_offset: int
