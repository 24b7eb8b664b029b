"""The state that one partition should have, given which brokers are alive: the controller's rule for elections
(KIP-841, 966).

``desired`` is a function of facts, not of events, and ``desired(desired(x)) == desired(x)``. So the controller may
run it at any time and as often as it likes, and a new controller needs to know nothing of the old one.

Rules: a replica that is not active leaves the ISR; one that may have lost data leaves the ELR too. The leader is
chosen from the ISR. When the ISR is empty, it is chosen from the ELR, or from the replicas that left the ELR only
because they may have lost data (``last_eligible``) and have since proven that they are whole. Otherwise there is
no leader. Exceptions, all marked ``recovering``: a sole replica leads alone, since nobody else can hold the data;
when no replica is eligible any more (all have stopped uncleanly) and none is whole, the longest log leads once
every replica is back and has reported its log end; and ``unclean.leader.election.enable``. Each change of the
leader raises the leader epoch, also a change to no leader.

Why a replica that is whole may lead. A member of the ISR or of the ELR has everything that is committed, durably as
its ``flush.mode`` defines it. A2: a leader counts a follower no further than the follower counts itself. A3: the
high watermark passes no member of any ISR that the store may hold. The ELR fills only while the ISR is too small to
commit anything. ``last_eligible`` follows exactly the rules of the ELR: it is emptied when the ISR reaches
``min_isr``, and when ``min_isr`` falls while there is a leader. So a registration after an unclean stop takes only
one thing from a member: the certainty that all it had counted is still there. ``is_whole`` restores that certainty,
for one registration and one leader epoch (``replication.proof``). Each such replica has everything committed, so the
first one will do. The controller cannot tell what was lost for good: a replica that does not report that it is whole
is never elected this way.

A reassignment (KIP-455) is complete when every replica of the target is in the ISR. Then the replicas to be removed
leave, with a new leader epoch, so that no request of theirs counts any more. While it is under way, ``min_isr`` is
bounded by the smaller of the two replica sets: a partition must not refuse writes because it is being moved.

``recovering`` ends when every replica is in the ISR, since then no other replica can hold more; that of a sole
replica ends with its next clean election.

Invariants: M4 the leader epoch never falls, and grows with each change of the leader and with each replica
that is taken away. M5 a clean election picks from ISR ∪ ELR.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field

from tierlog.metadata.control.isr import with_isr
from tierlog.metadata.image import NO_LOG_ENDS, BrokerImage, MetadataImage
from tierlog.metadata.records import NO_LEADER, LogEnd, PartitionState


@dataclass(frozen=True, slots=True)
class ClusterFacts:
    """The facts that the rule uses. ``active``: broker → broker epoch, of the brokers that may be in an ISR.
    ``leaving``: active, but about to stop. ``lossy``: registered again after an unclean stop, and the controller has
    not dealt with that yet. ``offline_dirs``: log directory uuids."""

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
        has_dirs = not registration.dirs or not set(registration.dirs) <= set(registration.offline_dirs)
        if not broker.is_handled:
            if not is_lossless(broker):
                lossy.add(broker_id)
        elif broker.is_active and has_dirs and not registration.want_fence:
            active[broker_id] = broker.broker_epoch
            if registration.want_shut_down or (state is not None and state.shutting_down):
                leaving.add(broker_id)
    return ClusterFacts(active, leaving, lossy, offline_dirs)


def is_lossless(broker: BrokerImage) -> bool:
    """Whether the broker now reports no loss since the registration that the controller dealt with last. A broker
    that was never registered before has nothing to lose."""
    registration, state = broker.registration, broker.state
    assert registration is not None, broker
    return state is None or 0 < registration.lossless_since <= state.broker_epoch


def min_isr_bound(state: PartitionState) -> int:
    """Upper bound of ``min_isr``: the size of the target, or of the original assignment if that is smaller."""
    count = len(state.replicas)
    return min(count - len(state.adding), count - len(state.removing))


def is_settled(state: PartitionState, facts: ClusterFacts, min_isr: int) -> bool:
    """The fast test for "nothing to do", which most partitions of a full scan pass."""
    active = facts.active
    return (
        state.leader != NO_LEADER
        and state.leader in state.isr
        and not state.elr
        and not state.last_eligible
        and not state.adding
        and not state.removing
        and not state.recovering
        and not facts.leaving
        and not facts.offline_dirs
        and all(r in active for r in state.isr)
        and state.min_isr == min(min_isr, len(state.replicas))
    )


def desired(
    state: PartitionState,
    facts: ClusterFacts,
    *,
    min_isr: int,
    unclean: bool,
    since: PartitionState | None = None,
    ends: Mapping[int, LogEnd] = NO_LOG_ENDS,
) -> PartitionState:
    """``min_isr``: as configured. ``unclean``: ``unclean.leader.election.enable``. ``since``: the record from
    which an admin request made ``state``, where they differ; the new leader epoch must exceed its. ``ends``: the
    log ends that replicas reported."""
    since = state if since is None else since
    configured, min_isr = min_isr, max(1, min(min_isr, min_isr_bound(state)))
    # A higher min ISR applies before replicas leave, a lower one after. A leader that goes in this same record never
    # committed anything under the lower bound, so the eligible replicas stay eligible.
    new = _with_min_isr(state, max(min_isr, state.min_isr))
    isr = _remaining_isr(new, facts, min_isr)
    if isr != new.isr or any(r in facts.lossy for r in new.elr):
        new = with_isr(new, isr, facts.lossy)
    new = _with_reassignment_complete(new, configured)
    leader = _choose_leader(new, facts)
    if leader == NO_LEADER and not new.isr:
        new, leader = _elect_outside_isr(new, facts, unclean, ends)
        new = _with_reassignment_complete(new, configured)
    if len(new.replicas) > 1 and len(new.isr) == len(new.replicas):
        new = new._replace(recovering=False)
    new = new._replace(leader=leader, leader_epoch=since.leader_epoch)
    if leader != since.leader or not set(since.replicas) <= set(new.replicas):
        new = new._replace(leader_epoch=since.leader_epoch + 1)
    assert new.leader_epoch >= since.leader_epoch, "M4"
    assert new.recovering or new.leader in (NO_LEADER, *state.isr, *state.elr, *state.last_eligible), "M5"
    new.check()
    return new


def with_replicas(
    state: PartitionState, replicas: Sequence[int], adding: Sequence[int], removing: Sequence[int]
) -> PartitionState:
    """``state`` with another assignment: a replica outside of it is neither in sync nor eligible any more.
    ``desired`` then chooses the leader."""
    dirs: tuple[str, ...] = ()
    if state.dirs:
        known = dict(zip(state.replicas, state.dirs, strict=True))
        dirs = tuple(known.get(r, "") for r in replicas)
    return state._replace(
        replicas=tuple(replicas),
        dirs=dirs,
        adding=tuple(adding),
        removing=tuple(removing),
        isr=tuple(r for r in replicas if r in state.isr),
        elr=tuple(r for r in replicas if r in state.elr),
        last_eligible=tuple(r for r in replicas if r in state.last_eligible),
    )


def _with_reassignment_complete(state: PartitionState, configured_min_isr: int) -> PartitionState:
    """Ends the reassignment when the whole target is in sync. Sets ``min_isr`` to its right value either way."""
    if (state.adding or state.removing) and _target_is_in_sync(state):
        target = [r for r in state.replicas if r not in state.removing]
        state = with_replicas(state, target, (), ())
    return _with_min_isr(state, max(1, min(configured_min_isr, min_isr_bound(state))))


def _target_is_in_sync(state: PartitionState) -> bool:
    return all(r in state.isr or r in state.removing for r in state.replicas)


def _with_min_isr(state: PartitionState, min_isr: int) -> PartitionState:
    if min_isr == state.min_isr:
        return state
    # With a lower min ISR the leader may commit records that the ELR lacks; with an empty ISR nobody commits.
    keeps_elr = len(state.isr) < min_isr and (min_isr > state.min_isr or not state.isr)
    if not keeps_elr:
        state = state._replace(elr=(), last_eligible=())
    return state._replace(min_isr=min_isr)


def _is_online(state: PartitionState, replica: int, facts: ClusterFacts) -> bool:
    if replica not in facts.active:
        return False
    if not facts.offline_dirs or not state.dirs:
        return True
    return state.dirs[state.replicas.index(replica)] not in facts.offline_dirs


def _remaining_isr(state: PartitionState, facts: ClusterFacts, min_isr: int) -> tuple[int, ...]:
    """The ISR without replicas that are not online, and without those about to stop if enough others remain."""
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
    state: PartitionState, facts: ClusterFacts, unclean: bool, ends: Mapping[int, LogEnd]
) -> tuple[PartitionState, int]:
    """The ISR is empty: the new leader becomes its only member."""
    online = [r for r in state.replicas if _is_online(state, r, facts)]
    online.sort(key=lambda r: r in state.adding)  # an added replica, never complete so far, comes last
    told = {r: ends[r] for r in online if r in ends and _is_current(ends[r], state, facts.active[r])}
    eligible = [r for r in online if r in state.elr]
    eligible += [r for r in online if r in state.last_eligible and r in told and told[r].is_whole]
    if eligible:
        new = with_isr(state, (eligible[0],))
        return new._replace(recovering=state.recovering and len(state.replicas) > 1), eligible[0]
    # A sole survivor waits for eligible replicas that are only away, unless unclean elections are allowed.
    is_last_resort = not state.elr and len(told if len(state.replicas) > 1 else online) == len(state.replicas)
    if not online or not (unclean or is_last_resort):
        return state, NO_LEADER
    longest = _longest(online, told)
    new = with_isr(state, (longest,), lossy=state.replicas)
    return new._replace(recovering=True, elr=(), last_eligible=()), longest


def _longest(online: Sequence[int], told: Mapping[int, LogEnd]) -> int:
    """The longest log: by the epoch of the last record, then by log end offset. A log without a record has no epoch. All
    below its end offset was committed and has been deleted since, so a replica that ends before that lacks more."""
    floor = max((end.end_offset for end in told.values() if end.last_epoch < 0), default=0)
    reaching = [r for r in online if r in told and told[r].end_offset >= floor] or online
    return max(reaching, key=lambda r: (told[r].last_epoch, told[r].end_offset) if r in told else (-1, -1))


def _is_current(end: LogEnd, state: PartitionState, broker_epoch: int) -> bool:
    return end.broker_epoch == broker_epoch and end.leader_epoch == state.leader_epoch


def waits_for_log_ends(state: PartitionState) -> bool:
    """No replica is known to have everything committed, or those that have it stay away. So each replica must report
    its log end, and whether it is whole."""
    is_stuck = state.leader == NO_LEADER and not state.isr and len(state.replicas) > 1
    return is_stuck and (not state.elr or bool(state.last_eligible))
