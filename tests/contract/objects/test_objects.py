"""What the port promises, on every backend."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.patience import PATIENT_S
from tiering.errors import (
    InvalidKey,
    InvalidRange,
    NotFound,
    ObjectStoreError,
    ObjectTooLarge,
    PreconditionFailed,
    SizeMismatch,
    Unavailable,
)
from tiering.objects.port import Buffer, ObjectStore, list_all

MIB = 1024 * 1024
PATTERN = bytes(range(256)) * 4


async def stream(*buffers: Buffer) -> AsyncIterator[Buffer]:
    for buffer in buffers:
        await asyncio.sleep(0)
        yield buffer


class Repeatable:
    """A stream that can be read again."""

    def __init__(self, *buffers: Buffer) -> None:
        self.buffers = buffers

    def __aiter__(self) -> AsyncIterator[Buffer]:
        return stream(*self.buffers)


async def keys(store: ObjectStore, prefix: str = "") -> list[str]:
    return [info.key async for info in list_all(store, prefix)]


async def test_what_was_put_is_what_is_read(store: ObjectStore) -> None:
    info = await store.put("a/b/c.seg", PATTERN, size_bytes=len(PATTERN))
    assert (info.key, info.size_bytes) == ("a/b/c.seg", 1024)
    assert await store.head("a/b/c.seg") == await _listed(store, "a/b/c.seg")
    assert (await store.head("a/b/c.seg")).version == info.version
    found, data = await store.get("a/b/c.seg")
    assert (found.version, bytes(data)) == (info.version, PATTERN)


async def _listed(store: ObjectStore, key: str) -> object:
    (info,) = [info async for info in list_all(store, "") if info.key == key]
    return info


@pytest.mark.parametrize(
    "content", [bytearray(PATTERN), memoryview(PATTERN), memoryview(PATTERN * 2)[512:1536]]
)
async def test_any_buffer_can_be_put(store: ObjectStore, content: Buffer) -> None:
    await store.put("k", content, size_bytes=1024)
    assert bytes((await store.get("k"))[1]) == bytes(content)


async def test_ranges_are_half_open_and_exact(store: ObjectStore) -> None:
    await store.put("k", PATTERN, size_bytes=1024)
    for start, end in ((0, 1), (0, 1024), (1, 1024), (255, 257), (1023, 1024)):
        data = await store.get_range("k", start, end)
        assert bytes(data) == PATTERN[start:end]


@pytest.mark.parametrize(("start", "end"), [(0, 1025), (1023, 1025), (1024, 1025), (4096, 8192)])
async def test_a_range_beyond_the_object_is_refused(store: ObjectStore, start: int, end: int) -> None:
    await store.put("k", PATTERN, size_bytes=1024)
    with pytest.raises(InvalidRange) as caught:
        await store.get_range("k", start, end)
    assert not caught.value.retriable


async def test_an_empty_object(store: ObjectStore) -> None:
    await store.put("empty", b"", size_bytes=0)
    await store.put("empty-stream", stream(), size_bytes=0)
    for key in ("empty", "empty-stream"):
        assert (await store.head(key)).size_bytes == 0
        assert bytes((await store.get(key))[1]) == b""
        with pytest.raises(InvalidRange):
            await store.get_range(key, 0, 1)


async def test_absent_objects(store: ObjectStore) -> None:
    for call in (store.head("no/such"), store.get("no/such"), store.get_range("no/such", 0, 1)):
        with pytest.raises(NotFound) as caught:
            await call
        assert caught.value.key == "no/such"
    assert await store.list("no/") == []


async def test_a_put_replaces_and_changes_the_version(store: ObjectStore) -> None:
    first = await store.put("k", b"one", size_bytes=3)
    assert bytes(await store.get_range("k", 0, 3)) == b"one"
    second = await store.put("k", b"two!", size_bytes=4)
    assert first.version != second.version
    assert bytes(await store.get_range("k", 0, 4)) == b"two!"
    assert await keys(store) == ["k"]


async def test_streams_of_odd_buffers(store: ObjectStore) -> None:
    buffers = [b"", b"x" * 3, memoryview(bytes(3 * MIB)), bytearray(b"y" * 7 * MIB), b"z" * 11, b""]
    size_bytes = sum(map(len, buffers))
    expected = b"".join(buffers)
    for key, content in (("one-shot", stream(*buffers)), ("repeatable", Repeatable(*buffers))):
        info = await store.put(key, content, size_bytes=size_bytes)
        assert info.size_bytes == size_bytes == (await store.head(key)).size_bytes
        assert bytes((await store.get(key))[1]) == expected
        assert bytes(await store.get_range(key, 3 * MIB, 3 * MIB + 10)) == expected[3 * MIB : 3 * MIB + 10]


async def test_a_large_buffer(store: ObjectStore) -> None:
    data = PATTERN * (12 * MIB // len(PATTERN))
    info = await store.put("k", data, size_bytes=len(data))
    assert info.version == (await store.head("k")).version
    assert bytes((await store.get("k"))[1]) == data


@pytest.mark.parametrize("announced_bytes", [0, 9, 11, 6 * MIB - 1, 6 * MIB + 1, 20 * MIB])
async def test_a_stream_of_another_size_leaves_nothing(store: ObjectStore, announced_bytes: int) -> None:
    size_bytes = 10 if announced_bytes < MIB else 6 * MIB
    with pytest.raises(SizeMismatch):
        await store.put("k", stream(bytes(size_bytes)), size_bytes=announced_bytes)
    with pytest.raises(SizeMismatch):
        await store.put("k", bytes(size_bytes), size_bytes=announced_bytes)
    assert await keys(store) == []


@pytest.mark.parametrize("good_bytes", [100, 12 * MIB])
async def test_an_error_of_the_stream_comes_out_and_leaves_nothing(
    store: ObjectStore, good_bytes: int
) -> None:
    async def failing() -> AsyncIterator[Buffer]:
        yield bytes(good_bytes)
        raise ValueError("the source broke")

    with pytest.raises(ValueError, match="the source broke"):
        await store.put("k", failing(), size_bytes=good_bytes + 100)
    assert await keys(store) == []


@pytest.mark.parametrize("good_bytes", [100, 12 * MIB])
async def test_a_cancelled_put_leaves_nothing(store: ObjectStore, good_bytes: int) -> None:
    reached, closed = asyncio.Event(), asyncio.Event()

    async def endless() -> AsyncIterator[Buffer]:
        try:
            yield bytes(good_bytes)
            reached.set()
            while True:
                await asyncio.sleep(0.01)
                yield b"x" * 1000
        finally:
            closed.set()

    put = asyncio.ensure_future(store.put("k", endless(), size_bytes=100 * MIB))
    async with asyncio.timeout(PATIENT_S):
        await reached.wait()
        put.cancel()
        with pytest.raises(asyncio.CancelledError):
            await put
        await closed.wait()
    assert await keys(store) == []
    await store.put("k", b"later", size_bytes=5)
    assert bytes((await store.get("k"))[1]) == b"later"


async def test_if_absent(store: ObjectStore) -> None:
    first = await store.put("k", b"first", size_bytes=5, if_absent=True)
    with pytest.raises(PreconditionFailed):
        await store.put("k", stream(b"second"), size_bytes=6, if_absent=True)
    found, data = await store.get("k")
    assert (found.version, bytes(data)) == (first.version, b"first")
    await store.delete(["k"])
    await store.put("k", stream(b"thi", b"rd"), size_bytes=5, if_absent=True)
    assert bytes((await store.get("k"))[1]) == b"third"


async def test_sixteen_creators_have_one_winner(store: ObjectStore) -> None:
    async def create(number: int) -> int | None:
        data = f"writer {number}".encode()
        try:
            await store.put("marker", data, size_bytes=len(data), if_absent=True)
        except PreconditionFailed:
            return None
        return number

    outcomes = await asyncio.gather(*map(create, range(16)))
    winners = [number for number in outcomes if number is not None]
    assert len(winners) == 1
    assert bytes((await store.get("marker"))[1]) == f"writer {winners[0]}".encode()


async def test_if_match(store: ObjectStore) -> None:
    with pytest.raises(PreconditionFailed):
        await store.put_if_match("head", b"x", "no-such-etag")
    first = await store.put("head", b"one", size_bytes=3)
    second = await store.put_if_match("head", b"two", first.version)
    assert second.version != first.version
    with pytest.raises(PreconditionFailed):
        await store.put_if_match("head", b"three", first.version)
    assert bytes((await store.get("head"))[1]) == b"two"
    await store.delete(["head"])
    with pytest.raises(PreconditionFailed):
        await store.put_if_match("head", b"four", second.version)


async def test_racing_compare_and_replace_loses_no_update(store: ObjectStore) -> None:
    await store.put("counter", b"0", size_bytes=1)

    async def increment() -> None:
        while True:
            info, data = await store.get("counter")
            try:
                await store.put_if_match("counter", str(int(bytes(data)) + 1).encode(), info.version)
            except (PreconditionFailed, Unavailable):  # moto answers some races with 500, having done nothing
                continue
            return

    async with asyncio.timeout(PATIENT_S):
        await asyncio.gather(*(increment() for _ in range(4)))
    assert bytes((await store.get("counter"))[1]) == b"4"


async def test_lists_are_sorted_paged_and_bounded_by_the_prefix(store: ObjectStore) -> None:
    wanted = [f"p/{folder}/{number:03}.seg" for folder in ("a", "b") for number in range(7)]
    others = ["p2/x", "p.seg", "q/p/a"]
    await asyncio.gather(*(store.put(key, key.encode(), size_bytes=len(key)) for key in wanted + others))
    assert await keys(store, "p/") == wanted
    assert await keys(store, "p/b/") == wanted[7:]
    assert sorted(await keys(store)) == sorted(wanted + others)
    paged, start_after = [], ""
    while page := await store.list("p/", start_after=start_after, limit=4):
        assert all(info.size_bytes == len(info.key) and info.modified_ms >= 0 for info in page)
        paged += [info.key for info in page]
        start_after = page[-1].key
        if len(page) < 4:
            break
    assert paged == wanted
    assert [info.key for info in await store.list("p/", start_after="p/a/005")] == wanted[5:]
    assert await store.list("p/", start_after="p/z") == []
    assert await store.list("nothing/here/") == []


async def test_a_list_may_begin_inside_a_folder_where_no_object_is(store: ObjectStore) -> None:
    """As ``tiering.sweeping.tour`` asks. Not behind the folder's own name: SeaweedFS then passes over the whole folder."""
    names = ["a/1/x", "a/2/y", "a/20/z", "b/1/x"]
    await asyncio.gather(*(store.put(key, b"x", size_bytes=1) for key in names))
    for start_after, expected in (
        ("a/-", names),
        ("a/2/-", names[1:]),
        ("a/20/-", names[2:]),
        ("a/3/-", names[3:]),
    ):
        assert [info.key for info in await store.list("", start_after=start_after)] == expected
    assert [info.key for info in await store.list("", start_after="a/2/-", limit=1)] == ["a/2/y"]


