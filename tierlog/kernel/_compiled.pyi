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

def followed(
    data: Buffer, end_offset: int, epoch: int, header_type: type[_Header], /
) -> tuple[list[_Header], int]:
    """The headers of the batches at the start of ``data`` that a follower appends to a log that ends at ``end_offset`` and
    has reached ``epoch``, and where they stop: before what ``replicated_batches`` refuses or leaves out, and before a
    marker."""

def noted(
    data: Buffer, count: int, position: int, interval: int, since: int, timestamp: int, offset: int, /
) -> tuple[int, int, int, int, list[tuple[int, int, int, int]]]:
    """``Segment.note_batch`` for the first ``count`` batches of ``data``, which lie at ``position``: how many were noted,
    the bytes since the last index entry, the largest timestamp and its offset, and the entries that are due, each (last
    offset, position, largest timestamp, its offset)."""

def told(data: Buffer, count: int, remembered: int, /) -> list[tuple[int, int]]:
    """(number, position) of those of the first ``count`` batches of ``data`` of which producers must be told: all that
    have a producer id, without those that are forgotten at once, for ``remembered`` more of the same producer and epoch
    follow, none of them of a transaction. Raises ValueError for a ``remembered`` outside of [1, 16]."""

def whole_below(data: Buffer, end_offset: int, /) -> tuple[int, int]:
    """(bytes, end offset) of the batches at the start of ``data`` that end at or below ``end_offset``; (0, -1) for none.
    Stops at whatever is no batch."""

def walk_segment(
    data: Buffer,
    state: tuple[int, int, int, int, int, int, int, int, int, int, int],
    base_offset: int,
    index_interval_bytes: int,
    crc_chunk_bytes: int,
    /,
) -> tuple[
    int, tuple[int, int, int, int, int, int, int, int, int, int, int], bytes, bytes, bytes, bytes, bytes
]:
    """``tiering.copying.scan.WalkSegment``; without the lock over more than 256 KB. Raises ValueError for no state."""

def offset_records(events: object, start: int, bytes_max: int, /) -> tuple[bytes, int] | None:
    """``coordination.records.encode_events`` for a list of commits without an expiry or a topic id, and removals; None where
    one of the events is anything else."""

def unfilled(size_bytes: int, /) -> bytearray:
    """A bytearray of whatever the memory holds, for a caller that fills all of it or drops it: zeros are for nothing where
    a read follows. Raises ValueError for a negative size."""

ENDED: int
FULL: int
LACKS_BODY: int
UNUSUAL: int

def packed(
    data: Buffer,
    start: int,
    end: int,
    start_offset: int,
    end_offset: int,
    left_out: Buffer,
    bytes_max: int,
    /,
) -> tuple[list[tuple[int, int, int]], int]:
    """(begin, end, codec) of the compressed bodies that ``columns`` would take, each under a checksum that holds, up to
    about ``bytes_max``; and the start of the first batch behind them. Stops at whatever is unusual."""

def columns(
    data: Buffer,
    start: int,
    end: int,
    bodies: tuple[bytes, ...],
    start_offset: int,
    end_offset: int,
    left_out: Buffer,
    columns: tuple[Buffer | None, ...],
    tally: Buffer,
    /,
) -> tuple[int, int, int]:
    """The records with offsets in [start_offset, end_offset) of the batches from ``start`` on, behind whatever the columns
    hold already. Control batches are left out, and those at the positions ``left_out`` (int64, ascending). ``bodies``: of
    the compressed batches, in order, as ``packed`` finds them. ``columns`` and ``tally`` (int64, changed here):
    ``tierlog.replay.decode.buffers``. Batches are taken as a whole; ones that are not compressed only if their checksum
    holds. The GIL is released meanwhile.

    Returns the start of the first batch that is not taken, why it ended there, and how many bodies were used: ENDED at the
    end, or where offsets lie beyond those wanted; FULL, no room for this batch; LACKS_BODY, no body for this batch;
    UNUSUAL, nothing is said of this batch. Raises ValueError for arguments that do not fit each other."""

