"""Replies that are kept for the next who asks the same: for an API whose answer depends on its request and on one state.

Kept is the encoded body, without correlation id and throttle time, under the version, the listener and the bytes of the
request's body: whatever a client may ask for is in there. The state says when it has changed, by identity and revision; then
nothing is kept any more. No time plays a part.

Rules: a handler whose answer depends on anything else sets ``ctx.keep`` to None; a reply that was made while the state
changed is not kept. Bound: ``limit_bytes`` over all keys and bodies; the one that was not asked for the longest goes first.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Protocol, TypeAlias

from tierlog.types import Buffer

# What an entry takes beside its bytes: the objects around them, and its place in the table.
ENTRY_BYTES = 400
_int32 = struct.Struct(">i")

Key: TypeAlias = tuple[int, str, bytes]


class State(Protocol):
    """What the answers depend on."""

    @property
    def revision(self) -> int:
        """Another one after each change."""


class KeptReplies:
    """The replies of one API. ``throttle_since``: the version from which on a body begins with the throttle time."""

    __slots__ = (
        "_bodies",
        "_revision",
        "_seen",
        "_state",
        "_throttle_since",
        "hits",
        "limit_bytes",
        "used_bytes",
    )

    def __init__(self, state: Callable[[], State], throttle_since: int, limit_bytes: int) -> None:
        self._state = state
        self._throttle_since = throttle_since
        self.limit_bytes = limit_bytes
        self.used_bytes = 0
        self.hits = 0
        self._bodies: dict[Key, bytes] = {}
        # The state that the bodies are of.
        self._seen: State | None = None
        self._revision = -1

    def find(self, key: Key, throttle_ms: int = 0) -> list[Buffer] | None:
        """The body of the reply in buffers of its own."""
        if self._has_changed():
            return None
        body = self._bodies.pop(key, None)
        if body is None:
            return None
        self._bodies[key] = body  # now the last that goes
        self.hits += 1
        return [_int32.pack(throttle_ms) if key[0] >= self._throttle_since else b"", body]

    def keeper(self, key: Key) -> Callable[[list[Buffer]], None]:
        """What keeps the body of the reply that is made from now on, if it is still true then."""
        self._has_changed()
        seen, revision = self._seen, self._revision

        def keep(body: list[Buffer]) -> None:
            if not self._has_changed() and seen is self._seen and revision == self._revision:
                self._keep(key, b"".join(body))

        return keep

    def _keep(self, key: Key, body: bytes) -> None:
        if key[0] >= self._throttle_since:
            body = body[_int32.size :]
        size_bytes = _size_bytes(key, body)
        if size_bytes > self.limit_bytes or key in self._bodies:
            return
        self.used_bytes += size_bytes
        self._bodies[key] = body
        while self.used_bytes > self.limit_bytes:
            oldest = next(iter(self._bodies))
            self.used_bytes -= _size_bytes(oldest, self._bodies.pop(oldest))

    def _has_changed(self) -> bool:
        """Whether the state is another than before; then nothing is kept of it."""
        state = self._state()
        if state is self._seen and state.revision == self._revision:
            return False
        self._seen, self._revision = state, state.revision
        self._bodies.clear()
        self.used_bytes = 0
        return True


def _size_bytes(key: Key, body: bytes) -> int:
    return ENTRY_BYTES + len(key[2]) + len(body)
