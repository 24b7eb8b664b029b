"""Taking segments away: from the end (truncation), from the start (retention), or all of them.

The order of the steps matters when a crash comes between them: truncation removes segments from the last one backwards,
retention from the first one forwards, so that the rest is always one contiguous log.
"""

from __future__ import annotations

from pathlib import Path

from tierlog.log.files.filesystem import Filesystem
from tierlog.log.files.names import SNAPSHOT, segment_file
from tierlog.log.producers.snapshots import snapshot_offsets
from tierlog.log.reading import find_batch
from tierlog.log.segment import Segment
from tierlog.log.segments import Segments


def cut_back(filesystem: Filesystem, segments: Segments, offset: int) -> None:
    """Keep only the batches wholly below ``offset``; the segment with the last of them becomes active. ``offset`` lies
    above the base of the first segment and below the log end."""
    place = find_batch(segments, offset)
    for segment in reversed(list(segments)):
        if segment.base_offset < offset:
            break
        segments.remove(segment)
        segment.unlink()
    last = segments.active
    if place is not None and place[0] is last:
        last.cut(place[1], _end_before(last, place[1], offset))
    else:
        last.cut(last.size_bytes, min(last.end_offset, offset))
    segments.recount()


def _end_before(segment: Segment, position: int, offset: int) -> int:
    """The base offset of the batch at ``position``, or ``offset`` where that is lower (compaction leaves holes)."""
    return min(offset, segment.batch_base_offset(position))


def drop_prefix(segments: Segments, offset: int) -> tuple[list[Segment], list[Path]]:
    """Remove the sealed segments that end at or below ``offset``. Returns them and the ``.deleted`` names of their files."""
    removed, paths = [], []
    for segment in segments.sealed():
        if segment.end_offset > offset:
            break
        paths += segment.rename_deleted(with_snapshot=True)
        segments.remove(segment)
        removed.append(segment)
    return removed, paths


def drop_everything(filesystem: Filesystem, directory: Path, segments: Segments, aside: str | None) -> None:
    """Remove every segment, in memory and in the directory; with ``aside`` the files move into that sub-directory."""
    snapshots = [segment_file(directory, offset, SNAPSHOT) for offset in snapshot_offsets(directory)]
    target = directory / aside if aside else None
    if target is not None and not target.is_dir():
        filesystem.mkdir(target)
    for segment in reversed(list(segments)):
        segments.remove(segment)
        if target is None:
            segment.unlink()
        else:
            segment.release()
            for path in segment.files():
                filesystem.rename_if_there(path, target / path.name)
    for path in snapshots:
        if target is None:
            filesystem.unlink_if_there(path)
        else:
            filesystem.rename_if_there(path, target / path.name)
