"""CRC32C by instruction and by table against the library's, at every length around the lanes."""

from __future__ import annotations

import random

import pytest
from crc32c import crc32c

from tierlog import kernel

compiled = kernel.compiled
pytestmark = pytest.mark.skipif(compiled is None, reason="no kernel here")


@pytest.mark.parametrize("by_table", [False, True])
def test_equal_to_the_library(by_table: bool) -> None:
    assert compiled is not None
    data = random.Random(5).randbytes(10_000)
    for size in [*range(70), 766, 767, 768, 769, 1023, 1024, 3071, 3072, 3073, 6144, 9999]:
        for start in (0, 1, 7):
            piece = memoryview(data)[start : start + size]
            assert compiled.crc32c(piece, 0, by_table) == crc32c(piece)
            assert compiled.crc32c(piece, 77, by_table) == crc32c(piece, 77)
