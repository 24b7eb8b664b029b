"""Who is who, asked of a real cluster: owners from topic configs, groups from their members, retention for the headroom."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer

from tests.e2e.test_cli import tierlog
from tests.e2e.tiered import produce, until
from tests.servers.tierlog import BrokerProcess
from tests.unit.cost.rows import small_cluster, write_json_lines
from tierlog.admin.cost.spans import iso

TOPIC = "flights"


@pytest.fixture
def group(broker: BrokerProcess) -> Iterator[str]:
    """A topic with an owner, and a group that a member with the client id "reader" is in."""
    config = ("-c", "tierlog.owner=ops", "-c", "tierlog.cost.center=4711", "-c", "retention.ms=2592000000")
    made = tierlog("topic", "create", TOPIC, "--if-not-exists", *config, bootstrap=broker.bootstrap)
    assert made.code == 0, made.err
    name = f"night-{uuid.uuid4().hex[:6]}"
    consumer = Consumer({"bootstrap.servers": broker.bootstrap, "group.id": name, "client.id": "reader"})
    consumer.subscribe([TOPIC])

    def is_assigned() -> bool:
        consumer.poll(0.05)
        return bool(consumer.assignment())

    until(is_assigned)
    yield name
    consumer.close()
    assert tierlog("topic", "delete", TOPIC, "--yes", bootstrap=broker.bootstrap).code == 0


def test_owners_groups_and_retention(broker: BrokerProcess, group: str, tmp_path: Path) -> None:
    rows = [row._replace(host="127.0.0.1") if row.host else row for row in small_cluster(3)]
    rows += [row._replace(client_id="gone") for row in rows if row.client_id == "reader"]
    file = write_json_lines(sorted(rows, key=lambda row: row.hour_ms), tmp_path / "ledger.jsonl")

    def told(*command: str) -> Any:
        given = [*command, "--rows", str(file), "--since", "2025-01-01", "-o", "json"]
        answer = tierlog(*given, "-b", broker.bootstrap)
        assert answer.code in (0, 3), answer.err
        return answer.json

    owners = {part["name"] for part in told("cost", "report", "--by", "owner")["parts"]}
    assert owners == {"ops", "(no owner)"}
    groups = {part["name"] for part in told("cost", "report", "--by", "group")["parts"]}
    assert groups == {group, "(unknown group)", "(not of consumers)"}
    topics = {row["topic"]: row for row in told("capacity", "report")["topics"]}
    assert topics[TOPIC]["retention_days"] == 30.0
    assert topics[TOPIC]["headroom_days"] == pytest.approx(30 - topics[TOPIC]["held_days"], abs=0.1)
    assert topics["old"]["retention_days"] is None
    assert topics[TOPIC]["oldest_local"] is None
    aged_ms = int((time.time() - 10 * 86_400) * 1000)
    produce(broker, TOPIC, 2, timestamps=[aged_ms, aged_ms + 60_000])
    topic = next(row for row in told("capacity", "report")["topics"] if row["topic"] == TOPIC)
    # Both are in one batch, which is as old as its newest record.
    assert topic["oldest_local"] in (iso(aged_ms), iso(aged_ms + 60_000))
    assert topic["headroom_days"] == pytest.approx(20, abs=0.1)

    exported = tmp_path / "focus.csv"
    command = [
        "cost",
        "export",
        "--rows",
        str(file),
        "--since",
        "2025-01-01",
        "-o",
        "csv",
        "--out",
        str(exported),
    ]
    assert tierlog(*command, "-b", broker.bootstrap).code == 0
    assert json.dumps({"owner": "ops", "cost_center": "4711"}).replace('"', '""') in exported.read_text()


def test_no_rows_and_no_cluster_are_told_in_one_line() -> None:
    answer = tierlog("cost", "report", "-b", "127.0.0.1:1")
    assert (answer.code, answer.err.count("\n")) == (1, 1)
