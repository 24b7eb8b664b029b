"""What a preflight of a bucket found; free of the libraries that it takes to find it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Finding:
    """``check`` names what was looked at; ``message`` says what was found and what to do."""

    check: str
    level: Literal["ok", "warning", "error"]
    message: str
