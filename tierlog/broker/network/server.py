"""Listeners: sockets that accept connections, their limits, and what is counted about them.

Bounds: ``max.connections`` over all listeners, ``max.connections.per.ip`` per peer; idle connections are closed after
``connections.max.idle.ms``, those with half a request after ``PARTIAL_FRAME_S``. What a malformed peer did is logged
once per peer and minute.
"""

from __future__ import annotations

import asyncio
import socket
from collections import Counter as Tally
from typing import TYPE_CHECKING

import structlog

from tierlog.broker import bugs
from tierlog.broker.network.connection import Connection
from tierlog.broker.network.receive_turns import ReceiveTurns
from tierlog.broker.network.reply_memory import ReplyMemory
from tierlog.config import broker as config
from tierlog.errors import MalformedMessage, UserError
from tierlog.telemetry.logs import OncePerMinute
from tierlog.telemetry.metrics import Registry

if TYPE_CHECKING:
    from tierlog.broker.network.dispatch import Dispatcher

PARTIAL_FRAME_S = 30.0
SWEEP_S = 5.0

logger = structlog.get_logger()


class ConnectionLimits:
    """Shared by all listeners of a broker: the number of connections per peer address, and the limits."""

    def __init__(self, settings: config.BrokerConfig, registry: Registry) -> None:
        self.configure(settings)
        self.per_ip: Tally[str] = Tally()
        self.malformed = registry.counter(
            "tierlog_malformed_requests_total", "Connections closed for bytes that are not the protocol."
        ).labels()
        self.bugs = registry.counter(
            "tierlog_handler_bugs_total", "Connections closed because a handler failed unexpectedly."
        ).labels()
        self.refused = registry.counter(
            "tierlog_connections_refused_total",
            "Connections beyond max.connections or max.connections.per.ip.",
        ).labels()
        self.once = OncePerMinute()

    def configure(self, settings: config.BrokerConfig) -> None:
        """Applies new settings to connections that come from now on."""
        self._max = settings.max_connections
        self._max_per_ip = settings.max_connections_per_ip
        self._overrides = settings.max_connections_per_ip_overrides

    def admits(self, host: str) -> bool:
        limit = self._overrides.get(host, self._max_per_ip)
        return self.per_ip.total() < self._max and self.per_ip[host] < limit


class Listener:
    """One listening address."""

    def __init__(
        self,
        endpoint: config.Listener,
        settings: config.BrokerConfig,
        limits: ConnectionLimits,
        turns: ReceiveTurns,
        reply_memory: ReplyMemory,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.name = endpoint.name
        self.loop = loop
        self.receive_memory = turns.memory
        self.receive_turns = turns
        self.reply_memory = reply_memory
        self.output_bytes = settings.tierlog_connection_output_bytes
        self.max_request_bytes = settings.socket_request_max_bytes
        self.connections: set[Connection] = set()
        self._endpoint = endpoint
        self._settings = settings
        self._dispatcher: Dispatcher | None = None
        self._limits = limits
        self._server: asyncio.Server | None = None
        self._sweeper: asyncio.TimerHandle | None = None
        self.created = 0

    @property
    def port(self) -> int:
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    async def bind(self) -> None:
        """Binds the address, but accepts nothing yet. Raises UserError where it cannot be bound."""
        host = self._endpoint.host or None
        try:
            self._server = await self.loop.create_server(
                self._accept,
                host,
                self._endpoint.port,
                backlog=max(self._settings.socket_listen_backlog_size, 128),
                reuse_address=True,
                start_serving=False,
            )
        except OSError as error:
            raise UserError(f"cannot listen on {self._endpoint}: {error.strerror or error}") from error
        # Accepted sockets inherit the buffer sizes; set later, these would not count for the TCP window they announce.
        for bound in self._server.sockets:
            self._size_buffers(bound)

    def _size_buffers(self, raw: socket.socket) -> None:
        """Sets the buffer sizes as configured; -1 leaves them to the system, which adapts them to the connection."""
        for option, size_bytes in (
            (socket.SO_SNDBUF, self._settings.socket_send_buffer_bytes),
            (socket.SO_RCVBUF, self._settings.socket_receive_buffer_bytes),
        ):
            if size_bytes > 0:
                raw.setsockopt(socket.SOL_SOCKET, option, size_bytes)

    def _accept(self) -> Connection:
        assert self._dispatcher is not None
        return Connection(self, self._dispatcher)

    async def serve(self, dispatcher: Dispatcher) -> None:
        """Accepts connections from now on."""
        assert self._server is not None
        self._dispatcher = dispatcher
        await self._server.start_serving()
        self._sweeper = self.loop.call_later(SWEEP_S, self._sweep)

    def admit(self, connection: Connection) -> bool:
        self.connections.add(connection)
        admitted = self._limits.admits(connection.peer_host)
        self._limits.per_ip[connection.peer_host] += 1
        if not admitted:
            self._limits.refused.value += 1
            return False
        self.created += 1
        transport = connection.transport
        # So the transport tells the connection when it begins to hold replies, and when the last is gone.
        transport.set_write_buffer_limits(high=0)
        raw = transport.get_extra_info("socket")
        if raw is not None and raw.family in (socket.AF_INET, socket.AF_INET6):
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return True

    def forget(self, connection: Connection) -> None:
        if connection in self.connections:
            self.connections.discard(connection)
            self._limits.per_ip[connection.peer_host] -= 1
            if not self._limits.per_ip[connection.peer_host]:
                del self._limits.per_ip[connection.peer_host]

    def on_malformed(self, connection: Connection, error: MalformedMessage) -> None:
        self._limits.malformed.value += 1
        if self._limits.once.allow(connection.peer_host, self.loop.time()):
            logger.warning(
                "closed a connection: malformed request",
                peer=connection.peer_host,
                listener=self.name,
                why=str(error),
            )

    def on_bug(self, connection: Connection, error: BaseException) -> None:
        self._limits.bugs.value += 1
        bugs.report(
            "closed a connection: a handler failed", error, peer=connection.peer_host, listener=self.name
        )

    def _sweep(self) -> None:
        now_s = self.loop.time()
        idle_s = self._settings.connections_max_idle_ms / 1000
        for connection in list(self.connections):
            if connection.is_idle(now_s, idle_s, PARTIAL_FRAME_S):
                connection.close()
        self._sweeper = self.loop.call_later(SWEEP_S, self._sweep)

    def close(self) -> None:
        """Accepts nothing more; open connections stay."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        if self._server is not None:
            self._server.close()

    async def drain(self, timeout_s: float) -> None:
        """Waits until every reply in the making is written, at most ``timeout_s``, and closes the connections."""
        deadline_s = self.loop.time() + timeout_s
        while any(c.has_pending for c in self.connections) and self.loop.time() < deadline_s:
            await asyncio.sleep(0.01)
        for connection in list(self.connections):
            connection.close_when_written()
