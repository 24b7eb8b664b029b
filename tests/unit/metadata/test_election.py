"""The rule of elections, as a table and as properties."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tierlog.metadata.control.election import ClusterFacts, desired, is_settled, with_replicas
from tierlog.metadata.control.isr import with_isr
from tierlog.metadata.records import LogEnd, PartitionState

ALL = {1: 11, 2: 12, 3: 13}


def facts(*active: int, leaving: tuple[int, ...] = (), lossy: tuple[int, ...] = ()) -> ClusterFacts:
    return ClusterFacts({b: ALL[b] for b in active}, frozenset(leaving), frozenset(lossy))


def state(leader: int, isr: tuple[int, ...], elr: tuple[int, ...] = (), min_isr: int = 2) -> PartitionState:
    return PartitionState(leader, 5, isr, (1, 2, 3), min_isr, elr)


def decide(
    old: PartitionState, of: ClusterFacts, min_isr: int | None = None, unclean: bool = False
) -> PartitionState:
    return desired(old, of, min_isr=old.min_isr if min_isr is None else min_isr, unclean=unclean)


def test_healthy_partition_is_left_alone() -> None:
    old = state(1, (1, 2, 3))
    assert is_settled(old, facts(1, 2, 3), 2)
    assert decide(old, facts(1, 2, 3)) == old


def test_dead_leader_is_replaced_from_the_isr() -> None:
    new = decide(state(1, (1, 2, 3)), facts(2, 3))
    assert (new.leader, new.leader_epoch, new.isr, new.elr) == (2, 6, (2, 3), ())


def test_dead_follower_leaves_without_a_new_epoch() -> None:
    new = decide(state(1, (1, 2, 3)), facts(1, 3))
    assert (new.leader, new.leader_epoch, new.isr) == (1, 5, (1, 3))


def test_below_min_isr_those_who_left_stay_eligible() -> None:
    new = decide(state(1, (1, 2)), facts(1))
    assert (new.leader, new.isr, new.elr) == (1, (1,), (2,))
    new = decide(new, facts())
    assert (new.leader, new.leader_epoch, new.isr, new.elr) == (-1, 6, (), (1, 2))
    new = decide(new, facts(2, 3))
    assert (new.leader, new.leader_epoch, new.isr, new.elr) == (2, 7, (2,), (1,))


def test_only_isr_and_elr_may_lead() -> None:
    assert decide(state(-1, (), (1,)), facts(2, 3)).leader == -1
    assert decide(state(-1, (), ()), facts(2, 3)).leader == -1


def test_unclean_election_is_marked() -> None:
    new = decide(state(-1, (), (1,)), facts(2, 3), unclean=True)
    assert (new.leader, new.isr, new.elr, new.recovering) == (2, (2,), (), True)


def test_lossy_replica_loses_its_eligibility() -> None:
    new = decide(state(1, (1, 2)), facts(2, lossy=(1,)))
    assert (new.leader, new.isr, new.elr) == (2, (2,), ())
    assert decide(state(-1, (), (1, 2)), facts(lossy=(1,))).elr == (2,)


def test_sole_replica_leads_again_and_is_marked_only_when_lossy() -> None:
    old = PartitionState(1, 5, (1,), (1,), 1)
    away = decide(old, facts())
    assert (away.leader, away.leader_epoch, away.elr) == (-1, 6, (1,))
    back = decide(away, facts(1))
    assert (back.leader, back.leader_epoch, back.isr, back.recovering) == (1, 7, (1,), False)
    lost = decide(away, facts(lossy=(1,)))
    assert lost.elr == ()
    back = decide(lost, facts(1))
    assert (back.leader, back.isr, back.recovering) == (1, (1,), True)


def test_broker_that_is_about_to_stop_hands_over() -> None:
    new = decide(state(1, (1, 2, 3)), facts(1, 2, 3, leaving=(1,)))
    assert (new.leader, new.leader_epoch, new.isr) == (2, 6, (2, 3))
    # Too few would remain: the leader moves, the replica stays in sync until it is gone.
    new = decide(state(1, (1, 2)), facts(1, 2, leaving=(1,)))
    assert (new.leader, new.isr) == (2, (1, 2))
    # Nobody else could lead.
    new = decide(state(1, (1,), (2,)), facts(1, leaving=(1,)))
    assert new.leader == 1


def test_offline_directory_counts_as_a_dead_replica() -> None:
    old = state(1, (1, 2, 3))._replace(dirs=("d1", "d2", "d3"))
    of = ClusterFacts(ALL, frozenset(), frozenset(), frozenset({"d1"}))
    new = desired(old, of, min_isr=2, unclean=False)
    assert (new.leader, new.isr) == (2, (2, 3))


def test_min_isr_is_capped_and_lowering_it_clears_the_elr_of_a_live_partition() -> None:
    assert decide(state(1, (1, 2, 3)), facts(1, 2, 3), min_isr=7).min_isr == 3
    lowered = decide(state(1, (1,), (2,)), facts(1), min_isr=1)
    assert (lowered.min_isr, lowered.elr) == (1, ())
    # Nobody commits while nobody leads, so the eligible stay eligible.
    lowered = decide(state(-1, (), (2,)), facts(), min_isr=1)
    assert (lowered.min_isr, lowered.elr) == (1, (2,))


replica_sets = st.sets(st.integers(1, 3))


@st.composite
def states(draw: st.DrawFn) -> PartitionState:
    min_isr = draw(st.integers(1, 3))
    isr = tuple(sorted(draw(replica_sets)))
    elr: tuple[int, ...] = ()
    if len(isr) < min_isr:
        elr = tuple(sorted(draw(replica_sets) - set(isr)))
        last = tuple(sorted(draw(replica_sets) - {*isr, *elr}))
    else:
        last = ()
    leader = draw(st.sampled_from([-1, *isr]))
    return PartitionState(leader, 5, isr, (1, 2, 3), min_isr, elr, last_eligible=last)


# Broker → whether it says that it is whole.
words = st.dictionaries(st.integers(1, 3), st.booleans())


@given(states(), replica_sets, replica_sets, replica_sets, st.integers(1, 3), st.booleans(), words)
def test_any_facts_any_state(
    old: PartitionState,
    active: set[int],
    leaving: set[int],
    lossy: set[int],
    min_isr: int,
    unclean: bool,
    said: dict[int, bool],
) -> None:
    ends = {b: LogEnd(ALL[b], old.leader_epoch, 5, 10 * b, is_whole) for b, is_whole in said.items()}
    of = ClusterFacts(
        {b: ALL[b] for b in sorted(active)}, frozenset(leaving & active), frozenset(lossy - active)
    )
    new = desired(old, of, min_isr=min_isr, unclean=unclean, ends=ends)
    new.check()
    assert desired(new, of, min_isr=min_isr, unclean=unclean, ends=ends) == new
    assert new.leader == old.leader or new.leader_epoch == old.leader_epoch + 1
    assert new.leader == -1 or new.leader in active
    assert set(new.isr) <= active
    assert not set(new.elr) & of.lossy
    if is_settled(old, of, min_isr):
        assert new == old
    if new.leader != -1 and not new.recovering:
        whole = [b for b in old.last_eligible if said.get(b)]
        assert new.leader in (*old.isr, *old.elr, *whole)
        assert new.leader in (*old.isr, *old.elr) or not {*new.isr, *new.elr} & {*old.isr, *old.elr} & active


def test_a_lower_min_isr_does_not_cost_the_eligible_their_place_when_the_leader_is_gone() -> None:
    """Found by the simulation: the record took the lower bound first and dropped the ELR, then the dead leader."""
    state = PartitionState(1, 3, (1,), (1, 2, 3), 2, elr=(3,))
    new = desired(state, ClusterFacts(active={3: 7}), min_isr=1, unclean=False)
    assert (new.leader, new.isr, new.min_isr) == (3, (3,), 1)
    led_on = desired(state, ClusterFacts(active={1: 5}), min_isr=1, unclean=False)
    assert (led_on.leader, led_on.isr, led_on.elr) == (1, (1,), ()), "it may commit alone from now on"


def test_who_leaves_for_possible_loss_is_remembered_as_long_as_the_elr_would() -> None:
    full = PartitionState(1, 3, (1, 2, 3), (1, 2, 3), 2)
    new = desired(full, ClusterFacts(active={2: 5, 3: 6}, lossy={1}), min_isr=2, unclean=False)
    assert (new.isr, new.last_eligible) == ((2, 3), ()), "those in sync go on without it"
    thin = desired(new, ClusterFacts(active={3: 6}, lossy={2}), min_isr=2, unclean=False)
    assert (thin.leader, thin.isr, thin.elr, thin.last_eligible) == (3, (3,), (), (2,))
    gone = desired(thin, ClusterFacts(active={}, lossy={3}), min_isr=2, unclean=False)
    assert (gone.leader, gone.elr, gone.last_eligible) == (-1, (), (2, 3))
    grown = with_isr(thin, (3, 1))
    assert (grown.isr, grown.last_eligible) == ((1, 3), ()), "what they commit, it does not have"
    lowered = desired(thin, ClusterFacts(active={3: 6}), min_isr=1, unclean=False)
    assert lowered.last_eligible == (), "its leader may commit alone from now on"
    kept = desired(gone, ClusterFacts(active={}), min_isr=1, unclean=False)
    assert kept.last_eligible == (2, 3), "nobody commits while nobody leads"
    assert desired(gone, ClusterFacts(active={1: 9, 2: 9}), min_isr=2, unclean=True).last_eligible == ()


def test_a_move_takes_the_memory_of_who_was_eligible_along() -> None:
    state = PartitionState(-1, 3, (), (1, 2, 3), 2, last_eligible=(2, 3))
    moved = with_replicas(state, (1, 2, 4, 3), (4,), (3,))
    assert moved.last_eligible == (2, 3)
    assert with_replicas(moved, (1, 2, 4), (), ()).last_eligible == (2,)
