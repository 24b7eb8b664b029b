"""What the parts of this room know of each other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from tierlog.broker.network.context import Session
from tierlog.broker.work.delayed_response import DelayedResponse
from tierlog.types import Buffer

if TYPE_CHECKING:
    from tierlog.broker.network.frames import ReceiveMemory
    from tierlog.broker.network.receive_turns import ReceiveTurns
    from tierlog.broker.network.reply_memory import ReplyMemory
    from tierlog.broker.network.rows import Row
    from tierlog.errors import MalformedMessage

Ending = asyncio.Future[Any] | DelayedResponse[Any]
Finish = Callable[[Any], "list[Buffer] | Ending"]


class Asker(Session, Protocol):
    """A connection, as the dispatcher sees it."""

    peer_host: str

    @property
    def listener_name(self) -> str:
        """Of the endpoint that it came in by."""

    def reply(self, buffers: list[Buffer]) -> None:
        """The reply to the request that is being dispatched."""

    def reply_later(self, row: Row, future: Ending, finish: Finish) -> None:
        """Its place is kept. ``finish(response)`` gives the buffers, or something else to wait for."""


class Dispatching(Protocol):
    """The dispatcher, as a connection sees it."""

    def waits_by_itself(self, frame: memoryview) -> bool:
        """Whether this request may be dispatched though there is no memory for replies."""

    def dispatch(self, connection: Asker, frame: memoryview) -> None:
        """One whole request. Raises MalformedMessage."""


class Owner(Protocol):
    """A listener, as the connections see it that came in by it. ``C``: what it keeps of them."""

    name: str
    loop: asyncio.AbstractEventLoop
    receive_memory: ReceiveMemory
    receive_turns: ReceiveTurns
    reply_memory: ReplyMemory
    output_bytes: int
    max_request_bytes: int

    def admit(self, connection: Any) -> bool:
        """Whether one more may be here."""

    def forget(self, connection: Any) -> None:
        """It is closed."""

    def on_malformed(self, connection: Any, error: MalformedMessage) -> None:
        """It sent what is not the protocol, and is closed."""

    def on_bug(self, connection: Any, error: BaseException) -> None:
        """A handler failed; it is closed."""