class Fetches:
    """Incremental fetches of a broker's followers, and fetches of consumers with and without a session, for
    ``broker.leading.kernel_fetch``, which says what the arguments are. ``Produce`` is handed it, so that all frames of a
    read are served in order."""

    def __init__(
        self,
        *,
        parts: Any,
        image: Any,
        sessions: dict[int, Any],
        by_name: dict[tuple[str, int], Any],
        by_id: dict[tuple[bytes, int], Any],
        by_broker: dict[int, Any],
        request_type: type[Any],
        parks: Callable[[Any], Any],
        clock: Callable[[], float],
        recorder: Any,
        throttled_software: str,
        counts: Callable[..., None],
        parks_consumer: Callable[..., None],
        slice_type: type[Any],
        writev: Callable[[int, list[Buffer]], int],
        recheck_ms: int,
    ) -> None: ...
    def answer(
        self,
        watch: Any,
        broker_id: int,
        request: tuple[Any, ...],
        reads: list[tuple[Any, ...]],
        arrival_s: float,
        connection: Any,
        slot: Any,
        /,
    ) -> list[Buffer] | Literal[True] | None:
        """The reply to a parked fetch with what is there now; True where it is sent already. ``reads``: what its look has
        found; ``slot``: the reply's place. None: not for here; what was to be looked at is given back to the watch."""

    def consume(
        self, connection: Any, slot: Any, frame: bytes, arrival_s: float, looked: list[Any], /
    ) -> list[Buffer] | Literal[True] | None:
        """The reply to a consumer's fetch that has waited, with what is there now; True where it is sent already.
        ``looked``: as ``parks_consumer`` was given it; ``slot``: the reply's place. None: not for here, and nothing was
        changed."""

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
        now_s: Callable[[], float] | None,
        clock: Callable[[], float],
        recorder: Any,
        takes_turn: Callable[[Any, str | None, Any], None],
        undo: Callable[..., Any],
        fetches: Fetches | None,
        waits: Any,
        write: Callable[[int, Buffer], int],
        clock_stands: bool,
    ) -> None: ...
    def serve(
        self, connection: Any, frame: memoryview, arrival_s: float, /
    ) -> Literal[True] | list[Any] | None:
        """True: the request is done and ``connection.reply`` has its reply, or ``connection.park`` or ``keep_place`` its
        place. A list: of results of the first partitions, for the handler to go on with. None: not for here, and
        nothing was changed."""

_Method = TypeVar("_Method", bound=Callable[..., Any])

def get_buffer(twin: _Method, /) -> _Method:
    """``Connection.get_buffer``: the scratch memory where nothing is held and memory is not used up, else by the twin."""

def buffer_updated(twin: _Method, /) -> _Method:
    """``Connection.buffer_updated``; by the twin where ``dispatcher.hot`` is no ``Produce``. If nothing stands before the
    next frame, serves whole frames up to the first that is not for here, or behind a Fetch, and sends their replies: to the
    socket, where the transport holds none before them, else by ``_send``. The connection goes on with ``_process`` if that
    was not all. If the handler has to go on with the next frame, ``connection.appended`` is the list that ``serve`` would
    return. An exception goes to ``_fail``."""

class Follow:
    """A follower's round with one leader broker, for ``broker.following.hot_round``, which says what the arguments are."""

    def __init__(
        self,
        *,
        partitions: dict[Any, Any],
        schedule: Any,
        known_batch: type[Any],
        follower_fetch: type[Any],
        fetching: Any,
        client_id: bytes,
        failed: Callable[..., None],
        node_id: int,
        source_id: int,
        max_named: int,
        wait_max_ms: int,
        min_bytes: int,
        response_bytes_max: int,
        bytes_max: int,
        backoff_min_ms: int,
    ) -> None: ...
    def round(
        self, frame: memoryview, correlation_id: int, broker_epoch: int, now_ms: int, wall_clock_ms: int, /
    ) -> bytes | int | None:
        """Applies an answer, partition by partition, up to the first that is not for here, and asks anew if that was all.
        Returns the next request with its size; or how many partitions are left, the last ones, before anything is asked.
        None: the answer is not for here, and nothing was changed."""

    def ask(self, correlation_id: int, broker_epoch: int, now_ms: int, /) -> bytes | None:
        """The next request with its size. None: it is not for here, and nothing was changed."""
