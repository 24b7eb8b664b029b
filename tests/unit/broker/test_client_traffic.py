"""What clients send and are sent is counted by client and topic, in bounded memory, and nothing twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.broker.test_config_effects import until
from tests.unit.broker.test_replication import append, cluster
from tierlog.broker.network import client_traffic
from tierlog.broker.network.client_traffic import ClientTraffic
from tierlog.broker.network.context import RequestContext
from tierlog.broker.replicas.traffic import PartitionTraffic
from tierlog.types import TopicPartition


class Hosted:
    def __init__(self, number: int) -> None:
        self.topic_id = number.to_bytes(16, "big")
        self.topic_partition = TopicPartition(f"t{number}", 0)
        self.traffic = PartitionTraffic()


def produced(traffic: ClientTraffic, ctx: RequestContext, partition: Hosted, size_bytes: int) -> None:
    """As the handler and the partition do it."""
    if partition.traffic.producer is not ctx.session.traffic:
        traffic.takes_turn(ctx, partition)
    partition.traffic.bytes_in += size_bytes
    partition.traffic.messages_in += 1


def asks(client_id: str | None, session: Any = None, host: str = "h") -> RequestContext:
    connection = session or SimpleNamespace(traffic=None)
    return RequestContext(0, 0, 0, client_id, "PLAINTEXT", host, 0.0, cast(Any, connection))


def sums(traffic: ClientTraffic) -> Counter[tuple[str, ...]]:
    """By direction, topic, client id and rack."""
    found: Counter[tuple[str, ...]] = Counter()
    for about, tally in filter(None, traffic.drain()):
        found[about.direction, about.topic, about.client_id, about.rack] += tally.size_bytes
    return found


def test_connections_of_one_client_are_counted_together_and_anew_after_a_drain() -> None:
    traffic, one, two, first, second = ClientTraffic(), asks("c"), asks("c"), Hosted(0), Hosted(1)
    for size_bytes in (1, 2):
        for ctx in (one, two):
            produced(traffic, ctx, first, size_bytes)
            traffic.consumed(ctx, first, 10 * size_bytes, "r", False)
            traffic.consumed(ctx, second, 100 * size_bytes, "r", True)
    wanted = {
        ("produce", "t0", "c", ""): 6,
        ("consume", "t0", "c", "r"): 60,
        ("consume-remote", "t1", "c", "r"): 600,
    }
    assert sums(traffic) == wanted
    assert sums(traffic) == {}
    first.traffic.bytes_in += 50  # not of a client
    produced(traffic, one, first, 7)
    assert sums(traffic) == {("produce", "t0", "c", ""): 7}


@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.integers(0, 2), st.integers(1, 9), st.sampled_from("pcsd")),
        max_size=40,
    )
)
def test_turns_and_drains_in_any_order_lose_and_invent_nothing(
    events: list[tuple[str, int, int, str]],
) -> None:
    """``s`` takes one step of a drain that goes on beside the requests, ``d`` begins or ends one."""
    traffic, clients = ClientTraffic(), {name: asks(name) for name in "abc"}
    partitions = [Hosted(number) for number in range(3)]
    wanted: Counter[tuple[str, ...]] = Counter()
    found: Counter[tuple[str, ...]] = Counter()
    drain: Iterator[Any] = iter(())

    def take(steps: Iterator[Any]) -> None:
        for about, tally in filter(None, steps):
            found[about.direction, about.topic, about.client_id] += tally.size_bytes

    for name, number, size_bytes, event in events:
        if event == "p":
            produced(traffic, clients[name], partitions[number], size_bytes)
            wanted["produce", f"t{number}", name] += size_bytes
        elif event == "c":
            traffic.consumed(clients[name], partitions[number], size_bytes, "", False)
            wanted["consume", f"t{number}", name] += size_bytes
        elif event == "s":
            take(islice(drain, 1))
        else:
            take(drain)
            drain = traffic.drain()
    take(drain)
    take(traffic.drain())
    assert found == wanted


def test_a_connection_that_changes_its_rack_is_another_client() -> None:
    traffic, session, partition = ClientTraffic(), SimpleNamespace(traffic=None), Hosted(0)
    for client_id, rack in (("a", ""), ("a", "r"), ("a", ""), (None, "r")):
        traffic.consumed(asks(client_id, session), partition, 1, rack, False)
    assert sums(traffic) == {
        ("consume", "t0", "a", ""): 2,
        ("consume", "t0", "a", "r"): 1,
        ("consume", "t0", "", "r"): 1,
    }


def test_made_up_names_take_bounded_memory_and_no_one_loses_a_byte(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_traffic, "TALLIES_MAX", 50)
    traffic, honest, partitions = ClientTraffic(), asks("honest"), [Hosted(number) for number in range(3)]
    for number in range(1_000):
        produced(traffic, asks(f"made up {number}" * 100), partitions[number % 3], 1)
        produced(traffic, honest, partitions[0], 1)
    found = sums(traffic)
    assert len(found) <= 50 + 3
    assert found["produce", "t0", "honest", ""] == 1_000
    assert sum(found.values()) == 2_000
    assert max(len(client_id) for _, _, client_id, _ in found) == client_traffic.CLIENT_ID_CHARS_MAX
    session = SimpleNamespace(traffic=None)
    for number in range(1_000):
        traffic.consumed(asks("wide", session), Hosted(number), 1, "", False)
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
