"""What a cluster's partitions say about restarting one of its brokers."""

from __future__ import annotations

from tierlog.admin.cluster import BrokerRow, PartitionRow, broker_rows, cluster_problems, restart_row
from tierlog.wire.messages.describe_cluster import DescribeClusterBroker, DescribeClusterResponse

FULL = PartitionRow("full-0", 1, (1, 2, 3), (1, 2, 3), 2)
ALONE = PartitionRow("alone-0", 1, (1,), (1,), 1)
SHORT = PartitionRow("short-0", 2, (1, 2, 3), (2, 1), 2)
LOST = PartitionRow("lost-0", -1, (3,), (), 1)


def test_a_replica_to_spare_makes_a_restart_safe() -> None:
    assert restart_row(2, [FULL])["safe"]


def test_the_only_replica_and_the_least_number_of_them_do_not() -> None:
    row = restart_row(1, [FULL, ALONE, SHORT])
    assert (row["safe"], row["without_leader"], row["below_min_isr"]) == (False, 1, 1)
    assert row["examples"] == ["alone-0", "short-0"]


def test_fewer_replicas_than_the_configured_least_need_all_of_them() -> None:
    assert restart_row(1, [PartitionRow("two-0", 1, (1, 2), (1, 2), 3)])["below_min_isr"] == 1


def test_problems_of_the_cluster() -> None:
    brokers = [
        BrokerRow(1, "h", 1, None, "active"),
        BrokerRow(2, "h", 2, None, "fenced"),
        BrokerRow(3, None, None, None, "gone"),
    ]
    assert cluster_problems(brokers, [FULL, SHORT, LOST]) == [
        "broker 2 is fenced",
        "broker 3 is gone",
        "1 partitions are without a leader: lost-0",
        "1 partitions are under-replicated: short-0",
    ]
    many = [PartitionRow(f"t-{n}", 1, (1, 2), (1,)) for n in range(9)]
    assert cluster_problems(brokers[:1], many) == [
        "9 partitions are under-replicated: t-0, t-1, t-2, t-3, t-4, …"
    ]


def test_a_broker_that_only_its_replicas_remember_is_gone() -> None:
    known = [
        DescribeClusterBroker(broker_id=2, host="h", port=9, rack="r", is_fenced=True),
        DescribeClusterBroker(broker_id=1, host="h", port=8),
    ]
    rows = broker_rows(DescribeClusterResponse(brokers=known), [FULL])
    assert [(row.broker_id, row.state) for row in rows] == [(1, "active"), (2, "fenced"), (3, "gone")]
