"""A connection as the dispatcher sees one, without a socket: for tests and benchmarks that hand frames over themselves."""

from __future__ import annotations

from typing import Any

from tierlog.types import Buffer


class AskerInProcess:
    client_software = "test"
    listener_name = "PLAINTEXT"
    peer_host = "127.0.0.1"
    closing = False

    def __init__(self) -> None:
        self.sent_away: Any = None
        self.traffic: Any = None
        self.appended: Any = None
        self.replies: list[bytes] = []

    def mute_until(self, until_s: float) -> None:
        raise AssertionError("no quota is set")

    def reply(self, buffers: list[Buffer]) -> None:
        self.replies.append(b"".join(buffers))

    def reply_later(self, row: Any, future: Any, finish: Any) -> None:
        self.replies.append(b"later")

    def keep_place(self, place: Any) -> None:
        self.replies.append(b"later")

    def answered(self, place: Any) -> None:
        """Nobody sends it."""
