"""Rows of a small cluster, made by hand: three brokers, a busy topic that is tiered and an old one that nobody uses."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from tiering.cost.profile import Profile, Profiling
from tiering.ledger.hours import take
from tiering.ledger.rows import ALL, HOUR_MS, Cause, Direction, Kind, LedgerRow, Operation

START_MS = 490_000 * HOUR_MS
GIB = 2**30
BROKERS = (1, 2, 3)


def small_cluster(hours: int = 48) -> list[LedgerRow]:
    return [row for hour in range(hours) for row in _hour(START_MS + hour * HOUR_MS)]


def _hour(hour_ms: int) -> list[LedgerRow]:
    rows = []
    for broker in BROKERS:
        disk = LedgerRow(
            hour_ms, broker, Kind.DISK, log_dir="/d", held_bytes=21 * GIB, capacity_bytes=100 * GIB
        )
        busy = LedgerRow(hour_ms, broker, Kind.LOCAL, "id-1", "flights", 0, log_dir="/d", held_bytes=20 * GIB)
        old = LedgerRow(hour_ms, broker, Kind.LOCAL, "id-2", "old", 0, log_dir="/d", held_bytes=GIB)
        rows += [
            disk,
            busy._replace(duplicated_bytes=10 * GIB, byte_hours=20.0 * GIB),
            old._replace(byte_hours=float(GIB)),
        ]
    stored = LedgerRow(hour_ms, 1, Kind.STORED, "id-1", "flights", 0, storage_class="standard")
    request = LedgerRow(hour_ms, 1, Kind.REQUESTS, "id-1", "flights", 0, storage_class="standard")
    reader = {"principal": "User:ann", "client_id": "reader", "host": "10.0.0.9"}
    traffic = LedgerRow(hour_ms, 1, Kind.TRAFFIC, "id-1", "flights", 0, from_rack="a", to_rack="b")
    return [
        *rows,
        stored._replace(held_bytes=500 * GIB, objects=1000, byte_hours=500.0 * GIB),
        stored._replace(
            kind=Kind.OVERHEAD, cause=Cause.COMMIT, partition=ALL, held_bytes=GIB, byte_hours=1.0 * GIB
        ),
        LedgerRow(
            hour_ms,
            1,
            Kind.OVERHEAD,
            cause=Cause.LEDGER,
            storage_class="standard",
            held_bytes=GIB,
            objects=9,
            byte_hours=1.0 * GIB,
        ),
        request._replace(cause=Cause.COPY, operation=Operation.PUT, requests=90, sent_bytes=GIB),
        request._replace(
            cause=Cause.FETCH, operation=Operation.GET, requests=400, received_bytes=GIB, **reader
        ),
        LedgerRow(hour_ms, 1, Kind.REQUESTS, cause=Cause.SWEEP, operation=Operation.LIST, requests=6),
        traffic._replace(direction=Direction.PRODUCE, received_bytes=GIB, principal="User:pat"),
        traffic._replace(direction=Direction.REPLICATE, sent_bytes=2 * GIB),
        traffic._replace(direction=Direction.CONSUME, sent_bytes=3 * GIB, **reader),
        traffic._replace(direction=Direction.CONSUME, sent_bytes=GIB, to_rack="", client_id="stray"),
    ]


def profile_of(rows: Sequence[LedgerRow], topic: str) -> Profile:
    made = Profiling(topic)
    take(rows, made)
    found = made.profile()
    assert found is not None
    return found


def write_json_lines(rows: Sequence[LedgerRow], file: Path) -> Path:
    file.write_text("".join(json.dumps(row._asdict()) + "\n" for row in rows))
    return file
