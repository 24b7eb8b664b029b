"""Files that a report writes: there as a whole, or as they were before."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from tierlog.errors import UserError


def write_whole(data: bytes, out: Path) -> None:
    """Replaces a file that is there. What is no file (a pipe, a device) is written to as it is. Raises UserError."""
    try:
        place = out.resolve() if out.is_symlink() else out
        if place.exists() and not place.is_file():
            place.write_bytes(data)
            return
        beside, made = tempfile.mkstemp(prefix=f".{place.name}.", dir=place.parent)
        try:
            with open(beside, "wb") as file:
                os.fchmod(beside, _mode_of(place))
                file.write(data)
            os.replace(made, place)
        except BaseException:
            os.unlink(made)
            raise
    except (OSError, RuntimeError) as error:
        raise UserError(f"{out}: cannot be written: {getattr(error, 'strerror', None) or error}") from None


def _mode_of(place: Path) -> int:
    if place.exists():
        return place.stat().st_mode & 0o777
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask


def refuse_inputs(out: Path | None, *inputs: Path | str | None) -> None:
    """A report must not replace what it is made from. Raises UserError."""
    for each in inputs:
        if (
            out is not None
            and each is not None
            and out.exists()
            and Path(each).exists()
            and out.samefile(each)
        ):
            raise UserError(f"--out {out}: it is what the report is made from; name another file")
