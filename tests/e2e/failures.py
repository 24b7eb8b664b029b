"""What the tests of failing stores and damaged objects share: what a broker says and counts, and requests by hand."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

from tests.servers.fault_proxy import Mode
from tests.servers.tierlog import BrokerProcess
from tierlog.wire.messages.fetch import FetchPartition, FetchRequest, FetchTopic

TRAFFIC = "kafka_server_brokertopicmetrics_"
KINDS = {
    Mode.REFUSE: "Unavailable",
    Mode.HANG: "Timeout",
    Mode.FORBIDDEN: "AccessDenied",
    Mode.BUSY: "Throttled",
}


def lines(broker: BrokerProcess, event: str, since: int = 0) -> list[dict[str, Any]]:
    """What the log says about one event; ``since`` is a size of the log."""
    rows = (json.loads(line) for line in broker.log.read_bytes()[since:].splitlines() if line[:1] == b"{")
    return [row for row in rows if row["event"] == event]


def check_log(broker: BrokerProcess, since: int = 0) -> None:
    """No bug: what was said around the first one otherwise."""
    text = broker.log.read_bytes()[since:].decode()
    found = min((at for word in ("Traceback", "Assertion") if (at := text.find(word)) >= 0), default=-1)
    assert found < 0, text[max(0, found - 500) : found + 4000]


def check_told(broker: BrokerProcess, event: str, mode: Mode) -> None:
    """Once a minute and kind, however many requests and tests met it."""
    kind = KINDS[mode]
    times = [
        datetime.fromisoformat(row["timestamp"]) for row in lines(broker, event) if row.get("kind") == kind
    ]
    assert times
    assert all(later - earlier >= timedelta(seconds=59) for earlier, later in pairwise(times)), times


def metric(broker: BrokerProcess, name: str, topic: str) -> float:
    return broker.metrics()[f'{TRAFFIC}{name}{{topic="{topic}"}}']


def fetch_of(topic: str, offsets: dict[int, int], max_wait_ms: int = 100) -> FetchRequest:
    asked = [
        FetchPartition(partition=index, fetch_offset=offset, partition_max_bytes=1 << 20)
        for index, offset in offsets.items()
    ]
    topics = [FetchTopic(topic=topic, partitions=asked)]
    return FetchRequest(
        max_wait_ms=max_wait_ms, min_bytes=1, max_bytes=50 << 20, session_epoch=-1, topics=topics
    )
