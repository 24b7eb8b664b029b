"""Metrics of the requests: what they were for, what they asked, and of which topics. Read at a scrape."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

from tiering.metering.accounts import Accounts
from tierlog.telemetry.metrics import Labels, Registry, Sample


def register(registry: Registry, accounts: Accounts, name_of: Callable[[str], str]) -> None:
    """Registers all families; once per broker. ``name_of``: topic id, as in keys → name; empty for one that is gone, whose
    count goes too."""

    def requests() -> Iterator[Sample]:
        for total, sums in accounts.totals.items():
            yield Sample("", _labels(*total), sums.requests)

    def failed() -> Iterator[Sample]:
        for total, sums in accounts.totals.items():
            yield Sample("", _labels(*total), sums.failed)

    def moved() -> Iterator[Sample]:
        for total, sums in accounts.totals.items():
            for direction, size_bytes in (("sent", sums.sent_bytes), ("received", sums.received_bytes)):
                if size_bytes:
                    yield Sample("", (*_labels(*total), ("direction", direction)), size_bytes)

    def of_topics() -> Iterator[Sample]:
        names = {topic_id: name_of(topic_id) for topic_id, _, _ in accounts.by_topic}
        accounts.forget_topics(topic_id for topic_id, name in names.items() if not name)
        counts: Counter[Labels] = Counter()
        for (topic_id, operation, cause), count in accounts.by_topic.items():
            counts[("topic", names[topic_id]), ("operation", operation), ("cause", cause)] += count
        for labels, count in counts.items():  # of one name there may be a topic and a tombstone
            yield Sample("", labels, count)

    name = "tierlog_object_store_"
    registry.source(
        name + "requests_total", "counter", "HTTP requests to the object store, retries counted.", requests
    )
    registry.source(
        name + "failed_requests_total", "counter", "Those that were not answered with success.", failed
    )
    registry.source(
        name + "moved_bytes_total",
        "counter",
        "Bytes of objects in the bodies of requests and answers.",
        moved,
    )
    registry.source(
        "tierlog_remote_topic_requests_total",
        "counter",
        "HTTP requests to the object store about one topic.",
        of_topics,
    )
    registry.value(
        name + "unplaced_requests_total",
        "counter",
        "Requests that the ledger has under no topic and cause: too many accounts in one hour.",
        lambda: accounts.folded_count,
    )


def _labels(operation: str, cause: str, storage_class: str) -> Labels:
    return (("operation", operation), ("cause", cause), ("storage_class", storage_class))
