"""The context of a request: all that a handler may know about it besides its body."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from tierlog.broker.network.tallies import ConnectionTraffic
from tierlog.broker.work.large_work import LargeWork
from tierlog.log.append import AppendResult
from tierlog.replication.sent_away import SentAway
from tierlog.types import Buffer


class Session(Protocol):
    """The part of a connection that lasts between requests."""

    client_software: str
    peer_host: str
    closing: bool
    sent_away: SentAway | None
    """Where its fetches of remote records were sent; None while they never were."""
    traffic: ConnectionTraffic | None
    """What it adds to; None before its first records."""

    @property
    def listener_name(self) -> str: ...

    def answered(self, place: Any) -> None:
        """The answer of a place that it keeps is there."""

    def mute_until(self, until_s: float) -> None: ...


@dataclass(slots=True)
class RequestContext:
    """One per request, treated as frozen; ``arrival_s`` is on the loop's monotonic clock."""

    api_key: int
    api_version: int
    correlation_id: int
    client_id: str | None
    listener: str
    peer_host: str
    arrival_s: float
    session: Session
    principal: str = field(default="User:ANONYMOUS")
    large_work: LargeWork | None = None
    """Set where the request may have very many items."""
    appended: deque[AppendResult] | None = None
    """Of a Produce: what the kernel has appended already, from the first partition on."""
    keep: Callable[[list[Buffer]], None] | None = None
    """Keeps the body of the reply for others; see ``network.kept_replies``."""


def context_of(
    session: Session,
    api_key: int,
    api_version: int,
    correlation_id: int,
    client_id: str | None,
    arrival_s: float,
) -> RequestContext:
    """The context of a request that came by this connection."""
    listener, peer_host = session.listener_name, session.peer_host
    return RequestContext(
        api_key, api_version, correlation_id, client_id, listener, peer_host, arrival_s, session
    )


class CloseConnection(Exception):
    """acks=0 and an error: closing is the only way to tell the producer."""
