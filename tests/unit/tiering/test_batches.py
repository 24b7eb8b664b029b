"""Where batches end."""

from __future__ import annotations

import random

import pytest

from tests.unit.tiering.segments import LocalLog, extend
from tiering.batches import whole_below
from tiering.errors import CorruptObject


def test_whole_batches_below_an_offset() -> None:
    log = LocalLog()
    batches = extend(log, random.Random(1), 20)
    data, size_bytes = log.tail(0), 0
    assert whole_below(data, 0) == (0, -1)
    for one in batches:
        assert whole_below(data, one.end_offset - 1) == (size_bytes, one.base_offset or -1)
        size_bytes += len(one.data)
        assert whole_below(data, one.end_offset) == (size_bytes, one.end_offset)
    assert whole_below(data, log.end_offset + 1) == (len(data), log.end_offset)
    assert whole_below(b"", 5) == (0, -1)
    with pytest.raises(CorruptObject):
        whole_below(bytes(100), 5)
