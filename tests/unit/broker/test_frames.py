"""Frames come out whole whatever pieces the bytes arrive in, and memory is bounded by what has arrived."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tierlog.broker.network.frames import (
    MIN_PRIVATE_BYTES,
    SCARCE_PRIVATE_BYTES,
    SCARCE_READ_BYTES,
    SCRATCH_BYTES,
    FrameBuffer,
    ReceiveMemory,
)
from tierlog.errors import MalformedMessage

MAX_FRAME = 10_000_000


def feed(buffer: FrameBuffer, data: bytes) -> list[bytes]:
    """One read of ``data``, as far as the buffer takes it."""
    frames = []
    while data:
        room = buffer.writable()
        assert len(room) > 0
        count = min(len(room), len(data))
        room[:count] = data[:count]
        data = data[count:]
        buffer.received(count)
        while (frame := buffer.next_frame()) is not None:
            frames.append(bytes(frame))
        buffer.settle()
    return frames


def framed(payload: bytes) -> bytes:
    return len(payload).to_bytes(4, "big") + payload


@given(
    payloads=st.lists(st.binary(max_size=3000), max_size=12),
    cuts=st.lists(st.integers(1, 4000), min_size=1, max_size=40),
)
def test_any_cut_gives_the_same_frames(payloads: list[bytes], cuts: list[int]) -> None:
    memory = ReceiveMemory(1 << 30)
    buffer = FrameBuffer(memory, MAX_FRAME)
    stream = b"".join(map(framed, payloads))
    got, at, turn = [], 0, 0
    while at < len(stream):
        size = cuts[turn % len(cuts)]
        got += feed(buffer, stream[at : at + size])
        at, turn = at + size, turn + 1
    assert got == payloads
    assert memory.used_bytes == 0


def test_a_large_frame_grows_with_its_bytes_not_with_its_prefix() -> None:
    memory = ReceiveMemory(1 << 30)
    buffer = FrameBuffer(memory, MAX_FRAME)
    payload = random.Random(1).randbytes(3_000_000)
    stream = framed(payload)
    assert feed(buffer, stream[:100]) == []
    assert memory.used_bytes == MIN_PRIVATE_BYTES
    got, at = [], 100
    while at < len(stream):
        got += feed(buffer, stream[at : at + SCRATCH_BYTES])
        at += SCRATCH_BYTES
        assert memory.used_bytes <= 4 * min(at, len(stream))
    assert got == [payload]
    assert memory.used_bytes == 0


@pytest.mark.parametrize("size", [-1, MAX_FRAME + 1, 2**31 - 1, -(2**31)])
def test_a_size_out_of_range_is_malformed(size: int) -> None:
    buffer = FrameBuffer(ReceiveMemory(1 << 30), MAX_FRAME)
    with pytest.raises(MalformedMessage):
        feed(buffer, size.to_bytes(4, "big", signed=True))


def test_released_memory_is_told() -> None:
    told: list[int] = []
    memory = ReceiveMemory(MIN_PRIVATE_BYTES, lambda: told.append(memory.used_bytes))
    held = memory.acquire(MIN_PRIVATE_BYTES)
    assert memory.is_exhausted
    memory.release(held)
    assert told == [0]


def test_where_memory_is_scarce_a_connection_gets_little_of_it() -> None:
    memory = ReceiveMemory(MIN_PRIVATE_BYTES)
    memory.acquire(MIN_PRIVATE_BYTES)
    buffers = [FrameBuffer(memory, MAX_FRAME) for _ in range(100)]
    for buffer in buffers:
        assert len(buffer.writable()) == SCARCE_READ_BYTES
        assert feed(buffer, framed(bytes(1_000_000))[:100]) == []
        assert len(buffer.writable()) > 0
    assert memory.used_bytes == MIN_PRIVATE_BYTES + 100 * SCARCE_PRIVATE_BYTES
    whole = framed(bytes(10_000))
    assert feed(FrameBuffer(memory, MAX_FRAME), whole) == [whole[4:]], "small ones need none"
