"""The two brokers of a benchmark, with the same verbs: start, make topics, cost so far, go cold, stop.

Both brokers of a pair run at the same time, so that runs can alternate without restarts; an idle broker costs
little, and what it costs is not counted to the other.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.processes import ProcessTree, drop_from_page_cache
from benchmarks.wire import EARLIEST, Refused, connect, exchange, list_offsets, topic_of
from tests.servers.kafka import KafkaProcess
from tests.servers.tierlog import BrokerProcess
from tierlog.wire.messages.create_topics import (
    CreatableTopic,
    CreatableTopicConfig,
    CreateTopicsRequest,
    CreateTopicsResponse,
)
from tierlog.wire.messages.delete_topics import DeleteTopicsRequest, DeleteTopicsResponse, DeleteTopicState

TIERLOG, KAFKA = "tierlog", "kafka"
CREATE_TOPICS_VERSION, DELETE_TOPICS_VERSION = 7, 6
KAFKA_HEAP = "1G"
_TOPIC_TIMEOUT_S = 60.0


@dataclass
class Side:
    """One broker of a pair."""

    name: str
    process: BrokerProcess | KafkaProcess
    topics_made: int = 0
    replication_factor: int = 1

    @property
    def bootstrap(self) -> str:
        return self.process.bootstrap

    @property
    def tree(self) -> ProcessTree:
        assert self.process.process is not None, f"{self.name} does not run"
        return ProcessTree(self.process.process.pid)

    def start(self) -> None:
        self.process.start()

    def stop(self) -> None:
        self.process.stop()

    def create_topic(self, name: str, partitions: int = 1, config: Mapping[str, str] | None = None) -> None:
        """Returns once every partition serves."""
        configs = [CreatableTopicConfig(name=key, value=value) for key, value in (config or {}).items()]
        topic = CreatableTopic(
            name=name,
            num_partitions=partitions,
            replication_factor=self.replication_factor,
            configs=configs,
        )
        request = CreateTopicsRequest(topics=[topic], timeout_ms=60_000)
        with connect(self.bootstrap) as connection:
            answer = exchange(connection, request, CREATE_TOPICS_VERSION, CreateTopicsResponse)
        if answer.topics[0].error_code:
            raise Refused(f"{self.name}: CreateTopics {name}: {answer.topics[0].error_message}")
        self.await_leaders([name])

    def delete_topic(self, name: str) -> None:
        request = DeleteTopicsRequest(topics=[DeleteTopicState(name=name)], timeout_ms=60_000)
        with connect(self.bootstrap) as connection:
            exchange(connection, request, DELETE_TOPICS_VERSION, DeleteTopicsResponse)

    def segments(self, topic: str) -> int:
        """Local segment files of all partitions of ``topic``."""
        return sum(1 for _ in self.process.log_dir.glob(f"{topic}-*/*.log"))

    def go_cold(self, topics: Sequence[str]) -> None:
        """All files out of the page cache, and nothing in the broker's own caches: tierlog restarts for that.
        Kafka caches no data of its own, and a fresh JVM would be measured at its worst."""
        if isinstance(self.process, BrokerProcess):
            self.process.stop()
            drop_from_page_cache(self.process.directory)
            self.process.start()
        else:
            drop_from_page_cache(self.process.directory)
        self.await_leaders(topics)

    def await_leaders(self, topics: Sequence[str]) -> None:
        """A broker that has just started, or just made a topic, may not lead its partitions yet."""
        deadline = time.monotonic() + _TOPIC_TIMEOUT_S
        with connect(self.bootstrap) as connection:
            for topic in topics:
                while True:
                    try:
                        list_offsets(connection, topic_of(connection, topic), EARLIEST)
                        break
                    except Refused:
                        if time.monotonic() > deadline:
                            raise
                        time.sleep(0.05)

    def metrics(self) -> dict[str, float]:
        """tierlog's scrape; empty for Kafka, which has none."""
        return self.process.metrics() if isinstance(self.process, BrokerProcess) else {}


@dataclass(frozen=True, slots=True)
class Variant:
    """A column of the table: a broker and how the topics on it are made."""

    label: str
    side: str
    topic_config: Mapping[str, str] = field(default_factory=dict)


OS = Variant("tierlog os", TIERLOG, {"flush.mode": "os"})
ACK = Variant("tierlog default", TIERLOG)
# What three replicas do not do by default: there the others are the safety.
SYNCED = Variant("tierlog ack", TIERLOG, {"flush.mode": "ack"})
AGAINST = Path(os.environ["BENCH_AGAINST"]) if "BENCH_AGAINST" in os.environ else None
"""Another checkout of tierlog, which then stands in Kafka's place."""
APACHE = Variant("kafka", KAFKA) if AGAINST is None else Variant("against", KAFKA, OS.topic_config)


def tierlog_side(directory: Path, overrides: Mapping[str, str] | None = None) -> Side:
    return Side(TIERLOG, BrokerProcess(directory, overrides=dict(overrides or {})))


def kafka_side(directory: Path, overrides: Mapping[str, str] | None = None, *, tiered: bool = False) -> Side:
    directory.mkdir(parents=True, exist_ok=True)
    if AGAINST is not None:
        often = {"remote.log.manager.task.interval.ms": "1000", "log.retention.check.interval.ms": "2000"}
        older = BrokerProcess(directory, {**(often if tiered else {}), **(overrides or {})}, checkout=AGAINST)
        return Side(KAFKA, older)
    process = KafkaProcess(directory, overrides=dict(overrides or {}), tiered=tiered, heap=KAFKA_HEAP)
    return Side(KAFKA, process)


@contextmanager
def running(*sides: Side) -> Iterator[dict[str, Side]]:
    """Starts them one after the other and stops them at the end, come what may."""
    try:
        for side in sides:
            side.start()
        yield {side.name: side for side in sides}
    finally:
        for side in sides:
            side.stop()
