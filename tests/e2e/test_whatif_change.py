"""``cost whatif`` against what a broker then does: its settings are changed, the same load comes, and is metered again."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.test_ledger import shown
from tests.e2e.tiered import alter, await_tiered, create, figure, hurried, produce, read, storage, until
from tests.servers.tierlog import BrokerProcess
from tests.unit.cost.rows import profile_of
from tiering.cost.profile import Profile
from tiering.cost.whatif import Change, changed
from tiering.ledger.rows import LAST, SUMMED, Cause, Kind, LedgerRow
from tierlog.replay.amounts import planned_amounts
from tierlog.replay.seen import seen_topics

TOPIC = "changing"
RECORDS = 6_000
SMALL_BYTES, LARGE_BYTES = 100_000, 400_000
HOUR_MS = 3_600_000
WITHIN = 0.10

Told = dict[tuple[Any, ...], LedgerRow]


def told(broker: BrokerProcess) -> Told:
    """What the ledger has of the topic until now, as if it were of one hour: sums of all hours, states of the newest."""
    rows = [row for row in shown("-b", broker.bootstrap) if row["topic"] == TOPIC]
    newest_ms = max((row["hour_ms"] for row in rows), default=0)
    found: Told = {}
    for fields in rows:
        row = LedgerRow(**fields | {"kind": Kind(fields["kind"]), "hour_ms": 0})
        if fields["hour_ms"] < newest_ms:
            row = row._replace(**dict.fromkeys(LAST, 0))
        key = tuple(getattr(row, name) for name in row._fields if name not in SUMMED | LAST)
        before = found.get(key)
        if before is not None:
            row = row._replace(**{name: getattr(before, name) + getattr(row, name) for name in SUMMED | LAST})
        found[key] = row
    return found


def between(before: Told, after: Told) -> Profile:
    """The topic's profile by what was counted meanwhile; what is stored is what was added."""
    rows = []
    for key, row in after.items():
        nothing = row._replace(**dict.fromkeys(SUMMED | LAST, 0))
        old = before.get(key, nothing)
        counted = SUMMED | (LAST if row.kind == Kind.STORED else set())
        row = row._replace(**{name: getattr(row, name) - getattr(old, name) for name in counted})
        # Held for the whole hour, as in a steady state.
        rows.append(row._replace(byte_hours=float(row.held_bytes)))
    return profile_of(rows, TOPIC)


def requests(profile: Profile) -> dict[str, float]:
    """A day, by cause and operation. Copies of the head go by the clock, and so few come in seconds: they are left out."""
    return {
        f"{asked.cause} {asked.operation}": count
        for asked, count in profile.requests_per_day.items()
        if asked.cause != Cause.COMMIT and count
    }


def load(broker: BrokerProcess, seed: int) -> None:
    """Written, tiered, and read from the object store once."""
    start = storage(broker, TOPIC)[0]["tiered_end_offset"]
    produce(broker, TOPIC, RECORDS, seed=seed)
    (row,) = await_tiered(broker, TOPIC)
    read(broker, TOPIC, row["tiered_end_offset"] - start, {0: start})


def test_what_if_is_what_comes_of_a_change(tmp_path: Path) -> None:
    with hurried(tmp_path, tierlog_ledger_enable="true") as broker:
        create(broker, TOPIC, internal_segment_bytes=str(SMALL_BYTES))
        load(broker, 1)
        first = told(broker)
        small = between({}, first)

        started_ms = time.time() * 1000
        warnings: list[str] = []
        seen = asyncio.run(seen_topics(broker.bootstrap, None, {TOPIC, "gone"}, warnings.append))[TOPIC]
        assert (warnings, seen.sampled_bytes, seen.plain_bytes) == (
            [],
            seen.sampled_bytes,
            seen.sampled_bytes,
        )
        assert 0.8 * SMALL_BYTES < seen.sampled_bytes <= SMALL_BYTES
        assert seen.oldest_remote_ms is not None
        assert seen.oldest_local_ms is not None
        assert started_ms - 600_000 < seen.oldest_remote_ms < seen.oldest_local_ms < started_ms

        # A replay of it all before it is run. The bucket's catalog is up to a minute old: brokers have what it lacks.
        planned = asyncio.run(
            planned_amounts(broker.bootstrap, None, TOPIC, 0, int(started_ms) + HOUR_MS, 4 << 20)
        )
        (row,) = storage(broker, TOPIC)
        assert planned.keys() == {"standard", ""}
        assert 1 <= planned["standard"].gets <= row["remote"]["segments"]
        everything = row["remote"]["bytes"] + row["local"]["bytes"] - row["both"]["bytes"]
        assert sum(amount.read_bytes for amount in planned.values()) == pytest.approx(everything, rel=0.02)

        alter(broker, TOPIC, internal_segment_bytes=str(LARGE_BYTES))
        load(broker, 2)
        second = told(broker)
        large, foretold = between(first, second), changed(small, Change(segment_bytes=LARGE_BYTES))
        came = requests(large)
        assert came.keys() == {"copy put", "copy head", "fetch get"}
        assert requests(foretold) == pytest.approx(came, rel=WITHIN)
        for name in ("written_per_day", "object_bytes"):
            assert getattr(foretold, name) == pytest.approx(getattr(large, name), rel=WITHIN), name
        assert foretold.reads_per_day == pytest.approx(large.reads_per_day, rel=WITHIN)
        figure(f"a day, with segments four times as large: {requests(small)} became {came}; "
               f"foretold {requests(foretold)}")  # fmt: skip

        # All of the last hour stays on disk as well.
        alter(broker, TOPIC, local_retention_ms=str(HOUR_MS), local_retention_bytes="-1")
        produce(broker, TOPIC, RECORDS, seed=3)
        until(lambda: (row := storage(broker, TOPIC)[0])["tiered_end_offset"] == row["active_base_offset"])
        kept, foretold = between(second, told(broker)), changed(large, Change(local_retention_ms=HOUR_MS))
        assert large.local_bytes < kept.local_bytes / 5
        assert foretold.local_bytes == pytest.approx(kept.local_bytes, rel=WITHIN)
        assert requests(kept).keys() == {"copy put", "copy head"}
        figure(
            f"on disk {large.local_bytes:,.0f}, then {kept.local_bytes:,.0f}; foretold {foretold.local_bytes:,.0f}"
        )
