"""Metrics of the memory that all connections share, and of requests and connections that suffered when it was short."""

from __future__ import annotations

from collections.abc import Callable

from tierlog.broker.network.receive_turns import ReceiveTurns
from tierlog.broker.network.reply_memory import ReplyMemory
from tierlog.broker.work.beside_loop import BesideLoop
from tierlog.telemetry.metrics import Kind, Registry

Row = tuple[str, Kind, str, Callable[[], float]]


def register(registry: Registry, replies: ReplyMemory, turns: ReceiveTurns, openings: BesideLoop) -> None:
    """Registers all families; once per broker."""
    for name, kind, help_text, read in (
        *_of_replies(replies),
        *_of_requests(turns),
        *_of_openings(openings),
    ):
        registry.value(name, kind, help_text, read)


def _of_replies(replies: ReplyMemory) -> tuple[Row, ...]:
    return (
        (
            "tierlog_reply_memory_used_bytes",
            "gauge",
            "Replies that wait for their sockets or are being read.",
            lambda: replies.used_bytes,
        ),
        (
            "tierlog_reply_memory_limit_bytes",
            "gauge",
            "tierlog.reply.memory.bytes.",
            lambda: replies.limit_bytes,
        ),
        (
            "tierlog_reply_memory_waiting_requests",
            "gauge",
            "Requests that wait for memory for their reply.",
            lambda: replies.waiting_count,
        ),
        (
            "tierlog_reply_memory_shrunk_fetches_total",
            "counter",
            "Looks of fetches that might read less than they asked for, for want of memory.",
            lambda: replies.shrunk_count,
        ),
        (
            "tierlog_reply_memory_closed_connections_total",
            "counter",
            "Connections closed because they took no replies while others waited for the memory.",
            lambda: replies.closed_count,
        ),
    )


def _of_requests(turns: ReceiveTurns) -> tuple[Row, ...]:
    requests = turns.memory
    return (
        (
            "tierlog_request_memory_used_bytes",
            "gauge",
            "Parts of requests that have arrived.",
            lambda: requests.used_bytes,
        ),
        (
            "tierlog_request_memory_limit_bytes",
            "gauge",
            "tierlog.request.memory.bytes, or queued.max.request.bytes.",
            lambda: requests.limit_bytes,
        ),
        (
            "tierlog_request_memory_waiting_connections",
            "gauge",
            "Connections with half a request that wait for memory for the rest.",
            lambda: turns.waiting_count,
        ),
        (
            "tierlog_request_memory_closed_connections_total",
            "counter",
            "Connections closed because they held half a request while others waited for the memory.",
            lambda: turns.closed_count,
        ),
    )


def _of_openings(openings: BesideLoop) -> tuple[Row, ...]:
    return (
        (
            "tierlog_opening_memory_used_bytes",
            "gauge",
            "Batches of Produce requests that wait to be opened.",
            lambda: openings.held_bytes,
        ),
        (
            "tierlog_opening_memory_limit_bytes",
            "gauge",
            "tierlog.request.memory.bytes; beyond it Produce is answered with REQUEST_TIMED_OUT.",
            lambda: openings.held_max_bytes,
        ),
    )
