"""A long reply is handed to its socket in few buffers."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from tierlog.broker.network.joining import JOINED_BYTES, MANY, SMALL_BYTES, joined
from tierlog.broker.work.slices import complete
from tierlog.types import Buffer

SIZES = st.lists(st.sampled_from([0, 1, 20, SMALL_BYTES, SMALL_BYTES + 1, 3 * JOINED_BYTES]), max_size=60)


@given(SIZES)
def test_the_bytes_stay_as_they_are_and_large_buffers_are_not_copied(sizes: list[int]) -> None:
    rng = Random(1)
    buffers: list[Buffer] = [rng.randbytes(size) for size in sizes]
    large = [id(buffer) for buffer in buffers if len(buffer) > SMALL_BYTES]
    whole = b"".join(buffers)
    found = complete(joined(buffers))
    assert b"".join(found) == whole
    assert [id(buffer) for buffer in found if id(buffer) in large] == large
    assert buffers == []


def test_few_are_left_and_in_steps() -> None:
    buffers: list[Buffer] = [bytes(20) for _ in range(170_000)]
    steps, left = joined(buffers), 0
    try:
        while True:
            next(steps)
            left += 1
    except StopIteration as end:
        found = end.value
    assert left == 170_000
    assert len(found) <= 170_000 * 20 // JOINED_BYTES + 1 <= MANY
    assert max(map(len, found)) < JOINED_BYTES + SMALL_BYTES
