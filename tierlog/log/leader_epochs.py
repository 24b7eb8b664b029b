"""Which leader epoch wrote which offsets: the lineage behind truncation by epoch (KIP-101, KIP-279).

The lineage is a function of the log (first offset of each epoch in batch headers) plus the current leader's
own ``(epoch, log end offset)``. Entries grow strictly in both fields.

Invariant (basis of I4): after ``assign(e, o)`` no entry has an epoch above ``e``, and none starts at or
behind ``o`` unless it is ``e``'s own. A stale entry of an epoch that wrote nothing would give a follower the
end offset of another history, and the follower would truncate committed records.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable

from tierlog.types import NO_PARTITION_LEADER_EPOCH, UNKNOWN_OFFSET, EpochEntry

CHECKPOINT_VERSION = 0
CHECKPOINT_FILE_NAME = "leader-epoch-checkpoint"


class EpochLineage:
    """Mutable; one per log. Every mutator returns whether the checkpoint file must be written again."""

    __slots__ = ("_epochs", "_starts")

    def __init__(self, entries: Iterable[tuple[int, int]] = ()) -> None:
        """Entries as ``(leader_epoch, start_offset)``. Of conflicting entries those are dropped that ``assign``
        would drop."""
        self._epochs: list[int] = []
        self._starts: list[int] = []
        for epoch, start_offset in entries:
            self.assign(epoch, start_offset)

    @property
    def entries(self) -> tuple[EpochEntry, ...]:
        return tuple(map(EpochEntry, self._epochs, self._starts))

    @property
    def latest(self) -> EpochEntry | None:
        return EpochEntry(self._epochs[-1], self._starts[-1]) if self._epochs else None

    @property
    def latest_epoch(self) -> int:
        """-1 when nothing is known."""
        return self._epochs[-1] if self._epochs else NO_PARTITION_LEADER_EPOCH

    @property
    def earliest(self) -> EpochEntry | None:
        return EpochEntry(self._epochs[0], self._starts[0]) if self._epochs else None

    def assign(self, leader_epoch: int, start_offset: int) -> bool:
        """``leader_epoch`` writes from ``start_offset`` on. Entries that contradict this are dropped.

        Called with every appended batch (cheap when the epoch is the latest one) and by a new leader with its
        log end offset. Returns whether the lineage changed.
        """
        epochs, starts = self._epochs, self._starts
        if epochs and epochs[-1] == leader_epoch and starts[-1] <= start_offset:
            return False
        if leader_epoch < 0:
            return False
        before = self.entries
        while epochs and (epochs[-1] > leader_epoch or starts[-1] >= start_offset):
            epochs.pop()
            starts.pop()
        if not epochs or epochs[-1] != leader_epoch:
            epochs.append(leader_epoch)
            starts.append(start_offset)
        return self.entries != before

    def end_offset_for(self, leader_epoch: int, log_end_offset: int) -> tuple[int, int]:
        """``(epoch, end offset, exclusive)`` as OffsetForLeaderEpoch answers; ``(-1, -1)`` when unknown.

        The latest epoch ends at ``log_end_offset``. An epoch above the latest is unknown. An epoch below all known
        ones ends where the first higher one starts. Else the answer is the largest known epoch not above the asked one.
        """
        epochs = self._epochs
        if leader_epoch < 0 or not epochs or leader_epoch > epochs[-1]:
            return NO_PARTITION_LEADER_EPOCH, UNKNOWN_OFFSET
        if leader_epoch == epochs[-1]:
            return leader_epoch, log_end_offset
        higher = bisect_right(epochs, leader_epoch)
        floor_epoch = epochs[higher - 1] if higher else leader_epoch
        return floor_epoch, self._starts[higher]

    def epoch_for_offset(self, offset: int) -> int | None:
        """The epoch that wrote ``offset``, None when it lies below all known entries."""
        index = bisect_right(self._starts, offset)
        return self._epochs[index - 1] if index else None

    def truncate_from_end(self, end_offset: int) -> bool:
        """The log now ends at ``end_offset`` (exclusive): entries that start at or behind it go."""
        kept = len(self._starts)
        while kept and self._starts[kept - 1] >= end_offset:
            kept -= 1
        changed = kept != len(self._starts)
        del self._starts[kept:], self._epochs[kept:]
        return changed

    def truncate_from_start(self, start_offset: int) -> bool:
        """The log now starts at ``start_offset``: epochs that end at or before it go; the epoch that wrote
        ``start_offset`` now starts there."""
        index = bisect_right(self._starts, start_offset) - 1
        if index < 0 or (index == 0 and self._starts[0] == start_offset):
            return False
        del self._starts[:index], self._epochs[:index]
        self._starts[0] = start_offset
        return True

    def copy(self) -> EpochLineage:
        other = EpochLineage()
        other._epochs = self._epochs.copy()
        other._starts = self._starts.copy()
        return other

    def within(self, start_offset: int, end_offset: int) -> tuple[EpochEntry, ...]:
        """The lineage of ``[start_offset, end_offset)`` alone, its first entry clipped to the start."""
        part = self.copy()
        part.truncate_from_end(end_offset)
        part.truncate_from_start(start_offset)
        return part.entries

    def encode(self) -> str:
        """Text of ``leader-epoch-checkpoint``: version, count, then ``epoch offset`` lines."""
        lines = [str(CHECKPOINT_VERSION), str(len(self._epochs))]
        lines += [f"{epoch} {start}" for epoch, start in zip(self._epochs, self._starts, strict=True)]
        return "\n".join(lines) + "\n"

    @classmethod
    def decode(cls, text: str) -> EpochLineage:
        """Raises ValueError for a text that is not a whole checkpoint; the caller then rebuilds the lineage from
        batch headers."""
        lines = text.split("\n")
        if len(lines) < 2 or int(lines[0]) != CHECKPOINT_VERSION:
            raise ValueError(f"not a leader epoch checkpoint of version {CHECKPOINT_VERSION}: {lines[0]!r}")
        count = int(lines[1])
        rows = [line.split() for line in lines[2:] if line]
        if count != len(rows) or any(len(row) != 2 for row in rows):
            raise ValueError(f"leader epoch checkpoint announces {count} entries and holds {len(rows)}")
        return cls((int(epoch), int(start)) for epoch, start in rows)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, EpochLineage):
            return NotImplemented
        return self._epochs == other._epochs and self._starts == other._starts

    def __repr__(self) -> str:
        return f"EpochLineage({list(zip(self._epochs, self._starts, strict=True))})"
