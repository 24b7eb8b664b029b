"""Codecs of record batches: none, gzip, snappy, lz4, zstd, as Kafka's clients write and read them.

Output is bounded while it streams: at most ``max(100 x input, 64 MiB)`` bytes, so that a hostile batch costs
bounded memory. lz4 frames have independent blocks (Kafka's Java reads no others). Snappy is written in xerial
framing, as Java does; both that and raw blocks (librdkafka) are read.
"""

from __future__ import annotations

import zlib
from struct import Struct, error

import cramjam
import lz4.frame
import zstandard

from tierlog.errors import ErrorCode
from tierlog.records.batch import Compression, InvalidBatch
from tierlog.types import Buffer

MAX_RATIO = 100
MIN_OUTPUT_LIMIT_BYTES = 64 * 1024 * 1024

_XERIAL_MAGIC = b"\x82SNAPPY\x00"
_XERIAL_HEADER = Struct(">8sii")
_XERIAL_BLOCK_BYTES = 32 * 1024
_INT32 = Struct(">i")
# No snappy element copies more than 64 bytes out of 3; a block that announces more is corrupt.
_SNAPPY_MAX_RATIO = 32
_GZIP_WBITS = 31
_READ_BYTES = 256 * 1024


def compress(codec: Compression, data: Buffer) -> Buffer:
    """Whole input to whole output, at each codec's default level."""
    if codec is Compression.NONE:
        return data
    if codec is Compression.GZIP:
        packer = zlib.compressobj(wbits=_GZIP_WBITS)
        return packer.compress(data) + packer.flush()
    if codec is Compression.SNAPPY:
        return _compress_xerial(data)
    if codec is Compression.LZ4:
        packed: bytes = lz4.frame.compress(data, block_linked=False, store_size=False)
        return packed
    return zstandard.ZstdCompressor(level=3, write_content_size=True).compress(data)


def output_limit(packed_bytes: int) -> int:
    """So many bytes may come out of so many."""
    return max(MAX_RATIO * packed_bytes, MIN_OUTPUT_LIMIT_BYTES)


def decompress(codec: Compression, data: Buffer) -> Buffer:
    """Raises InvalidBatch (CORRUPT_MESSAGE) for bytes that the codec did not write or output above the
    bound."""
    if codec is Compression.NONE:
        return data
    limit = output_limit(len(data))
    try:
        return _DECODERS[codec](data, limit)
    except (zlib.error, cramjam.DecompressionError, RuntimeError, zstandard.ZstdError, EOFError, error) as e:
        raise InvalidBatch(ErrorCode.CORRUPT_MESSAGE, f"{codec.name.lower()}: {e}") from e


def _over(limit: int) -> InvalidBatch:
    return InvalidBatch(ErrorCode.CORRUPT_MESSAGE, f"batch decompresses to more than {limit} bytes")


def _gunzip(data: Buffer, limit: int) -> Buffer:
    parts: list[bytes] = []
    size = 0
    rest: Buffer = data
    while len(rest) or not parts:  # a gzip stream may hold several members
        unpacker = zlib.decompressobj(wbits=_GZIP_WBITS)
        part = unpacker.decompress(rest, limit + 1 - size)
        size += len(part)
        if size > limit:
            raise _over(limit)
        if not unpacker.eof:
            raise EOFError("stream is cut off")
        parts.append(part)
        rest = unpacker.unused_data
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _unlz4(data: Buffer, limit: int) -> Buffer:
    unpacker = lz4.frame.LZ4FrameDecompressor()
    part: bytes = unpacker.decompress(data, max_length=limit + 1)
    if len(part) > limit:
        raise _over(limit)
    if not unpacker.eof:
        raise EOFError("frame is cut off")
    return part


def _unzstd(data: Buffer, limit: int) -> Buffer:
    """A stream that is cut off gives what there is of it; the record walk then misses the rest."""
    parts: list[bytes] = []
    size = 0
    with zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True) as reader:
        while part := reader.read(_READ_BYTES):
            size += len(part)
            if size > limit:
                raise _over(limit)
            parts.append(part)
    if not parts and not len(data):
        raise EOFError("empty frame")
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _compress_xerial(data: Buffer) -> bytes:
    view = memoryview(data)
    parts = [_XERIAL_HEADER.pack(_XERIAL_MAGIC, 1, 1)]
    for start in range(0, len(view), _XERIAL_BLOCK_BYTES):
        block = bytes(cramjam.snappy.compress_raw(view[start : start + _XERIAL_BLOCK_BYTES]))
        parts += (_INT32.pack(len(block)), block)
    return b"".join(parts)


def _unsnappy(data: Buffer, limit: int) -> Buffer:
    view = memoryview(data)
    if bytes(view[: len(_XERIAL_MAGIC)]) != _XERIAL_MAGIC:
        return _unsnappy_block(view, limit)
    parts: list[bytes] = []
    position = _XERIAL_HEADER.size
    while position < len(view):
        (block_bytes,) = _INT32.unpack_from(view, position)
        position += _INT32.size
        if block_bytes < 0 or position + block_bytes > len(view):
            raise EOFError("block is cut off")
        part = _unsnappy_block(view[position : position + block_bytes], limit)
        limit -= len(part)
        parts.append(part)
        position += block_bytes
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _unsnappy_block(block: memoryview, limit: int) -> bytes:
    """The announced length is checked before anything of that size is allocated."""
    announced = shift = 0
    for index, byte in enumerate(block[:5]):
        announced |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            if announced > limit or announced > _SNAPPY_MAX_RATIO * max(len(block) - index, 2):
                raise _over(min(limit, _SNAPPY_MAX_RATIO * len(block)))
            return bytes(cramjam.snappy.decompress_raw(block))
    raise EOFError("block without a length")


_DECODERS = {
    Compression.GZIP: _gunzip,
    Compression.SNAPPY: _unsnappy,
    Compression.LZ4: _unlz4,
    Compression.ZSTD: _unzstd,
}
