"""Counters of copying, reading and deleting in the object store: KIP-405's names per topic, our own per
request.

Bind a topic's counters once per partition (``TierCounters.topic``) and add to them.
"""

from __future__ import annotations

from tierlog.telemetry.metrics import Counter, Family, Registry

_PREFIX = "kafka_server_brokertopicmetrics_"
_NAMES = {
    "copy_bytes": ("remotecopybytes_total", "Bytes copied to the object store."),
    "copy_requests": ("remotecopyrequests_total", "Copies of segments that were begun."),
    "copy_errors": ("remotecopyerrors_total", "Copies of segments that failed."),
    "fetch_requests": ("remotefetchrequests_total", "Reads of remote data for fetches."),
    "fetch_errors": ("remotefetcherrors_total", "Reads of remote data that failed."),
    "delete_requests": ("remotedeleterequests_total", "Deletions of remote segments that were begun."),
    "delete_errors": ("remotedeleteerrors_total", "Deletions of remote segments that failed."),
}


class TopicTierCounters:
    """The counters of one topic."""

    __slots__ = tuple(_NAMES)

    copy_bytes: Counter
    copy_requests: Counter
    copy_errors: Counter
    fetch_requests: Counter
    fetch_errors: Counter
    delete_requests: Counter
    delete_errors: Counter

    def __init__(self, families: dict[str, Family[Counter]], topic: str) -> None:
        for attribute, family in families.items():
            setattr(self, attribute, family.labels(topic))


class TierCounters:
    """All topics; ``remove`` ends the series of a deleted one."""

    def __init__(self, registry: Registry) -> None:
        self._families = {
            attribute: registry.counter(_PREFIX + name, help_text, ("topic",))
            for attribute, (name, help_text) in _NAMES.items()
        }
        self._topics: dict[str, TopicTierCounters] = {}
        self.requests = registry.counter(
            "tierlog_object_requests_total", "Requests to the object store.", ("verb", "outcome")
        )
        self.request_bytes = registry.counter(
            "tierlog_object_bytes_total", "Bytes to and from the object store.", ("direction",)
        )

    def topic(self, topic: str) -> TopicTierCounters:
        counters = self._topics.get(topic)
        if counters is None:
            counters = self._topics[topic] = TopicTierCounters(self._families, topic)
        return counters

    def remove(self, topic: str) -> None:
        self._topics.pop(topic, None)
        for family in self._families.values():
            family.remove(topic)
