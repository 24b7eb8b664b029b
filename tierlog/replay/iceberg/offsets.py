"""What a table holds, by offsets: kept with its snapshots, and what of a partition is to be written next. Pure."""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from itertools import pairwise

from tierlog.errors import UserError
from tierlog.replay.iceberg.packed import MARK, packed, unpacked
from tierlog.replay.sinks.port import Done
from tierlog.types import TopicPartition

OFFSETS = "tierlog.offsets"
"""Property of each snapshot, and of the table for the time that snapshots of others have outlived it."""
PLAIN_CHARACTERS = 2_000
"""Each snapshot keeps its own: longer ones are packed, to 8 characters a range or fewer."""
Span = tuple[int, int]


class Refused(UserError):
    """What goes on only when a person has decided something."""


def as_text(done: Done) -> str:
    """By "topic/partition": ranges [start, end) whose records are all in the table. Packed where that is long."""
    told = {f"{where.topic}/{where.partition}": spans for where, spans in sorted(done.items())}
    text = json.dumps(told, separators=(",", ":"))
    return text if len(text) <= PLAIN_CHARACTERS else packed(done)


def of_text(text: str) -> Done:
    """Raises UserError."""
    try:
        if text.startswith(MARK):
            return unpacked(text)
        found: Done = {}
        for name, spans in json.loads(text).items():
            topic, _, partition = name.rpartition("/")
            found[TopicPartition(topic, int(partition))] = [(int(start), int(end)) for start, end in spans]
        return found
    except (ValueError, TypeError, AttributeError, LookupError, zlib.error):
        raise UserError(f"the table's property {OFFSETS} is damaged: write into another table") from None


def left(where: TopicPartition, spans: Sequence[Span], start: int, end: int, *, skips_deleted: bool) -> Span:
    """What is to be written of a partition that has [start, end) now: all of it at first, then what follows.

    Records that were deleted before they were written leave a hole between two spans; only a person may decide on that,
    because nobody can fill it later. Raises Refused."""
    if not spans:
        return start, end
    at = spans[-1][1]
    if start > at and not skips_deleted:
        raise Refused(
            f"{where} begins at offset {start} by now: {at} to {start - 1} were deleted before they were written; "
            "--skip-deleted goes on without them"
        )
    at = max(at, start)
    return at, max(at, end)


def holes(spans: Sequence[Span]) -> list[Span]:
    """Offsets that were deleted before they were written."""
    return [(one[1], other[0]) for one, other in pairwise(spans)]


def moved(before: Done, after: Done) -> str:
    """Where two states first differ, for a message."""
    for where in sorted(before.keys() | after.keys()):
        one, other = before.get(where, []), after.get(where, [])
        if one != other:
            return f"{where} is at offset {_next(other)} there, not at {_next(one)}"
    return "the offsets are the same"


def _next(spans: Sequence[Span]) -> int:
    return spans[-1][1] if spans else 0
