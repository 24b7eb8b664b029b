"""Codecs of record batches: none, gzip, snappy, lz4, zstd, as Kafka's clients write and read them.

Output comes in pieces and is bounded while it streams: at most ``max(100 x input, 64 MiB)`` bytes, or less where the
caller says so, whatever size a frame declares. lz4 frames have independent blocks (Kafka's Java reads no others).
Snappy is written in xerial framing, as Java does; both that and raw blocks (librdkafka) are read.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from struct import Struct, error

import cramjam
import lz4.frame
import zstandard

from tierlog.errors import ErrorCode
from tierlog.records.batch import Compression, InvalidBatch
from tierlog.types import Buffer

MAX_RATIO = 100
MIN_OUTPUT_LIMIT_BYTES = 64 * 1024 * 1024
OPENED_RATIO = 16
OPENED_OUTPUT_BYTES = 32 * 1024 * 1024

_XERIAL_MAGIC = b"\x82SNAPPY\x00"
_XERIAL_HEADER = Struct(">8sii")
_XERIAL_BLOCK_BYTES = 32 * 1024
_INT32 = Struct(">i")
# No snappy element copies more than 64 bytes out of 3; a block that announces more is corrupt.
_SNAPPY_MAX_RATIO = 32
_GZIP_WBITS = 31
PIECE_BYTES = 64 * 1024
_INPUT_BYTES = 16 * 1024
_GZIP_MEMBERS_MAX = 1000


class TooMuchOutput(InvalidBatch):
    """The output is larger than the caller allows."""


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
    """How many bytes may come out of ``packed_bytes``."""
    return max(MAX_RATIO * packed_bytes, MIN_OUTPUT_LIMIT_BYTES)


def opened_limit(packed_bytes: int) -> int:
    """How many bytes may come out of a batch of ``packed_bytes`` that is opened at its append."""
    return max(OPENED_RATIO * packed_bytes, OPENED_OUTPUT_BYTES)


def decompress(codec: Compression, data: Buffer, limit_bytes: int | None = None) -> Buffer:
    """All of ``unpacked`` at once."""
    if codec is Compression.NONE:
        return data
    parts = list(unpacked(codec, data, limit_bytes))
    return parts[0] if len(parts) == 1 else b"".join(parts)


def unpacked(codec: Compression, data: Buffer, limit_bytes: int | None = None) -> Iterator[bytes]:
    """The output piece by piece: ``PIECE_BYTES`` at most, but a raw snappy block as a whole. ``limit_bytes`` bounds the
    total; by default ``output_limit`` does.

    Raises InvalidBatch (CORRUPT_MESSAGE) for bytes that are cut off or not of this codec, TooMuchOutput above the
    bound."""
    limit = output_limit(len(data)) if limit_bytes is None else limit_bytes
    size = 0
    try:
        for piece in _DECODERS[codec](data, limit):
            size += len(piece)
            if size > limit:
                raise _over(limit)
            yield piece
    except (zlib.error, cramjam.DecompressionError, RuntimeError, zstandard.ZstdError, EOFError, error) as e:
        raise InvalidBatch(ErrorCode.CORRUPT_MESSAGE, f"{codec.name.lower()}: {e}") from e


def _over(limit: int) -> TooMuchOutput:
    return TooMuchOutput(ErrorCode.CORRUPT_MESSAGE, f"batch decompresses to more than {limit} bytes")


def _plain(data: Buffer, limit: int) -> Iterator[bytes]:
    view = memoryview(data)
    for start in range(0, len(view), PIECE_BYTES):
        yield bytes(view[start : start + PIECE_BYTES])


def _gunzip(data: Buffer, limit: int) -> Iterator[bytes]:
    """Input is passed in small parts, since the codec copies the unread rest of a part each time."""
    view, position = memoryview(data), 0
    for _ in range(_GZIP_MEMBERS_MAX):  # a gzip stream may hold several members
        unpacker = zlib.decompressobj(wbits=_GZIP_WBITS)
        part: Buffer = b""
        while not unpacker.eof:
            if not len(part):
                part = view[position : position + _INPUT_BYTES]
                position += len(part)
                if not len(part):
                    raise EOFError("stream is cut off")
            piece = unpacker.decompress(part, PIECE_BYTES)
            part = unpacker.unconsumed_tail
            if piece:
                yield piece
        position -= len(unpacker.unused_data)
        if position == len(view):
            return
    raise EOFError(f"more than {_GZIP_MEMBERS_MAX} members")


def _unlz4(data: Buffer, limit: int) -> Iterator[bytes]:
    unpacker = lz4.frame.LZ4FrameDecompressor()
    view, position = memoryview(data), 0
    while not unpacker.eof:
        part: Buffer = b""
        if unpacker.needs_input:
            part = view[position : position + _INPUT_BYTES]
            position += len(part)
            if not len(part):
                raise EOFError("frame is cut off")
        piece: bytes = unpacker.decompress(part, max_length=PIECE_BYTES)
        if piece:
            yield piece


def _unzstd(data: Buffer, limit: int) -> Iterator[bytes]:
    """A stream that is cut off yields what it holds; the record walk then finds the rest missing."""
    if not len(data):
        raise EOFError("empty frame")
    with zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True) as reader:
        while piece := reader.read(PIECE_BYTES):
            yield piece


def _compress_xerial(data: Buffer) -> bytes:
    view = memoryview(data)
    parts = [_XERIAL_HEADER.pack(_XERIAL_MAGIC, 1, 1)]
    for start in range(0, len(view), _XERIAL_BLOCK_BYTES):
        block = bytes(cramjam.snappy.compress_raw(view[start : start + _XERIAL_BLOCK_BYTES]))
        parts += (_INT32.pack(len(block)), block)
    return b"".join(parts)


def _unsnappy(data: Buffer, limit: int) -> Iterator[bytes]:
    view = memoryview(data)
    if bytes(view[: len(_XERIAL_MAGIC)]) != _XERIAL_MAGIC:
        yield _unsnappy_block(view, limit)
        return
    position = _XERIAL_HEADER.size
    while position < len(view):
        (block_bytes,) = _INT32.unpack_from(view, position)
        position += _INT32.size
        if block_bytes < 0 or position + block_bytes > len(view):
            raise EOFError("block is cut off")
        piece = _unsnappy_block(view[position : position + block_bytes], limit)
        limit -= len(piece)
        yield piece
        position += block_bytes


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


_DECODERS: dict[Compression, Callable[[Buffer, int], Iterator[bytes]]] = {
    Compression.NONE: _plain,
    Compression.GZIP: _gunzip,
    Compression.SNAPPY: _unsnappy,
    Compression.LZ4: _unlz4,
    Compression.ZSTD: _unzstd,
}
