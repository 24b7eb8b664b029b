"""The interfaces between the parts of this room."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Literal, Protocol

from tierlog.broker.network.context import RequestContext, Session
from tierlog.broker.network.places import Ending, Finish, WaitingReply
from tierlog.log.append import AppendResult
from tierlog.types import Buffer

if TYPE_CHECKING:
    from tierlog.broker.network.frames import ReceiveMemory
    from tierlog.broker.network.receive_turns import ReceiveTurns
    from tierlog.broker.network.reply_memory import ReplyMemory
    from tierlog.broker.network.rows import Row
    from tierlog.errors import MalformedMessage


class Asker(Session, Protocol):
    """A connection, as the dispatcher sees it."""

    listener_name: str
    peer_host: str
    appended: list[AppendResult] | None

    def reply(self, buffers: list[Buffer]) -> None:
        """Takes the reply to the request that is being dispatched."""

    def reply_later(self, row: Row, future: Ending, finish: Finish) -> None:
        """Keeps the reply's place. ``finish(response)`` returns the buffers, or another future to wait for."""

    def keep_place(self, place: WaitingReply) -> None:
        """Keeps the place of a reply that waits by itself."""

    def answered(self, place: Any) -> None:
        """The answer of a kept place is there."""


class Hot(Protocol):
    """The kernel: serves ordinary requests as a whole."""

    def serve(
        self, connection: Asker, frame: memoryview, arrival_s: float, /
    ) -> Literal[True] | list[AppendResult] | None:
        """True; or what was appended of a Produce, where the handler goes on; or None: nothing was done."""


class Dispatching(Protocol):
    """The dispatcher, as a connection sees it."""

    hot: Hot | None

    def waits_by_itself(self, frame: memoryview) -> bool:
        """Whether this request may be dispatched though there is no memory for replies."""

    def has_time(self) -> bool:
        """Whether another request of the same connection may be dispatched in this turn of the loop."""

    def dispatch(self, connection: Asker, frame: memoryview) -> None:
        """Handles one whole request. Raises MalformedMessage."""

    def finish(self, ctx: RequestContext, request_bytes: int, response: Any) -> list[Buffer] | Ending:
        """The buffers of the reply, or a future, whose result is passed to this method again."""


class Owner(Protocol):
    """A listener, as its connections see it."""

    name: str
    loop: asyncio.AbstractEventLoop
    receive_memory: ReceiveMemory
    receive_turns: ReceiveTurns
    reply_memory: ReplyMemory
    output_bytes: int
    max_request_bytes: int

    def admit(self, connection: Any) -> bool:
        """Whether the limits of connections allow one more."""

    def forget(self, connection: Any) -> None:
        """The connection is closed."""

    def on_malformed(self, connection: Any, error: MalformedMessage) -> None:
        """The connection sent malformed bytes, and is closed."""

    def on_bug(self, connection: Any, error: BaseException) -> None:
        """A handler failed; its connection is closed."""
