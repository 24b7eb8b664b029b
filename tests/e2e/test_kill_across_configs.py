"""kill -9 behind each change of a topic's config: what was legal when it was written stays legal.

One broker, a topic per kind of change, a writer that waits for each answer. After each kill every topic ends where it ended,
what is read is what was acknowledged at that offset, and the next record gets the next offset.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.tiered import TIERED, alter, figure, hurried, storage, until
from tests.servers.raw_client import RawClient
from tests.servers.tierlog import BrokerProcess
from tierlog.records.records import Record, build_batch

KEYS = 20
IN_A_HURRY = {
    "log_cleaner_backoff_ms": "100",
    "log_cleaner_min_cleanable_ratio": "0.01",
    "log_flush_scheduler_interval_ms": "200",
}
SMALL = {"internal_segment_bytes": "4000", "retention_ms": "-1", "min_cleanable_dirty_ratio": "0.01"}
# By topic: the configs that it has one after the other.
CHANGES = {
    "to-delete": ({"cleanup_policy": "compact"}, {"cleanup_policy": "delete"}, {"cleanup_policy": "compact"}),
    "to-compact": ({"cleanup_policy": "delete"}, {"cleanup_policy": "compact"}, {"cleanup_policy": "delete"}),
    "flushed": ({"flush_mode": "ack"}, {"flush_mode": "os"}, {"flush_mode": "ack"}),
    "tiered": (
        {"remote_storage_enable": "true", "local_retention_bytes": TIERED["local.retention.bytes"]},
        {"remote_log_copy_disable": "true", "local_retention_bytes": "-2"},
        {"remote_log_copy_disable": "false", "local_retention_bytes": "1"},
    ),
}


class Writer:
    """What was acknowledged of one topic, by offset."""

    def __init__(self, topic: str) -> None:
        self.topic = topic
        self.acknowledged: dict[int, tuple[bytes, bytes]] = {}

    @property
    def end(self) -> int:
        return max(self.acknowledged, default=-1) + 1

    def write(self, client: RawClient, count: int) -> None:
        for _ in range(count):
            number = self.end
            key, value = b"key %d" % (number % KEYS), b"value %d" % number + bytes(200)
            batch = bytes(build_batch([Record(key, value, int(time.time() * 1000))]))
            answer = client.produce(self.topic, batch)
            assert (answer.error_code, answer.base_offset) == (0, number)
            self.acknowledged[number] = (key, value)

    def check(self, client: RawClient) -> int:
        """The number of records that are there."""
        assert client.offset(self.topic, -1) == self.end
        found = client.records(self.topic)
        for offset, key, value in found:
            assert self.acknowledged[offset] == (key, value)
        newest = {key: offset for offset, (key, _) in sorted(self.acknowledged.items())}
        assert set(newest.values()) <= {offset for offset, _, _ in found}
        return len(found)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[BrokerProcess]:
    with hurried(tmp_path, **IN_A_HURRY) as running:
        yield running


def test_nothing_is_lost_whatever_the_config_was(broker: BrokerProcess) -> None:
    writers = [Writer(topic) for topic in CHANGES]
    for number in range(3):
        with RawClient(broker.port) as client:
            for writer in writers:
                configs = CHANGES[writer.topic][number]
                if number == 0:
                    client.create_topic(writer.topic, **SMALL, **configs)
                else:
                    alter(broker, writer.topic, **configs)
                writer.write(client, 80)
            # What the policy of this round does has been done before the next.
            for writer in writers:
                if CHANGES[writer.topic][number].get("cleanup_policy") == "compact":
                    until(lambda w=writer: w.check(client) < len(w.acknowledged) - KEYS)  # type: ignore[misc]
                writer.write(client, 5)
            if number != 1:
                end = storage(broker, "tiered")[0]["log_end_offset"]
                until(lambda n=end - 60: storage(broker, "tiered")[0]["tiered_end_offset"] > n)  # type: ignore[misc]
        broker.kill()
        broker.start()
        with RawClient(broker.port) as client:
            for writer in writers:
                found = writer.check(client)
                if writer.topic in ("flushed", "tiered"):
                    assert found == len(writer.acknowledged)
                writer.write(client, 1)
    assert not list(broker.log_dir.glob("*/*.corrupt"))
    for writer in writers:
        changes = len(CHANGES[writer.topic])
        figure(
            f"{writer.topic}: kill -9 behind each of {changes} configs, {len(writer.acknowledged)} records, none lost"
        )
