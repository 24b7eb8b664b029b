"""A broker in a cluster of very many partitions: what its metadata image costs, and how fast it follows.

etcd, one real broker, and peers that are only registered: they hold all partitions. Measured: how long the broker takes to
load the image, its memory, how long after its commit a change of one leader is what Metadata of that broker says, and,
when a peer's lease ends, how long the broker as controller takes to give each of its partitions another leader.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from uuid import uuid4

from benchmarks.processes import ProcessTree
from tests.scale.figures import Figure, quantile
from tests.servers.etcd import etcd
from tests.servers.raw_client import RawClient
from tests.servers.tierlog import BrokerProcess
from tierlog.metadata import keys, records
from tierlog.metadata.records import BrokerRegistration, BrokerState, PartitionState, TopicRecord
from tierlog.metadata.stores.etcd.settings import EtcdSettings
from tierlog.metadata.stores.etcd.store import EtcdStore
from tierlog.metadata.stores.port import MetadataStore
from tierlog.metadata.transactions import MAX_TXN_OPS, Compare, Put, Txn
from tierlog.wire.messages.metadata import MetadataRequest, MetadataRequestTopic, MetadataResponse

REAL = 1
PEERS = tuple(range(101, 131))
TOPIC_PARTITIONS = 100
REPLICATION_FACTOR = 3
LEASE_MS = 60_000
CHANGES = 50
MAX_LOAD_S = 10.0
MAX_RSS_MIB = 600.0
MAX_LATENCY_MS = 100.0
DEADLINE_S = 120.0


class Peers:
    """The simulated part of the cluster, in the store."""

    def __init__(self, store: MetadataStore, partitions: int) -> None:
        self.store = store
        self.count = partitions
        self.topic_ids = [uuid4().bytes for _ in range(-(-partitions // TOPIC_PARTITIONS))]
        self._leases: dict[int, int] = {}

    async def register(self) -> None:
        for broker_id in PEERS:
            lease = self._leases[broker_id] = await self.store.grant(LEASE_MS)
            registration = BrokerRegistration(f"peer-{broker_id}", (), want_fence=False)
            put = Put(keys.registration(broker_id), records.encode_registration(registration), lease)
            epoch = (await self.store.txn(Txn((), (put,)))).revision
            state = records.encode_broker_state(BrokerState(epoch, fenced=False))
            await self.store.txn(Txn((), (Put(keys.broker_state(broker_id), state),)))

    async def stay(self) -> None:
        while True:
            await asyncio.sleep(LEASE_MS / 4000)
            for lease in self._leases.values():
                await self.store.keepalive(lease)

    async def die(self, broker_id: int) -> None:
        await self.store.revoke(self._leases.pop(broker_id))

    def state(self, index: int) -> PartitionState:
        replicas = tuple(PEERS[(index + n) % len(PEERS)] for n in range(REPLICATION_FACTOR))
        return PartitionState(replicas[0], 0, replicas, replicas, 1)

    async def write_topics(self) -> None:
        puts: list[Put] = []
        for n, topic_id in enumerate(self.topic_ids):
            first = n * TOPIC_PARTITIONS
            size = min(TOPIC_PARTITIONS, self.count - first)
            puts += [
                Put(keys.partition(topic_id, i), records.encode_partition(self.state(first + i)))
                for i in range(size)
            ]
            record = records.encode_topic(TopicRecord(name(n), size))
            puts.append(Put(keys.topic(topic_id), record))
            text = keys.format_topic_id(topic_id)
            puts.append(Put(keys.topic_name(name(n)), records.encode_topic_name(text)))
        chunks = [puts[i : i + MAX_TXN_OPS] for i in range(0, len(puts), MAX_TXN_OPS)]
        for i in range(0, len(chunks), 16):
            await asyncio.gather(*(self.store.txn(Txn((), tuple(chunk))) for chunk in chunks[i : i + 16]))

    async def move_leader(self, topic: int) -> tuple[int, float]:
        """The next replica of the topic's first partition takes over: (new leader, when it was committed)."""
        key = keys.partition(self.topic_ids[topic], 0)
        found = await self.store.get(key)
        assert found is not None
        old = records.decode_partition(found.value, found.mod_revision)
        leader = old.replicas[(old.replicas.index(old.leader) + 1) % len(old.replicas)]
        new = old._replace(leader=leader, leader_epoch=old.leader_epoch + 1)
        guard = (Compare(key, "mod", found.mod_revision),)
        result = await self.store.txn(Txn(guard, (Put(key, records.encode_partition(new)),)))
        assert result.ok
        return leader, time.monotonic()


