"""How large the objects beside segments are, as this process has put, read or listed them: head copies, pages and their
indexes, topic records, markers, the ledger. Pure.

Whoever is responsible for a folder (the leader for its partition's, the controller for what is of no topic) asks for its
sum. A sweep lists a partition's folder when its leadership begins, so the leader soon knows all of it. What a listing shows
that was deleted while it was under way is not taken for new.

Bound: ``OBJECTS_MAX`` objects, further ones are left out, and as many that went while a listing was under way. Those of
folders that are not kept go with the next ``keep``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from tiering.ledger.names import ledger_prefix

OBJECTS_MAX = 200_000
OF_ALL = "meta/"
"""Where the cluster marker is."""


class Listed(NamedTuple):
    """An object in a listing."""

    key: str
    size_bytes: int


class MetaSizes:
    """By folder. Names are kept as their hashes, since there may be many."""

    def __init__(self, objects_max: int = OBJECTS_MAX) -> None:
        self._folders: dict[str, dict[int, int]] = {}
        self._count = 0
        self._objects_max = objects_max
        self._listings = 0
        self._gone: set[int] = set()

    def is_there(self, key: str, size_bytes: int) -> None:
        """It was put, or read."""
        folder, name = folder_of(key), hash(key)
        if folder is None:
            return
        known = self._folders.get(folder, {})
        if name not in known:
            if self._count >= self._objects_max:
                return
            self._count += 1
            known = self._folders.setdefault(folder, known)
        known[name] = size_bytes
        self._gone.discard(name)

    def is_gone(self, keys: Iterable[str]) -> None:
        """They were deleted."""
        for key in keys:
            folder, name = folder_of(key), hash(key)
            if folder is None:
                continue
            if self._folders.get(folder, {}).pop(name, None) is not None:
                self._count -= 1
            if self._listings and len(self._gone) < self._objects_max:
                self._gone.add(name)

    @contextmanager
    def listing(self) -> Iterator[Callable[[Iterable[Listed]], None]]:
        """Around a request for a page; gives what is to be told of its objects."""
        self._listings += 1
        try:
            yield self._are_listed
        finally:
            self._listings -= 1
            if not self._listings:
                self._gone.clear()

    def _are_listed(self, page: Iterable[Listed]) -> None:
        for key, size_bytes in page:
            if hash(key) not in self._gone:
                self.is_there(key, size_bytes)

    def keep(self, folders: Collection[str]) -> None:
        """Forgets all others, but for the cluster marker."""
        for folder in self._folders.keys() - {*folders, OF_ALL}:
            self._count -= len(self._folders.pop(folder))

    def of(self, folder: str) -> tuple[int, int]:
        """(objects, bytes)."""
        known = self._folders.get(folder, {})
        return len(known), sum(known.values())


def folder_of(key: str) -> str | None:
    """Whose sum an object is a part of; None for a segment, and for what is not ours. A topic record is its own."""
    if key.startswith("meta/"):
        match key.split("/"):
            case ["meta", "cluster.json"]:
                return OF_ALL
            case ["meta", _, "topics", _]:
                return key
            case ["meta", _, "deleted", _] | ["meta", _, "partitions", _, _, _]:
                return key[: key.rindex("/") + 1]
            case ["meta", cluster_id, "ledger", *_]:
                return ledger_prefix(cluster_id)
    return None
