"""What a place of dead letters is, and nothing: they are only counted."""

from __future__ import annotations

from typing import Protocol

import pyarrow as pa

from tierlog.replay.running.state import State
from tierlog.replay.sinks.port import Done
from tierlog.types import TopicPartition


class DeadLetters(Protocol):
    """Every method raises UserError. Batches have the columns of ``values.decoding.DEAD_LETTERS``."""

    def start(self, state: State, done: Done, *, is_resumed: bool) -> None:
        """``done``: what the sink has for good; the dead letters of all else come again."""
        ...

    def take(self, dead: pa.RecordBatch) -> None: ...

    def settle(self) -> None:
        """All that were taken are durable: called before the sink's records are."""
        ...

    def close(self) -> None:
        """After ``settle``, or instead of it after an error. Never raises."""
        ...


class Forgotten:
    def start(self, state: State, done: Done, *, is_resumed: bool) -> None:
        pass

    def take(self, dead: pa.RecordBatch) -> None:
        pass

    def settle(self) -> None:
        pass

    def close(self) -> None:
        pass


def is_done(done: Done, where: TopicPartition, offset: int) -> bool:
    return any(start <= offset < end for start, end in done.get(where, ()))
