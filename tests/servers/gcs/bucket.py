"""A bucket: objects in generations, and what keeps them (holds, retention, versions, soft delete). Pure, time an argument.

A name has at most one live generation. An overwritten or deleted one becomes noncurrent in a versioned bucket; what is not
kept so is soft deleted for the bucket's time, seven days in a new bucket as at Google.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import crc32c

from tests.servers.gcs.conditions import Conditions
from tests.servers.gcs.refusals import bad_checksum, held, invalid, no_object, retained
from tests.servers.gcs.times import text_of

CLASSES = ("STANDARD", "NEARLINE", "COLDLINE", "ARCHIVE")
SOFT_DELETE_S = 7 * 24 * 3600
NAME_BYTES_MAX = 1024


def base64_of(number: int) -> str:
    return base64.b64encode(number.to_bytes(4, "big")).decode()


@dataclass(frozen=True)
class Wish:
    """What a writer says of the object to be: None where it says nothing."""

    content_type: str = "application/octet-stream"
    storage_class: str | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    crc32c: str | None = None
    md5: str | None = None
    temporary_hold: bool = False
    event_hold: bool = False
    retain_until_ms: int | None = None


@dataclass
class Generation:
    """One generation of an object. Bytes never change; what is said of them does, with the metageneration.

    ``ended_ms``: since when it is noncurrent or soft deleted.
    """

    name: str
    data: bytes
    generation: int
    created_ms: int
    storage_class: str
    class_ms: int
    wish: Wish
    crc32c: str
    md5: str
    metageneration: int = 1
    updated_ms: int = 0
    ended_ms: int | None = None
    hard_delete_ms: int | None = None

    @property
    def etag(self) -> str:
        return base64.b64encode(f"{self.generation}/{self.metageneration}".encode()).decode()


class Bucket:
    """``policy`` is the bucket's resource as JSON says it, without what the model keeps itself.
    ``compares_checksums``: bad imitations do not."""

    def __init__(self, name: str, created_ms: int, policy: dict[str, Any] | None = None) -> None:
        self.name = name
        self.created_ms = created_ms
        self.metageneration = 0
        self.compares_checksums = True
        self.policy: dict[str, Any] = {"location": "US", "storageClass": "STANDARD"}
        self.policy["softDeletePolicy"] = {"retentionDurationSeconds": str(SOFT_DELETE_S)}
        self.live: dict[str, Generation] = {}
        self.noncurrent: list[Generation] = []
        self.soft_deleted: list[Generation] = []
        self._generation = created_ms * 1000
        self.change(policy or {})

    def change(self, policy: dict[str, Any]) -> None:
        """Merges a patch: null removes."""
        check_class(policy.get("storageClass"))
        for key, value in policy.items():
            if value is None:
                self.policy.pop(key, None)
            else:
                self.policy[key] = value
        self.metageneration += 1

    @property
    def is_versioned(self) -> bool:
        return bool(self.policy.get("versioning", {}).get("enabled"))

    @property
    def soft_delete_s(self) -> int:
        return int(self.policy.get("softDeletePolicy", {}).get("retentionDurationSeconds", 0))

    @property
    def retention_s(self) -> int:
        return int(self.policy.get("retentionPolicy", {}).get("retentionPeriod", 0))

    def put(self, name: str, data: bytes, wish: Wish, conditions: Conditions, now_ms: int) -> Generation:
        """The new live generation. Raises Refused, and then nothing has changed."""
        check_name(name)
        check_class(wish.storage_class)
        conditions.check(self.live.get(name), is_read=False)
        crc = base64_of(crc32c.crc32c(data))
        md5 = base64.b64encode(hashlib.md5(data).digest()).decode()
        if self.compares_checksums and wish.crc32c not in (None, crc):
            raise bad_checksum("CRC32C", str(wish.crc32c), crc)
        if wish.md5 not in (None, md5):
            raise bad_checksum("MD5 hash", str(wish.md5), md5)
        if name in self.live:
            self._check_removable(self.live[name], now_ms)
        self._generation = max(self._generation + 1, now_ms * 1000)
        made = Generation(
            name, data, self._generation, now_ms, wish.storage_class or self.policy["storageClass"], now_ms, wish, crc, md5
        )  # fmt: skip
        made.updated_ms = now_ms
        self._end(name, now_ms)
        self.live[name] = made
        return made

    def find(self, name: str, generation: int | None = None) -> Generation:
        live = self.live.get(name)
        if live is not None and generation in (None, live.generation):
            return live
        for found in self.noncurrent:
            if (found.name, found.generation) == (name, generation):
                return found
        raise no_object(self.name, name if generation is None else f"{name}#{generation}")

    def find_soft_deleted(self, name: str, generation: int | None) -> Generation:
        if generation is None:
            raise invalid("You must specify a generation to read a soft-deleted object.")
        for found in self.soft_deleted:
            if (found.name, found.generation) == (name, generation):
                return found
        raise no_object(self.name, f"{name}#{generation}")

    def delete(self, name: str, generation: int | None, conditions: Conditions, now_ms: int) -> None:
        found = self.find(name, generation)
        conditions.check(found, is_read=False)
        self._check_removable(found, now_ms)
        if found is self.live.get(name):
            self._end(name, now_ms, for_good=generation is not None)
        else:
            self.noncurrent.remove(found)
            self._soft_delete(found, now_ms)

    def restore(self, name: str, generation: int | None, conditions: Conditions, now_ms: int) -> Generation:
        """A soft deleted generation comes back as a new one."""
        found = self.find_soft_deleted(name, generation)
        wish = replace(found.wish, storage_class=found.storage_class, crc32c=None, md5=None)
        return self.put(name, found.data, wish, conditions, now_ms)

    def patch(self, found: Generation, wish: Wish, now_ms: int) -> None:
        if wish.storage_class not in (None, found.storage_class):
            raise invalid("The storage class of an object changes by a rewrite, not by a patch.")
        found.wish = wish
        found.metageneration += 1
        found.updated_ms = now_ms

    def names(
        self, prefix: str = "", start: str = "", *, soft_deleted: bool = False, versions: bool = False
    ) -> Iterator[Generation]:
        """In byte order of the names, from ``start`` on, oldest generation first."""
        found: Iterable[Generation] = self.soft_deleted if soft_deleted else self.live.values()
        if versions:
            found = [*self.noncurrent, *found]
        wanted = (each for each in found if each.name.startswith(prefix) and each.name >= start)
        yield from sorted(wanted, key=lambda each: (each.name.encode(), each.generation))

    def _end(self, name: str, now_ms: int, *, for_good: bool = False) -> None:
        ended = self.live.pop(name, None)
        if ended is None:
            return
        if self.is_versioned and not for_good:
            ended.ended_ms = now_ms
            self.noncurrent.append(ended)
        else:
            self._soft_delete(ended, now_ms)

    def _soft_delete(self, ended: Generation, now_ms: int) -> None:
        self.soft_deleted = [each for each in self.soft_deleted if (each.hard_delete_ms or 0) > now_ms]
        if self.soft_delete_s:
            ended.ended_ms = now_ms
            ended.hard_delete_ms = now_ms + self.soft_delete_s * 1000
            self.soft_deleted.append(ended)

    def _check_removable(self, found: Generation, now_ms: int) -> None:
        if found.wish.temporary_hold:
            raise held(self.name, found.name, "Temporary")
        if found.wish.event_hold:
            raise held(self.name, found.name, "Event-based")
        until_ms = max(
            found.created_ms + self.retention_s * 1000 if self.retention_s else 0,
            found.wish.retain_until_ms or 0,
        )
        if until_ms > now_ms:
            raise retained(self.name, found.name, text_of(until_ms))


def check_class(storage_class: str | None) -> None:
    if storage_class is not None and storage_class not in CLASSES:
        raise invalid("Invalid storage class")


def check_name(name: str) -> None:
    if not name or len(name.encode()) > NAME_BYTES_MAX or "\r" in name or "\n" in name or name in (".", ".."):
        raise invalid("Invalid object name.")
