"""What a look at an object store found; imports none of the libraries that the look needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from tiering.errors import AccessDenied, ObjectStoreError, StoreFull, Timeout, Unavailable

Level: TypeAlias = Literal["ok", "warning", "error"]


@dataclass(frozen=True, slots=True)
class Finding:
    """``check`` names the check, ``message`` says what it found, ``remedy`` what to do: empty where all is well.

    An *error* means that data would be lost, unreadable or unprotected, or that the tier cannot work; a *warning* that
    something costs money or could not be checked.
    """

    check: str
    level: Level
    message: str
    remedy: str = ""

    @property
    def line(self) -> str:
        """For a log: one line."""
        return f"{self.message}; {self.remedy}" if self.remedy else self.message


def finding_of(error: ObjectStoreError, *, level: Level = "error") -> Finding:
    """A request that failed, under the check that its advice names."""
    if error.advice is not None:
        return Finding(error.advice.about, level, error.advice.mistake, error.advice.remedy)
    if isinstance(error, AccessDenied):
        return Finding("permissions", level, f"access is denied: {error}", "allow it to these credentials")
    if isinstance(error, StoreFull):
        return Finding("space", level, f"the store is full: {error}", "make room in it")
    if isinstance(error, Unavailable | Timeout):
        return Finding("endpoint", level, f"the store fails: {error}", "look at the store, and try again")
    return Finding(
        "server", level, f"the store does not do what is asked of it: {error}", "use another server"
    )
