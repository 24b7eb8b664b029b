"""The current leader, sent with NOT_LEADER_OR_FOLLOWER and FENCED_LEADER_EPOCH (KIP-951), so that a client need not ask.

It is sent only where this broker's image names another broker as leader: in Produce from version 10 on, Fetch from 16 on.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from tierlog.errors import ErrorCode
from tierlog.wire.messages import fetch, produce

if TYPE_CHECKING:
    from tierlog.metadata.image import MetadataImage, TopicImage

PRODUCE_SINCE = 10
PRODUCE_BY_ID_SINCE = 13
FETCH_SINCE = 16
_MOVED = (ErrorCode.NOT_LEADER_OR_FOLLOWER, ErrorCode.FENCED_LEADER_EPOCH)


class Node(NamedTuple):
    """A broker as clients of one listener reach it."""

    node_id: int
    host: str
    port: int
    rack: str | None


def leader_elsewhere(broker_id: int, topic: TopicImage | None, partition: int) -> tuple[int, int] | None:
    """(leader, leader epoch) where the image names another broker."""
    state = None if topic is None else topic.partitions.get(partition)
    if state is None or state.leader in (-1, broker_id):
        return None
    return state.leader, state.leader_epoch


def nodes(image: MetadataImage, listener: str, broker_ids: set[int]) -> Iterator[Node]:
    """The brokers of ``broker_ids`` that the listener's clients can reach."""
    for broker_id in sorted(broker_ids):
        broker = image.brokers.get(broker_id)
        registration = None if broker is None else broker.registration
        if registration is not None and (endpoint := registration.endpoint_on(listener)) is not None:
            yield Node(broker_id, endpoint.host, endpoint.port, registration.rack)


def hint_produce(
    image: MetadataImage, broker_id: int, version: int, listener: str, response: produce.ProduceResponse
) -> None:
    """Fills in the hints where the version has fields for them; for an answer with errors."""
    if version < PRODUCE_SINCE:
        return
    leaders: set[int] = set()
    by_id = version >= PRODUCE_BY_ID_SINCE
    for answered in response.responses:
        topic = image.topics_by_id.get(answered.topic_id) if by_id else image.topic(answered.name)
        for entry in answered.partition_responses:
            if entry.error_code in _MOVED and (found := leader_elsewhere(broker_id, topic, entry.index)):
                leader_id, epoch = found
                entry.current_leader = produce.LeaderIdAndEpoch(leader_id=leader_id, leader_epoch=epoch)
                leaders.add(leader_id)
    response.node_endpoints = [
        produce.NodeEndpoint(node_id=n.node_id, host=n.host, port=n.port, rack=n.rack)
        for n in nodes(image, listener, leaders)
    ]


def hint_fetch(image: MetadataImage, broker_id: int, listener: str, response: fetch.FetchResponse) -> None:
    """Fills in the hints; for versions with topic ids only."""
    leaders: set[int] = set()
    for answered in response.responses:
        topic = image.topics_by_id.get(answered.topic_id)
        for data in answered.partitions:
            if data.error_code in _MOVED and (
                found := leader_elsewhere(broker_id, topic, data.partition_index)
            ):
                leader_id, epoch = found
                data.current_leader = fetch.LeaderIdAndEpoch(leader_id=leader_id, leader_epoch=epoch)
                leaders.add(leader_id)
    if leaders:
        response.node_endpoints = [
            fetch.NodeEndpoint(node_id=n.node_id, host=n.host, port=n.port, rack=n.rack)
            for n in nodes(image, listener, leaders)
        ]