def name(topic: int) -> str:
    return f"topic-{topic:05}"


def asked(client: RawClient, topics: Sequence[int]) -> MetadataResponse:
    request = MetadataRequest(
        topics=[MetadataRequestTopic(name=name(n)) for n in topics], allow_auto_topic_creation=False
    )
    return client.call(request, MetadataResponse)


def image(row: str, directory: Path, *, partitions: int) -> Iterator[Figure]:
    with etcd(directory) as (member,), asyncio.Runner() as runner:
        figures = _image(row, directory, member.address, partitions)
        while (figure := runner.run(anext(figures, None))) is not None:  # type: ignore[arg-type]
            yield figure


async def _image(row: str, directory: Path, address: str, partitions: int) -> AsyncIterator[Figure]:
    store = await EtcdStore.open(EtcdSettings((address,)))
    peers = Peers(store, partitions)
    await peers.register()
    await peers.write_topics()
    staying = asyncio.create_task(peers.stay())
    broker = BrokerProcess(
        directory / "broker",
        {
            "metadata.store": f"etcd://{address}",
            "node.id": str(REAL),
            "remote.log.storage.system.enable": "false",
            "auto.leader.rebalance.enable": "false",
        },
    )
    try:
        began_s = time.monotonic()
        await asyncio.to_thread(broker.start)
        yield Figure(row, "start of the broker until ready, s", time.monotonic() - began_s)
        yield Figure(row, "image load, s", loaded_s(broker), MAX_LOAD_S)
        assert broker.process is not None
        tree = ProcessTree(broker.process.pid)
        latencies = await _latencies(peers, broker)
        yield Figure(row, "a leader's change until the image has it, p50 ms", quantile(latencies, 0.5))
        yield Figure(row, "the same, the longest, ms", max(latencies), MAX_LATENCY_MS)
        memory = tree.memory()
        yield Figure(row, "RSS, MiB", memory.rss_mib, MAX_RSS_MIB)
        yield Figure(row, "peak RSS, MiB", memory.peak_mib, MAX_RSS_MIB)
        before_s, longest_s = tree.cpu_s(), broker.metrics()["tierlog_loop_stall_max_seconds"]
        yield Figure(row, "longest stall of the loop so far, ms", 1000 * longest_s)
        began_s = time.monotonic()
        await peers.die(PEERS[0])
        await _without(broker, PEERS[0], range(len(peers.topic_ids)))
        led = sum(peers.state(n).leader == PEERS[0] for n in range(partitions))
        took_s = time.monotonic() - began_s
        yield Figure(row, f"a peer that leads {led:,} is gone: all led elsewhere, s", took_s)
        yield Figure(row, "CPU of the broker for that, s", tree.cpu_s() - before_s)
        longest_s = broker.metrics()["tierlog_loop_stall_max_seconds"]
        yield Figure(row, "longest stall of the loop since the start, ms", 1000 * longest_s)
        yield Figure(row, "peak RSS after that, MiB", tree.memory().peak_mib, MAX_RSS_MIB)
    finally:
        staying.cancel()
        await asyncio.gather(staying, return_exceptions=True)
        await asyncio.to_thread(broker.kill)
        await store.close()


def loaded_s(broker: BrokerProcess) -> float:
    """As the broker itself says."""
    for line in broker.log.read_text().splitlines():
        if '"broker started"' in line:
            return float(json.loads(line)["image_load_ms"]) / 1000
    raise AssertionError("the broker does not tell how long it loaded")


async def _latencies(peers: Peers, broker: BrokerProcess) -> list[float]:
    """In ms, from the commit until Metadata names the new leader."""
    found = []
    with RawClient(broker.port) as client:
        for n in range(CHANGES):
            topic = n * len(peers.topic_ids) // CHANGES
            leader, committed_s = await peers.move_leader(topic)
            while asked(client, [topic]).topics[0].partitions[0].leader_id != leader:
                assert time.monotonic() - committed_s < DEADLINE_S
            found.append(1000 * (time.monotonic() - committed_s))
    return found


async def _without(broker: BrokerProcess, gone: int, topics: range) -> None:
    """Until nothing is led by ``gone``, as the broker sees it."""
    deadline_s = time.monotonic() + DEADLINE_S
    with RawClient(broker.port, timeout_s=DEADLINE_S) as client:
        for first in range(0, len(topics), 20):
            some = topics[first : first + 20]
            while any(
                row.leader_id in (gone, -1)
                for topic in asked(client, some).topics
                for row in topic.partitions
            ):
                assert time.monotonic() < deadline_s, "not all are led elsewhere"
                await asyncio.sleep(0.05)
