"""Streams on their way into a store: sized, gathered into pieces or parts, and checked against the announced size."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterator, Sequence
from contextlib import aclosing

from crc32c import crc32c

from tiering.errors import ChecksumMismatch, SizeMismatch
from tiering.objects.port import Buffer, Content


class Ranged(AsyncIterable[Buffer]):
    """A stream of which any part can be read at any time, on any thread, and as often as it takes: nobody keeps its bytes
    for another attempt. It checks them itself, so whoever sends them need not."""

    @abstractmethod
    def read(self, start: int, end: int) -> Iterator[memoryview]:
        """The bytes [start, end) in pieces. Blocks."""

    @abstractmethod
    async def take(self, size_bytes: int) -> None:
        """Waits until so many bytes of it may be sent."""


class ReadFailed(Exception):
    """Reading a body ended in ``error``; no client of HTTP takes this for an error of its own."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


class Span:
    """The bytes [start, end) of ``content``. As the body of a request it is read while it is sent, and again if it is sent
    again."""

    def __init__(self, content: Ranged, start: int, end: int) -> None:
        self._content = content
        self._start = start
        self._end = end

    def __len__(self) -> int:
        return self._end - self._start

    def __iter__(self) -> Iterator[memoryview]:
        """As ``pieces``, with the error in a ``ReadFailed``."""
        try:
            yield from self.pieces()
        except Exception as error:
            raise ReadFailed(error) from error

    def pieces(self) -> Iterator[memoryview]:
        """What the content reads. Not named ``read``: it would pass for a file."""
        return self._content.read(self._start, self._end)

    def behind(self, size_bytes: int) -> Span:
        """Without so many bytes at the front."""
        return Span(self._content, self._start + size_bytes, self._end)


async def spans(content: Ranged, size_bytes: int, span_bytes: int) -> AsyncGenerator[Span, None]:
    """The content in bodies of ``span_bytes``, but for the last one, each once it may be sent."""
    for start in range(0, size_bytes, span_bytes):
        span = Span(content, start, min(start + span_bytes, size_bytes))
        await content.take(len(span))
        yield span


def is_repeatable(content: Content) -> bool:
    """Whether a second attempt can read the content from its start again."""
    return isinstance(content, (bytes, bytearray, memoryview)) or not isinstance(content, AsyncIterator)


async def pieces(
    key: str, content: Content, size_bytes: int, piece_bytes: int, crc: int | None = None
) -> AsyncGenerator[Sequence[Buffer], None]:
    """The content as lists of buffers of at least ``piece_bytes`` together (the last one may be smaller).

    Raises ``SizeMismatch`` before the first byte too many, or at an end that comes too early, and ``ChecksumMismatch``
    before the last piece if the content's CRC32C is not ``crc``, so a consumer that gives up on exceptions never completes a
    wrong object. An iterator that was started is always closed.
    """
    if isinstance(content, (bytes, bytearray, memoryview)):
        _check(key, len(content), size_bytes, ended=True)
        if crc is not None:
            _check_crc(key, crc32c(content), crc)
        if len(content):
            yield [content]
        return
    gathered: list[Buffer] = []
    gathered_bytes = total_bytes = running_crc = 0
    stream = content.__aiter__()
    try:
        async for buffer in stream:
            total_bytes += len(buffer)
            _check(key, total_bytes, size_bytes, ended=False)
            if crc is not None:
                running_crc = crc32c(buffer, running_crc)
            gathered.append(buffer)
            gathered_bytes += len(buffer)
            if gathered_bytes >= piece_bytes and total_bytes < size_bytes:
                yield gathered
                gathered, gathered_bytes = [], 0
        _check(key, total_bytes, size_bytes, ended=True)
        if crc is not None:
            _check_crc(key, running_crc, crc)
        if gathered:
            yield gathered
    finally:
        close = getattr(stream, "aclose", None)
        if close is not None:
            await close()


async def whole(key: str, content: Content, size_bytes: int, crc: int | None = None) -> Buffer:
    """The content in one buffer; callers have bounded ``size_bytes``. Checked as ``pieces`` does."""
    if isinstance(content, (bytes, bytearray, memoryview)):
        _check(key, len(content), size_bytes, ended=True)
        if crc is not None:
            _check_crc(key, crc32c(content), crc)
        return content
    parts: list[Buffer] = []
    async for piece in pieces(key, content, size_bytes, size_bytes + 1, crc):
        parts.extend(piece)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _check(key: str, found_bytes: int, size_bytes: int, *, ended: bool) -> None:
    if found_bytes > size_bytes or (ended and found_bytes != size_bytes):
        raise SizeMismatch(f"announced {size_bytes} bytes, the stream holds {found_bytes}", key=key)


def _check_crc(key: str, found: int, expected: int) -> None:
    if found != expected:
        raise ChecksumMismatch(f"the content has CRC32C {found:08x}, announced was {expected:08x}", key=key)


async def parts(
    key: str,
    content: Content,
    size_bytes: int,
    part_bytes: int,
    crc: int | None,
    free: list[bytearray] | None = None,
) -> AsyncGenerator[memoryview, None]:
    """Parts of exactly ``part_bytes`` until what is left, which is never empty. The last one comes when the stream has ended
    and is what it was announced to be; raises as ``pieces``. ``free``: buffers to be filled again, which the caller
    puts there: what is behind a part that it needs no more."""
    buffer, filled = bytearray(min(part_bytes, size_bytes)), 0
    async with aclosing(pieces(key, content, size_bytes, 1, crc)) as stream:
        async for piece in stream:
            for each in piece:
                view = memoryview(each).cast("B")
                while len(view):
                    if filled == part_bytes:
                        yield memoryview(buffer)
                        buffer, filled = free.pop() if free else bytearray(part_bytes), 0
                    count = min(len(view), part_bytes - filled)
                    buffer[filled : filled + count] = view[:count]
                    filled += count
                    view = view[count:]
    yield memoryview(buffer)[:filled]
