"""What Google says of an object, as the port's description, and a version as a generation. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Protocol

from tiering.errors import PreconditionFailed
from tiering.objects.classes import GCS_CLASSES, class_named
from tiering.objects.gcs.checksums import crc_of
from tiering.objects.port import ObjectInfo


class Described(Protocol):
    """What of a ``Blob`` is read here."""

    size: int
    generation: int
    updated: datetime | None
    storage_class: str | None
    crc32c: str | None


def generation_of(version: str, key: str) -> int:
    """A version that is no generation of Google's is that of no object."""
    if not version.isdigit() or version == "0":
        raise PreconditionFailed("no object has this version", key=key)
    return int(version)


def info_of(blob: Described, key: str) -> ObjectInfo:
    return _described(key, blob.size, blob.generation, blob.updated, blob.storage_class, blob.crc32c)


def told_info(row: Mapping[str, str], key: str) -> ObjectInfo:
    """From an object's resource."""
    updated = datetime.fromisoformat(row["updated"])
    return _described(
        key, row["size"], row["generation"], updated, row.get("storageClass"), row.get("crc32c")
    )


def _described(
    key: str,
    size_bytes: int | str,
    generation: int | str,
    updated: datetime | None,
    class_name: str | None,
    crc: str | None,
) -> ObjectInfo:
    return ObjectInfo(
        key,
        int(size_bytes),
        str(generation),
        int(updated.timestamp() * 1_000) if updated is not None else 0,
        class_named(GCS_CLASSES, class_name or ""),
        crc_of(crc) if crc else None,
    )
