"""IncrementalAlterConfigs (key 44), versions 0-1: sets, deletes, appends to and subtracts from configs
(KIP-339).

Behaviour: each resource succeeds or fails by itself and as a whole; a resource that is named twice fails
twice. When the answer comes, the change is in this broker's image. ``validate_only`` checks and changes
nothing. Topics and brokers can be altered; logger levels, client metrics and groups are refused, since a
change would have no effect.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from tierlog.broker.handlers.describe_configs import ResourceType
from tierlog.broker.handlers.excess import ERROR, MESSAGE
from tierlog.broker.handlers.store_checks import problem_of_alteration
from tierlog.broker.network.context import RequestContext
from tierlog.broker.work.slices import in_slices
from tierlog.config.dynamic import not_dynamic, thread_problem, validate_broker_configs
from tierlog.errors import ErrorCode
from tierlog.metadata.control.configs import ConfigAlteration, ConfigOp, ConfigOperation
from tierlog.metadata.rules import current_config
from tierlog.wire.lazily import lazily
from tierlog.wire.messages.incremental_alter_configs import (
    AlterConfigsResource,
    AlterConfigsResourceResponse,
    IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse,
)

if TYPE_CHECKING:
    from tierlog.broker.handlers.services import Services
    from tierlog.wire.messages.alter_configs import AlterConfigsRequest

_RESOURCES = {ResourceType.TOPIC: "topic", ResourceType.BROKER: "broker"}


class Outcome(NamedTuple):
    error: ErrorCode
    message: str | None = None


async def handle(
    services: Services, ctx: RequestContext, request: IncrementalAlterConfigsRequest
) -> IncrementalAlterConfigsResponse:
    asked = [_alteration(services, resource) async for resource in in_slices(request.resources)]
    outcomes = await alter(
        services,
        [(resource.resource_type, resource.resource_name) for resource in request.resources],
        asked,
        request.validate_only,
    )
    return IncrementalAlterConfigsResponse(
        responses=[
            AlterConfigsResourceResponse(
                error_code=outcome.error,
                error_message=outcome.message,
                resource_type=resource.resource_type,
                resource_name=resource.resource_name,
            )
            for resource, outcome in zip(request.resources, outcomes, strict=True)
        ]
    )


async def alter(
    services: Services,
    resources: Sequence[tuple[int, str]],
    asked: Sequence[ConfigAlteration | Outcome],
    validate_only: bool,
) -> list[Outcome]:
    """Returns one outcome per resource, in order. An element of ``asked`` that is an ``Outcome`` is already refused."""
    times = Counter(resources)
    outcomes = [
        Outcome(ErrorCode.INVALID_REQUEST, "Each resource must appear at most once.")
        if times[resource] > 1
        else item
        for resource, item in zip(resources, asked, strict=True)
    ]
    for number, item in enumerate(outcomes):
        if isinstance(item, ConfigAlteration):
            problem = await problem_of_alteration(services, item, claims=not validate_only)
            if problem is not None:
                outcomes[number] = Outcome(ErrorCode.INVALID_CONFIG, problem)
    alterations = [item for item in outcomes if isinstance(item, ConfigAlteration)]
    results = iter(
        await services.admin.alter_configs(alterations, validate_only=validate_only) if alterations else ()
    )
    final: list[Outcome] = []
    for item in outcomes:
        if isinstance(item, ConfigAlteration):
            result = next(results)
            final.append(Outcome(result.error, result.message))
        else:
            final.append(item)
    return final


def checked(
    services: Services,
    resource: tuple[int, str],
    operations: Sequence[ConfigOperation],
    *,
    replace_all: bool,
) -> ConfigAlteration | Outcome:
    """The alteration of one resource, or the outcome that refuses it."""
    kind, name = resource
    if kind == ResourceType.TOPIC and name == "":
        return Outcome(ErrorCode.INVALID_REQUEST, "Default topic resources are not allowed.")
    if kind == ResourceType.BROKER and (name == "" or name.isdecimal()):
        # As in Kafka, a broker's wrong configs are INVALID_REQUEST, a topic's INVALID_CONFIG.
        problem = _broker_problem(services, name, operations)
        if problem is not None:
            return Outcome(ErrorCode.INVALID_REQUEST, problem)
    if kind not in _RESOURCES:
        return _unalterable(kind, name)
    return ConfigAlteration(_RESOURCES[ResourceType(kind)], name, operations, replace_all)


def _broker_problem(services: Services, name: str, operations: Sequence[ConfigOperation]) -> str | None:
    kept = [operation for operation in operations if operation.op is not ConfigOp.DELETE]
    fixed = not_dynamic((operation.name for operation in kept), of_all_brokers=name == "")
    if fixed is not None:
        return fixed
    # The controller checks the lists that result from APPEND and SUBTRACT.
    values = {operation.name: operation.value for operation in kept if operation.op is ConfigOp.SET}
    problems = validate_broker_configs(values, broker=services.config)
    return "; ".join(problems) or thread_problem(values, current_config(services.config, services.image))


def _unalterable(kind: int, name: str) -> Outcome:
    match kind:
        case ResourceType.BROKER_LOGGER:
            return Outcome(ErrorCode.INVALID_CONFIG, "Log levels cannot be changed while the broker runs.")
        case ResourceType.CLIENT_METRICS:
            return Outcome(ErrorCode.INVALID_CONFIG, "Client metrics are not supported yet.")
        case ResourceType.GROUP:
            return Outcome(ErrorCode.INVALID_CONFIG, "Configs of groups are not supported yet.")
    return Outcome(ErrorCode.INVALID_REQUEST, f"Unknown resource type {kind}")


def _alteration(services: Services, resource: AlterConfigsResource) -> ConfigAlteration | Outcome:
    operations = []
    for config in resource.configs:
        if config.config_operation not in ConfigOp.__members__.values():
            return Outcome(ErrorCode.INVALID_REQUEST, f"Unknown operation {config.config_operation}")
        operations.append(ConfigOperation(config.name, ConfigOp(config.config_operation), config.value))
    return checked(services, (resource.resource_type, resource.resource_name), operations, replace_all=False)


def items(request: IncrementalAlterConfigsRequest | AlterConfigsRequest) -> Iterator[int]:
    yield len(request.resources)
    for resource in request.resources:
        yield len(resource.configs)


def refuse(request: IncrementalAlterConfigsRequest) -> IncrementalAlterConfigsResponse:
    resources = request.resources
    return IncrementalAlterConfigsResponse(
        responses=lazily(
            len(resources),
            lambda: (
                AlterConfigsResourceResponse(
                    error_code=ERROR,
                    error_message=MESSAGE,
                    resource_type=resource.resource_type,
                    resource_name=resource.resource_name,
                )
                for resource in resources
            ),
        )
    )