async def test_deletes_are_idempotent_and_seen_at_once(store: ObjectStore) -> None:
    names = [f"d/{number}" for number in range(20)]
    await asyncio.gather(*(store.put(key, b"x", size_bytes=1) for key in names))
    assert bytes(await store.get_range("d/0", 0, 1)) == b"x"
    await store.delete(["d/0", "d/never", *names[5:]])
    assert await keys(store) == names[1:5]
    with pytest.raises(NotFound):
        await store.get_range("d/0", 0, 1)
    await store.delete(iter(names))
    await store.delete(names)
    await store.delete([])
    assert await keys(store) == []


async def test_long_keys(store: ObjectStore) -> None:
    key = "/".join(f"{number}" + "s" * 100 for number in range(6))
    await store.put(key, b"x", size_bytes=1)
    assert await keys(store) == [key]
    assert bytes(await store.get_range(key, 0, 1)) == b"x"
    punctuated = "k-1_2.3=4+5@6,7~8/Z"
    await store.put(punctuated, b"y", size_bytes=1)
    assert bytes((await store.get(punctuated))[1]) == b"y"
    assert sorted(await keys(store)) == sorted([key, punctuated])


@pytest.mark.parametrize(
    "key",
    [
        *("", "/a", "a/", "a//b", "../a", "a/../b", "a/./b", ".tmp/x"),
        *("a b", "a\x00", "a\n", "ä", "a%2f", "a\\b"),
        *("s" * 241, "/".join(["s" * 100] * 10)),
    ],
)
async def test_bad_keys_are_refused_by_every_verb(store: ObjectStore, key: str) -> None:
    calls = [
        store.put(key, b"x", size_bytes=1),
        store.put_if_match(key, b"x", "etag"),
        store.get(key),
        store.get_range(key, 0, 1),
        store.head(key),
        store.delete(["good", key]),
    ]
    for call in calls:
        with pytest.raises(InvalidKey):
            await call


