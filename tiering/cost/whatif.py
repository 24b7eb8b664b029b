"""What a topic would cost with other settings, once they have taken effect everywhere: a measured profile, changed.

Writes stay as they are. Held bytes follow from them: a retention of so many days holds as many days of writing, in the
classes that the ladder has for their ages. Requests go with what they are made for: those of a segment with the number of
segments, but for copies of the head, of which time allows so many; parts with bytes; GETs with the pieces and footers of
the segments that are read. What the ledger cannot tell is assumed, and ``assumptions`` says so.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from decimal import Decimal
from itertools import pairwise
from math import ceil
from typing import NamedTuple

from tiering.cost.prices import GB, Book
from tiering.cost.profile import Asked, Profile
from tiering.ledger.rows import Cause, Direction, Operation

DAY_MS = 86_400_000
CODEC_RATIO = {"none": 1.0, "gzip": 0.36, "snappy": 0.52, "lz4": 0.50, "zstd": 0.33}
"""What is left of uncompressed JSON-like records: assumptions, not measurements."""
HEADS_PER_MOVE = 2
GET_BYTES = 4 << 20
SMALL_SEGMENT_BYTES = 16 << 20
HEAD_COPIES_PER_DAY = 24 * 60
"""Of a partition: however many segments come, its head is copied once a minute."""
_PER_SEGMENT = {Cause.COPY, Cause.DELETE, Cause.CLASS_MOVE}


class Rung(NamedTuple):
    """Bytes up to this age lie in this class; -1: for ever."""

    storage_class: str
    until_ms: int


class Change(NamedTuple):
    """What is not None becomes so. ``ratio``: what becomes of each byte by another compression."""

    retention_ms: int | None = None
    local_retention_ms: int | None = None
    segment_bytes: int | None = None
    tiers: tuple[Rung, ...] | None = None
    ratio: float | None = None
    replicas: int | None = None


class BreakEven(NamedTuple):
    """``reads_per_month``: how often everything may be read in a month before the standard class is cheaper; None: never
    cheaper than it."""

    storage_class: str
    reads_per_month: float | None


def changed(now: Profile, change: Change) -> Profile:
    """The steady state under ``change``. Without any, it is ``now``."""
    ratio = 1.0 if change.ratio is None else change.ratio
    written = now.written_per_day * ratio
    replicas = change.replicas or now.replicas
    segment = _segment_bytes(now, change, ratio)
    remote = _remote_bytes(now, change, written, ratio)
    total = sum(remote.values())
    local = now.local_bytes * ratio * replicas / now.replicas
    if change.local_retention_ms is not None:
        # Segments go as wholes: half a one is too old to stay, but the segment is not; and one is written to.
        open_bytes = min(segment * now.partitions, written) if segment else 0.0
        local = (written * change.local_retention_ms / DAY_MS + open_bytes) * replicas
    only_local = max(now.once_bytes - now.remote_total, 0.0) * ratio
    requests, retrieved = _requests(now, change, segment, ratio, written)
    return now._replace(
        replicas=replicas,
        written_per_day=written,
        local_bytes=local,
        once_bytes=total + only_local,
        remote_bytes=remote,
        objects=total / segment if segment else now.objects,
        requests_per_day=requests,
        reads_per_day={name: read * ratio for name, read in now.reads_per_day.items()},
        retrieved_per_day=retrieved,
        crossing_per_day=_crossing(now, replicas, ratio),
        early_per_day={},
    )


def with_minimum_days(profile: Profile, change: Change, book: Book) -> Profile:
    """With the bytes that leave a class before its minimum days are over, where the ladder or the retention has it so."""
    early = {}
    for name, stay_days in stays(profile, change).items():
        missing = book.class_of(name).min_days - stay_days
        if missing > 0:
            early[name, missing] = profile.written_per_day
    return profile._replace(early_per_day=early)


def stays(profile: Profile, change: Change) -> dict[str, int]:
    """Days that a byte stays in each class, as far as they are bounded."""
    if change.tiers is not None:
        found, since_ms = {}, 0
        retention_ms = change.retention_ms
        for rung in change.tiers:
            ends = [age for age in (rung.until_ms, retention_ms) if age is not None and age >= 0]
            if not ends:
                break
            found[rung.storage_class] = max(min(ends) - since_ms, 0) // DAY_MS
            since_ms = rung.until_ms
        return {name: days for name, days in found.items() if days}
    if change.retention_ms is not None and change.retention_ms >= 0 and len(profile.remote_bytes) == 1:
        return dict.fromkeys(profile.remote_bytes, change.retention_ms // DAY_MS)
    return {}


def _segment_bytes(now: Profile, change: Change, ratio: float) -> float:
    """Bytes of a segment in the bucket; what is measured stays, since it may be sealed by age."""
    measured = now.object_bytes
    if change.segment_bytes is None:
        return measured * ratio
    # A partition that writes less seals by age as before.
    return min(float(change.segment_bytes), max(measured, now.written_per_day * ratio / now.partitions))


def _remote_bytes(now: Profile, change: Change, written: float, ratio: float) -> dict[str, float]:
    if change.tiers is not None:
        found: dict[str, float] = {}
        since_ms = 0
        for rung in change.tiers:
            until_ms = (
                rung.until_ms if change.retention_ms is None else _sooner(rung.until_ms, change.retention_ms)
            )
            if until_ms < 0:
                # For ever: as much as there is now, and more each day.
                found[rung.storage_class] = max(now.remote_total * ratio - sum(found.values()), 0.0)
                break
            found[rung.storage_class] = written * max(until_ms - since_ms, 0) / DAY_MS
            since_ms = rung.until_ms
        return found
    total = now.remote_total
    scale = ratio
    if change.retention_ms is not None and change.retention_ms >= 0 and total:
        scale = written * change.retention_ms / DAY_MS / total
    return {name: held * scale for name, held in now.remote_bytes.items()}


def _sooner(first_ms: int, second_ms: int) -> int:
    """Below zero is never."""
    ends = [age for age in (first_ms, second_ms) if age >= 0]
    return min(ends, default=-1)


def _requests(
    now: Profile, change: Change, segment: float, ratio: float, written: float
) -> tuple[dict[Asked, float], dict[str, float]]:
    """Requests a day, and bytes a day that leave a class which bills that."""
    scale = now.object_bytes * ratio / segment if segment and now.object_bytes else 1.0
    found: dict[Asked, float] = {}
    for asked, count in now.requests_per_day.items():
        if change.tiers is not None and asked.cause == Cause.CLASS_MOVE:
            continue
        if asked.operation == Operation.PART:
            found[asked] = count * ratio
        elif asked.operation == Operation.GET:
            found[asked] = count * scale * _gets(segment) / _gets(now.object_bytes)
        elif asked.cause in _PER_SEGMENT:
            found[asked] = count * scale
        elif asked.cause == Cause.COMMIT:
            found[asked] = count * _commits(now, scale) / _commits(now, 1.0)
        else:
            found[asked] = count
    retrieved: dict[str, float] = defaultdict(float)
    for name, read in now.retrieved_per_day.items():
        retrieved[name] += read * ratio
    if change.tiers is not None and segment:
        for warmer, colder in pairwise(change.tiers):
            moved = written / segment
            found[Asked(Cause.CLASS_MOVE, Operation.COPY, colder.storage_class)] = moved
            found[Asked(Cause.CLASS_MOVE, Operation.HEAD, warmer.storage_class)] = HEADS_PER_MOVE * moved
            retrieved[warmer.storage_class] += written
    return found, dict(retrieved)


def _gets(segment_bytes: float) -> float:
    """That a read of a whole segment takes: its footer's, and one for each piece."""
    return 1 + max(ceil(segment_bytes / GET_BYTES), 1)


