"""Who may load, how much, and what has to go for it: single rules of the machine (all together: ``tests/model``)."""

from __future__ import annotations

import pytest

from tiering.catalog import Catalog
from tiering.keys import PartitionKeys
from tiering.model import SegmentEntry, TierHead
from tiering.reading.admission import Admission, Cancel, Load, Settle
from tiering.reading.chunks import RangeSizes
from tiering.reading.eviction import TURN_S
from tiering.reading.holding import IDLE_S, Chunk, Reader, Stream, Want
from tiering.reading.streams import STREAMS_MAX

MIB = 1 << 20
OBJECT_BYTES = 64 * MIB
BATCH_BYTES = 16_000


class World:
    """A machine whose loads end at once, unless a test holds them back. Each stream reads an object of its own."""

    def __init__(self, budget_bytes: int, chunk_bytes: int = 4 * MIB) -> None:
        self.machine = Admission(RangeSizes.of(budget_bytes, chunk_bytes))
        self.now_s = 0.0
        self.loading: list[Chunk] = []
        self.loads: list[Chunk] = []
        self.cancelled: list[Chunk] = []
        self.settled: list[Want] = []

    def stream(self, number: int, *, client: str = "c", partition: int | None = None) -> Stream:
        keys = PartitionKeys("cluster-1", bytes(range(16)), number if partition is None else partition)
        stream = self.machine.streams.open(keys, Reader(client, number), 0, self.now_s)
        assert stream is not None
        stream.entry, stream.is_located, stream.is_sequential = entry(number), True, True
        stream.window_bytes = 32 * MIB  # it has read for a while
        return stream

    def ask(self, stream: Stream, size_bytes: int = BATCH_BYTES) -> Chunk | Want:
        """The batch at the stream's position, from its first byte that is not ready."""
        stream.seen_s = self.now_s
        assert stream.entry is not None
        position, end = stream.position, stream.position + size_bytes
        while (
            chunk := self.machine.chunks.find(stream.uuid, position)
        ) is not None and chunk.data is not None:
            position = chunk.end
        found = self.machine.demand(Want(stream, stream.entry, stream.position, position, end), self.now_s)
        self.carry_out()
        return found

    def read_to(self, stream: Stream, position: int, *, has_waited: bool = False) -> None:
        assert stream.entry is not None
        stream.seen_s = self.now_s
        self.machine.go_on(stream, stream.entry, position, position - stream.position, has_waited, self.now_s)
        self.carry_out()

    def read_ahead(self, stream: Stream, window_bytes: int) -> None:
        assert stream.entry is not None
        stream.window_bytes, stream.is_sequential = window_bytes, True
        catalog = Catalog(TierHead.empty().with_committed(stream.entry))
        self.machine.read_ahead(stream, catalog, catalog.end, self.now_s)
        self.carry_out()

    def finish_loads(self) -> None:
        while self.loading:
            chunk = self.loading.pop(0)
            self.machine.loaded(chunk, memoryview(bytes(chunk.end - chunk.start)), self.now_s)
            self.carry_out()

    def carry_out(self) -> None:
        for effect in self.machine.effects():
            match effect:
                case Load(chunk):
                    self.loading.append(chunk)
                    self.loads.append(chunk)
                case Cancel(chunk):
                    self.loading.remove(chunk)
                    self.cancelled.append(chunk)
                case Settle(want):
                    self.settled.append(want)
        self.machine.check()

    def tick(self) -> None:
        self.machine.advance(self.now_s, is_thorough=True)
        self.carry_out()


def entry(number: int) -> SegmentEntry:
    uuid = (number + 1).to_bytes(16, "big")
    return SegmentEntry(0, OBJECT_BYTES, 0, uuid, OBJECT_BYTES, OBJECT_BYTES + 1, 0, 0, 0, 0, 0, 0)


def full_world() -> tuple[World, list[Stream]]:
    """16 streams in the middle of 4 MiB each, which is all the memory, and four that wait."""
    world = World(64 * MIB)
    streams = [world.stream(n) for n in range(20)]
    for stream in streams:
        world.machine._counted_at_s = float("-inf")
        stream.is_sequential = True
        world.ask(stream)
    return world, streams


