"""Consumer groups under kafka_exporter's names, reported by the broker that coordinates them.

The broker passes in ``GroupRow``s, which the first family reads once per scrape. The lag of a partition is reported
only when this broker knows its high watermark, that is, when it leads it; otherwise the series is left out, since it
would be wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from tierlog.telemetry.metrics import Labels, Registry, Sample


class GroupOffset(NamedTuple):
    """``committed_offset``: the next offset to read. ``high_watermark``: exclusive; None when another broker leads."""

    topic: str
    partition: int
    committed_offset: int
    high_watermark: int | None


class GroupRow(NamedTuple):
    group_id: str
    state: str
    member_count: int
    offsets: Sequence[GroupOffset]


class GroupMetrics:
    """Registers the families; ``read`` may be a generator over a snapshot."""

    def __init__(self, registry: Registry, read: Callable[[], Iterable[GroupRow]]) -> None:
        self._read = read
        self._rows: list[GroupRow] = []
        registry.source("kafka_consumergroup_members", "gauge", "Members of the group.", self._members)
        registry.source(
            "kafka_consumergroup_current_offset", "gauge", "Committed offset of the group.", self._offsets
        )
        registry.source(
            "kafka_consumergroup_lag",
            "gauge",
            "Records between the committed offset and the end.",
            self._lags,
        )
        registry.source(
            "kafka_consumergroup_lag_sum", "gauge", "The lag over all partitions.", self._lag_sums
        )
        registry.source(
            "kafka_coordinator_group_groupmetadatamanager_numgroups",
            "gauge",
            "Groups that are coordinated here, by state.",
            self._states,
        )

    def _members(self) -> Iterator[Sample]:
        rows: list[GroupRow] = []
        for row in self._read():
            rows.append(row)
            yield Sample("", (("consumergroup", row.group_id),), row.member_count)
        self._rows = rows

    def _each(self) -> Iterator[tuple[Labels, GroupOffset]]:
        for row in self._rows:
            for offset in row.offsets:
                labels = (
                    ("consumergroup", row.group_id),
                    ("topic", offset.topic),
                    ("partition", str(offset.partition)),
                )
                yield labels, offset

    def _offsets(self) -> Iterator[Sample]:
        for labels, offset in self._each():
            yield Sample("", labels, offset.committed_offset)

    def _lags(self) -> Iterator[Sample]:
        for labels, offset in self._each():
            if offset.high_watermark is not None:
                yield Sample("", labels, max(0, offset.high_watermark - offset.committed_offset))

    def _lag_sums(self) -> Iterator[Sample]:
        for row in self._rows:
            sums: dict[str, int] = {}
            for offset in row.offsets:
                if offset.high_watermark is not None:
                    lag = max(0, offset.high_watermark - offset.committed_offset)
                    sums[offset.topic] = sums.get(offset.topic, 0) + lag
            for topic, lag in sums.items():
                yield Sample("", (("consumergroup", row.group_id), ("topic", topic)), lag)

    def _states(self) -> Iterator[Sample]:
        states: dict[str, int] = {}
        for row in self._rows:
            states[row.state] = states.get(row.state, 0) + 1
        yield Sample("", (), len(self._rows))
        for state, count in sorted(states.items()):
            yield Sample("", (("state", state),), count)
