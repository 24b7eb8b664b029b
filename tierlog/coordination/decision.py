"""The result of a deciding call of a shard: events to record, and replies to give.

A ``Ticket`` stands for one waiting caller. The shard answers each ticket exactly once, in the decision that
was made for it or in a later one (a JoinGroup is answered when its rebalance ends). The driver maps tickets
to the callers; the shard never sees those. A reply may be given out only when every event of its decision,
and of every decision before it, is committed (I8).
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

from tierlog.coordination.records import Event

Ticket: TypeAlias = int


class Reply(NamedTuple):
    """The answer to one ticket; ``response`` is the wire message of its API."""

    ticket: Ticket
    response: Any


class Caller(NamedTuple):
    """The facts about a request, besides its body, that a decision may use.

    ``client_host`` is written as in Kafka, "/127.0.0.1". ``fresh_id`` is a random UUID string that only
    JoinGroup needs, to make a member id.
    """

    api_version: int
    client_id: str = ""
    client_host: str = ""
    fresh_id: str = ""


class Decision:
    """``events`` must be replayed at once, in order, and appended as one atomic batch; then ``replies`` may
    go out."""

    __slots__ = ("events", "replies")

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.replies: list[Reply] = []

    def record(self, event: Event) -> None:
        self.events.append(event)

    def reply(self, ticket: Ticket, response: Any) -> None:
        self.replies.append(Reply(ticket, response))