def test_the_range_follows_the_budget_and_the_number_of_fronts() -> None:
    sizes = RangeSizes.of(128 * MIB, 4 * MIB)
    assert [sizes.usual(n, 0) // MIB for n in (1, 4, 5, 6, 100, 4_000)] == [8, 8, 6, 5, 4, 4]
    assert RangeSizes.of(1024 * MIB, 4 * MIB).usual(1, 0) == 8 * MIB
    assert RangeSizes.of(64 * MIB, 4 * MIB).usual(1, 0) == 4 * MIB, "16 at once rather than large ones"
    assert RangeSizes.of(8 * MIB, 4 * MIB).usual(50, 0) == MIB
    assert sizes.usual(1, 2 * MIB + 5) == 2 * MIB, "a quota is not spent on one range for seconds"
    assert sizes.paced(4 * MIB, 100, 0.5 * MIB) == MIB, "a slow reader holds little"
    assert sizes.paced(4 * MIB, 100, 50 * MIB) == 4 * MIB
    assert sizes.paced(4 * MIB, 10, 0.7 * MIB) == 4 * MIB, "where all have room, few GETs"


def test_no_more_than_the_budget_is_loaded_and_the_rest_waits_in_turn() -> None:
    world, streams = full_world()
    assert world.machine.used_bytes <= 64 * MIB
    assert 0 < len(world.machine.queue) == sum(stream.want is not None for stream in streams) <= 5
    waiting = [stream for stream in streams if stream.want is not None]
    world.finish_loads()
    assert [stream for stream in streams if stream.want is not None] == waiting, (
        "all are in the middle of theirs"
    )
    for reader in [stream for stream in streams if stream not in waiting][: len(waiting)]:
        chunk = next(iter(reader.held))
        world.read_to(reader, chunk.end)
    assert not any(stream.want for stream in waiting)


def test_partitions_take_turns_and_in_each_its_clients() -> None:
    """Nine readers of one client, one of another, and one of another partition, who each ask again after a turn."""
    world = World(MIB, MIB)
    streams = [world.stream(n, client="wide", partition=0) for n in range(9)]
    streams += [world.stream(9, client="narrow", partition=0), world.stream(10, client="wide", partition=1)]
    for stream in streams:
        world.ask(stream)
    for _ in range(40):
        world.finish_loads()
        (holder,) = [stream for stream in streams if stream.held]
        (chunk,) = holder.held
        world.read_to(holder, chunk.end)
        world.ask(holder)
    order = [chunk.entry.uuid[-1] - 1 for chunk in world.loads]
    assert order.count(10) >= len(order) // 3 - 1, "the other partition"
    assert order.count(9) >= len(order) // 4 - 1, "the other client"
    assert set(order) == set(range(11))


def test_a_chunk_that_is_begun_stays_until_its_stream_is_idle() -> None:
    world, streams = full_world()
    world.finish_loads()
    begun = [stream for stream in streams if stream.held]
    world.now_s += IDLE_S - 0.1
    world.tick()
    assert all(stream.held for stream in begun)
    for stream in streams:
        if stream is not begun[3] and stream is not begun[4]:
            world.machine.streams.find(stream.keys, stream.reader, 0, world.now_s)
    world.now_s += 0.2
    world.tick()
    assert not begun[3].held
    assert not begun[4].held
    assert sum(1 for stream in begun if stream.held) == len(begun) - 2
    assert len(world.machine.streams) == 18


def test_a_reader_that_dawdles_keeps_others_waiting_for_a_turn_and_no_longer() -> None:
    world, streams = full_world()
    world.finish_loads()
    for _ in range(int(TURN_S / 2)):
        world.now_s += 1.0
        for stream in streams:
            world.machine.streams.find(stream.keys, stream.reader, 0, world.now_s)
        world.tick()
    assert len(world.machine.queue) > 0
    for _ in range(int(TURN_S / 2) + 1):
        world.now_s += 1.0
        for stream in streams:
            world.machine.streams.find(stream.keys, stream.reader, 0, world.now_s)
        world.tick()
    assert len(world.machine.queue) == 0


def test_a_place_in_the_queue_is_kept_for_the_next_fetch_and_then_given_up() -> None:
    world, streams = full_world()
    world.finish_loads()
    first = next(stream for stream in streams if stream.want is not None)
    want = first.want
    world.now_s += IDLE_S - 1
    assert world.ask(first) is want, "the same place"
    world.now_s += IDLE_S + 1
    for stream in streams:
        if stream is not first:
            world.machine.streams.find(stream.keys, stream.reader, 0, world.now_s)
    world.tick()
    assert want in world.settled
    assert first.want is None


def test_the_rest_of_a_batch_is_all_that_a_waiting_stream_keeps() -> None:
    world, streams = full_world()
    world.finish_loads()
    waiting = len(world.machine.queue)
    chunks = [next(iter(stream.held)) for stream in streams if stream.held][:2]
    for chunk in chunks:
        (stream,) = chunk.holders
        world.read_to(stream, chunk.end - 5_000)
    assert [chunk.reserved_bytes for chunk in chunks] == [5_000, 5_000]
    assert [chunk.start for chunk in chunks] == [chunk.end - 5_000 for chunk in chunks]
    assert len(world.machine.queue) == waiting - 1, "the memory of what was read went to the next"


def test_all_may_wait_with_half_a_batch_each_and_one_for_nearly_all_memory() -> None:
    """No stream keeps, while it waits, what another one waits for."""
    world = World(16 * MIB, MIB)
    sizes = {world.stream(n): 15 * MIB if n == 0 else MIB for n in range(16)}
    for stream in sizes:
        world.ask(stream)
    world.finish_loads()
    for stream in sizes:
        (chunk,) = stream.held
        world.read_to(stream, chunk.end - MIB // 2)
    for stream, size in sizes.items():
        world.ask(stream, size)
    assert len(world.machine.queue) == len(sizes), "the first waits for all memory, and all behind it"
    done: set[Stream] = set()
    for _ in range(100):
        world.tick()
        world.finish_loads()
        for stream, size in sizes.items():
            if stream.want is None and stream not in done:
                ready = stream.position
                while (found := world.machine.chunks.find(stream.uuid, ready)) is not None and found.data:
                    ready = found.end
                if ready - stream.position >= size:
                    world.read_to(stream, stream.position + size)
                    world.machine.drop(stream, world.now_s)
                    world.carry_out()
                    done.add(stream)
                else:
                    world.ask(stream, size)
    assert len(done) == len(sizes)


def test_a_batch_larger_than_the_budget_passes_beside_what_is_there_of_it() -> None:
    world = World(4 * MIB, MIB)
    stream = world.stream(0)
    world.ask(stream)
    world.finish_loads()
    (chunk,) = stream.held
    world.read_to(stream, chunk.end - MIB // 2)
    world.ask(stream, 20 * MIB)
    world.finish_loads()
    assert stream.want is None
    assert world.machine.used_bytes == 4 * MIB
    assert [each.end - each.start for each in stream.held] == [MIB // 2, 20 * MIB]


def test_read_ahead_gives_way_to_demand_what_is_loading_first() -> None:
    world = World(32 * MIB, 2 * MIB)
    reader = world.stream(0)
    world.ask(reader)
    world.finish_loads()
    world.read_ahead(reader, 12 * MIB)
    world.finish_loads()
    ready = [chunk for chunk in world.loads if chunk.ahead_of is reader]
    assert ready
    world.read_ahead(reader, 30 * MIB)
    loading = list(world.loading)
    assert loading
    assert world.machine.used_bytes > 28 * MIB
    others = [world.stream(n) for n in range(1, 13)]
    for other in others:
        world.ask(other)
    assert not any(other.want for other in others), "nobody waits behind read-ahead"
    assert world.cancelled[: len(loading)] == loading[::-1], "the latest first"
    assert world.machine.unread_evictions >= len(world.cancelled)
    assert reader.window_bytes < 30 * MIB


def test_no_read_ahead_while_somebody_waits_or_under_a_quota() -> None:
    world, streams = full_world()
    world.finish_loads()
    loads = len(world.loads)
    world.read_ahead(streams[0], 32 * MIB)
    assert len(world.loads) == loads
    world = World(64 * MIB)
    reader, greedy = world.stream(0), world.stream(1)
    world.ask(reader)
    world.finish_loads()
    world.ask(greedy, 62 * MIB)
    assert greedy.want is not None
    world.read_ahead(reader, 32 * MIB)
    assert len(world.loads) == 1, "though there would be room for some"
    world.machine.drop(greedy, world.now_s)
    world.carry_out()
    world.machine.bytes_per_second = 10 * MIB
    world.read_ahead(reader, 32 * MIB)
    assert len(world.loads) == 1


@pytest.mark.parametrize(("count", "most"), [(1, 60), (4, 12), (8, 4), (16, 0)])
def test_read_ahead_keeps_to_a_share_of_the_budget(count: int, most: int) -> None:
    world = World(64 * MIB)
    readers = [world.stream(n) for n in range(count)]
    for reader in readers:
        world.now_s += 0.06
        world.ask(reader)
        world.finish_loads()
    world.now_s += 0.1
    world.read_ahead(readers[0], 64 * MIB)
    ahead = sum(chunk.end - chunk.start for chunk in world.loads if chunk.ahead_of is readers[0])
    assert ahead <= most * MIB
    assert ahead > 0 or most <= 4


def test_streams_in_one_chunk_share_it_and_it_stays_for_the_last() -> None:
    world = World(16 * MIB, MIB)
    streams = [world.stream(7 if n == 0 else n, partition=7) for n in range(5)]
    for stream in streams:
        stream.entry = entry(7)
        world.ask(stream)
    assert len(world.loads) == 1
    world.finish_loads()
    (chunk,) = world.loads
    for stream in streams[1:]:
        world.read_to(stream, chunk.end)
    others = [world.stream(n) for n in range(100, 140)]
    for other in others:
        world.ask(other)
    world.finish_loads()
    assert world.machine.chunks.find(streams[0].uuid, 0) is chunk
    world.read_to(streams[0], chunk.end)
    world.finish_loads()
    assert world.machine.chunks.find(streams[0].uuid, 0) is None


def test_the_number_of_streams_is_bounded_and_idle_ones_make_room() -> None:
    world = World(64 * MIB)
    for n in range(STREAMS_MAX):
        world.stream(n)
    keys = PartitionKeys("cluster-1", bytes(range(16)), 9_999)
    assert world.machine.streams.open(keys, None, 0, world.now_s) is None
    world.now_s += IDLE_S + 1
    world.machine.expire(world.now_s)
    assert world.machine.streams.open(keys, None, 0, world.now_s) is not None
    assert len(world.machine.streams) == 1


def test_a_reader_that_seeks_leaves_what_it_held() -> None:
    world = World(64 * MIB)
    stream = world.stream(0)
    world.ask(stream)
    world.finish_loads()
    assert world.machine.streams.find(stream.keys, stream.reader, 5, world.now_s) is None
    assert world.machine.streams.replaced(stream.keys, stream.reader) is stream
    world.machine.drop(stream, world.now_s)
    world.machine.check()
    assert len(world.machine.streams) == 0


def test_the_window_grows_while_a_reader_in_sequence_has_to_wait() -> None:
    world = World(64 * MIB)
    stream = world.stream(0)
    stream.is_sequential, stream.window_bytes = False, 0
    sizes = []
    for has_waited in (True, True, True, False, True, True, True, True):
        world.read_to(stream, stream.position + MIB, has_waited=has_waited)
        world.machine.read_ahead(stream, Catalog(TierHead.empty()), 0, world.now_s)
        sizes.append(stream.window_bytes // MIB)
    assert sizes == [0, 16, 64, 64, 128, 128, 128, 128]


def test_the_first_ranges_of_a_stream_are_small_where_there_is_room() -> None:
    """They are there sooner: it waits for less, and what is ahead comes side by side."""
    world = World(128 * MIB)
    stream = world.stream(0)
    stream.window_bytes = 0
    for window_mib, range_mib in ((0, 4), (16, 4), (64, 8), (128, 8)):
        stream.window_bytes = window_mib * MIB
        found = world.ask(stream)
        assert isinstance(found, Chunk)
        assert found.end - found.start == range_mib * MIB, window_mib
        world.finish_loads()
        world.read_to(stream, found.end)
    other = world.stream(1)
    other.window_bytes = 0
    world.machine.used_bytes += 64 * MIB
    found = world.machine.demand(Want(other, entry(1), 0, 0, BATCH_BYTES), world.now_s)
    assert isinstance(found, Chunk)
    assert found.end - found.start == 8 * MIB, "little room is for few GETs"


@pytest.mark.parametrize("is_there_else", [True, False])
def test_read_ahead_takes_nothing_that_its_stream_comes_to(is_there_else: bool) -> None:
    """The chunks of an earlier reader lie in front of it, and are the longest unused."""
    world = World(32 * MIB, 2 * MIB)
    reader = world.stream(0)
    while world.machine.used_bytes < 16 * MIB:
        chunk = world.ask(reader)
        assert isinstance(chunk, Chunk)
        world.finish_loads()
        world.read_to(reader, chunk.end)
    ready = list(world.loads)
    for number in range(1, 4):
        other = world.stream(number)
        chunk = world.ask(other)
        assert isinstance(chunk, Chunk)
        world.finish_loads()
        if is_there_else:
            world.read_to(other, chunk.end)
    again = world.stream(0, client="again", partition=9)
    again.entry = entry(0)
    world.read_to(again, BATCH_BYTES)
    world.machine._front_count, world.machine._counted_at_s = 1, world.now_s
    world.read_ahead(again, 64 * MIB)
    world.finish_loads()
    assert len(world.loads) > len(ready) + 3, "it has read ahead"
    assert all(world.machine.chunks.find(again.uuid, chunk.start) is chunk for chunk in ready)


def test_a_turn_that_came_with_time_alone_leaves_nobody_waiting_in_vain() -> None:
    """The first in the queue is served because ranges are smaller now, and nothing had to go for it."""
    world = World(66 * MIB)
    for number in range(16):
        world.now_s += 0.1
        world.ask(world.stream(number))
    world.finish_loads()
    waits, comes_later = world.stream(20), world.stream(21)
    world.machine._front_count, world.machine._counted_at_s = 1, world.now_s
    world.ask(waits)
    assert waits.want is not None
    world.machine.bytes_per_second = MIB
    world.tick()
    assert waits.want is None
    world.ask(comes_later)
    assert comes_later.want is None
