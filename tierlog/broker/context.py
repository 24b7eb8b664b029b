"""What a handler may know about the request besides its body."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class RequestContext:
    """One per request, treated as frozen; ``arrival_s`` and ``deadline_s`` are on the loop's monotonic clock."""

    api_key: int
    api_version: int
    correlation_id: int
    client_id: str | None
    listener: str
    peer_host: str
    arrival_s: float
    deadline_s: float
    principal: str = "User:ANONYMOUS"
