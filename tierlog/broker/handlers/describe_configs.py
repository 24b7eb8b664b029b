"""DescribeConfigs (key 32), versions 1-4: the configs of topics, brokers and the other resources of Kafka
4.4.

Behaviour: each resource is answered by itself. ``configuration_keys`` is a filter: an empty or null one means all configs,
as in Kafka, and unknown names are left out. A broker answers for itself, or, with an empty name, for the dynamic defaults of
all brokers. Logger levels cannot be changed at run time, so BROKER_LOGGER shows none. GROUP and CLIENT_METRICS show Kafka's
defaults for any name. Passwords and plugin settings have a null value.

Versions: synonyms on request from 1 on; types from 3 on, documentation on request from 3 on.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

from tierlog.broker.network.context import RequestContext
from tierlog.broker.work.slices import Steps
from tierlog.config import describe
from tierlog.config.broker import BrokerConfig
from tierlog.errors import ErrorCode
from tierlog.metadata.control.topics import topic_name_problem
from tierlog.metadata.image import MetadataImage
from tierlog.metadata.rules import current_config
from tierlog.wire.lazily import HEAVY, lazily
from tierlog.wire.messages.describe_configs import (
    DescribeConfigsRequest,
    DescribeConfigsResource,
    DescribeConfigsResourceResult,
    DescribeConfigsResponse,
    DescribeConfigsResult,
    DescribeConfigsSynonym,
)

if TYPE_CHECKING:
    from tierlog.broker.handlers.services import Services


class ResourceType(IntEnum):
    """Kafka's ConfigResource.Type."""

    TOPIC = 2
    BROKER = 4
    BROKER_LOGGER = 8
    CLIENT_METRICS = 16
    GROUP = 32


class _Refused(Exception):
    """Carries the error of one resource to its answer; never leaves this module."""

    def __init__(self, error: ErrorCode, message: str) -> None:
        super().__init__(message)
        self.error = error
        self.message = message


def handle(
    services: Services, ctx: RequestContext, request: DescribeConfigsRequest
) -> Steps[DescribeConfigsResponse]:
    broker = current_config(services.config, services.image)
    # A resource that is named twice is described once.
    distinct: dict[tuple[int, str], DescribeConfigsResource] = {}
    for named in request.resources:
        distinct[named.resource_type, named.resource_name] = named
        yield
    resources = list(distinct.values())
    # Each resource has a hundred rows: only one resource's are in memory at a time.
    return DescribeConfigsResponse(
        results=lazily(
            len(resources),
            lambda: (_described(services, broker, request, each) for each in resources),
            HEAVY,  # however few of its rows are asked for
        )
    )


def _described(
    services: Services,
    broker: BrokerConfig,
    request: DescribeConfigsRequest,
    resource: DescribeConfigsResource,
) -> DescribeConfigsResult:
    result = DescribeConfigsResult(resource_type=resource.resource_type, resource_name=resource.resource_name)
    try:
        entries = _entries(services.image, broker, resource.resource_type, resource.resource_name)
    except _Refused as refused:
        result.error_code, result.error_message = refused.error, refused.message
    else:
        keys = set(resource.configuration_keys or ())
        result.configs = [
            _answer(entry, request.include_synonyms, request.include_documentation)
            for entry in entries
            if not keys or entry.name in keys
        ]
    return result


def _entries(
    image: MetadataImage, broker: BrokerConfig, resource_type: int, name: str
) -> list[describe.ConfigEntry]:
    match resource_type:
        case ResourceType.TOPIC:
            return _topic_entries(image, broker, name)
        case ResourceType.BROKER:
            if name == "":
                return describe.describe_broker_default(broker)
            _check_broker(name, broker, "expected {} or empty string, but received {}")
            return describe.describe_broker(broker)
        case ResourceType.BROKER_LOGGER:
            if name == "":
                raise _Refused(ErrorCode.INVALID_REQUEST, "Broker id must not be empty")
            _check_broker(name, broker, "expected {} but received {}")
            return []
        case ResourceType.CLIENT_METRICS:
            if name == "":
                raise _Refused(
                    ErrorCode.INVALID_REQUEST, "Client metrics subscription name must not be empty"
                )
            return describe.describe_client_metrics()
        case ResourceType.GROUP:
            if name == "":
                raise _Refused(ErrorCode.INVALID_REQUEST, "Group name must not be empty")
            return describe.describe_group(broker)
        case _:
            raise _Refused(ErrorCode.INVALID_REQUEST, f"Unknown resource type {resource_type}")


def _topic_entries(image: MetadataImage, broker: BrokerConfig, name: str) -> list[describe.ConfigEntry]:
    problem = topic_name_problem(name)
    if problem is not None:
        raise _Refused(ErrorCode.INVALID_TOPIC_EXCEPTION, problem)
    topic = image.topic(name)
    if topic is None:
        raise _Refused(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, "")
    return describe.describe_topic(image.configs_of_topic(name), broker, len(topic.partitions[0].replicas))


def _check_broker(name: str, broker: BrokerConfig, sentence: str) -> None:
    if not name.isdecimal():
        raise _Refused(ErrorCode.INVALID_REQUEST, f"Broker id must be an integer, but it is: {name}")
    if int(name) != broker.node_id:
        expectation = sentence.format(broker.node_id, name)
        raise _Refused(ErrorCode.INVALID_REQUEST, f"Unexpected broker id, {expectation}")


def _answer(
    entry: describe.ConfigEntry, include_synonyms: bool, include_documentation: bool
) -> DescribeConfigsResourceResult:
    return DescribeConfigsResourceResult(
        name=entry.name,
        value=entry.value,
        read_only=entry.is_read_only,
        config_source=entry.source,
        is_sensitive=entry.is_sensitive,
        synonyms=[
            DescribeConfigsSynonym(name=synonym.name, value=synonym.value, source=synonym.source)
            for synonym in (entry.synonyms if include_synonyms else ())
        ],
        config_type=entry.type,
        documentation=(entry.documentation or None) if include_documentation else None,
    )
