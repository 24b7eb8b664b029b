"""A topic that has run for long under given settings, segment by segment, as the ledger would tell it: for what-ifs to be
compared with what does come of them."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

from tiering.ledger.rows import HOUR_MS, Cause, Direction, Kind, LedgerRow, Operation

START_MS = 490_000 * HOUR_MS
DAY_HOURS = 24
MIB = 1 << 20
COMMIT_REQUESTS = 3


class Settings(NamedTuple):
    """One partition; ``tiers``: class and the age in days until which it holds."""

    written_mib_per_hour: int = 1024
    segment_mib: int = 256
    retention_days: int = 20
    local_hours: int = 24
    replicas: int = 3
    tiers: tuple[tuple[str, int], ...] = ()


def ledger_of(settings: Settings, hours: int = 48) -> list[LedgerRow]:
    """Its rows, in a steady state: all that happens in an hour happens in each."""
    ladder = settings.tiers or (("standard", settings.retention_days),)
    written = settings.written_mib_per_hour * MIB
    segments = settings.written_mib_per_hour / settings.segment_mib
    rows = []
    for hour in range(hours):
        hour_ms = START_MS + hour * HOUR_MS
        row = LedgerRow(hour_ms, 1, Kind.TRAFFIC, topic="t", partition=0, from_rack="a", to_rack="b")
        rows.append(row._replace(direction=Direction.PRODUCE, received_bytes=written, to_rack="a"))
        rows += [row._replace(direction=Direction.REPLICATE, sent_bytes=written)] * (settings.replicas - 1)
        rows += _requests(row, settings, segments, ladder)
        since_days = 0
        for name, until_days in ladder:
            held = written * DAY_HOURS * (until_days - since_days)
            objects = held // (settings.segment_mib * MIB)
            stored = LedgerRow(hour_ms, 1, Kind.STORED, topic="t", partition=0, storage_class=name)
            rows.append(stored._replace(held_bytes=held, objects=objects, byte_hours=float(held)))
            since_days = until_days
        # Whole segments, and the one that is written to.
        local = written * settings.local_hours + settings.segment_mib * MIB
        for broker in range(settings.replicas):
            replica = LedgerRow(hour_ms, broker + 1, Kind.LOCAL, topic="t", partition=0, log_dir="/d")
            rows.append(
                replica._replace(
                    held_bytes=local,
                    byte_hours=float(local),
                    duplicated_bytes=local - settings.segment_mib * MIB,
                )
            )
    return rows


def _requests(
    row: LedgerRow, settings: Settings, segments: float, ladder: tuple[tuple[str, int], ...]
) -> list[LedgerRow]:
    asked = row._replace(kind=Kind.REQUESTS, storage_class="standard", from_rack="", to_rack="")
    count = round(segments * 60)  # An hour of the ledger here stands for sixty, so that counts are whole.
    # All that is written is read once: footers, and pieces of 4 MiB.
    gets = round(segments * 60 * (1 + settings.segment_mib / 4))
    made = [
        asked._replace(cause=Cause.COPY, operation=Operation.PUT, requests=count),
        asked._replace(cause=Cause.COMMIT, operation=Operation.PUT, requests=COMMIT_REQUESTS * count),
        asked._replace(cause=Cause.FETCH, operation=Operation.GET, requests=gets, received_bytes=100 * MIB),
    ]
    for (warmer, _), (colder, _) in pairwise(ladder):
        made.append(
            asked._replace(
                cause=Cause.CLASS_MOVE,
                operation=Operation.COPY,
                storage_class=colder,
                requests=round(segments),
            )
        )
        made.append(
            asked._replace(
                cause=Cause.CLASS_MOVE,
                operation=Operation.HEAD,
                storage_class=warmer,
                requests=round(2 * segments),
            )
        )
    return made
