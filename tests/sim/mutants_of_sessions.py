"""Broken variants of a broker's session: what once took brokers out of the cluster for good, and more of the kind."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

from tests.sim.mutation import method, property_of, together
from tierlog.metadata.session import Grant, KeepAlive, Register, Session, Stop, Write


@method(Session, "poll")
def keepalive_waits_for_the_controller(original: Any, self: Session, now_ms: int) -> Any:
    """A new registration is not kept alive until it has been dealt with: with a slow controller, for ever anew."""
    if self.is_registered and not self.is_handled:
        self._keep_alive_at_ms = now_ms + 1
    return original(self, now_ms)


@method(Session, "on_failed")
def a_wish_is_written_once(original: Any, self: Session, effect: Any, now_ms: int, **kwargs: Any) -> Any:
    original(self, effect, now_ms, **kwargs)
    if isinstance(effect, Write) and self.is_registered:
        self._written = effect.record


@method(Session, "on_looked")
def lost_answers_are_anothers(original: Any, self: Session, found: Any, clean_stop: Any, now_ms: int) -> Any:
    """Whose registration it is, is not told by the incarnation."""
    own = self.record
    self.record = self.record.__class__(**{**_fields(own), "incarnation": "?"})
    original(self, found, clean_stop, now_ms)
    self.record = self.record.__class__(**{**_fields(self.record), "incarnation": own.incarnation})


def _fields(record: Any) -> dict[str, Any]:
    return {name: getattr(record, name) for name in record.__dataclass_fields__}


@method(Session, "on_failed")
def refused_for_its_lease_ends_all(
    original: Any, self: Session, effect: Any, now_ms: int, *, is_lease_gone: bool = False
) -> Any:
    """``LeaseNotFound`` ended the keepalive without a word."""
    original(self, effect, now_ms, is_lease_gone=is_lease_gone)
    if is_lease_gone:
        self._is_keeping_alive = True
        self._retry_at_ms = 10**9


@method(Session, "on_failed")
def one_failure_ends_the_keepalive(
    original: Any, self: Session, effect: Any, now_ms: int, **kwargs: Any
) -> Any:
    original(self, effect, now_ms, **kwargs)
    if isinstance(effect, KeepAlive):
        self._is_keeping_alive = True


@method(Session, "on_failed")
def one_failure_ends_the_calls(original: Any, self: Session, effect: Any, now_ms: int, **kwargs: Any) -> Any:
    original(self, effect, now_ms, **kwargs)
    if isinstance(effect, Grant | Register):
        self._call = effect


@method(Session, "on_failed")
def backoff_without_a_bound(original: Any, self: Session, effect: Any, now_ms: int, **kwargs: Any) -> Any:
    before_ms = self._backoff_ms
    original(self, effect, now_ms, **kwargs)
    if not isinstance(effect, KeepAlive):
        self._backoff_ms = max(4 * before_ms, 50)
        self._retry_at_ms = now_ms + self._backoff_ms


@method(Session, "on_kept_alive")
def _lost_leases_are_not_noticed(
    original: Any, self: Session, lease: int, is_alive: bool, now_ms: int
) -> Any:
    original(self, lease, True, now_ms)


@method(Session, "on_image")
def _gone_registrations_are_not_noticed(original: Any, self: Session, revision: int, broker: Any) -> Any:
    is_here = broker is not None and broker.broker_epoch == self.broker_epoch
    if is_here and broker.registration is not None:
        original(self, revision, broker)


@method(Session, "on_answered")
def _refused_writes_are_not_noticed(original: Any, self: Session, call: Any, result: Any, now_ms: int) -> Any:
    original(self, call, result._replace(ok=True) if isinstance(call, Write) else result, now_ms)


a_lost_lease_is_not_noticed = together(
    _lost_leases_are_not_noticed, _gone_registrations_are_not_noticed, _refused_writes_are_not_noticed
)


@method(Session, "on_image")
def late_writes_are_not_seen(original: Any, self: Session, revision: int, broker: Any) -> Any:
    """An earlier wish whose answer was lost is applied behind a later one, and stays."""
    written, self_revision = self._written, self._written_revision
    original(self, revision, broker)
    if self.is_registered:
        self._written, self._written_revision = written, self_revision


@method(Session, "_meet")
def an_older_session_is_not_waited_for(
    original: Any, self: Session, other: Any, lease: int, now_ms: int
) -> Any:
    """What this machine left behind is taken for a running broker."""
    original(self, other, lease, now_ms)
    if self._wait_until_ms is not None:
        self.stopped = Stop(other)
        self._notices.append(self.stopped)


@method(Session, "on_failed")
def outages_count_as_waiting(original: Any, self: Session, effect: Any, now_ms: int, **kwargs: Any) -> Any:
    until_ms = self._wait_until_ms
    original(self, effect, now_ms, **kwargs)
    self._wait_until_ms = until_ms


@method(Session, "on_answered")
def a_new_registration_is_as_wished(original: Any, self: Session, call: Any, result: Any, now_ms: int) -> Any:
    """What was wished of the last one is taken for said."""
    was = self.broker_epoch
    original(self, call, result, now_ms)
    if self.broker_epoch != was and self.is_registered:
        self._handled_epoch = self.broker_epoch
        self._written = self._target


def registers_are_retried_blindly() -> Any:
    """A refused registration is sent again, without a look at who is in the way."""
    original = Session._register

    def mutated(self: Session, clean_stop: Any) -> Any:
        call = original(self, clean_stop)
        self._free = (clean_stop,)
        return call

    return patch.object(Session, "_register", mutated)


@property_of(Session, "is_handled")
def asks_before_it_is_dealt_with(self: Session) -> bool:
    return self.is_registered


# Name → (mutation, a seed that is known to catch it).
MUTANTS = {
    "keepalive_waits_for_the_controller": (keepalive_waits_for_the_controller, 1),
    "a_wish_is_written_once": (a_wish_is_written_once, 0),
    "lost_answers_are_anothers": (lost_answers_are_anothers, 0),
    "refused_for_its_lease_ends_all": (refused_for_its_lease_ends_all, 12),
    "one_failure_ends_the_keepalive": (one_failure_ends_the_keepalive, 3),
    "one_failure_ends_the_calls": (one_failure_ends_the_calls, 3),
    "backoff_without_a_bound": (backoff_without_a_bound, 10),
    "late_writes_are_not_seen": (late_writes_are_not_seen, 0),
    "outages_count_as_waiting": (outages_count_as_waiting, 0),
    "asks_before_it_is_dealt_with": (asks_before_it_is_dealt_with, 0),
    "a_lost_lease_is_not_noticed": (a_lost_lease_is_not_noticed, 3),
    "an_older_session_is_not_waited_for": (an_older_session_is_not_waited_for, 1),
    "a_new_registration_is_as_wished": (a_new_registration_is_as_wished, 25),
    "registers_are_retried_blindly": (registers_are_retried_blindly, 14),
}
