"""One listing of the bucket for many folders. Pure.

A request returns up to 1,000 keys in their order, whatever folders they are in. So small folders that lie close together
cost one request together, and what lies between two wanted folders is passed over. A tour never costs more requests than a
listing of each folder by itself.

While ``start_after`` is not None: list the whole bucket from behind it, and give the page to ``take``.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tiering.objects.port import LIST_LIMIT_MAX


@dataclass(frozen=True, slots=True)
class Part:
    """What one page holds of one folder: ``page[first:end]``."""

    folder: str
    first: int
    end: int
    is_last: bool
    """Nothing of this folder comes behind it."""


class Tour:
    """``folders``: prefixes that end in ``/``; none lies in another."""

    def __init__(self, folders: Iterable[str], *, page_keys_max: int = LIST_LIMIT_MAX) -> None:
        self._folders = sorted(folders)
        self._next = 0
        """Index of the first folder that is not done."""
        self._listed_to = ""
        self._page_keys_max = page_keys_max

    @property
    def start_after(self) -> str | None:
        """Where the next request begins; None at the end of the tour."""
        if self._next == len(self._folders):
            return None
        return max(self._listed_to, self._folders[self._next][:-1])

    def take(self, keys: Sequence[str]) -> list[Part]:
        """The parts of the folders that the page behind ``start_after`` holds; a folder without keys has an empty one."""
        is_end = len(keys) < self._page_keys_max
        parts: list[Part] = []
        while self._next < len(self._folders):
            folder = self._folders[self._next]
            behind = folder[:-1] + chr(ord("/") + 1)  # the first key that sorts behind all of the folder
            first, end = bisect_left(keys, folder), bisect_left(keys, behind)
            is_last = is_end or end < len(keys)
            if first < end or is_last:
                parts.append(Part(folder, first, end, is_last))
            if not is_last:
                break
            self._next += 1
        if keys:
            self._listed_to = max(self._listed_to, keys[-1])
        return parts
