"""Structured logs: ``log = structlog.get_logger()``, ``log.info("segment uploaded", topic=..., bytes=...)``.

Readable lines if stderr is a terminal, one JSON object a line otherwise. Never on the hot path. Lines that a remote
peer can cause go through ``OncePerMinute``, so that a broken client cannot fill the disk.
"""

from __future__ import annotations

import logging
import sys
from collections import OrderedDict
from typing import TextIO

import structlog


def configure(
    level: str = "info", *, stream: TextIO | None = None, json: bool | None = None, **bound: object
) -> None:
    """Set up structlog for the process; each line carries ``bound`` (say ``node=1``).

    ``json=None`` asks the stream whether it is a terminal. The standard library's loggers (of libraries)
    stay silent below warning.
    """
    out = stream or sys.stderr
    as_json = not out.isatty() if json is None else json
    renderer: structlog.typing.Processor
    if as_json:
        renderer = structlog.processors.JSONRenderer()
        # Without locals: they are large, and do not belong in a log.
        tracebacks = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
        tail: list[structlog.typing.Processor] = [
            structlog.processors.ExceptionRenderer(tracebacks),
            renderer,
        ]
    else:
        renderer = structlog.dev.ConsoleRenderer(
            colors=out.isatty(), exception_formatter=structlog.dev.plain_traceback, pad_event_to=32
        )
        tail = [renderer]
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *tail,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.PrintLoggerFactory(out),
        cache_logger_on_first_use=False,
    )
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(**bound)


class OncePerMinute:
    """Says whether a line about ``key`` (a peer's host and what it did) may be logged now.

    At most one a minute per key. The table is bounded: beyond ``limit`` keys the one unused for longest is forgotten.
    ``suppressed(key)`` returns how many lines were suppressed since the last one.
    """

    __slots__ = ("_interval_s", "_limit", "_seen")

    def __init__(self, limit: int = 1024, interval_s: float = 60.0) -> None:
        self._limit = limit
        self._interval_s = interval_s
        self._seen: OrderedDict[object, tuple[float, int]] = OrderedDict()  # key -> (logged at, suppressed)

    def allow(self, key: object, now_s: float) -> bool:
        entry = self._seen.get(key)
        if entry is not None and now_s - entry[0] < self._interval_s:
            self._seen[key] = (entry[0], entry[1] + 1)
            return False
        self._seen[key] = (now_s, 0)
        self._seen.move_to_end(key)
        if len(self._seen) > self._limit:
            self._seen.popitem(last=False)
        return True

    def suppressed(self, key: object) -> int:
        entry = self._seen.get(key)
        return entry[1] if entry is not None else 0
