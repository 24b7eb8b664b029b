"""A log as the replication machines see it: a list of leader epochs, one per record."""

from __future__ import annotations

from collections.abc import Sequence

from tierlog.log.leader_epochs import EpochLineage


class ListLog:
    def __init__(self, epochs: Sequence[int] = (), start: int = 0, local_start: int | None = None) -> None:
        self.records: list[int] = []
        self.log_start_offset = start
        self.local_log_start_offset = start if local_start is None else local_start
        self.epochs = EpochLineage()
        self.append(epochs)

    @property
    def log_end_offset(self) -> int:
        return self.log_start_offset + len(self.records)

    def append(self, epochs: Sequence[int]) -> None:
        for epoch in epochs:
            self.epochs.assign(epoch, self.log_end_offset)
            self.records.append(epoch)

    def truncate_to(self, offset: int) -> None:
        del self.records[offset - self.log_start_offset :]
        self.epochs.truncate_from_end(offset)
