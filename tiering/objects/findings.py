"""The findings of a preflight of a bucket; imports none of the libraries that the preflight needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Finding:
    """``check`` names the check; ``message`` says what it found and what to do."""

    check: str
    level: Literal["ok", "warning", "error"]
    message: str
