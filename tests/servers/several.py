"""Several tierlog brokers of one cluster, a process each: one metadata store and one object store, a directory each."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from tests.patience import PATIENT_S
from tests.servers.raw_client import RawClient
from tests.servers.tierlog import BrokerProcess
from tierlog.wire.messages.metadata import MetadataRequest, MetadataRequestTopic, MetadataResponse

SESSION_MS = 2000


class Several:
    """Brokers 1 to ``count``. A context manager that starts all and ends what is left by kill -9."""

    def __init__(
        self, directory: Path, count: int = 3, metadata_store: str | None = None, **overrides: str
    ) -> None:
        """``overrides``: properties with ``_`` for ``.``."""
        common = {
            "metadata.store": metadata_store or f"sqlite:{directory / 'metadata.db'}",
            "tierlog.object.store": f"dir:{directory / 'objects'}",
            "broker.session.timeout.ms": str(SESSION_MS),
            "broker.heartbeat.interval.ms": "400",
            **{key.replace("_", "."): value for key, value in overrides.items()},
        }
        self.brokers = {
            node_id: BrokerProcess(directory / f"broker-{node_id}", {**common, "node.id": str(node_id)})
            for node_id in range(1, count + 1)
        }

    def __getitem__(self, node_id: int) -> BrokerProcess:
        return self.brokers[node_id]

    def __enter__(self) -> Several:
        try:
            for broker in self.brokers.values():
                broker.launch()
            for broker in self.brokers.values():
                wait_until(broker.is_ready, f"{broker.directory} is not ready")
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self.kill()

    def kill(self) -> None:
        for broker in self.brokers.values():
            broker.kill()

    def client(self, node_id: int) -> RawClient:
        return RawClient(self[node_id].port)

    def metadata(self, of: int, *topics: str) -> MetadataResponse:
        """As that broker sees it; never creates a topic."""
        request = MetadataRequest(
            topics=[MetadataRequestTopic(name=name) for name in topics], allow_auto_topic_creation=False
        )
        with self.client(of) as client:
            return client.call(request, MetadataResponse)

    def await_topic(self, topic: str, partitions: int) -> None:
        """Until every broker that runs knows it: the one that created it is the first."""
        for node_id, broker in self.brokers.items():
            if broker.process is not None:
                wait_until(
                    lambda i=node_id: len(self.leaders(i, topic)) == partitions,  # type: ignore[misc]
                    f"broker {node_id} does not see {topic}",
                )

    def leaders(self, of: int, topic: str) -> dict[int, int]:
        """Partition → leader, as that broker sees it."""
        (found,) = self.metadata(of, topic).topics
        return {row.partition_index: row.leader_id for row in found.partitions}


def wait_until(condition: Callable[[], bool], message: str, timeout_s: float = PATIENT_S) -> float:
    """Returns how many seconds it took. ``timeout_s`` holds on an idle machine."""
    started_s = time.monotonic()
    while not condition():
        took_s = time.monotonic() - started_s
        assert took_s < max(timeout_s, PATIENT_S), f"{message} after {took_s:.1f} s"
        time.sleep(0.02)
    return time.monotonic() - started_s
