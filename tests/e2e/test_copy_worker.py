"""The process that copies segments, beside a real broker: it may die at any time, it dies with its broker, and what it meets
and does is the broker's to tell."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.tiered import (
    alter,
    alter_broker,
    await_tiered,
    create,
    hurried,
    objects,
    produce,
    read,
    storage,
    topic_id,
    until,
)
from tests.servers.tierlog import BrokerProcess

RATE = "remote.log.manager.copy.max.bytes.per.second"
UNLIMITED = str(2**63 - 1)
DEATHS = "tierlog_copy_worker_deaths_total"
IN_FLIGHT = 'tierlog_object_in_flight{verb="put"}'


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    with hurried(tmp_path_factory.mktemp("copied")) as running:
        yield running
        last = workers(running)
    assert not any(Path(f"/proc/{pid}").exists() for pid in last), "a clean stop ends it"


def metric(broker: BrokerProcess, name: str) -> float:
    return broker.metrics()[name]


def hold(broker: BrokerProcess, topic: str, partitions: int = 1) -> None:
    """Of this topic nothing is copied yet."""
    create(broker, topic, partitions, remote_log_copy_disable="true", local_retention_bytes="-2")


def let_go(broker: BrokerProcess, topic: str) -> None:
    alter(broker, topic, remote_log_copy_disable="false", local_retention_bytes="1")


def workers(broker: BrokerProcess) -> list[int]:
    """The processes that copy for a broker."""
    assert broker.process is not None
    children = Path(f"/proc/{broker.process.pid}/task").glob("*/children")
    pids = [pid for path in children for pid in path.read_text().split()]
    return [int(pid) for pid in pids if "copy_worker" in Path(f"/proc/{pid}/cmdline").read_text()]


def test_a_worker_that_is_killed_in_the_middle_of_uploads(broker: BrokerProcess) -> None:
    """Twice; then everything is in the tier once, what was left behind is swept, and the scrape tells of it."""
    hold(broker, "killed", 2)
    written = produce(broker, "killed", 1_000, partitions=2)
    alter_broker(broker, RATE, "100000")
    before = broker.metrics()
    let_go(broker, "killed")
    for deaths in (1, 2):
        until(lambda: metric(broker, IN_FLIGHT) == 2)
        (worker,) = workers(broker)
        os.kill(worker, signal.SIGKILL)
        until(lambda deaths=deaths: metric(broker, DEATHS) == before[DEATHS] + deaths)  # type: ignore[misc]
    alter_broker(broker, RATE, UNLIMITED)
    rows = await_tiered(broker, "killed")
    assert read(broker, "killed", len(written), {0: 0, 1: 0}) == written
    count = sum(row["remote"]["segments"] for row in rows)
    assert count >= 8
    until(lambda: len(objects(broker, topic_id(broker, "killed"))) == count)
    after = broker.metrics()
    assert after[IN_FLIGHT] == 0
    puts = [
        name for name in after if name.startswith("tierlog_object_request") and name.endswith('{verb="put"}')
    ]
    assert len(puts) == 3  # requests, and number and sum of their durations
    assert all(after[name] > before[name] for name in puts)
    sent = 'tierlog_object_bytes_total{direction="sent"}'
    assert after[sent] - before[sent] >= sum(row["remote"]["bytes"] for row in rows)
    assert "was ended by SIGKILL" in broker.log.read_text()


def test_a_worker_dies_with_its_broker(broker: BrokerProcess) -> None:
    create(broker, "dies")
    produce(broker, "dies", 300)
    until(lambda: len(workers(broker)) == 1)
    (worker,) = workers(broker)
    broker.kill()
    until(lambda: not Path(f"/proc/{worker}").exists())
    broker.start()
    await_tiered(broker, "dies")


def test_a_damaged_segment_is_set_aside_and_the_rest_is_copied(broker: BrokerProcess) -> None:
    hold(broker, "damaged")
    written = produce(broker, "damaged", 600)
    path = sorted((broker.log_dir / "damaged-0").glob("*.log"))[1]
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    before = broker.metrics()
    let_go(broker, "damaged")
    (row,) = await_tiered(broker, "damaged")
    aside = "kafka_server_brokertopicmetrics_remotesegmentssetaside_total"
    assert metric(broker, aside) == before[aside] + 1
    assert metric(broker, DEATHS) == before[DEATHS]
    (kept,) = path.parent.glob("*.corrupt")
    assert kept.read_bytes() == data
    assert row["remote"]["segments"] >= 5
    survivors = read(broker, "damaged", len(written) - 30, {0: 0})
    assert set(survivors) < set(written)


def test_the_rate_is_kept(broker: BrokerProcess) -> None:
    """100 kB take five seconds; a rate that is lifted meanwhile lets them go at once."""
    hold(broker, "slow")
    produce(broker, "slow", 600)
    alter_broker(broker, RATE, "20000")
    let_go(broker, "slow")
    until(lambda: metric(broker, IN_FLIGHT) == 1)
    assert storage(broker, "slow")[0]["remote"]["segments"] == 0
    alter_broker(broker, RATE, UNLIMITED)
    await_tiered(broker, "slow")
