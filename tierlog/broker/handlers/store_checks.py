"""Object stores that topics are to get (``tierlog.object.store``), tried before the controller decides.

A request that is wrong anyway tries none: the controller is asked first what it would say.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tierlog.config.places import OBJECT_STORE
from tierlog.errors import ErrorCode
from tierlog.metadata.control.configs import TOPIC, ConfigAlteration, ConfigOp
from tierlog.metadata.control.topics import NewTopic, TopicResult

if TYPE_CHECKING:
    from tierlog.broker.handlers.services import Services


async def refused_topics(
    services: Services, topics: Sequence[NewTopic], *, claims: bool
) -> dict[str, TopicResult]:
    """Of those that name a store, the ones that cannot be created with it, by name."""
    naming = [topic for topic in topics if topic.configs.get(OBJECT_STORE)]
    gate = services.store_gate
    if not naming or gate is None:
        return {}
    results = await services.admin.create_topics(naming, validate_only=True)
    refused = {result.name: result for result in results if result.error is not ErrorCode.NONE}
    problems: dict[str, str | None] = {}
    for topic in naming:
        url = topic.configs.get(OBJECT_STORE) or ""
        if topic.name in refused:
            continue
        if url not in problems:
            problems[url] = await gate.problem_of(url, claims=claims)
        if problems[url] is not None:
            error = ErrorCode.INVALID_CONFIG
            refused[topic.name] = TopicResult(topic.name, error=error, message=problems[url])
    return refused


async def problem_of_alteration(
    services: Services, alteration: ConfigAlteration, *, claims: bool
) -> str | None:
    """Why a topic cannot get the store that the alteration gives it, in one line; None too where it gives it none, or is
    refused for something else."""
    gate = services.store_gate
    if gate is None or alteration.resource_type != TOPIC:
        return None
    topic = services.image.topic(alteration.name)
    if topic is None or topic.record is None:
        return None
    has = topic.record.store
    url = _store_after(has, alteration)
    if url == has:
        return None
    problem = await gate.problem_of_change(topic)
    if problem is not None or not url:
        return problem
    (result,) = await services.admin.alter_configs([alteration], validate_only=True)
    if result.error is not ErrorCode.NONE:
        return None
    return await gate.problem_of(url, claims=claims)


def _store_after(has: str, alteration: ConfigAlteration) -> str:
    url = "" if alteration.replace_all else has
    for operation in alteration.operations:
        if operation.name == OBJECT_STORE:
            url = (operation.value or "") if operation.op is ConfigOp.SET else ""
    return url
