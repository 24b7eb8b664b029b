"""A stream of any length goes through in bounded memory: one part being filled, one being sent."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.contract.objects.conftest import config_of, gcs_config_of
from tests.servers.gcs.serving import gcs_apart
from tiering.objects.directory import DirectoryStore
from tiering.objects.gcs.store import GcsObjectStore
from tiering.objects.port import Buffer, ObjectStore
from tiering.objects.retrying import RetryingStore
from tiering.objects.s3.store import S3ObjectStore

MIB = 1024 * 1024
PART_BYTES = 8 * MIB
SLACK_BYTES = 8 * MIB  # Buffers of sockets and of the allocator.


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


class Zeros:
    """A GiB of nothing; watches how much memory the process has while it is being pulled."""

    def __init__(self, size_bytes: int) -> None:
        self.size_bytes = size_bytes
        self.peak_bytes = 0

    async def __aiter__(self) -> AsyncIterator[Buffer]:
        for _ in range(0, self.size_bytes, MIB):
            self.peak_bytes = max(self.peak_bytes, resident_bytes())
            await asyncio.sleep(0)
            yield bytes(MIB)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["directory", "seaweedfs"])
async def test_a_gibibyte(backend: str, prefix: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    inner: ObjectStore
    if backend == "directory":
        inner = DirectoryStore(tmp_path / "objects")
    else:
        server = request.getfixturevalue("seaweedfs_server")
        inner = S3ObjectStore(replace(config_of(server, prefix), part_bytes=PART_BYTES))
    store = RetryingStore(inner)
    warm_up = Zeros(4 * PART_BYTES)
    await store.put("warm-up", warm_up, size_bytes=warm_up.size_bytes)
    before_bytes = resident_bytes()
    zeros = Zeros(1024 * MIB)
    await store.put("large", zeros, size_bytes=zeros.size_bytes)
    assert zeros.peak_bytes - before_bytes < 2 * PART_BYTES + SLACK_BYTES
    assert warm_up.peak_bytes > 0
    assert (await store.head("large")).size_bytes == zeros.size_bytes
    assert bytes(await store.get_range("large", zeros.size_bytes - 10, zeros.size_bytes)) == bytes(10)
    await store.delete(["large", "warm-up"])
    await store.close()


@pytest.mark.slow
async def test_a_segment_in_four_parts(prefix: str, request: pytest.FixtureRequest) -> None:
    """The size that S3 gets where none is set: a quarter of the object, 64 MiB here."""
    server = request.getfixturevalue("seaweedfs_server")
    store = RetryingStore(S3ObjectStore(replace(config_of(server, prefix), part_bytes=0)))
    before_bytes = resident_bytes()
    zeros = Zeros(256 * MIB)
    await store.put("segment", zeros, size_bytes=zeros.size_bytes)
    assert zeros.peak_bytes - before_bytes < 2 * 64 * MIB + 2 * SLACK_BYTES
    assert (await store.head("segment")).size_bytes == zeros.size_bytes
    await store.delete(["segment"])
    await store.close()


@pytest.mark.slow
async def test_a_long_stream_to_google(prefix: str, tmp_path: Path) -> None:
    """The same of the part-wise upload, which is ours; the server keeps all of it in its own process."""
    with gcs_apart(tmp_path / "gcs") as server:
        store = GcsObjectStore(replace(gcs_config_of(server, prefix), part_bytes=PART_BYTES))
        warm_up = Zeros(4 * PART_BYTES)
        await store.put("warm-up", warm_up, size_bytes=warm_up.size_bytes)
        before_bytes = resident_bytes()
        zeros = Zeros(64 * MIB)
        await store.put("large", zeros, size_bytes=zeros.size_bytes)
        assert zeros.peak_bytes - before_bytes < 2 * PART_BYTES + SLACK_BYTES
        assert (await store.head("large")).size_bytes == zeros.size_bytes
        await store.close()
