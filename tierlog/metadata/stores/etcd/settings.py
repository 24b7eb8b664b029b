"""Addresses of etcd, credentials and timeouts."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class EtcdSettings:
    """``endpoints``: ``host:port`` of the members. ``prefix``: prefix of the cluster's keys in etcd. TLS is used when there
    is a ``ca_file``; ``cert_file`` and ``key_file`` are the client's own.

    ``start_timeout_ms`` bounds the first answer, ``request_timeout_ms`` every call with its waiting and all its attempts,
    ``attempt_timeout_ms`` one attempt: after that time a call counts as lost at a member that has just lost etcd's leader
    and does not answer any more."""

    endpoints: tuple[str, ...]
    prefix: str = "/tierlog"
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    start_timeout_ms: int = 30_000
    request_timeout_ms: int = 5000
    attempt_timeout_ms: int = 2000
    connect_timeout_ms: int = 1000

    @property
    def where(self) -> str:
        """For messages."""
        return f"etcd at {', '.join(self.endpoints)}"
