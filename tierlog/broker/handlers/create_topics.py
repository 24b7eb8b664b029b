"""CreateTopics (key 19), versions 2-7.

Behaviour: each topic succeeds or fails by itself. When the answer comes, the topic exists, and this broker already leads
its share of the partitions. ``validate_only`` checks and changes nothing. -1 partitions or replicas mean the broker's
defaults from version 4 on (KIP-464).

Versions: the answer has the topic's effective configs from 5 on (KIP-525), its id from 7 on.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from tierlog.broker.handlers.excess import ERROR, MESSAGE, distinct_names
from tierlog.broker.handlers.store_checks import refused_topics
from tierlog.broker.network.context import RequestContext
from tierlog.broker.work.slices import Steps, in_slices
from tierlog.config.describe import describe_topic
from tierlog.errors import ErrorCode
from tierlog.metadata.control.topics import NewTopic, TopicResult
from tierlog.wire.lazily import lazily
from tierlog.wire.messages.create_topics import (
    CreatableTopic,
    CreatableTopicConfigs,
    CreatableTopicResult,
    CreateTopicsRequest,
    CreateTopicsResponse,
)

if TYPE_CHECKING:
    from tierlog.broker.handlers.services import Services


CONFIGS_SINCE = 5


async def handle(
    services: Services, ctx: RequestContext, request: CreateTopicsRequest
) -> CreateTopicsResponse:
    topics = [described(topic) async for topic in in_slices(request.topics)]
    refused = await refused_topics(services, topics, claims=not request.validate_only)
    created = await services.admin.create_topics(
        [topic for topic in topics if topic.name not in refused] if refused else topics,
        validate_only=request.validate_only,
        timeout_ms=request.timeout_ms,
    )
    results = [*created, *refused.values()]
    await services.replicas.settled()
    tells_configs = ctx.api_version >= CONFIGS_SINCE
    # Each topic has some thirty configs: only one topic's are in memory at a time.
    return CreateTopicsResponse(
        topics=lazily(len(results), lambda: (answer(services, result, tells_configs) for result in results))
    )


def described(topic: CreatableTopic) -> NewTopic:
    return NewTopic(
        topic.name,
        topic.num_partitions,
        topic.replication_factor,
        assignments=[(asked.partition_index, asked.broker_ids) for asked in topic.assignments],
        configs={config.name: config.value for config in topic.configs},
    )


def answer(services: Services, result: TopicResult, tells_configs: bool) -> CreatableTopicResult:
    if result.error:
        return CreatableTopicResult(name=result.name, error_code=result.error, error_message=result.message)
    return CreatableTopicResult(
        name=result.name,
        topic_id=result.topic_id,
        error_message=None,
        topic_config_error_code=ErrorCode.NONE,
        num_partitions=result.partition_count,
        replication_factor=result.replication_factor,
        configs=[
            CreatableTopicConfigs(
                name=entry.name,
                value=entry.value,
                read_only=entry.is_read_only,
                config_source=entry.source,
                is_sensitive=entry.is_sensitive,
            )
            for entry in (describe_topic(result.configs, services.config) if tells_configs else ())
        ],
    )


def items(request: CreateTopicsRequest) -> Iterator[int]:
    yield len(request.topics)
    for topic in request.topics:
        yield len(topic.assignments) + len(topic.configs)
        yield sum([len(asked.broker_ids) for asked in topic.assignments])


def refuse(request: CreateTopicsRequest) -> Steps[CreateTopicsResponse]:
    names = yield from distinct_names(request.topics)
    return CreateTopicsResponse(
        topics=lazily(
            len(names),
            lambda: (
                CreatableTopicResult(name=name, error_code=ERROR, error_message=MESSAGE) for name in names
            ),
        )
    )
