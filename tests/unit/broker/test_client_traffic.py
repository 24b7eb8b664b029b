"""What clients send and are sent is counted by client and topic, in bounded memory, and nothing twice."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple, cast

import pytest

from tests.unit.broker.test_config_effects import until
from tests.unit.broker.test_replication import append, cluster
from tierlog.broker.network import client_traffic
from tierlog.broker.network.client_traffic import ClientTraffic
from tierlog.broker.network.context import RequestContext
from tierlog.types import TopicPartition


class Hosted(NamedTuple):
    topic_id: bytes
    topic_partition: TopicPartition


def hosted(number: int) -> Any:
    return Hosted(number.to_bytes(16, "big"), TopicPartition(f"t{number}", 0))


def asks(client_id: str | None, session: Any = None, host: str = "h") -> RequestContext:
    connection = session or SimpleNamespace(traffic=None)
    return RequestContext(0, 0, 0, client_id, "PLAINTEXT", host, 0.0, cast(Any, connection))


def sums(traffic: ClientTraffic) -> Counter[tuple[str, ...]]:
    """By direction, topic, client id and rack."""
    found: Counter[tuple[str, ...]] = Counter()
    for about, tally in traffic.drain():
        found[about.direction, about.topic, about.client_id, about.rack] += tally.size_bytes
    return found


def test_connections_of_one_client_are_counted_together_and_anew_after_a_drain() -> None:
    traffic, one, two = ClientTraffic(), asks("c"), asks("c")
    for size_bytes in (1, 2):
        for ctx in (one, two):
            traffic.produced(ctx, hosted(0), size_bytes, 5)
            traffic.consumed(ctx, hosted(0), 10 * size_bytes, "r", False)
            traffic.consumed(ctx, hosted(1), 100 * size_bytes, "r", True)
    wanted = {
        ("produce", "t0", "c", ""): 6,
        ("consume", "t0", "c", "r"): 60,
        ("consume-remote", "t1", "c", "r"): 600,
    }
    assert sums(traffic) == wanted
    assert sums(traffic) == {}
    traffic.produced(one, hosted(0), 7, 1)
    assert sums(traffic) == {("produce", "t0", "c", ""): 7}


def test_a_connection_that_changes_its_name_or_rack_is_another_client() -> None:
    traffic, session = ClientTraffic(), SimpleNamespace(traffic=None)
    for client_id, rack in (("a", ""), ("b", ""), ("a", ""), ("a", "r"), (None, "r")):
        traffic.consumed(asks(client_id, session), hosted(0), 1, rack, False)
    consumed = {("a", ""): 2, ("b", ""): 1, ("a", "r"): 1, ("", "r"): 1}
    assert sums(traffic) == {("consume", "t0", *about): count for about, count in consumed.items()}


def test_made_up_names_take_bounded_memory_and_no_one_loses_a_byte(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_traffic, "TALLIES_MAX", 50)
    traffic, honest = ClientTraffic(), asks("honest")
    for number in range(1_000):
        traffic.produced(asks(f"made up {number}" * 100), hosted(number % 3), 1, 1)
        traffic.produced(honest, hosted(0), 1, 1)
    found = sums(traffic)
    assert len(found) <= 50 + 3
    assert found["produce", "t0", "honest", ""] == 1_000
    assert sum(found.values()) == 2_000
    assert max(len(client_id) for _, _, client_id, _ in found) == client_traffic.CLIENT_ID_CHARS_MAX
    session = SimpleNamespace(traffic=None)
    for number in range(1_000):
        traffic.consumed(asks("wide", session), hosted(number), 1, "", False)
    assert len(session.traffic.consumed) <= client_traffic.KEPT_TOPICS_MAX
    assert sum(sums(traffic).values()) == 1_000


async def test_what_followers_copy_is_counted_by_rack(tmp_path: Path) -> None:
    async with cluster(tmp_path, 0) as made:
        for broker_id in (1, 2):
            made.overrides["broker_rack"] = f"rack-{broker_id}"
            await made.start(broker_id)
        await made.create(min_insync_replicas="2")
        for number in range(3):
            append(made.led, b"%d" % number)
        await until(made.are_alike)
        leader_id = made.leader_id
        assert leader_id is not None
        found = sums(made.brokers[leader_id].services.client_traffic)
        assert found["replicate", "t", "", f"rack-{3 - leader_id}"] == made.led.log.size_bytes