def _commits(now: Profile, scale: float) -> float:
    """Copies of heads a day, where there are ``scale`` times as many segments as now; never nothing."""
    segments = now.written_per_day / now.object_bytes * scale if now.object_bytes else 0.0
    return min(segments, HEAD_COPIES_PER_DAY * now.partitions) or 1.0


def _crossing(now: Profile, replicas: int, ratio: float) -> dict[str, float]:
    """A replica more is a copy more between zones, as far as its fellows are."""
    found = {name: moved * ratio for name, moved in now.crossing_per_day.items()}
    if replicas != now.replicas:
        if now.replicas > 1:
            found[Direction.REPLICATE] = (
                found.get(Direction.REPLICATE, 0.0) * (replicas - 1) / (now.replicas - 1)
            )
        else:
            found[Direction.REPLICATE] = now.written_per_day * ratio * (replicas - 1)
    return found


def break_evens(book: Book, bytes_per_get: float | None) -> list[BreakEven]:
    """Of each colder class that the book has."""
    standard = book.classes["standard"]
    gets = Decimal(GB) / Decimal(bytes_per_get or GET_BYTES)
    found = []
    for name, price in book.classes.items():
        if name == "standard":
            continue
        saved = standard.storage.first - price.storage.first
        per_read = price.retrieval_per_gb + gets * (price.request("get") - standard.request("get"))
        reads = float(saved / per_read) if saved > 0 and per_read > 0 else None
        found.append(BreakEven(name, reads))
    return found


def warnings(after: Profile, change: Change, book: Book) -> list[str]:
    """What a person should know before such a change."""
    told = []
    least = max((price.min_object_bytes for price in book.classes.values()), default=0)
    colder = [name for name in after.remote_bytes if name != "standard"]
    if after.objects and after.object_bytes < SMALL_SEGMENT_BYTES:
        told.append(
            f"segments are {after.object_bytes / (1 << 20):.1f} MiB in the mean: requests are paid for each, "
            "whatever its size; segment.bytes or segment.ms is too small"
        )
    if colder and after.objects and after.object_bytes < least:
        told.append(
            f"{', '.join(colder)} bill {least >> 10} KiB at least for each object, and tierlog keeps smaller ones where "
            "they are"
        )
    for name, days in stays(after, change).items():
        if days < book.class_of(name).min_days:
            told.append(
                f"data stays {days} days in {name}, which bills {book.class_of(name).min_days}: the rest is paid for nothing"
            )
    return told


def assumptions(now: Profile, change: Change, codec: str | None) -> Sequence[str]:
    """What was not measured."""
    told = [
        "Writes, reads and their zones stay as they were measured; the change has taken effect on all data."
    ]
    if change.tiers is not None:
        told.append("Consumers read from the classes that they read from now, which are those of new data.")
    if codec is not None:
        told.append(
            f"Compression: {codec} leaves {CODEC_RATIO[codec]:.0%} of records that are uncompressed now; the ledger does "
            "not tell what they are. Give your own figure as CODEC:RATIO."
        )
    if not now.written_per_day:
        told.append("Nothing was written in this time, so nothing follows from retention.")
    if change.replicas and now.replicas == 1:
        told.append("Each new replica is in another zone.")
    return told
