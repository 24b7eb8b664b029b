"""Who may load from a distant store, as a world of readers at random: nothing is lost, nobody starves, all bounds hold."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from tiering.catalog import Catalog
from tiering.errors import Unavailable
from tiering.keys import PartitionKeys
from tiering.model import SegmentEntry, TierHead
from tiering.reading.admission import Admission, Cancel, Cut, Load, Settle, uncut
from tiering.reading.chunks import RangeSizes, aligned
from tiering.reading.fair_queue import FairQueue
from tiering.reading.holding import Chunk, Reader, Stream, Want

MIB = 1 << 20
OBJECT_BYTES = 20 * MIB + 12_345
BUDGET_BYTES = 16 * MIB
ZEROS = memoryview(bytes(OBJECT_BYTES))


def entry(number: int, base: int) -> SegmentEntry:
    return SegmentEntry(
        base,
        base + OBJECT_BYTES,
        0,
        number.to_bytes(16, "big"),
        OBJECT_BYTES,
        OBJECT_BYTES + 1_000,
        0,
        0,
        0,
        0,
        0,
        0,
    )


def catalog_of(partition: int) -> Catalog:
    """Two segments in which each byte is an offset."""
    head = TierHead.empty()
    for number in range(2):
        head = head.with_committed(entry(10 * partition + number, number * OBJECT_BYTES))
    return Catalog(head)


class Client:
    """Reads a partition in batches of one size; ``position`` is also its offset."""

    def __init__(self, number: int, partition: int, position: int, batch_bytes: int, pace: float) -> None:
        self.reader = Reader(f"client {number % 3}", number)
        self.partition = partition
        self.position = position // batch_bytes * batch_bytes
        self.batch_bytes = batch_bytes
        self.pace = pace
        """How likely it reads in a step."""
        self.waits_since: int | None = None
        self.read_bytes = 0


class World:
    """The driver of the machine: loads end at random, in any order."""

    def __init__(self, seed: int, cut: Cut = uncut) -> None:
        self.rng = rng = Random(seed)
        self.machine = Admission(RangeSizes.of(BUDGET_BYTES, rng.choice([MIB, 2 * MIB, 4 * MIB])), cut)
        self.catalogs = [catalog_of(n) for n in range(3)]
        self.keys = [PartitionKeys("cluster-1", bytes(range(16)), n) for n in range(3)]
        self.now_s = 100.0
        self.loads: list[Chunk] = []
        self.loaded: Counter[tuple[bytes, int]] = Counter()
        self.queued: set[int] = set()
        self.clients = [
            Client(
                n,
                rng.randrange(3),
                rng.randrange(OBJECT_BYTES),
                rng.choice([10_000, 700_000, 3 * MIB]),
                rng.choice([1.0, 1.0, 0.2]),
            )
            for n in range(rng.choice([1, 3, 12, 30]))
        ]
        self.most_waited = 0

    def carry_out(self) -> None:
        for effect in self.machine.effects():
            match effect:
                case Load(chunk):
                    self.loads.append(chunk)
                case Cancel(chunk):
                    self.loads.remove(chunk)
                case Settle(want):
                    assert want.stream.want is not want
        self.machine.check()

    def end_a_load(self) -> None:
        if not self.loads:
            return
        chunk = self.loads.pop(self.rng.randrange(len(self.loads)))
        if self.rng.random() < 0.03:
            holders = list(chunk.holders)
            self.machine.failed(chunk, Unavailable("no"), self.now_s)
            assert all(stream.failure is not None for stream in holders)
        else:
            first, last = aligned(chunk)
            for block in range(first, last, MIB):
                self.loaded[chunk.entry.uuid, block] += 1
            self.machine.loaded(chunk, ZEROS[: chunk.end - chunk.start], self.now_s)
        self.carry_out()

    def ready_to(self, segment: SegmentEntry, position: int, limit: int) -> int:
        while position < limit:
            chunk = self.machine.chunks.find(segment.uuid, position)
            if chunk is None or chunk.data is None:
                return position
            position = min(chunk.end, limit)
        return position

    def stream_of(self, client: Client) -> Stream | None:
        machine, keys = self.machine, self.keys[client.partition]
        found = machine.streams.find(keys, client.reader, client.position, self.now_s)
        if found is None:
            left = machine.streams.replaced(keys, client.reader)
            if left is not None:
                machine.drop(left, self.now_s)
            machine.expire(self.now_s)
            found = machine.streams.open(keys, client.reader, client.position, self.now_s)
        return found

    def ask(self, client: Client, step: int) -> None:
        """One Fetch: reads whole batches that are ready, up to 1 MiB or one batch, or asks for what is missing."""
        catalog, machine = self.catalogs[client.partition], self.machine
        segment = catalog.find(client.position)
        assert segment is not None
        start = client.position - segment.base_offset
        batch_end = min(start + client.batch_bytes, segment.data_bytes)
        stream = self.stream_of(client)
        if stream is None:
            return
        end = self.ready_to(segment, start, max(min(start + MIB, segment.data_bytes), batch_end))
        if end < batch_end:
            stream.entry, stream.position, stream.is_located = segment, start, True
            machine.demand(Want(stream, segment, start, end, batch_end), self.now_s)
            client.waits_since = step if client.waits_since is None else client.waits_since
            self.most_waited = max(self.most_waited, step - client.waits_since)
            self.carry_out()
            return
        taken = (
            end - start
            if end == segment.data_bytes
            else (end - start) // client.batch_bytes * client.batch_bytes
        )
        client.read_bytes += taken
        client.waits_since = None
        client.position += taken
        if client.position >= catalog.end:
            client.position = 0
        segment, place = catalog.find(client.position), client.position
        assert segment is not None
        machine.streams.move(stream, client.position)
        has_waited = self.rng.random() < 0.5
        machine.go_on(stream, segment, place - segment.base_offset, taken, has_waited, self.now_s)
        machine.read_ahead(stream, catalog, catalog.end, self.now_s)
        self.carry_out()

    def step(self, number: int) -> None:
        self.now_s += self.rng.random() * 0.02
        for client in self.rng.sample(self.clients, len(self.clients)):
            if self.rng.random() < client.pace:
                self.ask(client, number)
        for _ in range(self.rng.randrange(4)):
            self.end_a_load()
        if number % 20 == 0:
            self.machine.advance(self.now_s, is_thorough=True)
            self.carry_out()


class Disk:
    """Has some blocks of the objects, others at any other time."""

    def __init__(self, seed: int) -> None:
        self.rng = Random(seed)
        self.blocks: dict[tuple[bytes, int], bool] = {}

    def has(self, uuid: bytes, block: int) -> bool:
        if self.rng.random() < 0.05:
            self.blocks.pop((uuid, block), None)
        return self.blocks.setdefault((uuid, block), self.rng.random() < 0.5)

    def cut(
        self, keys: PartitionKeys, entry: SegmentEntry, position: int, start: int, end: int
    ) -> tuple[int, int]:
        here, block = self.has(entry.uuid, position // MIB), position // MIB
        first = last = block
        while first * MIB > start and self.has(entry.uuid, first - 1) == here:
            first -= 1
        while (last + 1) * MIB < end and self.has(entry.uuid, last + 1) == here:
            last += 1
        return max(start, first * MIB), min(end, (last + 1) * MIB)


@pytest.mark.parametrize("has_disk", [False, True])
@pytest.mark.parametrize("seed", range(8))
def test_all_read_on_and_the_budget_holds(seed: int, has_disk: bool) -> None:
    world = World(seed, Disk(seed).cut if has_disk else uncut)
    for number in range(300):
        world.step(number)
    assert all(client.read_bytes > 0 for client in world.clients)
    quick = [client.read_bytes / client.batch_bytes for client in world.clients if client.pace == 1.0]
    assert world.most_waited < 300, "nobody waits for ever"
    assert not quick or min(quick) > 0
    assert world.machine.used_bytes <= BUDGET_BYTES


@pytest.mark.parametrize("seed", range(20))
def test_the_queue_serves_partitions_in_turn_and_in_each_its_clients(seed: int) -> None:
    """However much one of them asks for."""
    rng = Random(seed)
    queue: FairQueue[tuple[int, int, int]] = FairQueue()
    weights = [rng.choice([1, 1, 20]) for _ in range(5)]
    waiting: dict[tuple[int, int], list[tuple[int, int, int]]] = {}
    passed: Counter[tuple[int, int]] = Counter()
    served: Counter[int] = Counter()
    for number in range(2_000):
        for _ in range(2):
            partition, client = rng.choices(range(5), weights)[0], rng.randrange(4)
            item = (partition, client, number * 10 + len(queue))
            if item not in waiting.get((partition, client), []):
                queue.add(partition, client, item)
                waiting.setdefault((partition, client), []).append(item)
        if rng.random() < 0.1:
            key = rng.choice([key for key, items in waiting.items() if items])
            left = waiting[key].pop(rng.randrange(len(waiting[key])))
            queue.remove(*key, left)
            passed[key] *= bool(waiting[key])
        first = queue.first()
        if first is None:
            continue
        partition, client, _ = item = queue.take()
        assert item == first == waiting[partition, client].pop(0), "in order of arrival"
        assert len(queue) == sum(map(len, waiting.values()))
        served[partition] += 1
        passed[partition, client] = 0
        for key, items in waiting.items():
            if key != (partition, client) and items:
                passed[key] += 1
            # Five partitions of four clients: each has its turn within twenty.
            assert passed[key] <= 20 or not items
