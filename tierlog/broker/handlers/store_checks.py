"""Object stores and ladders that topics are to get (``tierlog.object.store``, ``tierlog.tiers``), tried before the
controller decides.

A request that is wrong anyway tries none: the controller is asked first what it would say.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tierlog.config.places import OBJECT_STORE
from tierlog.config.tiers import parse_tiers
from tierlog.errors import ErrorCode
from tierlog.metadata.control.configs import TOPIC, ConfigAlteration, ConfigOp
from tierlog.metadata.control.topics import NewTopic, TopicResult

if TYPE_CHECKING:
    from tierlog.broker.cluster.store_gate import StoreGate
    from tierlog.broker.handlers.services import Services

TIERS = "tierlog.tiers"


async def refused_topics(
    services: Services, topics: Sequence[NewTopic], *, claims: bool
) -> dict[str, TopicResult]:
    """Of those that name a store or a ladder, the ones that cannot be created with it, by name. ``claims``: whether the
    others are to be created."""
    naming = [topic for topic in topics if topic.configs.get(OBJECT_STORE) or topic.configs.get(TIERS)]
    gate = services.store_gate
    if not naming or gate is None:
        return {}
    results = await services.admin.create_topics(naming, validate_only=True)
    refused = {result.name: result for result in results if result.error is not ErrorCode.NONE}
    problems: dict[tuple[str, str], str | None] = {}
    for topic in naming:
        wish = topic.configs.get(OBJECT_STORE) or "", topic.configs.get(TIERS) or ""
        if topic.name in refused:
            continue
        if wish not in problems:
            problems[wish] = await _problem(gate, *wish, claims=claims)
        if problems[wish] is not None:
            error = ErrorCode.INVALID_CONFIG
            refused[topic.name] = TopicResult(topic.name, error=error, message=problems[wish])
    return refused


async def problem_of_alteration(
    services: Services, alteration: ConfigAlteration, *, claims: bool
) -> str | None:
    """Why a topic cannot get the store or the ladder that the alteration gives it, in one line; None too where it gives it
    none, or is refused for something else. ``claims``: whether it is to be altered."""
    gate = services.store_gate
    if gate is None or alteration.resource_type != TOPIC:
        return None
    topic = services.image.topic(alteration.name)
    if topic is None or topic.record is None:
        return None
    configs = services.image.configs_of_topic(topic.name)
    has = topic.record.store, configs.get(TIERS, "")
    url, tiers = (
        _after(name, before, alteration) for name, before in zip((OBJECT_STORE, TIERS), has, strict=True)
    )
    if (url, tiers) == has:
        return None
    problem = await gate.problem_of_change(topic) if url != has[0] else None
    if problem is not None:
        return problem
    (result,) = await services.admin.alter_configs([alteration], validate_only=True)
    if result.error is not ErrorCode.NONE:
        return None
    return await _problem(gate, url, tiers, claims=claims, is_new=url != has[0])


async def _problem(gate: StoreGate, url: str, tiers: str, *, claims: bool, is_new: bool = True) -> str | None:
    problem = await gate.problem_of(url, claims=claims) if url and is_new else None
    if problem is None and tiers and claims:
        problem = await gate.problem_of_classes(url, parse_tiers(tiers))
    return problem


def _after(name: str, before: str, alteration: ConfigAlteration) -> str:
    """The topic's own value of a config behind the alteration; empty: none."""
    value = "" if alteration.replace_all else before
    for operation in alteration.operations:
        if operation.name == name:
            value = (operation.value or "") if operation.op is ConfigOp.SET else ""
    return value
