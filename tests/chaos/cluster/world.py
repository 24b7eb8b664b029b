"""Three brokers, their disks, their store and the topics under load."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import KafkaException, NewTopic

from tests.chaos.cluster.disks import AnyDisk, Directory, Disk
from tests.chaos.cluster.history import Place
from tests.chaos.cluster.network import Bridge, Loopback
from tests.chaos.cluster.store import Etcd, Sqlite
from tests.servers.tierlog import BrokerProcess

BROKERS = (1, 2, 3)
PARTITIONS = 4
MIN_ISR = 2
CONVERGE_S = 60.0


@dataclass(frozen=True, slots=True)
class Shape:
    """What a run is made of. ``flush``: the modes, a topic for each; ``java``: that client is among the load."""

    lease_ms: int = 9000
    flush: tuple[str, ...] = ("os", "ack")
    namespaces: bool = False
    disks: bool = False
    etcd: bool = False
    java: bool = False

    @property
    def lease_s(self) -> float:
        return self.lease_ms / 1000

    @property
    def places(self) -> list[Place]:
        return [Place(f"chaos-{mode}", n) for mode in self.flush for n in range(PARTITIONS)]


class NotConverged(Exception):
    """What was not as it should be in time."""


class World:
    """Runs from construction to ``close``."""

    def __init__(self, directory: Path, shape: Shape) -> None:
        self.shape = shape
        directory.mkdir(parents=True, exist_ok=True)
        self.network = Bridge() if shape.namespaces else Loopback()
        self.store = Etcd(directory, self.network) if shape.etcd else Sqlite(directory)
        self.disks: dict[int, AnyDisk] = {}
        self.brokers: dict[int, BrokerProcess] = {}
        self.paused: set[int] = set()
        self._keeper = ThreadPoolExecutor(1)
        try:
            self._begin(directory)
        except BaseException:
            self.close()
            raise

    def _begin(self, directory: Path) -> None:
        for node_id in BROKERS:
            path = directory / f"disk-{node_id}"
            self.disks[node_id] = Disk(path) if self.shape.disks else Directory(path)
            self.brokers[node_id] = self._broker(directory, node_id)
        self.bootstrap = ",".join(broker.bootstrap for broker in self.brokers.values())
        for broker in self.brokers.values():
            broker.launch()
        for node_id in BROKERS:
            self.await_ready(node_id)
        self._create_topics()

    def _broker(self, directory: Path, node_id: int) -> BrokerProcess:
        host = self.network.host(broker_host(node_id))
        overrides = {
            "node.id": str(node_id),
            "metadata.store": self.store.address,
            "log.dirs": str(self.disks[node_id].path / "logs"),
            "tierlog.object.store": f"dir:{directory / 'objects'}",
            "remote.log.storage.system.enable": "false",
            "broker.session.timeout.ms": str(self.shape.lease_ms),
            "broker.heartbeat.interval.ms": str(min(2000, self.shape.lease_ms // 4)),
            "replica.lag.time.max.ms": str(self.shape.lease_ms),
            "offsets.topic.num.partitions": "4",
            "default.replication.factor": "3",
            "min.insync.replicas": str(MIN_ISR),
        }
        return BrokerProcess(
            directory / f"broker-{node_id}", overrides, host=host.address, prefix=host.prefix
        )

    def _create_topics(self) -> None:
        admin = self.admin()
        topics = [
            NewTopic(
                f"chaos-{mode}",
                PARTITIONS,
                len(BROKERS),
                config={"min.insync.replicas": str(MIN_ISR), "flush.mode": mode, "retention.ms": "-1"},
            )
            for mode in self.shape.flush
        ]
        for made in admin.create_topics(topics).values():
            made.result(30)
        self.await_whole()

    def admin(self) -> AdminClient:
        return AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0})

    # -- looking

    def await_ready(self, node_id: int, timeout_s: float = CONVERGE_S) -> float:
        broker = self.brokers[node_id]

        def is_ready() -> bool:
            if broker.process is None or broker.process.poll() is not None:
                raise NotConverged(f"broker {node_id} ended by itself: {tail(broker.log)}")
            return broker.is_ready()

        return await_true(is_ready, f"broker {node_id} is not ready", timeout_s)

    def await_whole(self, timeout_s: float = CONVERGE_S) -> float:
        """Until every replica is in sync; returns how long it took."""
        admin = self.admin()
        last: dict[str, list[int]] = {}

        def is_whole() -> bool:
            try:
                metadata = admin.list_topics(timeout=2)
            except KafkaException:
                return False
            topics = metadata.topics
            last.clear()
            if set(metadata.brokers) != set(BROKERS):
                last["brokers in the cluster"] = sorted(metadata.brokers)
            for name, topic in topics.items():
                for index, partition in topic.partitions.items():
                    if partition.leader < 0 or len(partition.isrs) < len(BROKERS):
                        last[f"{name}-{index}"] = [partition.leader, *partition.isrs]
            return not last and {place.topic for place in self.shape.places} <= set(topics)

        return await_true(is_whole, lambda: f"[leader, ISR]: {json.dumps(last)}", timeout_s)

    def leaders(self) -> dict[Place, int]:
        topics = self.admin().list_topics(timeout=5).topics
        return {place: topics[place.topic].partitions[place.partition].leader for place in self.shape.places}

    # -- processes

    def kill(self, node_id: int) -> None:
        self.paused.discard(node_id)
        self.brokers[node_id].kill()

    def start(self, node_id: int) -> float:
        """Until it is ready; returns the seconds."""
        self.by_keeper(self.brokers[node_id].launch)
        return self.await_ready(node_id)

    def by_keeper(self, launch: Callable[[], None]) -> None:
        """A process that we start ends with the thread that started it: so that is one that stays."""
        self._keeper.submit(launch).result()

    def is_running(self, node_id: int) -> bool:
        process = self.brokers[node_id].process
        return process is not None and process.poll() is None and node_id not in self.paused

    def pause(self, node_id: int) -> None:
        self._signal(node_id, signal.SIGSTOP)
        self.paused.add(node_id)

    def resume(self, node_id: int) -> None:
        if node_id in self.paused:
            self._signal(node_id, signal.SIGCONT)
            self.paused.discard(node_id)

    def _signal(self, node_id: int, number: signal.Signals) -> None:
        process = self.brokers[node_id].process
        assert process is not None
        os.kill(process.pid, number)

    def differing(self) -> list[str]:
        """Partitions of which not all replicas hold the same bytes; ask once nothing is written any more."""
        return [
            str(place) for place in self.shape.places if len({self._digest(n, place) for n in BROKERS}) > 1
        ]

    def _digest(self, node_id: int, place: Place) -> bytes:
        """Of a replica's segments one after the other: they are rolled at other places on other brokers."""
        digest = hashlib.sha256()
        for path in sorted((self.disks[node_id].path / "logs" / str(place)).glob("*.log")):
            digest.update(path.read_bytes())
        return digest.digest()

    def bugs(self) -> list[str]:
        """What the brokers' own logs say that they must never say."""
        signs = ('"level": "critical"', "AssertionError", "an assertion failed", "Traceback")
        return [
            f"broker {node_id}: its log says {sign}"
            for node_id, broker in self.brokers.items()
            for sign in signs
            if sign in broker.log.read_text(errors="replace")
        ]

    def close(self) -> None:
        for node_id, broker in self.brokers.items():
            self.resume(node_id)
            broker.kill()
        self.store.close()
        self._keeper.shutdown()
        for disk in self.disks.values():
            disk.unmount()


def broker_host(node_id: int) -> str:
    return f"broker-{node_id}"


def tail(log: Path, lines: int = 5) -> str:
    return " | ".join(log.read_text(errors="replace").strip().splitlines()[-lines:])[-1500:]


def await_true(condition: Callable[[], bool], what: str | Callable[[], str], timeout_s: float) -> float:
    """Returns how many seconds it took; raises NotConverged."""
    began_s = time.monotonic()
    while not condition():
        if time.monotonic() - began_s > timeout_s:
            raise NotConverged(f"{what if isinstance(what, str) else what()} after {timeout_s:.0f} s")
        time.sleep(0.05)
    return time.monotonic() - began_s
