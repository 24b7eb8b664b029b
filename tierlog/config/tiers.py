"""``tierlog.tiers``: in which storage class a topic's data lies, by its age.

``local:6h,standard:30d,infrequent:1y,archive-instant:7y`` reads: six hours on the brokers' disks, then in the object store's
standard class until an age of thirty days, and so on; what is older than seven years is deleted. ``local`` comes first and
may be left out (then ``local.retention.ms`` holds). The last age may be ``forever``. Data is copied to the store as soon as
its segment is sealed, as always: ``local`` says how long it stays on disk as well.

The ladder stands for ``local.retention.ms`` and ``retention.ms`` where the topic does not set them itself; a topic that sets
both in contradiction is refused.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

from tierlog.times import DURATION_MS_MAX, FOREVER_MS, UNITS_MS, duration_of

LOCAL = "local"
CLASSES = ("standard", "infrequent", "cold", "archive-instant")
"""From warm to cold; ``tiering/objects/classes`` has what providers call them."""
RUNGS_MAX = len(CLASSES) + 1


class Rung(NamedTuple):
    """Data stays in this class until this age; -1: for ever."""

    name: str
    until_ms: int


def parse_tiers(text: str) -> tuple[Rung, ...]:
    """The rungs, warm to cold; none for an empty text. Raises ``ValueError``, which says what to write."""
    words = text.split(",") if text.strip() else []
    if len(words) > RUNGS_MAX:
        raise ValueError(f"at most {RUNGS_MAX} tiers")
    rungs = [_rung(word.strip()) for word in words]
    order = (LOCAL, *CLASSES)
    for before, after in pairwise(rungs):
        if order.index(after.name) <= order.index(before.name):
            reason = f"{after.name} stands behind {before.name}; the order is {', '.join(order)}"
            raise ValueError(reason)
        if before.until_ms == FOREVER_MS:
            raise ValueError(f"nothing follows {before.name}:forever; give it an age")
        if after.until_ms != FOREVER_MS and after.until_ms <= before.until_ms:
            reason = f"{after.name} must end later than {before.name}: ages count from the record's timestamp"
            raise ValueError(reason)
    if rungs and rungs[-1].name == LOCAL:
        raise ValueError("local alone is no tier; add one, as local:6h,standard:30d")
    return tuple(rungs)


def _rung(word: str) -> Rung:
    name, _, age = word.partition(":")
    until_ms = FOREVER_MS if age == "forever" else duration_of(age)
    if until_ms is None:
        reason = f"{word[:60]!r} is no CLASS:AGE, as standard:30d (units: {', '.join(UNITS_MS)}, or forever)"
        raise ValueError(reason)
    if name != LOCAL and name not in CLASSES:
        reason = f"there is no class {name[:60]}; there are {', '.join(CLASSES)}"
        raise ValueError(reason)
    if until_ms != FOREVER_MS and not 0 < until_ms < DURATION_MS_MAX:
        raise ValueError(f"the age of {name} must be more than nothing and less than 146 million years")
    return Rung(name, until_ms)


def local_ms_of(rungs: tuple[Rung, ...]) -> int | None:
    """How long data stays on disk; None if the ladder does not say."""
    return rungs[0].until_ms if rungs and rungs[0].name == LOCAL else None


def retention_ms_of(rungs: tuple[Rung, ...]) -> int | None:
    """How long data is kept at all; -1 for ever, None without a ladder."""
    return rungs[-1].until_ms if rungs else None
