"""``cost whatif`` and ``cost replay``: a topic's measured profile, changed or read again, as plain values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any, NamedTuple

from tiering.cost.prices import ZERO, Book
from tiering.cost.profile import Profile, Profiling, monthly
from tiering.cost.replay import Amount, Read, bytes_between, evenly, price_replay
from tiering.cost.whatif import (
    CODEC_RATIO,
    Change,
    Rung,
    assumptions,
    break_evens,
    changed,
    warnings,
    with_minimum_days,
)
from tiering.ledger.hours import take
from tiering.ledger.rows import HOUR_MS, LedgerRow
from tierlog.admin.cost.asked import gathered
from tierlog.admin.cost.price_books import book_of, described, money
from tierlog.admin.cost.quantities import size_bytes
from tierlog.admin.cost.question import Question
from tierlog.admin.cost.watched import Watched
from tierlog.config.tiers import LOCAL, parse_tiers
from tierlog.errors import UserError
from tierlog.times import duration_ms, time_ms

DAY_MS = 86_400_000
_EVENLY = (
    "Each day holds as much as is written a day; the newest bytes are on disk, the oldest in the coldest class.",
)
_PLANNED = (
    "The segments that hold the time, by their own sizes and classes; one that it cuts counts by its share of offsets.",
    "What is in the bucket is read there, as tierlog replay does, be it on disk as well or not.",
)


class Wish(NamedTuple):
    """The options of ``cost whatif`` as they were given; None changes nothing."""

    retention: str | None = None
    local_retention: str | None = None
    segment_bytes: str | None = None
    tiers: str | None = None
    compression: str | None = None
    replicas: int | None = None


def what_if(question: Question, topic: str, wish: Wish) -> dict[str, Any]:
    """Raises UserError."""
    change, codec = change_of(wish)
    asked = gathered(question)
    now, _ = _profile(question, asked.rows, topic)
    book = asked.book
    after = with_minimum_days(changed(now, change), change, book)
    costs, costs_after = monthly(now, book), monthly(after, book)
    return {
        "topic": topic,
        "book": described(book, question.today),
        "items": [
            {"item": str(item), **_difference(costs[item], costs_after[item])}
            for item in costs
            if costs[item] or costs_after[item]
        ],
        "total": _difference(sum(costs.values(), ZERO), sum(costs_after.values(), ZERO)),
        "now": _state(now),
        "after": _state(after),
        "break_even": _break_evens(now, book),
        "warnings": warnings(after, change, book),
        "assumptions": list(assumptions(now, change, codec)),
    }


def change_of(wish: Wish) -> tuple[Change, str | None]:
    """And the codec whose effect is assumed. Raises UserError."""
    ratio, codec = _compression(wish.compression)
    local_ms = (
        None
        if wish.local_retention is None
        else duration_ms(wish.local_retention, "--local-retention", endless="forever")
    )
    rungs: tuple[Rung, ...] | None = None
    if wish.tiers is not None:
        try:
            parsed = parse_tiers(wish.tiers)
        except ValueError as error:
            raise UserError(f"--tiers {wish.tiers}: {error}") from None
        rungs = tuple(Rung(*rung) for rung in parsed if rung.name != LOCAL)
        local_ms = next(
            (rung.until_ms for rung in parsed if rung.name == LOCAL and local_ms is None), local_ms
        )
    change = Change(
        None if wish.retention is None else duration_ms(wish.retention, "--retention", endless="forever"),
        local_ms,
        None if wish.segment_bytes is None else size_bytes(wish.segment_bytes, "--segment-bytes"),
        rungs,
        ratio,
        wish.replicas,
    )
    if all(value is None for value in change):
        raise UserError(
            "nothing would change: name at least one of --retention, --local-retention, --tiers, …"
        )
    if local_ms is not None and local_ms < 0:
        raise UserError("--local-retention forever: that is no tier; give an age, as 6h")
    return change, codec


def _compression(text: str | None) -> tuple[float | None, str | None]:
    """``zstd``, or ``zstd:0.6``: what becomes of each byte that is written now."""
    if text is None:
        return None, None
    codec, _, own = text.partition(":")
    if codec not in CODEC_RATIO:
        raise UserError(
            f"--compression {text}: expected one of {', '.join(CODEC_RATIO)}, as zstd or zstd:0.6"
        )
    if not own:
        return CODEC_RATIO[codec], codec
    try:
        ratio = float(own)
    except ValueError:
        ratio = 0.0
    if not 0 < ratio <= 100:
        raise UserError(f"--compression {text}: expected a ratio above 0, as zstd:0.6")
    return ratio, None


Planned = Mapping[str, Amount]
"""What is read of each class."""


class Range(NamedTuple):
    """The time that a replay reads: [from, to). ``get_bytes``: of one GET."""

    topic: str
    from_ms: int
    to_ms: int
    get_bytes: int


def range_of(question: Question, topic: str, from_: str, to: str, get_bytes: str) -> Range:
    """Raises UserError."""
    from_ms = time_ms(from_, "--from", question.now_ms)
    to_ms = time_ms(to, "--to", question.now_ms)
    if from_ms >= to_ms:
        raise UserError(f"--from {from_} is not before --to {to}")
    return Range(topic, from_ms, to_ms, size_bytes(get_bytes, "--get-bytes"))


def replay_cost(
    question: Question, wanted: Range, planned: Planned | None, budget: Decimal | None
) -> dict[str, Any]:
    """``planned``: what segments hold of it by class, where a catalog could be asked. Raises UserError."""
    book = book_of(question.price_book, question.today)
    amounts = _from_means(question, wanted) if planned is None else planned
    reads = price_replay(amounts, book)
    total = sum((read.cost for read in reads), ZERO)
    return {
        "topic": wanted.topic,
        "book": described(book, question.today),
        "source": "ledger" if planned is None else "catalog",
        "reads": [_read(read) for read in reads],
        "bytes": sum(read.read_bytes for read in reads),
        "gets": sum(read.gets for read in reads),
        "cost": money(total),
        "budget": None if budget is None else {"amount": money(budget), "is_crossed": total > budget},
        "assumptions": [
            *(_EVENLY if planned is None else _PLANNED),
            f"A GET reads {wanted.get_bytes:,} bytes.",
        ],
    }


def _from_means(question: Question, wanted: Range) -> Planned:
    profile, newest_ms = _profile(question, gathered(question).rows, wanted.topic)
    # Ages count back from the end of the ledger's newest hour, where the newest bytes are.
    ages = ((newest_ms + HOUR_MS - time_ms) / DAY_MS for time_ms in (wanted.from_ms, wanted.to_ms))
    from_days, to_days = (max(age, 0.0) for age in ages)
    return evenly(bytes_between(profile, from_days, to_days), wanted.get_bytes)


def _read(read: Read) -> dict[str, Any]:
    return {
        "class": read.storage_class or LOCAL,
        "bytes": read.read_bytes,
        "gets": read.gets,
        "requests": money(read.requests_cost),
        "retrieval": money(read.retrieval_cost),
        "cost": money(read.cost),
    }


def _profile(question: Question, rows: Iterator[LedgerRow], topic: str) -> tuple[Profile, int]:
    """And the newest hour."""
    watched, profiling = Watched(), Profiling(topic)
    take(rows, watched, profiling)
    profile = profiling.profile()
    if profile is None:
        known = sorted(watched.topics)
        told = f"it tells of {', '.join(known[:8])}" if known else "it tells of no topic"
        raise UserError(f"the ledger has no row of topic {topic} since {question.since}; {told}")
    return profile, watched.newest_ms


def _difference(before: Decimal, after: Decimal) -> dict[str, str]:
    return {"now": money(before), "after": money(after), "difference": money(after - before)}


def _state(profile: Profile) -> dict[str, Any]:
    return {
        "replicas": profile.replicas,
        "written_per_day_bytes": int(profile.written_per_day),
        "local_bytes": int(profile.local_bytes),
        "remote_bytes": {name: int(held) for name, held in profile.remote_bytes.items()},
        "objects": int(profile.objects),
        "object_bytes": int(profile.object_bytes),
        "requests_per_day": round(sum(profile.requests_per_day.values())),
    }


def _break_evens(profile: Profile, book: Book) -> list[dict[str, Any]]:
    """Beside how often what is remote is read now."""
    read_per_month = sum(profile.reads_per_day.values()) * book.month_hours / 24
    now = round(read_per_month / profile.remote_total, 3) if profile.remote_total else None
    return [
        {
            "class": each.storage_class,
            "reads_per_month": None if each.reads_per_month is None else round(each.reads_per_month, 3),
            "reads_per_month_now": now,
        }
        for each in break_evens(book, profile.bytes_per_get)
    ]
