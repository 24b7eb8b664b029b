"""What one partition's state should be, given which brokers are alive: the controller's rule for elections
(KIP-841, 966).

``desired`` is a function of facts, not of events, and ``desired(desired(x)) == desired(x)``: so the
controller may run it at any time, over anything, as often as it likes, and a new controller needs to know
nothing of the old one.

Rules: a replica that is not active leaves the ISR; one that may have lost data leaves the ELR too. The
leader is chosen from the ISR, or, when that is empty, from the ELR; otherwise there is none. Exceptions,
both marked ``recovering``: a sole replica leads alone, since nobody else can hold the data; and
``unclean.leader.election.enable``. Each change of the leader raises the leader epoch, also a change to
nobody.

Invariants: M4 the leader epoch never falls and grows with each change of the leader. M5 a clean election
picks from ISR ∪ ELR.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, field

from tierlog.metadata.image import BrokerImage, MetadataImage
from tierlog.metadata.isr import with_isr
from tierlog.metadata.records import NO_LEADER, PartitionState


@dataclass(frozen=True, slots=True)
class ClusterFacts:
    """What the rule looks at. ``active``: broker → broker epoch of those that may be in an ISR.
    ``leaving``: active, but about to stop. ``lossy``: registered again after an unclean stop and not yet
    dealt with. ``offline_dirs``: log directory uuids."""

    active: Mapping[int, int] = field(default_factory=dict)
    leaving: Set[int] = frozenset()
    lossy: Set[int] = frozenset()
    offline_dirs: Set[str] = frozenset()


def gather_facts(image: MetadataImage) -> ClusterFacts:
    active: dict[int, int] = {}
    leaving: set[int] = set()
    lossy: set[int] = set()
    offline_dirs: set[str] = set()
    for broker_id in sorted(image.brokers):
        broker = image.brokers[broker_id]
        registration, state = broker.registration, broker.state
        if registration is None:
            continue
        offline_dirs.update(registration.offline_dirs)
        if not broker.is_handled:
            if not is_lossless(broker):
                lossy.add(broker_id)
        elif broker.is_active and not registration.want_fence:
            active[broker_id] = broker.broker_epoch
            if registration.want_shut_down or (state is not None and state.shutting_down):
                leaving.add(broker_id)
    return ClusterFacts(active, leaving, lossy, offline_dirs)


def is_lossless(broker: BrokerImage) -> bool:
    """Whether the broker's data of the registration that was dealt with last is known to be whole now. A
    broker that never was here has nothing to lose."""
    registration, state = broker.registration, broker.state
    assert registration is not None, broker
    return state is None or 0 < registration.lossless_since <= state.broker_epoch


def is_settled(state: PartitionState, facts: ClusterFacts, min_isr: int) -> bool:
    """The fast way to "nothing to do", for the healthy majority of a full scan."""
    active = facts.active
    return (
        state.leader != NO_LEADER
        and state.leader in state.isr
        and not state.elr
        and not facts.leaving
        and not facts.offline_dirs
        and all(r in active for r in state.isr)
        and state.min_isr == min(min_isr, len(state.replicas))
    )


def desired(state: PartitionState, facts: ClusterFacts, *, min_isr: int, unclean: bool) -> PartitionState:
    """``min_isr``: as configured. ``unclean``: ``unclean.leader.election.enable``."""
    min_isr = max(1, min(min_isr, len(state.replicas)))
    # A higher bound holds before anybody leaves, a lower one after: what a leader that is gone by the same record could
    # have committed under the lower bound, it never did, so those who are eligible stay so.
    new = _with_min_isr(state, max(min_isr, state.min_isr))
    isr = _remaining_isr(new, facts, min_isr)
    if isr != new.isr or any(r in facts.lossy for r in new.elr):
        new = with_isr(new, isr, facts.lossy)
    new = _with_min_isr(new, min_isr)
    leader = _choose_leader(new, facts)
    if leader == NO_LEADER and not new.isr:
        new, leader = _elect_outside_isr(new, facts, unclean)
    if leader != state.leader:
        new = new._replace(leader=leader, leader_epoch=state.leader_epoch + 1)
    assert new.leader_epoch >= state.leader_epoch, "M4"
    assert new.recovering or new.leader in (NO_LEADER, *state.isr, *state.elr), "M5"
    new.check()
    return new


def _with_min_isr(state: PartitionState, min_isr: int) -> PartitionState:
    if min_isr == state.min_isr:
        return state
    # With a lower bound the leader may commit what those in the ELR do not have; with an empty ISR nobody commits.
    keeps_elr = len(state.isr) < min_isr and (min_isr > state.min_isr or not state.isr)
    return state._replace(min_isr=min_isr, elr=state.elr if keeps_elr else ())


def _is_online(state: PartitionState, replica: int, facts: ClusterFacts) -> bool:
    if replica not in facts.active:
        return False
    if not facts.offline_dirs or not state.dirs:
        return True
    return state.dirs[state.replicas.index(replica)] not in facts.offline_dirs


def _remaining_isr(state: PartitionState, facts: ClusterFacts, min_isr: int) -> tuple[int, ...]:
    """Without those that are not online, and without those about to stop where enough others remain."""
    isr = [r for r in state.isr if _is_online(state, r, facts)]
    for replica in [r for r in isr if r in facts.leaving]:
        if len(isr) - 1 >= min_isr:
            isr.remove(replica)
    return tuple(isr)


def _choose_leader(state: PartitionState, facts: ClusterFacts) -> int:
    staying = [r for r in state.replicas if r in state.isr and r not in facts.leaving]
    candidates = staying or [r for r in state.replicas if r in state.isr]
    if state.leader in candidates:
        return state.leader
    return candidates[0] if candidates else NO_LEADER


def _elect_outside_isr(
    state: PartitionState, facts: ClusterFacts, unclean: bool
) -> tuple[PartitionState, int]:
    """The ISR is empty: the new leader becomes its only member."""
    online = [r for r in state.replicas if _is_online(state, r, facts)]
    eligible = [r for r in online if r in state.elr]
    if eligible:
        return with_isr(state, (eligible[0],)), eligible[0]
    alone = len(state.replicas) == 1 or unclean
    # With eligible replicas that are only away, a sole survivor is not alone: it waits for them unless told otherwise.
    if online and alone and (unclean or not state.elr):
        new = with_isr(state, (online[0],), lossy=state.replicas)
        return new._replace(recovering=True, elr=()), online[0]
    return state, NO_LEADER
