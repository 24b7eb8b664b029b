"""Server-side copies, storage classes, checksums and unfinished uploads: every backend, or why it cannot."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from crc32c import crc32c

from tiering.errors import (
    ChecksumMismatch,
    Misconfigured,
    NotFound,
    PreconditionFailed,
    SizeMismatch,
)
from tiering.objects.classes import GCS_CLASSES, S3_CLASSES, StorageClass, class_named
from tiering.objects.faulty import Faults, FaultyStore
from tiering.objects.memory import MemoryStore
from tiering.objects.port import ObjectStore, PutOptions, UploadInfo
from tiering.objects.retrying import RetryingStore, RetryPolicy

DATA = bytes(range(256)) * 1000
COLDER = StorageClass.INFREQUENT
IGNORES_CONDITIONS_OF_COPIES = ("moto",)


@pytest.fixture
async def store(bare_store: ObjectStore) -> AsyncIterator[ObjectStore]:
    """Retried only: S3's answers here come from a process, which takes a second to start."""
    store = RetryingStore(bare_store, RetryPolicy(first_pause_s=0.001, pause_max_s=0.002))
    yield store
    await store.close()


async def parts(data: bytes, count: int = 7) -> AsyncIterator[bytes]:
    for start in range(0, len(data), len(data) // count):
        yield data[start : start + len(data) // count]


async def test_a_copy_to_another_key_holds_the_same_bytes(store: ObjectStore) -> None:
    source = await store.put("a/source", DATA, size_bytes=len(DATA))
    made = await store.copy(
        "a/source", "b/target", version=source.version, storage_class=StorageClass.STANDARD
    )
    assert (made.key, made.size_bytes) == ("b/target", len(DATA))
    assert bytes((await store.get("b/target"))[1]) == bytes((await store.get("a/source"))[1]) == DATA
    assert made.version == (await store.head("b/target")).version
    await store.put_if_match("b/target", b"other", made.version)
    assert bytes((await store.get("a/source"))[1]) == DATA


async def test_a_copy_onto_itself_changes_the_class_and_nothing_else(
    backend: str, store: ObjectStore
) -> None:
    written = await store.put("k", DATA, size_bytes=len(DATA))
    if backend == "directory":
        with pytest.raises(Misconfigured, match="a directory has one storage class"):
            await store.copy("k", "k", version=written.version, storage_class=COLDER)
        return
    moved = await store.copy("k", "k", version=written.version, storage_class=COLDER)
    assert moved.storage_class == COLDER
    found = await store.head("k", complete=True)
    assert (found.storage_class, found.size_bytes, found.version) == (COLDER, len(DATA), moved.version)
    assert bytes((await store.get("k"))[1]) == DATA
    back = await store.copy("k", "k", version=moved.version, storage_class=StorageClass.STANDARD)
    assert (await store.head("k", complete=True)).storage_class == back.storage_class == StorageClass.STANDARD


async def test_only_the_version_that_was_seen_is_copied(backend: str, store: ObjectStore) -> None:
    first = await store.put("k", DATA, size_bytes=len(DATA))
    await store.put("k", b"other", size_bytes=5)
    if backend not in IGNORES_CONDITIONS_OF_COPIES:
        for target in ("k", "elsewhere"):
            with pytest.raises(PreconditionFailed):
                await store.copy("k", target, version=first.version, storage_class=StorageClass.STANDARD)
        with pytest.raises(NotFound):
            await store.head("elsewhere")
    assert bytes((await store.get("k"))[1]) == b"other"
    with pytest.raises(NotFound):
        await store.copy("absent", "k", version=first.version, storage_class=StorageClass.STANDARD)
    assert bytes((await store.get("k"))[1]) == b"other"


@pytest.mark.parametrize("size_bytes", [len(DATA), 6 * 1024 * 1024])
async def test_bytes_that_are_not_those_that_were_checksummed_are_refused(
    store: ObjectStore, size_bytes: int
) -> None:
    data = (DATA * (size_bytes // len(DATA) + 1))[:size_bytes]
    good, bad = PutOptions(crc32c=crc32c(data)), PutOptions(crc32c=crc32c(data) ^ 1)
    for content in (data, parts(data)):
        with pytest.raises(ChecksumMismatch, match="the content has CRC32C"):
            await store.put("k", content, size_bytes=size_bytes, options=bad)
        with pytest.raises(NotFound):
            await store.head("k")
    with pytest.raises(ChecksumMismatch):
        await store.put("k", data, size_bytes=size_bytes, if_absent=True, options=bad)
    with pytest.raises(SizeMismatch):
        await store.put("k", parts(data), size_bytes=size_bytes + 1, options=good)
    for key, content in (("whole", data), ("streamed", parts(data))):
        info = await store.put(key, content, size_bytes=size_bytes, options=good)
        assert info.crc32c in (None, good.crc32c)
        assert bytes(await store.get_range(key, 0, size_bytes)) == data


async def test_a_class_is_given_with_the_put(backend: str, store: ObjectStore) -> None:
    options = PutOptions(COLDER)
    if backend == "directory":
        with pytest.raises(Misconfigured, match="a directory has one storage class"):
            await store.put("k", DATA, size_bytes=len(DATA), options=options)
        return
    await store.put("k", DATA, size_bytes=len(DATA), options=options)
    assert (await store.head("k", complete=True)).storage_class == COLDER


async def test_there_are_no_unfinished_uploads_where_all_ended(store: ObjectStore) -> None:
    with pytest.raises(SizeMismatch):
        await store.put("k", parts(DATA * 30), size_bytes=8 * 1024 * 1024)
    await store.put("k", parts(DATA), size_bytes=len(DATA))
    # The abort of the first may be under way.
    for _ in range(50):
        if not await store.list_uploads(""):
            break
        await asyncio.sleep(0.02)
    assert await store.list_uploads("") == []
    await store.abort_upload(UploadInfo("k", "0" * 32, 0))
    assert (await store.head("k")).size_bytes == len(DATA)


async def test_a_change_of_class_that_was_applied_without_an_answer_is_made_once() -> None:
    inner = MemoryStore()
    faulty = FaultyStore(inner, Faults(applied_but_timed_out=1.0), seed=1)
    store = RetryingStore(faulty, RetryPolicy(first_pause_s=0.001))
    written = await inner.put("k", DATA, size_bytes=len(DATA))
    writes = inner._write_count
    moved = await store.copy("k", "k", version=written.version, storage_class=COLDER)
    assert moved.storage_class == COLDER
    assert inner._write_count == writes + 1
    faulty.faults = Faults()
    with pytest.raises(PreconditionFailed):
        await store.copy("k", "k", version=written.version, storage_class=StorageClass.COLD)


def test_class_names_of_providers() -> None:
    for names in (S3_CLASSES, GCS_CLASSES):
        assert set(names) == set(StorageClass)
        days = [names[each].days_min for each in StorageClass]
        assert days == sorted(days)
        for each, known in names.items():
            warmest = class_named(names, known.name)
            assert warmest is not None and names[warmest] == known and warmest <= each
        assert class_named(names, "") == StorageClass.STANDARD
        assert class_named(names, "DEEP_ARCHIVE") is None
    assert [each.label for each in StorageClass] == ["standard", "infrequent", "cold", "archive-instant"]
