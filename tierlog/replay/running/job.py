"""What a replay is asked for, and how far it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from tierlog.replay.ledger import Caller
from tierlog.replay.plan import Plan
from tierlog.replay.reading import PARALLEL, Chunk
from tierlog.replay.resolve import Request
from tierlog.replay.values.formats import Format
from tierlog.types import TopicPartition


class Job(NamedTuple):
    """What the command line asks for."""

    request: Request
    bootstrap: str | None
    bucket: str | None
    sink: str
    columns: tuple[str, ...] | None = None
    where: str = ""
    rate_bytes: int = 0
    file_bytes: int = 0
    """Of Parquet files; 0: the sink's own."""
    speed: float = 0.0
    """So many seconds of records in a second; 0: as fast as it goes."""
    resume: Path | None = None
    is_committed: bool = True
    parallel: int = PARALLEL
    """GETs under way at most."""
    is_ordered: bool = True
    """Each partition in order of its offsets."""
    group: str = ""
    """Whose offsets move to the ends of the ranges, once the sink has everything for good."""
    caller: Caller = Caller()
    is_dry: bool = False
    """Only the plan is made."""
    values: Format | None = None
    """What values are decoded from."""
    dead_letters: str | None = None
    """Where those go that cannot be decoded; None: nowhere, but they are counted."""


@dataclass(slots=True)
class Progress:
    """``done_bytes`` of ``total_bytes``, both of the log."""

    total_bytes: int
    offsets: int
    done_bytes: int = 0
    records: int = 0
    written: int = 0
    """Records behind ``--where``, dead letters apart."""
    dead: int = 0
    """Records whose values cannot be decoded, and where and why the first one."""
    first_dead: str = ""
    left: dict[TopicPartition, int] = field(default_factory=dict)
    """By partition, offsets that are still to come."""

    @staticmethod
    def of(plan: Plan) -> Progress:
        progress = Progress(plan.remote_bytes + plan.local_bytes, plan.offsets)
        for part in plan.partitions:
            where = TopicPartition(part.topic, part.partition)
            progress.left[where] = progress.left.get(where, 0) + part.offsets
        return progress

    @property
    def behind(self) -> str:
        """The partition that has most offsets left."""
        left = self.left
        return str(max(left, key=lambda where: left[where])) if left else ""

    def add(self, chunk: Chunk, written: int) -> None:
        self.done_bytes += chunk.size_bytes
        self.records += chunk.records
        self.written += written
        self.left[chunk.where] -= chunk.next_offset - chunk.start_offset


Consent = Callable[[Plan], bool]
"""Shows the plan, or what is left of it; whether to go on."""
Told = Callable[[Progress], None]
