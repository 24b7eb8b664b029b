"""The rows of the table of served APIs: a handler, and what has to be known of it before it is called."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from enum import Enum
from functools import partial
from typing import Any, Protocol

from tierlog.broker.network.context import RequestContext
from tierlog.broker.work.delayed_response import DelayedResponse
from tierlog.broker.work.slices import Steps
from tierlog.wire.registry import APIS, ApiSpec
from tierlog.wire.schema import Message

# Partitions of a Fetch or Produce that are no longer done in one go.
WIDE = 500

Later = Awaitable["Message | None"] | DelayedResponse[Any]
Answer = Message | Later | Steps[Any] | None
"""What a handler returns. What takes time is returned as steps (see ``work.slices``), which end in one of the others."""


class Operation(Enum):
    """What a principal must be allowed to do; Kafka's ACL operations."""

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
    """One served API. ``pipelined``: later requests of the connection need not wait for its reply. ``small``: its reply is
    small, or it asks for the memory of its reply itself. ``gives_up``: its handler only waits for others, who finish what
    was begun; it ends with its connection."""

    spec: ApiSpec
    handle: Callable[..., Answer]
    operation: Operation
    resource: Resource
    in_place: bool = False
    pipelined: bool = False
    small: bool = False
    gives_up: bool = False

    def bound(self, services: object) -> Row:
        """The row of one broker: its handler is called with the request alone."""
        return replace(self, handle=partial(self.handle, services))


class Quotas(Protocol):
    """How long a client is to be held back after this request."""

    def throttle_ms(self, ctx: RequestContext, request_bytes: int, response_bytes: int) -> int: ...


class Recorder(Protocol):
    """Per-API counters, as telemetry.requests keeps them."""

    def record(self, version: int, seconds: float) -> None: ...

    def held(self, seconds: float) -> None:
        """A request of this API had the loop for so long."""


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
) -> Row:
    return Row(APIS[key], handle, operation, resource, in_place, pipelined, small, gives_up)
