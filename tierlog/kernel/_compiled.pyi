"""The functions of ``src/``. Positions are bytes; ranges are half-open; data may be anything with a buffer."""

from collections.abc import Callable
from typing import Any, Literal, TypeVar

from tierlog.types import Buffer

_Header = TypeVar("_Header", bound=tuple[int, ...])

CRC32C: str
"""How checksums are computed here: by ``instruction`` or by ``table``."""

def crc32c(data: Buffer, crc: int = 0, by_table: bool = False, /) -> int:
    """CRC32C of the data behind whatever ``crc`` stands for."""

def headers(
    data: Buffer, start: int, end: int, verify: bool, limit: int, header_type: type[_Header], /
) -> tuple[list[_Header], int]:
    """The headers of the whole batches from ``start`` on, at most ``limit``, and the start of the first that is none:
    cut off, malformed, or with ``verify`` one whose checksum does not hold. ``header_type``: the named tuple of a header's
    13 fields in their order. Raises ValueError for a start outside of the data."""

def whole_below(data: Buffer, end_offset: int, /) -> tuple[int, int]:
    """(bytes, end offset) of the batches at the start of ``data`` that end at or below ``end_offset``; (0, -1) for none.
    Stops at whatever is no batch."""

class Produce:
    """Produce requests of a broker, for ``broker.handlers.hot_produce``, which says what the arguments are."""

    def __init__(
        self,
        *,
        by_name: dict[tuple[str, int], Any],
        by_id: dict[tuple[bytes, int], Any],
        internal_topics: frozenset[str],
        known_batch: type[Any],
        append_result: type[Any],
        now_ms: Callable[[], int],
        clock: Callable[[], float],
        recorder: Any,
        takes_turn: Callable[[Any, str | None, Any], None],
        undo: Callable[..., Any],
    ) -> None: ...
    def serve(
        self, connection: Any, frame: memoryview, arrival_s: float, /
    ) -> Literal[True] | list[Any] | None:
        """True: the request is done and ``connection.reply`` has its reply. A list: the results of its first partitions, for
        the handler to go on with. None: not for here, and nothing was changed."""

    def turn(
        self, connection: Any, memory: memoryview, start: int, end: int, max_bytes: int, arrival_s: float, /
    ) -> tuple[int, list[Buffer]]:
        """Serves the whole frames in ``memory[start:end]``, of at most ``max_bytes`` each, up to the first that is not for
        here. Returns where that begins, and the replies. If the handler has to go on with it, ``connection.appended`` is the
        list that ``serve`` would return."""
