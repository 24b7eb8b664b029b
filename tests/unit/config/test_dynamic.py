"""What may change at run time, beside what a real Kafka 4.4 lets change (``tests/golden/config``).

``tests/e2e/test_same_as_kafka_dynamic.py`` holds the file beside the real one.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tierlog.config.broker_table import KAFKA
from tierlog.config.definitions import UpdateMode
from tierlog.config.dynamic import is_dynamic, not_dynamic, validate_broker_configs
from tierlog.config.kafka_table import MEANINGLESS, REFUSED
from tierlog.config.properties import load

FACTS = json.loads(
    (Path(__file__).parents[2] / "golden" / "config" / "kafka-4.4-dynamic.json").read_text(encoding="utf-8")
)
# Kafka takes these as unknown ones, and acts on them (KIP-73).
THROTTLES = {"leader.replication.throttled.rate", "follower.replication.throttled.rate"}
NOT_HERE = {
    "listeners": "a running broker's addresses are part of its registration",
    "listener.security.protocol.map": "as listeners",
    "config.providers": "whoever may alter configs could read the broker's files and environment",
}


def test_the_tables_say_what_kafka_says() -> None:
    modes = {row.name: row.mode for row in (*KAFKA, *MEANINGLESS, *REFUSED) if not row.internal}
    of_one = {name for name, mode in modes.items() if mode is UpdateMode.PER_BROKER}
    of_all = {name for name, mode in modes.items() if mode is UpdateMode.CLUSTER_WIDE}
    assert of_one == {*FACTS["per_broker"], *FACTS["per_listener"]}
    assert of_all - THROTTLES == {*FACTS["cluster_wide"]}


def test_all_that_kafka_can_change_and_that_is_honoured_is_dynamic() -> None:
    kafkas = {*FACTS["per_broker"], *FACTS["per_listener"], *FACTS["cluster_wide"]} | THROTTLES
    honoured = {row.name: row for row in KAFKA}
    ours = {name for name, row in honoured.items() if is_dynamic(row)}
    assert ours == (kafkas & honoured.keys()) - NOT_HERE.keys()
    assert "log.cleaner.backoff.ms" in ours


@pytest.mark.parametrize("name", FACTS["per_broker"])
def test_what_is_of_one_broker_is_not_set_for_all(name: str) -> None:
    sentence = not_dynamic([name], of_all_brokers=True)
    assert sentence is not None
    if name == "cordoned.log.dirs":
        assert sentence == (
            "Cannot update these configs at default cluster level, broker id must be specified: [cordoned.log.dirs]"
        )
        assert not_dynamic([name]) is None


def test_what_is_wrong_is_said_together() -> None:
    wrong = {"log.cleaner.backoff.ms": "-1", "max.connections": "many", "log.segment.bytes": "1"}
    assert len(validate_broker_configs(wrong, broker=load({}))) == 3
    assert validate_broker_configs({"log.cleaner.dedupe.buffer.size": "5"}, broker=load({}))
    assert not validate_broker_configs({"max.connections": "5"}, broker=load({}))
