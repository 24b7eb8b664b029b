"""Two brokers in two racks: what each led, sent to the other and asked of the bucket is in one ledger."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from confluent_kafka.admin import NewTopic

from tests.e2e.test_ledger import asked_by, asked_in, command, shown, total
from tests.e2e.tiered import HURRY, TIERED, TIMEOUT_S, admin, produce, until
from tests.servers.several import Several

TOPIC = "spread"
RACKS = {1: "a", 2: "b"}


def test_two_brokers_keep_one_ledger(tmp_path: Path) -> None:
    several = Several(
        tmp_path, len(RACKS), **{name.replace(".", "_"): value for name, value in HURRY.items()}
    )
    for node_id, broker in several.brokers.items():
        broker.overrides |= {"broker.rack": RACKS[node_id], "tierlog.ledger.enable": "true"}
    with several:
        client = admin(several[1])
        new = NewTopic(TOPIC, num_partitions=4, replication_factor=2, config=TIERED)
        client.create_topics([new])[TOPIC].result(TIMEOUT_S)
        several.await_topic(TOPIC, 4)
        assert set(several.leaders(1, TOPIC).values()) == set(RACKS)
        produced = produce(several[1], TOPIC, 400, partitions=4)

        def told() -> list[dict[str, Any]]:
            return shown("-b", several[1].bootstrap)

        def is_whole(rows: list[dict[str, Any]]) -> bool:
            return replicated(rows) == produced_bytes(rows) > 400_000

        def replicated(rows: list[dict[str, Any]]) -> int:
            return int(total(rows, "sent_bytes", direction="replicate", topic=TOPIC))

        def produced_bytes(rows: list[dict[str, Any]]) -> int:
            return int(total(rows, "received_bytes", direction="produce", topic=TOPIC))

        until(lambda: is_whole(told()))
        rows = told()
        assert total(rows, "records", direction="produce", topic=TOPIC) == len(produced)
        for node_id, rack in RACKS.items():
            mine = [row for row in rows if row["broker_id"] == node_id]
            (other,) = set(RACKS.values()) - {rack}
            led = total(mine, "received_bytes", direction="produce", topic=TOPIC)
            crossed = {"direction": "replicate", "from_rack": rack, "to_rack": other, "topic": TOPIC}
            assert total(mine, "sent_bytes", **crossed) == led > 0

        def all_requests() -> Counter[tuple[str, str]]:
            return asked_by(several[1]) + asked_by(several[2])

        until(lambda: all_requests() == asked_in(told()))
        bill = command("-b", several[1].bootstrap, "-o", "json", verb="cost report")
        assert bill.code == 0, bill.errors
        items = json.loads(bill.out)["items"]
        assert [row for row in items if "zone" in row["item"]], items
