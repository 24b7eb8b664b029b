"""Data files that no snapshot names: of runs that were killed, of snapshots that have expired.

Only files with the names that are given here, and only old ones: a file that a running follower has just written is named by
no snapshot either. A follower commits within minutes.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from tierlog.errors import UserError
from tierlog.replay.iceberg.catalogs import explained
from tierlog.replay.iceberg.commits import STEP, name_of
from tierlog.replay.iceberg.data_files import NAME

if TYPE_CHECKING:
    from pyiceberg.table import Table

LEAST_AGE_MS = 3_600_000


class Leftover(NamedTuple):
    path: str
    size_bytes: int


def leftovers(table: Table, before_ms: int) -> list[Leftover]:
    """Those last written before that time. ``table`` must have been loaded just now. Raises UserError."""
    from pyarrow.fs import FileSelector
    from pyiceberg.io.pyarrow import PyArrowFileIO

    if not isinstance(table.io, PyArrowFileIO):
        raise UserError(f"{name_of(table)}: left-over files are only found with pyiceberg's PyArrowFileIO")
    with explained(name_of(table), STEP):
        named = _named(table)
        place = table.location_provider().new_data_location("x").rpartition("/")[0]
        scheme, netloc, path = PyArrowFileIO.parse_location(place, table.io.properties)
        files = table.io.fs_by_scheme(scheme, netloc)
        infos = files.get_file_info(FileSelector(path, allow_not_found=True, recursive=True))
        return [
            Leftover(f"{place}/{info.path[len(path) :].lstrip('/')}", info.size)
            for info in infos
            if info.is_file
            and re.fullmatch(NAME, info.base_name)
            and info.base_name not in named
            and info.mtime_ns // 1_000_000 < before_ms
        ]


def remove_leftovers(table: Table, found: list[Leftover]) -> None:
    """Raises UserError."""
    with explained(name_of(table), STEP):
        for each in found:
            table.io.delete(each.path)


def _named(table: Table) -> set[str]:
    """Names of files, which are random, of all snapshots."""
    seen: set[str] = set()
    found: set[str] = set()
    for snapshot in table.snapshots():
        for manifest in snapshot.manifests(table.io):
            if manifest.manifest_path in seen:
                continue
            seen.add(manifest.manifest_path)
            found |= {
                entry.data_file.file_path.rpartition("/")[2]
                for entry in manifest.fetch_manifest_entry(table.io)
            }
    return found
