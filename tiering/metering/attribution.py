"""Why a request is made, and for whom: set by whoever drives, read where the request is made. Pure.

A task keeps what held when it began, whatever its starter does later. So what outlives its starter, or serves others than
him (a load that many readers wait for), says it anew: whoever began it pays.
"""

from __future__ import annotations

from contextvars import ContextVar, Token
from typing import NamedTuple

from tiering.ledger.rows import Cause


class Attribution(NamedTuple):
    """``client_id`` and ``host``: of the consumer, where there is one. ``storage_class``: of the object that is asked for,
    where the caller knows it."""

    cause: Cause = Cause.OTHER
    client_id: str = ""
    host: str = ""
    storage_class: str = ""


NOBODY = Attribution()
_current: ContextVar[Attribution] = ContextVar("attribution", default=NOBODY)


def current() -> Attribution:
    """What holds here."""
    return _current.get()


class Paying:
    """Within the block, this holds."""

    __slots__ = ("_attribution", "_token")

    def __init__(self, attribution: Attribution) -> None:
        self._attribution = attribution
        self._token: Token[Attribution] | None = None

    def __enter__(self) -> None:
        self._token = _current.set(self._attribution)

    def __exit__(self, *_: object) -> None:
        assert self._token is not None
        _current.reset(self._token)


def attributed(cause: Cause, client_id: str = "", host: str = "", storage_class: str = "") -> Paying:
    """``with attributed(Cause.COPY): ...``, in an asynchronous function too; never around a ``yield``."""
    return Paying(Attribution(cause, client_id, host, storage_class))


def of_class(storage_class: str) -> Paying:
    """As before, of objects that lie in this class."""
    cause, client_id, host, _ = _current.get()
    return Paying(Attribution(cause, client_id, host, storage_class))
