"""The remote part of a partition, as request handling sees it; ``offload.tier`` fills it in."""

from __future__ import annotations

from typing import Protocol


class RemoteView(Protocol):
    """What broker.offload knows about a partition's remote part, which covers [``start_offset``, ``end_offset``)."""

    @property
    def store(self) -> str:
        """URL of the topic's own object store; empty: it has none."""

    @property
    def is_loaded(self) -> bool:
        """Whether the tier head was read from the metadata store since this broker began to lead."""

    @property
    def start_offset(self) -> int: ...

    @property
    def end_offset(self) -> int:
        """Exclusive end of what is committed remotely."""

    @property
    def segment_count(self) -> int:
        """Number of committed segments that are not retired."""

    @property
    def size_bytes(self) -> int:
        """Size of their batches, without footers."""

    @property
    def exposed_since_ms(self) -> int | None:
        """Since when records are in the log that are not committed remotely, in ms of the wall clock; None if all are."""

    def future_dated_count(self, now_ms: int) -> int:
        """Number of live segments with a record timestamp above ``now_ms``."""

    @property
    def retired_size(self) -> tuple[int, int]:
        """(bytes, segments) below the log start whose objects still exist."""
