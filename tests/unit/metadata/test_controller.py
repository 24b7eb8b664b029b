"""The reconciler over the life of brokers: registration, fencing, stops of every kind."""

from __future__ import annotations

import pytest

from tests.unit.metadata.cluster import Cluster, Feed, at_once, topic_id
from tierlog.metadata import keys
from tierlog.metadata.commits import leave_clean_stop
from tierlog.metadata.control.controller import acquire, guarded, reconcile
from tierlog.metadata.records import BrokerState, PartitionState
from tierlog.metadata.transactions import Get, Txn


def sole(leader: int = 1) -> PartitionState:
    return PartitionState(leader, 0, (leader,), (leader,), 1)


def test_first_registration_is_fenced_until_the_broker_asks() -> None:
    cluster = Cluster()
    epoch = cluster.registration(1)
    cluster.reconcile()
    assert cluster.image.brokers[1].state == BrokerState(epoch, fenced=True)
    cluster.want(1, want_fence=False)
    cluster.reconcile()
    assert cluster.image.brokers[1].is_available


@pytest.mark.parametrize("stop", ["clean", "process", "lossy"])
def test_each_registration_raises_the_leader_epoch(stop: str) -> None:
    cluster = Cluster(brokers=1)
    cluster.topic("t", sole())
    for round_ in range(1, 4):
        old = cluster.image.brokers[1].broker_epoch
        if stop == "clean":
            cluster.clean_stop(1, old)
        new = cluster.registration(1, lossless_since=old if stop == "process" else 0)
        cluster.reconcile()
        assert cluster.partition().leader == -1
        assert cluster.image.brokers[1].state == BrokerState(new, fenced=True)
        assert cluster.image.brokers[1].clean_stop is None
        cluster.want(1, want_fence=False)
        cluster.reconcile()
        state = cluster.partition()
        assert (state.leader, state.isr) == (1, (1,))
        assert state.leader_epoch == 2 * round_
        assert state.recovering is (stop == "lossy")


def test_a_clean_stop_vouches_for_one_stop_only() -> None:
    """Stopped cleanly, started, lost its data before the controller looked, started again."""
    cluster = Cluster(brokers=1)
    cluster.topic("t", sole())
    cluster.clean_stop(1, cluster.image.brokers[1].broker_epoch)
    cluster.registration(1)
    assert at_once(cluster.store.get(keys.clean_stop(1))) is None
    cluster.registration(1)
    cluster.reconcile()
    assert cluster.partition().elr == ()


def test_clean_stops_in_a_row_before_the_controller_looks() -> None:
    cluster = Cluster(brokers=1)
    cluster.topic("t", sole())
    first = cluster.image.brokers[1].broker_epoch
    cluster.clean_stop(1, first)
    second = cluster.registration(1)
    cluster.txn(leave_clean_stop(1, second, (), first))
    cluster.registration(1)
    cluster.reconcile()
    assert cluster.partition().elr == (1,)


def test_lost_registration_fences_and_elects_another() -> None:
    cluster = Cluster(brokers=3)
    cluster.topic("t", PartitionState(1, 0, (1, 2, 3), (1, 2, 3), 1))
    cluster.delete(keys.registration(1))
    cluster.reconcile()
    assert (cluster.partition().leader, cluster.partition().isr) == (2, (2, 3))
    state = cluster.image.brokers[1].state
    assert state is not None
    assert state.fenced


def test_partitions_first_then_the_brokers_state() -> None:
    """M6: as long as a partition counts on the old registration, the new one is not acknowledged."""
    cluster = Cluster(brokers=2)
    cluster.topic("t", *(PartitionState(1, 0, (1, 2), (1, 2), 1) for _ in range(100)))
    epoch = cluster.registration(1)
    first = [txn for txn in reconcile(cluster.image, cluster.rules) if txn is not None]
    assert all(isinstance(op, Txn) for txn in first for op in txn.then)
    for txn in first:
        cluster.txn(txn)
    second = [txn for txn in reconcile(cluster.image, cluster.rules) if txn is not None]
    assert next(op.key for txn in second for op in txn.then if not isinstance(op, Txn)) == keys.broker_state(
        1
    )
    cluster.reconcile()
    state = cluster.image.brokers[1].state
    assert state is not None
    assert state.broker_epoch == epoch


