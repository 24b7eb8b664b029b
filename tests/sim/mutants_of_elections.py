"""Broken variants of elections without proof, moves, elections on request, the image and generations of a group."""

from __future__ import annotations

from typing import Any

from tests.sim.mutation import method
from tierlog.coordination import shard
from tierlog.coordination.classic_group import ClassicGroup
from tierlog.errors import ErrorCode
from tierlog.metadata.control import controller, election, leadership, reassignment
from tierlog.metadata.image import MetadataImage, difference
from tierlog.metadata.records import LogEnd

# -- elections without proof


@method(controller, "desired")
def longest_by_offset_alone(original: Any, state: Any, facts: Any, **kwargs: Any) -> Any:
    ends = {broker: end._replace(last_epoch=0) for broker, end in kwargs["ends"].items()}
    return original(state, facts, **{**kwargs, "ends": ends})


@method(controller, "desired")
def silence_is_an_empty_log(original: Any, state: Any, facts: Any, **kwargs: Any) -> Any:
    """Who is back is not waited for until it has said how far its log goes."""
    silent = {b: LogEnd(epoch, state.leader_epoch, -1, 0) for b, epoch in facts.active.items()}
    return original(state, facts, **{**kwargs, "ends": {**silent, **kwargs["ends"]}})


@method(election, "_is_current")
def log_ends_of_old_registrations(original: Any, end: Any, state: Any, broker_epoch: int) -> bool:
    return bool(end.leader_epoch == state.leader_epoch)


@method(election, "_is_current")
def log_ends_of_old_leaderships(original: Any, end: Any, state: Any, broker_epoch: int) -> bool:
    return bool(end.broker_epoch == broker_epoch)


@method(controller, "desired")
def unproven_is_not_marked(original: Any, state: Any, facts: Any, **kwargs: Any) -> Any:
    return original(state, facts, **kwargs)._replace(recovering=False)


# -- moves and elections on request


@method(election, "_target_is_in_sync")
def moves_end_early(original: Any, state: Any) -> bool:
    return any(r in state.isr and r not in state.removing for r in state.replicas)


@method(controller, "desired")
def removal_keeps_the_leader_epoch(original: Any, state: Any, facts: Any, **kwargs: Any) -> Any:
    new = original(state, facts, **kwargs)
    return new._replace(leader_epoch=state.leader_epoch) if new.leader == state.leader else new


@method(reassignment, "_leaves_too_few")
def a_cancel_may_lose_all(original: Any, old: Any, changed: Any) -> bool:
    return False


@method(reassignment, "_leaves_too_few")
def a_cancel_may_leave_one(original: Any, old: Any, changed: Any) -> bool:
    """Kafka's rule: somebody is left."""
    return bool(old.isr or old.elr) and not (changed.isr or changed.elr)


@method(leadership, "_can_lead")
def preferred_is_not_in_sync(original: Any, facts: Any, state: Any) -> bool:
    return state.replicas[0] in facts.active


# -- the image


@method(MetadataImage, "replace")
def compaction_loses_changes(original: Any, self: MetadataImage, other: MetadataImage) -> Any:
    """After the watch has lost its place it goes on from the present, without what lies between."""
    self.revision = other.revision
    return difference(self, self)


# -- generations of a group


@method(shard, "commit_error")
def old_generations_commit(original: Any, *args: Any) -> ErrorCode:
    error: ErrorCode = original(*args)
    return ErrorCode.NONE if error is ErrorCode.ILLEGAL_GENERATION else error


@method(ClassicGroup, "from_metadata")
def generations_begin_anew(original: Any, *args: Any) -> Any:
    group = original(*args)
    group.generation_id = 0
    return group
