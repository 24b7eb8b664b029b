"""The places of replies in the order of their requests."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Protocol

from tierlog.broker.work.delayed_response import DelayedResponse
from tierlog.types import Buffer

Ending = asyncio.Future[Any] | DelayedResponse[Any]
Finish = Callable[[Any], "list[Buffer] | Ending"]


class Waiting(Protocol):
    """A request whose reply comes later through ``Connection.answer``."""

    def cancel(self) -> object:
        """The client has left."""


class Place(Protocol):
    """One reply that is not sent yet. ``held_bytes``: size of ``buffers``, counted in reply memory while they wait behind
    another reply; 0 for small ones. ``pipelined``: later requests need not wait for it."""

    buffers: list[Buffer] | None
    held_bytes: int

    @property
    def pipelined(self) -> bool: ...

    def leave(self) -> None:
        """The client is gone."""


class WaitingReply(ABC):
    """A place that waits by itself, and tells its connection when it has its answer."""

    __slots__ = ("buffers", "held_bytes")
    pipelined = True

    def __init__(self) -> None:
        self.buffers: list[Buffer] | None = None
        self.held_bytes = 0

    @abstractmethod
    def take_buffers(self) -> list[Buffer]:
        """The framed reply, once it is there."""

    @abstractmethod
    def leave(self) -> None:
        """The client is gone."""


class PendingReply:
    """The place of a reply whose request waits for a future, or is parked; ``buffers`` is None until it is ready."""

    __slots__ = ("buffers", "finish", "future", "gives_up", "held_bytes", "pipelined")

    def __init__(
        self, pipelined: bool, future: Ending | Waiting | None, finish: Finish | None, gives_up: bool
    ) -> None:
        self.buffers: list[Buffer] | None = None
        self.held_bytes = 0
        self.future = future
        self.finish = finish
        self.pipelined = pipelined
        self.gives_up = gives_up

    def leave(self) -> None:
        # A parked request of a client that is gone need not wait any longer; work begun is finished.
        if self.future is not None and (self.gives_up or not isinstance(self.future, asyncio.Task)):
            self.future.cancel()
