"""Takes a broker out of a cluster for good: no new replicas for it, its partitions to the others, then its registration.

The cluster keeps all the state: the broker's cordon (``cordoned.log.dirs=*``, KIP-1066) and the moves. So a decommission
may be interrupted at any point and called again, and nothing happens twice.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tierlog.admin import reassign, throttles
from tierlog.admin.client import Client
from tierlog.admin.cluster import broker_rows, describe_cluster, partitions_of
from tierlog.admin.errors import check
from tierlog.admin.topics import existing
from tierlog.errors import ErrorCode, UserError
from tierlog.metadata.control.placement import Candidate
from tierlog.metadata.control.reassignment_plan import Move, propose
from tierlog.wire.messages.unregister_broker import UnregisterBrokerRequest, UnregisterBrokerResponse

BROKER = 4
CORDON = "cordoned.log.dirs"
MOVES_AT_ONCE = 200
POLL_S = 0.5

Tell = Callable[[dict[str, Any]], None]


def decommission(
    client: Client, broker_id: int, throttle: int | None, timeout_s: float | None, tell: Tell
) -> dict[str, Any]:
    """Runs until the broker is unregistered or the time is over. Returns the progress. ``throttle`` in bytes per second.
    Raises UserError when it cannot be done, before anything is changed."""
    brokers = broker_rows(describe_cluster(client), partitions_of(client))
    state = next((broker.state for broker in brokers if broker.broker_id == broker_id), None)
    deadline_s = None if timeout_s is None else time.monotonic() + timeout_s
    work = Drain(client, broker_id, throttle)
    if state is None and not is_registered(client, broker_id):
        raise UserError(f"there is no broker {broker_id}")
    work.check()
    # A broker that is known only from its replicas cannot be cordoned, and need not be.
    with contextlib.suppress(*[UserError] * (state == "gone")):
        cordon(client, broker_id, is_active=state == "active")
    while not is_over(deadline_s):
        progress = work.step()
        if progress["left"] == 0:
            work.finish()
            return unregister(client, broker_id, progress, deadline_s, tell)
        tell(progress)
        time.sleep(POLL_S)
    return work.progress("draining")


def undo(client: Client, broker_id: int) -> dict[str, Any]:
    """Let the broker get new replicas again, and keep the partitions that were moving away from it."""
    under_way = reassign.ongoing(client)
    mine = [Move(topic, n, ()) for (topic, n), way in under_way.items() if broker_id in way.removing]
    answer = reassign.cancel(client, mine)
    throttles.alter(client, BROKER, {str(broker_id): [(CORDON, throttles.DELETE, None)]})
    return {
        "broker": broker_id,
        "state": "kept",
        "cancelled": answer["cancelled"],
        "failures": answer["failures"],
    }


def is_over(deadline_s: float | None) -> bool:
    return deadline_s is not None and time.monotonic() >= deadline_s


def cordon(client: Client, broker_id: int, *, is_active: bool) -> None:
    asked = client.node(broker_id) if is_active else client
    throttles.alter(asked, BROKER, {str(broker_id): [(CORDON, throttles.SET, "*")]})


def is_registered(client: Client, broker_id: int) -> bool:
    """True also for a broker that is away and holds nothing: its configs can still be altered."""
    try:
        cordon(client, broker_id, is_active=False)
    except UserError:
        return False
    return True


class Drain:
    """The partitions of one broker, on their way to the others."""

    def __init__(self, client: Client, broker_id: int, throttle: int | None) -> None:
        self._client = client
        self._broker_id = broker_id
        self._throttle = throttle
        self._touched: set[str] = set()
        self._left = 0
        self._moving = 0
        self._copied = self._to_copy = 0
        self._began_s = time.monotonic()

    def check(self) -> None:
        """Raises UserError when the other brokers cannot hold everything."""
        rows, under_way = reassign.partitions(self._client, None), reassign.ongoing(self._client)
        self._proposed(self._staying(rows, under_way), reassign.held_by(rows))

    def _staying(
        self, rows: reassign.Rows, under_way: Mapping[tuple[str, int], reassign.UnderWay]
    ) -> list[Move]:
        """The partitions that are on the broker and not moving elsewhere."""
        wanted = [
            Move(
                topic, n, under_way[topic, n].target if (topic, n) in under_way else tuple(row.replica_nodes)
            )
            for (topic, n), row in rows.items()
        ]
        return [move for move in wanted if self._broker_id in move.replicas]

    def step(self) -> dict[str, Any]:
        """Begins as many moves as there is room for. Returns how much is left."""
        client, me = self._client, self._broker_id
        rows, under_way = reassign.partitions(client, None), reassign.ongoing(client)
        here = [key for key, row in rows.items() if me in row.replica_nodes]
        staying = self._staying(rows, under_way)
        leaving = len(here) - len(staying)
        if leaving and not self._touched and self._throttle is not None:
            # An earlier call began these moves, perhaps at another rate.
            active = [candidate.broker_id for candidate in reassign.candidates_of(client)]
            throttles.set_rates(client, active, self._throttle)
        room = max(MOVES_AT_ONCE - leaving, 0)
        moves = self._proposed(staying[:room], reassign.held_by(rows))
        if moves:
            self._begin(moves, rows)
        self._touched |= {topic for topic, _ in here}
        self._left, self._moving = len(here), leaving + len(moves)
        progress = reassign.snapshot(client, None)
        self._copied, self._to_copy = progress["bytes_copied"], progress["bytes_left"]
        return self.progress("draining")

    def _begin(self, moves: Sequence[Move], rows: reassign.Rows) -> None:
        client = self._client
        if self._throttle is not None:
            active = [candidate.broker_id for candidate in reassign.candidates_of(client)]
            current = {(m.topic, m.partition): tuple(rows[m.topic, m.partition].replica_nodes) for m in moves}
            throttles.throttle(client, moves, current, active, self._throttle)
        failures = reassign.alter(client, [(move, list(move.replicas)) for move in moves])
        for name, why in failures.items():
            raise UserError(f"{name} cannot leave broker {self._broker_id}: {why}")

    def _proposed(self, moves: Sequence[Move], held: dict[int, int]) -> list[Move]:
        others = [c for c in reassign.candidates_of(self._client) if c.broker_id != self._broker_id]
        internal = {topic.name for topic in existing(self._client, None) if topic.is_internal}
        fitting = [self._fitted(move, others) if move.topic in internal else move for move in moves]
        proposed = {move.name: move for move in propose(fitting, others, held, balance=False)}
        return [
            proposed.get(fit.name, fit)
            for move, fit in zip(moves, fitting, strict=True)
            if fit.name in proposed or fit != move
        ]

    def _fitted(self, move: Move, others: Sequence[Candidate]) -> Move:
        """Internal topics get no more replicas than there are brokers left for them."""
        if len(move.replicas) <= len(others):
            return move
        stay = tuple(replica for replica in move.replicas if replica != self._broker_id)
        return Move(move.topic, move.partition, stay[: len(others)])

    def finish(self) -> None:
        if self._touched:
            reassign.unthrottle(self._client, self._touched)

    def progress(self, state: str) -> dict[str, Any]:
        """``eta_s`` follows from the bytes copied since the beginning; None until that is known."""
        passed_s = time.monotonic() - self._began_s
        rate = self._copied / passed_s if passed_s > 0 else 0
        return {
            "broker": self._broker_id,
            "state": state,
            "left": self._left,
            "moving": self._moving,
            "bytes_left": self._to_copy,
            "eta_s": round(self._to_copy / rate, 1) if rate and self._to_copy else None,
        }


def unregister(
    client: Client, broker_id: int, progress: dict[str, Any], deadline_s: float | None, tell: Tell
) -> dict[str, Any]:
    """Waits until the broker is stopped, since a running one would register again at once, and unregisters it."""
    while True:
        answer = client.request(UnregisterBrokerRequest(broker_id=broker_id), UnregisterBrokerResponse)
        if answer.error_code in (ErrorCode.NONE, ErrorCode.BROKER_ID_NOT_REGISTERED):
            return progress | {"state": "unregistered"}
        if answer.error_code not in (ErrorCode.INVALID_REQUEST, ErrorCode.REQUEST_TIMED_OUT):
            check(answer.error_code, f"broker {broker_id}", answer.error_message)
        drained = progress | {"state": "drained"}
        if is_over(deadline_s):
            return drained
        tell(drained)
        time.sleep(POLL_S)
