"""What a handler may know about the request besides its body."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from tierlog.broker.work.large_work import LargeWork


class Session(Protocol):
    """What stays with a connection between requests."""

    client_software: str
    closing: bool

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
    """Of a request that may have very many items."""


class CloseConnection(Exception):
    """acks=0 and an error: closing is the only way to tell the producer."""
