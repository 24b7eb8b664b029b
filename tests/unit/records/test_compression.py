"""Codecs: round trips, framings of other clients, bounded output."""

from __future__ import annotations

import gzip
import tracemalloc

import cramjam
import lz4.frame
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from tierlog.records import compression
from tierlog.records.batch import Compression, InvalidBatch
from tierlog.records.compression import compress, decompress

CODECS = [codec for codec in Compression if codec is not Compression.NONE]


@given(st.binary(max_size=100_000), st.sampled_from(Compression))
def test_round_trip(data: bytes, codec: Compression) -> None:
    packed = compress(codec, data)
    assert bytes(decompress(codec, packed)) == data
    assert bytes(decompress(codec, memoryview(bytearray(packed)))) == data


@given(st.binary(max_size=300), st.sampled_from(CODECS))
def test_any_bytes_decompress_or_give_one_error(data: bytes, codec: Compression) -> None:
    for hostile in (data, bytes(compress(codec, b"abc" * 40))[:-3] + data):
        try:
            decompress(codec, hostile)
        except InvalidBatch:
            continue


@pytest.mark.parametrize("codec", CODECS)
def test_a_cut_off_stream_is_refused(codec: Compression) -> None:
    packed = bytes(compress(codec, b"0123456789" * 1000))
    with pytest.raises(InvalidBatch):
        decompress(codec, b"")
    if codec is Compression.ZSTD:  # seen by the record walk
        assert len(decompress(codec, packed[:-5])) < 10_000
        return
    with pytest.raises(InvalidBatch):
        decompress(codec, packed[:-5])


def test_snappy_without_framing_is_read() -> None:
    data = b"raw as librdkafka sends it" * 100
    assert decompress(Compression.SNAPPY, bytes(cramjam.snappy.compress_raw(data))) == data


def test_lz4_blocks_are_independent() -> None:
    packed = bytes(compress(Compression.LZ4, bytes(200_000)))
    assert lz4.frame.get_frame_info(packed)["block_linked"] is False


def test_gzip_with_two_members_is_read() -> None:
    assert decompress(Compression.GZIP, gzip.compress(b"one") + gzip.compress(b"two")) == b"onetwo"


def test_zstd_without_content_size_is_read() -> None:
    packer = zstandard.ZstdCompressor().compressobj()
    packed = packer.compress(b"stream" * 1000) + packer.flush()
    assert decompress(Compression.ZSTD, packed) == b"stream" * 1000


@pytest.mark.parametrize("codec", CODECS)
def test_a_bomb_costs_bounded_memory(codec: Compression, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compression, "MIN_OUTPUT_LIMIT_BYTES", 1_000_000)
    monkeypatch.setattr(compression, "MAX_RATIO", 1)
    bomb = bytes(compress(codec, bytes(50_000_000)))
    tracemalloc.start()
    with pytest.raises(InvalidBatch, match="more than"):
        decompress(codec, bomb)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10_000_000


def test_a_snappy_block_that_announces_too_much_is_refused_before_allocation() -> None:
    with pytest.raises(InvalidBatch, match="more than"):
        decompress(Compression.SNAPPY, b"\xff\xff\xff\x1f" + bytes(20))
