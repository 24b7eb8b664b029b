"""The rows of the table of served APIs: a handler, and what the dispatcher has to know of it before it calls it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from enum import Enum
from functools import partial
from typing import Any, Protocol

from tierlog.broker.network.context import RequestContext
from tierlog.broker.network.kept_replies import KeptReplies
from tierlog.broker.network.places import WaitingReply
from tierlog.broker.work.delayed_response import DelayedResponse
from tierlog.broker.work.slices import Steps
from tierlog.types import Buffer
from tierlog.wire.registry import APIS, ApiSpec
from tierlog.wire.schema import Message

# A Fetch or Produce of more partitions than this is not handled in one go.
WIDE = 500

Later = Awaitable["Message | None"] | DelayedResponse[Any]
Answer = Message | Later | WaitingReply | Steps[Any] | None
"""The result of a handler. Long work is returned as steps (see ``work.slices``), which end in one of the other kinds."""


class Operation(Enum):
    """The operation that a principal must be allowed; Kafka's ACL operations."""

    NONE = "none"
    READ = "READ"
    WRITE = "WRITE"
    CREATE = "CREATE"
    DELETE = "DELETE"
    ALTER = "ALTER"
    DESCRIBE = "DESCRIBE"
    CLUSTER_ACTION = "CLUSTER_ACTION"
    DESCRIBE_CONFIGS = "DESCRIBE_CONFIGS"
    ALTER_CONFIGS = "ALTER_CONFIGS"
    IDEMPOTENT_WRITE = "IDEMPOTENT_WRITE"


class Resource(Enum):
    NONE = "none"
    TOPIC = "TOPIC"
    GROUP = "GROUP"
    CLUSTER = "CLUSTER"


@dataclass(frozen=True, slots=True)
class Row:
    """One served API. ``in_place``: it is decoded in the receive buffer, without a copy. ``pipelined``: later requests of
    the connection need not wait for its reply. ``small``: its reply is small, or its handler asks for reply memory itself.
    ``gives_up``: its handler only waits for work that others finish, so it is cancelled with its connection. ``kept``: made
    for one broker by ``keeps``, where its replies are kept for others who ask the same."""

    spec: ApiSpec
    handle: Callable[..., Answer]
    operation: Operation
    resource: Resource
    in_place: bool = False
    pipelined: bool = False
    small: bool = False
    gives_up: bool = False
    keeps: Callable[..., KeptReplies] | None = None
    kept: KeptReplies | None = None

    def bound(self, services: object) -> Row:
        """The row of one broker: its handler is called with the request alone."""
        kept = None if self.keeps is None else self.keeps(services)
        return replace(self, handle=partial(self.handle, services), kept=kept)


class Quotas(Protocol):
    """How long a client is to be held back after this request."""

    def throttle_ms(self, ctx: RequestContext, request_bytes: int, reply: list[Buffer]) -> int: ...


class Recorder(Protocol):
    """Per-API counters, as telemetry.requests keeps them."""

    def record(self, version: int, seconds: float) -> None: ...

    def held(self, seconds: float) -> None:
        """A request of this API held the loop for so long."""


def row(
    key: int,
    handle: Callable[..., Answer],
    operation: Operation,
    resource: Resource,
    *,
    in_place: bool = False,
    pipelined: bool = False,
    small: bool = False,
    gives_up: bool = False,
    keeps: Callable[..., KeptReplies] | None = None,
) -> Row:
    return Row(APIS[key], handle, operation, resource, in_place, pipelined, small, gives_up, keeps)
