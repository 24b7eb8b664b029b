"""The corpus itself: it covers everything, it is valid, and damaged frames decode or are malformed."""

from __future__ import annotations

import struct
from random import Random

from tests.fuzz.wire_corpus import corpus, mutate
from tierlog.errors import MalformedMessage
from tierlog.wire.codec import decode_exact
from tierlog.wire.framing import decode_request_header
from tierlog.wire.registry import APIS


def test_covers_every_version_with_valid_frames() -> None:
    seen = set()
    for key, version, frame in corpus(Random(1)):
        header = decode_request_header(frame, 4)
        assert (header.api_key, header.api_version) == (key, version)
        assert struct.unpack_from(">i", frame)[0] == len(frame) - 4
        decode_exact(APIS[key].request, version, frame, header.body_offset)
        seen.add((key, version))
    assert seen == {
        (key, version)
        for key, spec in APIS.items()
        for version in range(spec.first_decodable_version, spec.max_version + 1)
    }


def test_damaged_frames_decode_or_are_malformed() -> None:
    rng = Random(2)
    decoded = total = 0
    for _ in range(20):
        for _, _, frame in corpus(rng):
            total += 1
            damaged = mutate(rng, frame)
            try:
                header = decode_request_header(damaged, 4)
                decode_exact(APIS[header.api_key].request, header.api_version, damaged, header.body_offset)
            except MalformedMessage:
                continue
            decoded += 1
    assert decoded / total > 0.3, f"{decoded} of {total}: too few reach a handler"
