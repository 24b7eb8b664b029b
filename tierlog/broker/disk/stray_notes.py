"""A small file in a log that is set aside: what the checkpoints said of the log, since they drop it then.

It stays after the log is taken back, until checkpoints that include the log are on the disk: a crash in between finds it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

from tierlog.log.files.filesystem import REAL, translated

STRAY_NOTE = "tierlog-stray.json"
FORMAT_VERSION = 1


class StrayNote(NamedTuple):
    """``was_clean``: whether the last stop before the log was set aside was clean; if not, the log is recovered from
    ``recovery_point`` on. Offsets as in the checkpoints."""

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
    """None without a note. Invalid content counts as an empty note: the log is recovered. Raises StorageError."""
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
