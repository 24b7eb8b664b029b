"""Every message in every version survives decode(encode(m)), and decode gives only values that encode
takes."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.wire_random import random_message, versions_of
from tests.unit.wire.messages import ALL
from tierlog.errors import MalformedMessage
from tierlog.wire.codec import decode, decode_exact, encode_bytes
from tierlog.wire.schema import Message


@pytest.mark.parametrize("cls", ALL, ids=lambda cls: cls.__name__)
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 1 << 32))
def test_round_trip(cls: type[Message], seed: int) -> None:
    rng = Random(seed)
    for version in versions_of(cls):
        message = random_message(cls, version, rng)
        data = encode_bytes(message, version)
        assert decode_exact(cls, version, data) == message
        padded = bytearray(b"\xaa" * 5 + data + b"\xaa" * 3)
        for buffer in (padded, memoryview(padded)):
            assert decode(cls, version, buffer, 5) == (message, 5 + len(data))


@pytest.mark.parametrize("cls", ALL, ids=lambda cls: cls.__name__)
def test_every_truncation_is_malformed(cls: type[Message]) -> None:
    rng = Random(7)
    for version in versions_of(cls):
        data = min((encode_bytes(random_message(cls, version, rng), version) for _ in range(4)), key=len)
        for end in range(min(len(data), 250)):
            with pytest.raises(MalformedMessage):
                decode_exact(cls, version, data[:end])
        with pytest.raises(MalformedMessage):
            decode_exact(cls, version, data + b"\0")


@pytest.mark.parametrize("cls", ALL, ids=lambda cls: cls.__name__)
@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 1 << 32))
def test_mutated_bytes_give_a_message_or_malformed(cls: type[Message], seed: int) -> None:
    rng = Random(seed)
    for version in versions_of(cls):
        data = bytearray(encode_bytes(random_message(cls, version, rng), version))
        for _ in range(rng.randrange(1, 4)):
            if data:
                data[rng.randrange(len(data))] = rng.choice((0, 1, 127, 128, 255, rng.randrange(256)))
        try:
            message, _ = decode(cls, version, data)
        except MalformedMessage:
            continue
        again = encode_bytes(message, version)
        assert encode_bytes(decode_exact(cls, version, again), version) == again
