"""What a broker asks of whoever copies its segments; ``tests/contract/copying`` holds all of them to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol, TypeAlias

from tiering.copying.source import SegmentSource
from tiering.formats import FORMAT_VERSION
from tiering.keys import PartitionKeys
from tiering.model import SegmentEntry
from tiering.objects.classes import StorageClass

ClassOf: TypeAlias = Callable[[int, int], StorageClass]
"""(largest timestamp in ms, bytes of data) → into which class a segment goes."""


def always_standard(timestamp_ms: int, data_bytes: int) -> StorageClass:
    return StorageClass.STANDARD


class Target(NamedTuple):
    """What the object is named after. ``uuid``: 16 random bytes, so that two attempts never share a key."""

    keys: PartitionKeys
    leader_epoch: int
    uuid: bytes
    format_version: int = FORMAT_VERSION


class Copier(Protocol):
    """Copies segments of any partition to one object store."""

    async def copy(
        self, source: SegmentSource, target: Target, class_of: ClassOf = always_standard
    ) -> SegmentEntry:
        """The entry to commit, once its object is complete in the store (checked by a HEAD). ``class_of`` is asked once the
        segment has proved sound, before anything is sent.

        Raises ``CorruptSource`` (the local bytes are unsound: do not retry), ``ObjectStoreError`` (retry with backoff),
        other errors of ``tiering.errors``, ``OSError`` (the disk). A copy that is cancelled or fails leaves nothing visible,
        unless its last byte had been sent."""
        ...

    async def close(self) -> None:
        """Copies that are under way fail."""
        ...
