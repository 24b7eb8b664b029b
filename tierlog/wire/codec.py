"""Messages to bytes and back.

``decode`` turns any malformed input into ``MalformedMessage`` and nothing else; ``encode`` raises
``EncodeError`` for a message that the version cannot carry. Functions are compiled per (class, version) on
first use, and hand-written ones for Produce and Fetch take their place where they exist.

A decoded records field is a slice of the given buffer (a memoryview, writable if the buffer is), and keeps that buffer
in memory.
"""

from __future__ import annotations

from collections.abc import Generator
from struct import error as StructError
from typing import Any, TypeVar

from tierlog.errors import MalformedMessage
from tierlog.types import Buffer
from tierlog.wire.decoder import compile_decoder, compile_decoder_in_steps
from tierlog.wire.encoder import compile_encoder, compile_encoder_in_steps
from tierlog.wire.fast_fetch import fetch_encoder
from tierlog.wire.fast_produce import produce_decoder, produce_encoder
from tierlog.wire.messages.fetch import FetchResponse
from tierlog.wire.messages.produce import ProduceRequest, ProduceResponse
from tierlog.wire.schema import Decoder, EncodeError, Encoder, Message

M = TypeVar("M", bound=Message)
_UNREAD: tuple[Any, int] = (None, -1)
_QUICK_PRODUCE: dict[int, Decoder] = {}


def _unread(buffer: Buffer, offset: int) -> tuple[Any, int]:
    return _UNREAD


def decode(cls: type[M], version: int, buffer: Buffer, offset: int = 0) -> tuple[M, int]:
    """Reads one message at ``offset``; returns it and the offset behind it. Bytes behind the message are left
    alone: consumer-protocol metadata of a newer version may carry them. Raises MalformedMessage."""
    read = cls._decoders.get(version) or _decoder(cls, version)
    try:
        return read(buffer, offset)
    except (IndexError, StructError, UnicodeDecodeError) as error:
        raise MalformedMessage(f"{cls.__name__} v{version}: {error}") from error


def decode_exact(cls: type[M], version: int, buffer: Buffer, offset: int = 0) -> M:
    """``decode`` for a message that must fill the buffer. Raises MalformedMessage, also for bytes left
    over."""
    message, end = decode(cls, version, buffer, offset)
    if end != len(buffer):
        raise MalformedMessage(f"{cls.__name__} v{version}: {len(buffer) - end} bytes behind the message")
    return message


def encode(message: Message, version: int) -> list[Buffer]:
    """The message as buffers to be sent one after another; records fields are in the list by reference.
    Raises EncodeError."""
    cls = type(message)
    write = cls._encoders.get(version) or _encoder(cls, version)
    try:
        return write(message)
    except EncodeError:
        raise
    except (StructError, TypeError, AttributeError, ValueError, AssertionError) as error:
        raise EncodeError(f"{cls.__name__} v{version}: {error}") from error


def decode_in_steps(
    cls: type[M], version: int, buffer: Buffer, offset: int = 0
) -> Generator[None, None, tuple[M, int]]:
    """``decode`` for a message that may be long: yields every now and then."""
    if cls is ProduceRequest:
        # Nearly every request has the shape that the hand-written decoder reads, however many bytes it has.
        quick = _QUICK_PRODUCE.get(version)
        if quick is None:
            quick = _QUICK_PRODUCE[version] = produce_decoder(version, _unread)
        found = quick(buffer, offset)
        if found is not _UNREAD:
            return found
    read = cls._step_decoders.get(version)
    if read is None:
        read = cls._step_decoders[version] = compile_decoder_in_steps(cls, version)
    try:
        return (yield from read(buffer, offset))
    except (IndexError, StructError, UnicodeDecodeError) as error:
        raise MalformedMessage(f"{cls.__name__} v{version}: {error}") from error


def encode_in_steps(message: Message, version: int) -> Generator[None, None, list[Buffer]]:
    """``encode`` for a message that may be long: yields every now and then. The message must not change meanwhile."""
    cls = type(message)
    write = cls._step_encoders.get(version)
    if write is None:
        write = cls._step_encoders[version] = compile_encoder_in_steps(cls, version)
    try:
        return (yield from write(message))
    except EncodeError:
        raise
    except (StructError, TypeError, AttributeError, ValueError, AssertionError) as error:
        raise EncodeError(f"{cls.__name__} v{version}: {error}") from error


def encode_bytes(message: Message, version: int) -> bytes:
    """``encode`` joined, for small messages that are stored rather than sent."""
    return b"".join(encode(message, version))


def _decoder(cls: type[Message], version: int) -> Decoder:
    if not cls.VERSIONS[0] <= version <= cls.VERSIONS[1]:
        raise MalformedMessage(f"{cls.__name__} has no version {version}")
    read = compile_decoder(cls, version)
    if cls is ProduceRequest:
        read = produce_decoder(version, read)
    return cls._decoders.setdefault(version, read)


def _encoder(cls: type[Message], version: int) -> Encoder:
    if not cls.VERSIONS[0] <= version <= cls.VERSIONS[1]:
        raise EncodeError(f"{cls.__name__} has no version {version}")
    write = compile_encoder(cls, version)
    if cls is ProduceResponse:
        write = produce_encoder(version, write)
    elif cls is FetchResponse:
        write = fetch_encoder(version, write)
    return cls._encoders.setdefault(version, write)
