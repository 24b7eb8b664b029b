"""Elections on request, balance, the end of recovery, growth of internal topics, removal of brokers."""

from __future__ import annotations

import pytest

from tests.unit.metadata.cluster import Cluster, topic_id
from tierlog.errors import ErrorCode
from tierlog.metadata import keys, records
from tierlog.metadata.control.election import gather_facts
from tierlog.metadata.control.leadership import (
    MAX_BALANCED_PARTITIONS,
    Election,
    ElectionType,
    all_elections,
    balance_changes,
    decide_elections,
    has_wanted_leader,
)
from tierlog.metadata.control.removal import decide_unregister, is_removed
from tierlog.metadata.image import offline_replicas
from tierlog.metadata.records import NO_LEADER, PartitionState
from tierlog.metadata.rules import InternalTopic, TopicRules
from tierlog.metadata.transactions import Put


def elect(of: Cluster, kind: ElectionType, partition: int = 0, topic: str = "t") -> ErrorCode:
    election = Election(topic, partition)
    (decision,) = decide_elections(of.image, of.rules, [election], kind)
    for txn in decision.txns:
        assert of.txn(txn).ok
        assert has_wanted_leader(of.image, election, kind)
    of.image.check()
    return decision.result.error


class TestPreferred:
    def test_moves_the_leadership_and_raises_the_epoch(self) -> None:
        cluster = Cluster(brokers=3)
        cluster.topic("t", PartitionState(2, 4, (1, 2, 3), (1, 2, 3), 1))
        assert elect(cluster, ElectionType.PREFERRED) is ErrorCode.NONE
        assert (cluster.partition().leader, cluster.partition().leader_epoch) == (1, 5)
        assert elect(cluster, ElectionType.PREFERRED) is ErrorCode.ELECTION_NOT_NEEDED
        assert cluster.reconcile() == 0

    def test_only_who_is_in_sync_and_stays(self) -> None:
        cluster = Cluster(brokers=3)
        cluster.topic("t", PartitionState(2, 4, (2, 3), (1, 2, 3), 1))
        assert elect(cluster, ElectionType.PREFERRED) is ErrorCode.PREFERRED_LEADER_NOT_AVAILABLE
        assert list(balance_changes(cluster.image, cluster.rules)) == []
        cluster.topic("u", PartitionState(2, 4, (1, 2), (1, 2), 2), n=2)
        cluster.want(1, want_fence=False, want_shut_down=True)
        assert elect(cluster, ElectionType.PREFERRED, topic="u") is ErrorCode.PREFERRED_LEADER_NOT_AVAILABLE

    def test_unknown_partitions(self) -> None:
        cluster = Cluster(brokers=1)
        cluster.topic("t", PartitionState(1, 0, (1,), (1,), 1))
        for kind in ElectionType:
            assert elect(cluster, kind, topic="nope") is ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
            assert elect(cluster, kind, 1) is ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        assert all_elections(cluster.image) == [Election("t", 0)]

    def test_balance_moves_all_that_can_be_moved(self) -> None:
        cluster = Cluster(brokers=3)
        moved = PartitionState(2, 4, (1, 2, 3), (1, 2, 3), 1)
        stuck = PartitionState(2, 4, (2, 3), (1, 2, 3), 1)
        cluster.topic("t", *([moved] * 70), stuck, PartitionState(3, 0, (3,), (3,), 1))
        txns = list(balance_changes(cluster.image, cluster.rules))
        assert [len(txn.then) for txn in txns] == [60, 10]
        for txn in txns:
            cluster.txn(txn)
        assert [cluster.partition(1, n).leader for n in range(72)] == [1] * 70 + [2, 3]
        assert list(balance_changes(cluster.image, cluster.rules)) == []

    def test_a_balance_is_bounded(self) -> None:
        cluster = Cluster(brokers=2)
        moved = PartitionState(2, 4, (1, 2), (1, 2), 1)
        for number in range(MAX_BALANCED_PARTITIONS // 100 + 1):
            cluster.topic(f"t{number}", *([moved] * 100), n=number + 1)
        txns = list(balance_changes(cluster.image, cluster.rules))
        assert sum(len(txn.then) for txn in txns) == MAX_BALANCED_PARTITIONS
        for txn in txns:
            cluster.txn(txn)
        rest = balance_changes(cluster.image, cluster.rules)
        assert sum(len(txn.then) for txn in rest) == 100


class TestUnclean:
    def test_on_request_only_where_nobody_leads(self) -> None:
        cluster = Cluster(brokers=3)
        cluster.topic("t", PartitionState(1, 0, (1,), (1, 2, 3), 1))
        assert elect(cluster, ElectionType.UNCLEAN) is ErrorCode.ELECTION_NOT_NEEDED
        cluster.delete(keys.registration(1))
        cluster.reconcile()
        assert cluster.partition().leader == NO_LEADER
        assert elect(cluster, ElectionType.UNCLEAN) is ErrorCode.NONE
        state = cluster.partition()
        assert (state.leader, state.isr, state.recovering) == (2, (2,), True)

    def test_nobody_is_there(self) -> None:
        cluster = Cluster(brokers=1)
        cluster.topic("t", PartitionState(NO_LEADER, 0, (), (2, 3), 1))
        assert elect(cluster, ElectionType.UNCLEAN) is ErrorCode.ELIGIBLE_LEADERS_NOT_AVAILABLE

    def test_recovery_ends_when_every_replica_is_in_sync(self) -> None:
        cluster = Cluster(brokers=3)
        led = PartitionState(2, 1, (2,), (1, 2, 3), 1, recovering=True)
        cluster.topic("t", led)
        cluster.reconcile()
        assert cluster.partition().recovering
        for isr in ((1, 2), (1, 2, 3)):
            state = cluster.partition()._replace(isr=isr)
            cluster.put(Put(keys.partition(topic_id(1), 0), records.encode_partition(state)))
            cluster.reconcile()
        state = cluster.partition()
        assert (state.recovering, state.leader, state.leader_epoch) == (False, 2, 1)


def test_a_broker_without_any_log_directory_left_is_not_active() -> None:
    cluster = Cluster()
    cluster.register(1, dirs=("a", "b"), offline_dirs=("a",))
    cluster.register(2, dirs=("c",), offline_dirs=("c",))
    facts = gather_facts(cluster.image)
    assert (set(facts.active), facts.offline_dirs) == ({1}, {"a", "c"})


@pytest.mark.parametrize(
    ("dirs", "offline", "cordoned", "is_cordoned"),
    [
        (("a", "b"), (), ("a",), False),
        (("a", "b"), (), ("a", "b"), True),
        (("a", "b"), ("b",), ("a",), True),  # what cannot be used takes nothing either
        (("a", "b"), ("b",), ("b",), False),
        ((), (), (), False),
    ],
)
def test_a_broker_with_all_its_directories_cordoned_gets_nothing_new(
    dirs: tuple[str, ...], offline: tuple[str, ...], cordoned: tuple[str, ...], is_cordoned: bool
) -> None:
    cluster = Cluster()
    cluster.register(1, dirs=dirs, offline_dirs=offline, cordoned_dirs=cordoned)
    assert cluster.image.is_cordoned(1) is is_cordoned
    assert not cluster.image.is_cordoned(2)
    assert cluster.image.offline_dirs() == set(offline)


def test_who_is_offline() -> None:
    state = PartitionState(leader=1, leader_epoch=0, isr=(1,), replicas=(1, 2, 3), min_isr=1)
    assert offline_replicas(state, {1, 2}, {"x"}) == [3]
    placed = state._replace(dirs=("", "x", "y"))
    assert offline_replicas(placed, {1, 2, 3}, frozenset()) == []
    assert offline_replicas(placed, {1, 2, 3}, {"x"}) == [2]


class TestInternalTopics:
    def test_they_grow_as_brokers_join(self) -> None:
        cluster = Cluster(brokers=1)
        cluster.rules = TopicRules(internal_topics={"o": InternalTopic(6, 3, {})})
        cluster.topic("o", *([PartitionState(1, 0, (1,), (1,), 1)] * 6))
        assert cluster.reconcile() == 0
        for broker_id in (2, 3, 4):
            cluster.register(broker_id)
        cluster.reconcile()
        states = [cluster.partition(1, n) for n in range(6)]
        assert all(len(s.replicas) == 3 and len(s.adding) == 2 for s in states)
        assert all((s.leader, s.leader_epoch, s.isr, s.min_isr) == (1, 0, (1,), 1) for s in states)
        held = [sum(b in s.replicas for s in states) for b in (2, 3, 4)]
        assert max(held) - min(held) <= 1, held
        preferred = [sum(b == s.replicas[0] for s in states) for b in (1, 2, 3, 4)]
        assert max(preferred) <= 2, preferred

    def test_they_wait_for_a_move_that_is_under_way_and_never_shrink(self) -> None:
        cluster = Cluster(brokers=3)
        cluster.rules = TopicRules(internal_topics={"o": InternalTopic(2, 3, {})})
        moving = PartitionState(1, 0, (1,), (1, 2), 1, adding=(2,))
        cluster.topic("o", moving, PartitionState(1, 0, (1, 2, 3), (1, 2, 3), 1))
        assert cluster.reconcile() == 0


class TestRemoval:
    def test_a_stopped_broker_leaves_and_is_eligible_nowhere(self) -> None:
        cluster = Cluster(brokers=3)
        cluster.configs("t", min_insync_replicas="2")
        cluster.topic("t", *([PartitionState(1, 0, (1, 3), (1, 2, 3), 2)] * 50))
        assert decide_unregister(cluster.image, cluster.rules, 3).result.error is ErrorCode.INVALID_REQUEST
        cluster.clean_stop(3, cluster.image.brokers[3].broker_epoch)
        cluster.delete(keys.registration(3))
        cluster.reconcile()
        assert cluster.partition().elr == (3,)
        decision = decide_unregister(cluster.image, cluster.rules, 3)
        assert len(decision.txns) == 3
        for txn in decision.txns:
            assert cluster.txn(txn).ok
        assert is_removed(cluster.image, 3)
        assert 3 not in cluster.image.brokers
        assert all(cluster.partition(1, n).elr == () for n in range(50))
        assert cluster.reconcile() == 0
        again = decide_unregister(cluster.image, cluster.rules, 3)
        assert again.result.error is ErrorCode.BROKER_ID_NOT_REGISTERED

    def test_who_comes_back_meanwhile_is_not_removed(self) -> None:
        cluster = Cluster(brokers=2)
        cluster.delete(keys.registration(2))
        cluster.reconcile()
        decision = decide_unregister(cluster.image, cluster.rules, 2)
        cluster.registration(2)
        assert not any(cluster.txn(txn).ok for txn in decision.txns)
        assert not is_removed(cluster.image, 2)