async def test_bad_prefixes_are_refused(store: ObjectStore) -> None:
    for prefix in ("a", "/", "a//", "../"):
        with pytest.raises(InvalidKey):
            await store.list(prefix)


async def test_what_is_too_large_for_one_piece(store: ObjectStore) -> None:
    await store.put("k", PATTERN, size_bytes=1024)
    with pytest.raises(ObjectTooLarge):
        await store.get("k", bytes_max=1023)
    assert len((await store.get("k", bytes_max=1024))[1]) == 1024
    with pytest.raises(ObjectTooLarge):
        await store.put("big", stream(), size_bytes=65 * MIB, if_absent=True)


async def test_a_returned_buffer_outlives_its_object(store: ObjectStore) -> None:
    await store.put("k", PATTERN, size_bytes=1024)
    data = await store.get_range("k", 0, 1024)
    await store.put("k", bytes(1024), size_bytes=1024)
    await store.delete(["k"])
    assert bytes(data) == PATTERN


async def test_many_readers_at_once(store: ObjectStore) -> None:
    data = PATTERN * 1024
    await store.put("k", data, size_bytes=len(data))
    ranges = [(start, start + 40_000) for start in range(0, 1_000_000, 31_000)]
    found = await asyncio.gather(*(store.get_range("k", start, end) for start, end in ranges))
    assert [bytes(each) for each in found] == [data[start:end] for start, end in ranges]


async def test_every_error_is_of_the_family(store: ObjectStore) -> None:
    for call in (store.head("x"), store.get("x"), store.get_range("x", 0, 1)):
        try:
            await call
        except Exception as error:
            assert isinstance(error, ObjectStoreError)
