"""Opens a compressed body in one call where the codec can bound it; the rest, and all errors, are ``tierlog.records``'s."""

from __future__ import annotations

from collections.abc import Sequence

import lz4.frame
import zstandard

from tierlog.records.batch import Compression, InvalidBatch
from tierlog.records.compression import MIN_OUTPUT_LIMIT_BYTES, decompress, output_limit
from tierlog.types import Buffer

LZ4_RATIO = 4
LZ4_RATIO_MAX = 255
"""No block says more than this of its bytes."""
LZ4_WHOLE_BYTES = MIN_OUTPUT_LIMIT_BYTES // LZ4_RATIO_MAX
"""What comes out of so few bytes is within any limit."""
BODY_BYTES_MAX = 1 << 30
"""Of one batch; a column of Arrow holds 2 GiB."""


def body_limit(packed_bytes: int) -> int:
    """How much may come out of so many bytes."""
    return min(output_limit(packed_bytes), BODY_BYTES_MAX)


class Opener:
    """For one thread at a time: zstd's decompressor is no more than that."""

    def __init__(self) -> None:
        self._zstd: zstandard.ZstdDecompressor | None = None

    def all_opened(self, data: memoryview, places: Sequence[tuple[int, int, int]]) -> tuple[bytes, ...]:
        """The bodies at (begin, end) of the data, of these codecs, up to the first that cannot be opened."""
        opened: list[bytes] = []
        take, unlz4, lz4_id = opened.append, lz4.frame.decompress, int(Compression.LZ4)
        try:
            for begin, end, codec in places:
                packed = data[begin:end]
                if (
                    codec == lz4_id and end - begin <= LZ4_WHOLE_BYTES
                ):  # As ``_lz4``, without the steps to it.
                    body, read = unlz4(packed, False, True)
                    if read == end - begin:
                        take(body)
                        continue
                take(self.opened(Compression(codec), packed, body_limit(end - begin)))
        except (InvalidBatch, ValueError, RuntimeError):
            pass
        return tuple(opened)

    def opened(self, codec: Compression, packed: Buffer, limit_bytes: int) -> bytes:
        """Raises InvalidBatch, above ``limit_bytes`` as well."""
        body: bytes | None = None
        if codec is Compression.LZ4:
            body = _lz4(packed, limit_bytes)
        elif codec is Compression.ZSTD:
            self._zstd = self._zstd or zstandard.ZstdDecompressor()
            body = _zstandard(self._zstd, packed, limit_bytes)
        if body is None:
            made = decompress(codec, packed, limit_bytes)
            body = made if isinstance(made, bytes) else bytes(made)
        return body


def _lz4(packed: Buffer, limit_bytes: int) -> bytes | None:
    """None unless it is one whole frame within the limit. The first piece is as large as most bodies are, since the codec
    takes memory for all that a piece may hold."""
    if LZ4_RATIO_MAX * len(packed) <= limit_bytes:
        try:
            whole, read = lz4.frame.decompress(packed, return_bytes_read=True)
        except RuntimeError:
            return None
        return whole if read == len(packed) else None
    frame = lz4.frame.LZ4FrameDecompressor()
    pieces: list[bytes] = []
    left, part = limit_bytes, packed
    try:
        while not frame.eof and left > 0 and (len(part) or not frame.needs_input):
            piece: bytes = frame.decompress(part, max_length=min(left, LZ4_RATIO * len(packed)))
            if not piece:
                return None
            pieces.append(piece)
            left, part = left - len(piece), b""
    except RuntimeError:
        return None
    if not frame.eof or frame.unused_data:
        return None
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _zstandard(zstd: zstandard.ZstdDecompressor, packed: Buffer, limit_bytes: int) -> bytes | None:
    """None unless it is one frame that tells a size within the limit, and keeps to it."""
    try:
        told = zstandard.frame_content_size(packed)
        if not 0 < told <= limit_bytes:
            return None
        return zstd.decompress(packed, max_output_size=told, allow_extra_data=False)
    except zstandard.ZstdError:
        return None
