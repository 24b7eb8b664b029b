"""Who may take segments of one log away, or put others in their place: one owner, whom all ask.

While compaction rewrites a log, or a move copies it to another directory, the segments are that one's: retention, the tier's
commits, disk relief and truncation wait for their next turn. Moving the log start (DeleteRecords) removes no file and need
not ask. The deletion of a topic does not wait: it takes the whole directory, and who held it finds the log unhosted.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

COMPACTION = "compaction"
MOVE = "a move to another log directory"


class Removals:
    """``holder``: who has the segments; "" where anybody may remove some."""

    __slots__ = ("holder",)

    def __init__(self) -> None:
        self.holder = ""

    @property
    def are_held(self) -> bool:
        return bool(self.holder)

    @contextmanager
    def hold(self, holder: str) -> Iterator[None]:
        """Nobody else holds them: to be asked before, in the same step."""
        assert not self.holder, f"{holder} takes segments that {self.holder} holds"
        self.holder = holder
        try:
            yield
        finally:
            self.holder = ""

    def check(self, who: str = "") -> None:
        """Asserts that ``who`` may remove segments now."""
        assert self.holder in ("", who), f"segments are removed while {self.holder} holds them"
