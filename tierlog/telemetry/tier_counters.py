"""Counters of copies, reads and deletes in the object store, per topic and over all topics, under the
names of KIP-405.

Bind a topic's counters once per partition (``bind``), add to them, ``release`` them when this broker no longer leads the
partition, or no longer reads its tier as a follower. Invariant: the totals over all topics never go back; the series of a
topic ends with its last partition.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import partial

from tierlog.telemetry.metrics import Registry, Sample

_PREFIX = "kafka_server_brokertopicmetrics_"
_NAMES = {
    "copy_bytes": ("remotecopybytes_total", "Bytes copied to the object store."),
    "copy_requests": ("remotecopyrequests_total", "Copies of segments that were begun."),
    "copy_errors": ("remotecopyerrors_total", "Copies of segments that failed."),
    "fetch_requests": ("remotefetchrequests_total", "Reads of remote data for fetches."),
    "fetch_errors": ("remotefetcherrors_total", "Reads of remote data that failed."),
    "delete_requests": ("remotedeleterequests_total", "Deletions of remote segments that were begun."),
    "delete_errors": ("remotedeleteerrors_total", "Deletions of remote segments that failed."),
    "segments_repaired": (
        "remotesegmentsrepaired_total",
        "Local segments that had gone bad and were made anew from another replica.",
    ),
    "segments_set_aside": (
        "remotesegmentssetaside_total",
        "Local segments that had gone bad and that no replica had: their damaged batches are gone for readers.",
    ),
    "class_moves": ("remoteclassmoves_total", "Remote segments that were moved into a colder storage class."),
    "class_move_bytes": ("remoteclassmovebytes_total", "Their bytes."),
    "class_move_errors": ("remoteclassmoveerrors_total", "Such moves that failed."),
    "orphans_deleted": ("remoteorphansdeleted_total", "Objects deleted that were never committed."),
}


@dataclass(slots=True)
class TopicTierCounters:
    """The counters of one topic: add to them."""

    copy_bytes: int = 0
    copy_requests: int = 0
    copy_errors: int = 0
    fetch_requests: int = 0
    fetch_errors: int = 0
    delete_requests: int = 0
    delete_errors: int = 0
    class_moves: int = 0
    class_move_bytes: int = 0
    class_move_errors: int = 0
    orphans_deleted: int = 0
    segments_repaired: int = 0
    segments_set_aside: int = 0
    partition_count: int = 0
    """Partitions that hold these counters."""


class TierCounters:
    """All topics with a partition that is led here, or whose tier is read here."""

    def __init__(self, registry: Registry) -> None:
        assert set(_NAMES) < {field.name for field in fields(TopicTierCounters)}
        self._topics: dict[str, TopicTierCounters] = {}
        self._gone = TopicTierCounters()
        for attribute, (name, help_text) in _NAMES.items():
            registry.source(_PREFIX + name, "counter", help_text, partial(self._samples, attribute))

    def bind(self, topic: str) -> TopicTierCounters:
        """The counters of the topic for one more of its partitions."""
        counters = self._topics.setdefault(topic, TopicTierCounters())
        counters.partition_count += 1
        return counters

    def release(self, topic: str) -> None:
        """One of its partitions is no longer led or read here."""
        counters = self._topics[topic]
        counters.partition_count -= 1
        if not counters.partition_count:
            del self._topics[topic]
            for attribute in _NAMES:
                grown = getattr(self._gone, attribute) + getattr(counters, attribute)
                setattr(self._gone, attribute, grown)

    def total(self, attribute: str) -> int:
        """The sum over all topics, since the start."""
        rows = (self._gone, *self._topics.values())
        return sum(int(getattr(row, attribute)) for row in rows)

    def _samples(self, attribute: str) -> Iterator[Sample]:
        yield Sample("", (), self.total(attribute))
        for topic, counters in list(self._topics.items()):
            yield Sample("", (("topic", topic),), getattr(counters, attribute))
