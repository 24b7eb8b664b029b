"""Timeouts for HTTP connections: idle ones must not use up all connections and so keep health checks out.

A connection without a request by ``REQUEST_TIMEOUT_S`` is closed; sooner when others come: the one silent for longest makes
room. So is a connection that has not read its first answer by ``ANSWER_TIMEOUT_S``. Imported with uvicorn only.
"""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol

REQUEST_TIMEOUT_S = 10.0
ANSWER_TIMEOUT_S = 30.0


def impatient_protocol(silent_max: int) -> type[H11Protocol]:
    """A protocol class for one server; ``silent_max``: how many connections may be open without a request yet."""
    silent: dict[object, asyncio.Transport] = {}

    class ImpatientProtocol(H11Protocol):
        """One connection."""

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            silent[self] = transport
            self.loop.call_later(REQUEST_TIMEOUT_S, self._end_if_silent)
            while len(silent) > silent_max:
                silent.pop(next(iter(silent))).abort()

        def handle_events(self) -> None:
            super().handle_events()
            if self.cycle is not None and silent.pop(self, None) is not None:
                self.loop.call_later(ANSWER_TIMEOUT_S, self._end_if_unread)

        def connection_lost(self, exc: Exception | None) -> None:
            silent.pop(self, None)
            super().connection_lost(exc)

        def _end_if_silent(self) -> None:
            transport = silent.pop(self, None)
            if transport is not None:
                transport.abort()

        def _end_if_unread(self) -> None:
            if self.cycle is not None and not self.cycle.response_complete:
                self.transport.abort()

    return ImpatientProtocol
