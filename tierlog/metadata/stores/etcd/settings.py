"""Where etcd is, how one gets in, and how long one waits."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class EtcdSettings:
    """``endpoints``: ``host:port`` of the members. ``prefix``: what the cluster's keys begin with in etcd. TLS is spoken
    when there is a ``ca_file``; ``cert_file`` and ``key_file`` are the client's own.

    ``start_timeout_ms`` bounds the first answer, ``request_timeout_ms`` every call with its waiting and all its attempts,
    ``attempt_timeout_ms`` one attempt: what a member of which etcd has just lost the leader does not answer any more is
    known as lost so soon."""

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
