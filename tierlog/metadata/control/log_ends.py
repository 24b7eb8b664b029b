"""Which partitions wait for this broker to report its log end (see ``election``), and under which leader epoch.

A report is valid for one registration and one leader epoch: a partition without a leader takes no writes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from tierlog.metadata.control.election import waits_for_log_ends
from tierlog.metadata.image import MetadataImage

EMPTY_LOG_EPOCH = -1


class Unsaid(NamedTuple):
    """A partition for which this registration has not reported a log end under the present leader epoch."""

    topic_id: bytes
    partition: int
    leader_epoch: int


def unsaid_log_ends(image: MetadataImage, broker_id: int, broker_epoch: int) -> Iterator[Unsaid]:
    for topic in image.topics_by_id.values():
        for n, state in topic.partitions.items():
            if not waits_for_log_ends(state) or broker_id not in state.replicas:
                continue
            said = image.log_ends_of(topic.topic_id, n).get(broker_id)
            if said is None or (said.broker_epoch, said.leader_epoch) != (broker_epoch, state.leader_epoch):
                yield Unsaid(topic.topic_id, n, state.leader_epoch)
