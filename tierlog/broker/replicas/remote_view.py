"""What a partition shows of its remote part to who serves it; ``offload.tier`` says it."""

from __future__ import annotations

from typing import Protocol


class RemoteView(Protocol):
    """What broker.offload knows about a partition's remote part; offsets are half-open."""

    @property
    def is_loaded(self) -> bool:
        """Whether the head was read from the metadata store since this broker leads."""

    @property
    def start_offset(self) -> int: ...

    @property
    def end_offset(self) -> int:
        """Exclusive end of what is committed remotely."""

    @property
    def segment_count(self) -> int:
        """Of committed segments that are not retired."""

    @property
    def size_bytes(self) -> int:
        """Of their batches, without footers."""

    def future_dated_count(self, now_ms: int) -> int:
        """Of live segments with a record timestamp above ``now_ms``."""

    @property
    def retired_size(self) -> tuple[int, int]:
        """(bytes, segments) below the log start whose objects still stand."""
