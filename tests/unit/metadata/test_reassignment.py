"""Moving partitions: requests, the way to completion, and what happens to them when brokers fail meanwhile."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.metadata.cluster import Cluster, topic_id
from tierlog.errors import ErrorCode
from tierlog.metadata import keys, records
from tierlog.metadata.control.decisions import PartitionDecision
from tierlog.metadata.control.election import ClusterFacts, desired, with_replicas
from tierlog.metadata.control.isr import with_isr
from tierlog.metadata.control.reassignment import (
    Reassignment,
    decide_reassignments,
    is_carried_out,
    ongoing,
    target_of,
)
from tierlog.metadata.records import LogEnd, PartitionState
from tierlog.metadata.transactions import Put


def cluster(*states: PartitionState, brokers: int = 5) -> Cluster:
    made = Cluster(brokers=brokers)
    made.topic("t", *(states or (PartitionState(1, 3, (1, 2, 3), (1, 2, 3), 2),)))
    made.configs("t", min_insync_replicas=str(max(s.min_isr for s in states) if states else 2))
    made.reconcile()
    return made


def ask(
    of: Cluster, replicas: Sequence[int] | None, *, partition: int = 0, change: bool = True
) -> PartitionDecision:
    wish = Reassignment("t", partition, None if replicas is None else tuple(replicas))
    (decision,) = decide_reassignments(of.image, of.rules, [wish], allow_replication_factor_change=change)
    for txn in decision.txns:
        assert of.txn(txn).ok
        assert is_carried_out(of.image, wish)
    of.image.check()
    return decision


def catch_up(of: Cluster, *replicas: int) -> None:
    """The leader takes ``replicas`` into the ISR, the controller looks."""
    old = of.partition()
    new = with_isr(old, {*old.isr, *replicas})
    of.put(Put(keys.partition(topic_id(1), 0), records.encode_partition(new)))
    of.reconcile()


def test_a_move_begins_with_all_replicas_and_ends_when_the_target_is_in_sync() -> None:
    world = cluster()
    assert ask(world, (4, 5, 1)).result.error is ErrorCode.NONE
    state = world.partition()
    assert (state.replicas, state.adding, state.removing) == ((4, 5, 1, 2, 3), (4, 5), (2, 3))
    assert (state.leader, state.leader_epoch, state.isr, state.min_isr) == (1, 3, (1, 2, 3), 2)
    catch_up(world, 4)
    assert world.partition().removing == (2, 3)
    catch_up(world, 5)
    state = world.partition()
    assert (state.replicas, state.isr, state.adding, state.removing) == ((4, 5, 1), (4, 5, 1), (), ())
    assert (state.leader, state.leader_epoch) == (1, 4), "who was taken away must not be listened to any more"


def test_a_leader_that_is_taken_away_is_replaced_at_the_end() -> None:
    world = cluster()
    ask(world, (4, 2))
    assert world.partition().leader == 1
    catch_up(world, 4)
    state = world.partition()
    assert (state.leader, state.leader_epoch, state.isr, state.replicas) == (4, 4, (4, 2), (4, 2))


def test_taking_replicas_away_alone_is_done_at_once() -> None:
    world = cluster()
    ask(world, (2, 1))
    state = world.partition()
    assert (state.leader, state.leader_epoch, state.replicas, state.isr) == (1, 4, (2, 1), (2, 1))
    assert ask(world, (1, 2)).result.error is ErrorCode.NONE
    state = world.partition()
    assert (state.replicas, state.leader_epoch) == ((1, 2), 4), "an order is changed without an election"
    assert ask(world, (1, 2)).txns == ()


def test_a_single_replica_is_moved_without_refusing_writes_meanwhile() -> None:
    """``min.insync.replicas=2`` asks for one replica of one, and must not ask for two while the copy is made."""
    world = cluster(PartitionState(1, 0, (1,), (1,), 1))
    world.configs("t", min_insync_replicas="2")
    ask(world, (4,))
    assert (world.partition().isr, world.partition().min_isr) == ((1,), 1)
    world.reconcile()
    assert world.partition().min_isr == 1
    catch_up(world, 4)
    state = world.partition()
    assert (state.leader, state.replicas, state.isr, state.min_isr) == (4, (4,), (4,), 1)


def test_growth_takes_the_higher_bound_when_it_is_done() -> None:
    world = cluster(PartitionState(1, 0, (1,), (1,), 1))
    world.configs("t", min_insync_replicas="2")
    ask(world, (1, 2, 3))
    catch_up(world, 2, 3)
    state = world.partition()
    assert (state.replicas, state.min_isr, state.leader_epoch) == ((1, 2, 3), 2, 0)


def test_cancel_restores_what_was_there() -> None:
    world = cluster()
    ask(world, (4, 5, 1))
    catch_up(world, 4)
    ask(world, None)
    state = world.partition()
    assert set(state.replicas) == {1, 2, 3}
    assert (set(state.isr), state.adding, state.removing) == ({1, 2, 3}, (), ())
    refused = ask(world, None).result
    assert refused.error is ErrorCode.NO_REASSIGNMENT_IN_PROGRESS


def test_cancel_keeps_a_leader_that_was_there_before() -> None:
    world = cluster()
    ask(world, (4, 1, 2))
    catch_up(world, 4)
    assert world.partition().replicas == (4, 1, 2)
    ask(world, (1, 2, 5))
    old = world.partition()
    for broker_id in (1, 2):
        world.delete(keys.registration(broker_id))
    world.reconcile()
    assert (world.partition().leader, world.partition().elr) == (4, (1, 2)), old
    ask(world, None)
    assert world.partition().leader == 4


def test_cancel_that_would_lose_everything_is_refused() -> None:
    world = cluster(PartitionState(1, 0, (1, 2), (1, 2), 1))
    ask(world, (4, 5))
    catch_up(world, 4)
    for broker_id in (1, 2):
        world.delete(keys.registration(broker_id))
        world.reconcile()
    assert (world.partition().leader, world.partition().isr) == (4, (4,))
    assert ask(world, None).result.error is ErrorCode.INVALID_REPLICA_ASSIGNMENT
    assert ask(world, (5,)).result.error is ErrorCode.INVALID_REPLICA_ASSIGNMENT
    ask(world, (4,))
    state = world.partition()
    assert (state.leader, state.replicas, state.removing) == (4, (4,), ())


def test_who_may_prove_that_it_has_everything_is_not_cancelled_away() -> None:
    """All have lost power: of those who were eligible the copy that a move adds may be the only one that is whole."""
    world = cluster(PartitionState(1, 0, (1, 2), (1, 2), 1))
    ask(world, (4, 5))
    catch_up(world, 4)
    for broker_id in (1, 2):
        world.delete(keys.registration(broker_id))
        world.reconcile()
    world.registration(4)
    world.reconcile()
    assert (world.partition().isr, world.partition().elr, world.partition().last_eligible) == ((), (), (4,))
    assert ask(world, None).result.error is ErrorCode.INVALID_REPLICA_ASSIGNMENT
    assert ask(world, (5,)).result.error is ErrorCode.INVALID_REPLICA_ASSIGNMENT
    ask(world, (5, 4))
    assert world.partition().last_eligible == (4,)


def test_a_new_target_counts_from_the_origin() -> None:
    world = cluster()
    ask(world, (4, 2, 3))
    ask(world, (5, 2, 3))
    state = world.partition()
    assert (state.replicas, state.adding, state.removing) == ((5, 2, 3, 1), (5,), (1,))
    ask(world, (1, 2, 3))
    state = world.partition()
    assert (state.replicas, state.adding, state.removing) == ((1, 2, 3), (), ())
    assert state.leader == 1


@pytest.mark.parametrize(
    ("topic", "partition", "replicas", "error"),
    [
        ("nope", 0, (1,), ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
        ("t", 7, (1,), ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
        ("t", 0, (), ErrorCode.INVALID_REPLICA_ASSIGNMENT),
        ("t", 0, (1, 1), ErrorCode.INVALID_REPLICA_ASSIGNMENT),
        ("t", 0, (9,), ErrorCode.INVALID_REPLICA_ASSIGNMENT),
        ("t", 0, None, ErrorCode.NO_REASSIGNMENT_IN_PROGRESS),
    ],
)
def test_refusals(topic: str, partition: int, replicas: tuple[int, ...] | None, error: ErrorCode) -> None:
    world = cluster()
    (decision,) = decide_reassignments(world.image, world.rules, [Reassignment(topic, partition, replicas)])
    assert (decision.result.error, decision.txns) == (error, ())
    assert (decision.result.message is None) is (error is ErrorCode.NO_REASSIGNMENT_IN_PROGRESS)


def test_the_replication_factor_may_be_held() -> None:
    world = cluster()
    assert ask(world, (4, 5), change=False).result.error is ErrorCode.INVALID_REPLICATION_FACTOR
    assert ask(world, (4, 5, 1), change=False).result.error is ErrorCode.NONE


def moved(
    world: Cluster, wanted: dict[str, list[int]] | None
) -> list[tuple[str, list[tuple[int, PartitionState]]]]:
    return [(name, moving) for name, moving in ongoing(world.image, wanted) if moving]


def test_listing() -> None:
    world = cluster()
    assert moved(world, None) == []
    ask(world, (4, 2, 3))
    moving = [("t", [(0, world.partition())])]
    assert moved(world, None) == moving
    assert moved(world, {"t": [5, 0], "nope": [0]}) == moving
    assert moved(world, {"t": [1]}) == []


def test_a_dead_member_of_the_target_holds_the_move_and_the_old_replicas() -> None:
    world = cluster()
    ask(world, (4, 2, 3))
    world.delete(keys.registration(3))
    world.reconcile()
    catch_up(world, 4)
    state = world.partition()
    assert (state.removing, state.isr) == ((1,), (4, 2, 1))


def test_log_directories_follow_their_replicas() -> None:
    state = PartitionState(1, 3, (1, 2), (1, 2), 1, dirs=("a", "b"))
    assert with_replicas(state, (3, 2, 1), (3,), (1,)).dirs == ("", "b", "a")


replica_sets = st.sets(st.integers(1, 5), max_size=5)


@st.composite
def moving(draw: st.DrawFn) -> PartitionState:
    origin = draw(st.permutations([1, 2, 3, 4, 5]).flatmap(lambda p: st.integers(1, 3).map(lambda n: p[:n])))
    target = draw(st.permutations([1, 2, 3, 4, 5]).flatmap(lambda p: st.integers(1, 3).map(lambda n: p[:n])))
    adding = tuple(r for r in target if r not in origin)
    removing = tuple(r for r in origin if r not in target)
    replicas = (*target, *removing)
    min_isr = draw(st.integers(1, min(len(origin), len(target))))
    isr = tuple(r for r in replicas if r in draw(replica_sets))
    elr = tuple(r for r in replicas if r in draw(replica_sets) and r not in isr)
    last = tuple(r for r in replicas if r in draw(replica_sets) and r not in (*isr, *elr))
    is_thin = len(isr) < min_isr
    state = PartitionState(
        draw(st.sampled_from([-1, *isr])), 5, isr, replicas, min_isr, elr if is_thin else (),
        adding=adding, removing=removing, recovering=draw(st.booleans()), last_eligible=last if is_thin else (),
    )  # fmt: skip
    state.check()
    return state


@given(moving(), replica_sets, replica_sets, replica_sets, st.integers(1, 3), st.booleans(), replica_sets)
def test_any_move_any_facts(
    old: PartitionState,
    active: set[int],
    leaving: set[int],
    lossy: set[int],
    min_isr: int,
    unclean: bool,
    whole: set[int],
) -> None:
    ends = {b: LogEnd(b, old.leader_epoch, 5, 10, True) for b in whole}
    of = ClusterFacts({b: b for b in sorted(active)}, frozenset(leaving & active), frozenset(lossy - active))
    new = desired(old, of, min_isr=min_isr, unclean=unclean, ends=ends)
    assert desired(new, of, min_isr=min_isr, unclean=unclean, ends=ends) == new
    eligible = {*old.isr, *old.elr, *(whole & set(old.last_eligible))}
    assert target_of(new) == target_of(old)
    assert new.leader == -1 or new.leader in active
    if new.replicas != old.replicas and not new.recovering:
        assert set(new.replicas) <= eligible, "complete, though not all of the target were in sync"
        assert (new.adding, new.removing) == ((), ())
    if not set(old.replicas) <= set(new.replicas) or new.leader != old.leader:
        assert new.leader_epoch == old.leader_epoch + 1
    else:
        assert new.leader_epoch == old.leader_epoch
    if new.leader not in (-1, old.leader) and not new.recovering and not old.recovering:
        assert new.leader in eligible
