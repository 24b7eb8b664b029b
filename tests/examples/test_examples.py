"""Each example as a stranger runs it, against one broker whose older records are in the tier only."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
from confluent_kafka import Producer

from tests.e2e.tiered import create, hurried, storage, until
from tests.servers.postgres import postgres, programs
from tests.servers.tierlog import BrokerProcess

ROOT = Path(__file__).resolve().parents[2]
START_MS = 1_777_000_000_000
FLIGHTS, EVENTS = 3_000, 900
NOTE = "n" * 180


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    with hurried(tmp_path_factory.mktemp("examples")) as running:
        yield running


def flight(number: int) -> dict[str, Any]:
    return {"carrier": ("AF", "BA", "LH")[number % 3], "dep_delay": number % 7 / 2, "note": NOTE}


@pytest.fixture(scope="module")
def flights(broker: BrokerProcess) -> int:
    """The topic's values, in bytes."""
    values = [json.dumps(flight(number)).encode() for number in range(FLIGHTS)]
    create(broker, "flights", partitions=2)
    fill(broker, "flights", [(b"%d" % number, value) for number, value in enumerate(values)], 2)
    return sum(map(len, values))


@pytest.fixture(scope="module")
def events(broker: BrokerProcess) -> list[tuple[str, dict[str, Any] | None]]:
    """(flight, its state), of which some end."""
    rng = random.Random(5)
    made: list[tuple[str, dict[str, Any] | None]] = []
    for number in range(EVENTS):
        state = {"booked": number, "gate": f"B{number % 5}", "note": NOTE} if rng.random() < 0.8 else None
        made.append((f"F{rng.randrange(40)}", state))
    create(broker, "seats", partitions=2, internal_segment_bytes="20000")
    fill(
        broker,
        "seats",
        [(key.encode(), None if state is None else json.dumps(state).encode()) for key, state in made],
        2,
    )
    return made


def fill(broker: BrokerProcess, topic: str, rows: list[tuple[bytes, bytes | None]], partitions: int) -> None:
    """A record a second, keys to partitions; returns when each partition's oldest ones are in the tier only."""
    producer = Producer(
        {
            "bootstrap.servers": broker.bootstrap,
            "enable.idempotence": True,
            "batch.size": 10_000,
            "linger.ms": 2,
        }
    )
    for number, (key, value) in enumerate(rows):
        chosen = int(key.lstrip(b"F")) % partitions
        producer.produce(topic, value, key, partition=chosen, timestamp=START_MS + 1_000 * number)
        if number % 500 == 0:
            producer.poll(0)
    assert producer.flush(30) == 0
    until(lambda: all(row["local_log_start_offset"] > 100 for row in storage(broker, topic)))


def started(program: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, ROOT / "examples" / f"{program}.py", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | environment,
        cwd=ROOT.parent,
    )


def run(program: str, *arguments: str, **environment: str) -> str:
    done = started(program, *arguments, **environment)
    assert done.returncode == 0, done.stderr[-3_000:]
    return done.stdout


@pytest.mark.parametrize("client", ["kafka_python", "confluent_kafka", "aiokafka"])
def test_an_ordinary_consumer_reads_all(broker: BrokerProcess, flights: int, client: str) -> None:
    told = run(f"long_replay_{client}", broker.bootstrap, "flights")
    assert told.startswith(f"{FLIGHTS:,} records, {flights:,} bytes of values, ")
    # Days ago: the middle of the topic, which is in the tier.
    days = (datetime.now(UTC).timestamp() - START_MS / 1_000 - FLIGHTS / 2) / 86_400
    later = run(f"long_replay_{client}", broker.bootstrap, "flights", f"{days:.6f}")
    assert abs(int(later.split(" ")[0].replace(",", "")) - FLIGHTS // 2) <= 60


def test_delays_in_duckdb_and_polars(broker: BrokerProcess, flights: int) -> None:
    told = run("duckdb_delays", broker.bootstrap, "flights")
    delays = defaultdict(list)
    for number in range(FLIGHTS):
        delays[flight(number)["carrier"]].append(flight(number)["dep_delay"])
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in told.splitlines() if "│" in line]
    means = {carrier: f"{sum(found) / len(found):.2f}" for carrier, found in delays.items()}
    found = {row[0]: (row[1], f"{float(row[2]):.2f}") for row in rows if row[0] in means}
    assert found == {carrier: ("1000", mean) for carrier, mean in means.items()}
    half = FLIGHTS // 2
    assert f"partition 0: {half:,} records, the last one at offset {half - 1:,}" in told
    told = run("polars_delays", broker.bootstrap, "flights")
    assert told.splitlines() == [
        f"{carrier}: 1,000 flights, {means[carrier]} min late" for carrier in sorted(means)
    ]


@pytest.mark.skipif(programs() is None, reason="PostgreSQL is absent; tools/install_test_deps.sh installs it")
def test_a_view_as_of_any_time(
    broker: BrokerProcess, events: list[tuple[str, dict[str, Any] | None]]
) -> None:
    with postgres() as dsn:
        for count in (350, EVENTS, 20):  # Forth and back in time.
            as_of = datetime.fromtimestamp(START_MS / 1_000 + count, UTC).isoformat()
            told = run("view_as_of", broker.bootstrap, "seats", dsn, as_of)
            states: dict[str, tuple[str, int, str, float]] = {}
            for number, (key, state) in enumerate(events[:count]):
                states.pop(key, None)
                if state is not None:
                    states[key] = (key, state["booked"], state["gate"], START_MS / 1_000 + number)
            booked = sum(row[1] for row in states.values())
            assert told == (
                f"as of {as_of}: {len(states)} flights, {booked:,} seats booked; 0 events that cannot be read\n"
            )
            with psycopg.connect(dsn) as database:
                found = database.execute("SELECT * FROM seats ORDER BY booked").fetchall()
            assert [(*row[:3], row[3].timestamp()) for row in found] == sorted(
                states.values(), key=lambda row: row[1]
            )
        assert "seats booked" in run("view_as_of", BOOTSTRAP=broker.bootstrap, DSN=dsn)


def test_a_view_before_the_first_event_is_one_line(
    broker: BrokerProcess, events: list[tuple[str, dict[str, Any] | None]]
) -> None:
    """Before a database is asked: no table changes."""
    for time, told in (
        (
            "2026-04-01",
            "seats: there are no records before 2026-04-01T00:00:00.000+00:00; choose a later end",
        ),
        ("then", "end then: expected an offset, earliest, end, a time, as 2026-11-01"),
    ):
        done = started("view_as_of", broker.bootstrap, "seats", "host=/nowhere", time)
        assert done.returncode == 1 and not done.stdout
        assert done.stderr.startswith(f"view_as_of: {told}") and done.stderr.count("\n") == 1, done.stderr
