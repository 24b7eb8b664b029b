"""The places of replies that are not ready."""

from __future__ import annotations

from tierlog.broker.network.ports import Ending, Waiting
from tierlog.types import Buffer


class PendingReply:
    """The place of one reply in the order of requests; ``buffers`` is None until it is ready."""

    __slots__ = ("buffers", "future", "gives_up", "held_bytes", "pipelined")

    def __init__(self, pipelined: bool, future: Ending | Waiting | None, gives_up: bool = False) -> None:
        self.buffers: list[Buffer] | None = None
        # Size of ``buffers``, counted in reply memory while they wait behind another reply; 0 for small ones.
        self.held_bytes = 0
        self.future = future
        self.pipelined = pipelined
        self.gives_up = gives_up
