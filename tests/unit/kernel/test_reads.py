"""Memory for reads: the kernel's is not filled, so nobody may see more of it than a read has filled."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.unit.log.logs import fill, open_log
from tierlog.kernel import compiled
from tierlog.log.reading import read, read_nowait


@pytest.mark.skipif(compiled is None, reason="no kernel")
def test_unfilled_memory_is_an_ordinary_bytearray() -> None:
    assert compiled is not None
    for size in (0, 1, 4096, 3 << 20):
        buffer = compiled.unfilled(size)
        assert type(buffer) is bytearray
        assert len(buffer) == size
        buffer[:] = bytes(size)
        assert not any(buffer)
    for size in (-1, 1 << 80, "1"):
        with pytest.raises((ValueError, OverflowError, TypeError)):
            compiled.unfilled(size)  # type: ignore[arg-type]


def test_a_read_gives_the_files_bytes_or_none(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    fill(log, 40, value_bytes=3000)
    located = log.locate(0, 1 << 20, 40)
    assert located is not None
    fd = located.descriptor.fd
    for size in (1, 61, 4096, located.size_bytes):
        part = located._replace(size_bytes=size)
        assert read_nowait(part) == read(part) == os.pread(fd, size, 0)
    assert read_nowait(located._replace(size_bytes=located.size_bytes + 1)) is None
