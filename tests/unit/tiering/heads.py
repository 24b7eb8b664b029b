"""Entries and heads for the tests of the deciding modules."""

from __future__ import annotations

from tiering.model import MetaObject, SegmentEntry, TierHead


def entry(
    base: int, end: int, *, number: int | None = None, epoch: int = 1, size: int = 100, timestamp: int = 1_000
) -> SegmentEntry:
    return SegmentEntry(
        base_offset=base,
        end_offset=end,
        leader_epoch=epoch,
        uuid=(base if number is None else number).to_bytes(16, "big"),
        data_bytes=size,
        stored_bytes=size,
        object_bytes=size + 10,
        first_timestamp_ms=timestamp,
        max_timestamp_ms=timestamp,
        created_ms=50_000,
        last_batch_epoch=epoch,
    )


def name(number: int) -> MetaObject:
    return MetaObject(number, 1, number.to_bytes(16, "big"))


def head_of(count: int, *, step: int = 10, **facts: int) -> TierHead:
    """A head whose tail holds ``count`` entries of ``step`` offsets each."""
    head = TierHead.empty()
    for i in range(count):
        head = head.with_committed(entry(i * step, (i + 1) * step, **facts))
    return head