def test_registration_during_the_scan_is_left_for_the_next_round() -> None:
    cluster = Cluster(brokers=2)
    cluster.topic("t", *(PartitionState(1, 0, (1, 2), (1, 2), 1) for _ in range(10)))
    scan = reconcile(cluster.image, cluster.rules)
    rest = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tierlog.metadata.control.controller.SCAN_SLICE", 5)
        rest.append(next(scan))
        cluster.registration(1)
        rest += list(scan)
    assert [item for item in rest if item is not None] == []
    cluster.reconcile()
    assert cluster.partition().leader == 2


def test_elected_broker_that_registers_meanwhile_is_not_elected() -> None:
    cluster = Cluster(brokers=2)
    cluster.topic("t", PartitionState(1, 0, (1, 2), (1, 2), 1))
    cluster.delete(keys.registration(1))
    (txn, *_) = [txn for txn in reconcile(cluster.image, cluster.rules) if txn is not None]
    cluster.registration(2)
    assert not cluster.txn(txn).nested[0].ok
    cluster.reconcile()
    assert cluster.partition().leader == -1


def test_controlled_shutdown_says_so_before_it_moves_partitions() -> None:
    cluster = Cluster(brokers=3)
    cluster.topic("t", PartitionState(1, 0, (1, 2, 3), (1, 2, 3), 1), PartitionState(2, 0, (2, 1), (2, 1), 1))
    cluster.want(1, want_fence=False, want_shut_down=True)
    txns = [txn for txn in reconcile(cluster.image, cluster.rules) if txn is not None]
    assert [getattr(op, "key", None) for op in txns[0].then] == [keys.broker_state(1)]
    cluster.reconcile()
    assert [(p.leader, p.isr) for p in (cluster.partition(1, 0), cluster.partition(1, 1))] == [
        (2, (2, 3)),
        (2, (2,)),
    ]
    assert not cluster.image.brokers[1].is_available


def test_only_one_controller_and_only_with_its_token() -> None:
    cluster = Cluster(brokers=2)
    leases = [at_once(cluster.store.grant(1000)) for _ in range(2)]
    epochs = [cluster.image.brokers[i].broker_epoch for i in (1, 2)]
    first = cluster.txn(acquire(1, epochs[0], leases[0]))
    assert first.ok
    assert cluster.image.controller_id == 1
    assert cluster.image.controller_token == first.revision
    assert not cluster.txn(acquire(2, epochs[1], leases[1])).ok
    assert cluster.txn(guarded(Txn((), (Get("/x"),)), first.revision)).ok
    at_once(cluster.store.revoke(leases[0]))
    cluster.feed.catch_up()
    assert cluster.image.controller is None
    assert not cluster.txn(guarded(Txn(), first.revision)).ok
    assert not cluster.txn(acquire(2, epochs[1] - 1, leases[1])).ok
    assert cluster.txn(acquire(2, epochs[1], leases[1])).ok


def test_unclean_election_by_topic_config() -> None:
    cluster = Cluster(brokers=3)
    cluster.topic("t", PartitionState(1, 0, (1,), (1, 2), 1))
    cluster.delete(keys.registration(1))
    cluster.reconcile()
    assert cluster.partition().leader == -1
    cluster.configs("t", unclean_leader_election_enable="true")
    cluster.reconcile()
    assert (cluster.partition().leader, cluster.partition().recovering) == (2, True)


def test_a_healthy_cluster_needs_nothing() -> None:
    cluster = Cluster(brokers=3)
    cluster.topic("t", *(PartitionState(1, 0, (1, 2, 3), (1, 2, 3), 1) for _ in range(10)))
    assert cluster.reconcile() == 0
    stale = Feed(cluster.store)
    assert [txn for txn in reconcile(stale.image, cluster.rules) if txn is not None] == []
    assert cluster.partition(1, 3).leader == 1
    assert cluster.image.partition(topic_id(2), 0) is None
