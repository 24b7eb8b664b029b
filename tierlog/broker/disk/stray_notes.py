"""A small file in a log that is set aside: what the checkpoints of its directory said of it, which forget it by then.

It stays when the log is taken back, until checkpoints that know the log again are on the disk: a crash between finds it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

from tierlog.log.files.filesystem import REAL, translated

STRAY_NOTE = "tierlog-stray.json"
FORMAT_VERSION = 1


class StrayNote(NamedTuple):
    """``was_clean``: of the stop before it was set aside; else the log is to be recovered from ``recovery_point`` on."""

    was_clean: bool = False
    recovery_point: int = 0
    log_start: int = 0
    high_watermark: int = 0


@translated
def write_stray_note(directory: Path, note: StrayNote) -> None:
    """Durable when it returns. Raises StorageError."""
    text = json.dumps({"format_version": FORMAT_VERSION, **note._asdict()}, separators=(",", ":"))
    REAL.write_file(directory / STRAY_NOTE, text.encode(), durable=True)


@translated
def read_stray_note(directory: Path) -> StrayNote | None:
    """None without one; one that is no such file says nothing, and the log is to be recovered. Raises StorageError."""
    path = directory / STRAY_NOTE
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        if fields.pop("format_version") != FORMAT_VERSION:
            raise ValueError("unknown format version")
        return StrayNote(**fields)
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError, AttributeError):
        return StrayNote()
