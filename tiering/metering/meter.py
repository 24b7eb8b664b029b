"""What a client of an object store tells of each request that it has made.

A request counts once it has left: answered, refused, broken or given up. One that found no connection has not.
"""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress
from contextvars import ContextVar, copy_context
from functools import partial
from types import TracebackType
from typing import Protocol, Self

from tiering.keys import owner_of
from tiering.ledger.rows import Operation
from tiering.metering.accounts import Account, Accounts
from tiering.metering.attribution import current

STANDARD = "standard"
_OF_NO_CLASS = frozenset(
    {Operation.LIST, Operation.DELETE, Operation.LIST_UPLOADS, Operation.ABORT_UPLOAD, Operation.DESCRIBE}
)
"""What they cost does not depend on one."""
_UNSENT = (
    *("tcp connect error", "dns error", "failed to lookup address", "error trying to connect"),
    *(
        "NewConnectionError",
        "ConnectTimeoutError",
        "NameResolutionError",
        "Could not connect to the endpoint",
    ),
    *("credential provider", "Connect timeout on endpoint"),
    *("CERTIFICATE_VERIFY_FAILED", "WRONG_VERSION_NUMBER", "HANDSHAKE_FAILURE", "ALERT_PROTOCOL_VERSION"),
)
"""In errors of clients: no connection, no agreement on TLS, or no credentials to sign with."""
_UNSENT_BY_OBSTORE = re.compile(r"legacy::Error\(\s*Connect,")
"""Its own client has made no connection, TLS included."""


class Tally(Protocol):
    """Requests of one verb of the port."""

    requests: int
    sent_bytes: int
    received_bytes: int


VERB: ContextVar[Tally | None] = ContextVar("verb", default=None)
"""The call of the port that is under way."""


def is_unsent(error: BaseException) -> bool:
    """Whether no request has left before this error."""
    text = f"{type(error).__name__}: {error}"
    return any(sign in text for sign in _UNSENT) or _UNSENT_BY_OBSTORE.search(text) is not None


class Meter:
    """Counts into ``accounts``, for what is current where it is told."""

    def __init__(self, accounts: Accounts | None = None) -> None:
        self.accounts = accounts if accounts is not None else Accounts()

    def note(
        self,
        operation: Operation,
        key: str,
        *,
        count: int = 1,
        failed: bool = False,
        sent_bytes: int = 0,
        received_bytes: int = 0,
        storage_class: str = "",
    ) -> None:
        """Requests of one kind about one key. ``storage_class``: where empty that of ``current``, and else standard."""
        verb = VERB.get()
        if verb is not None:
            verb.requests += count
            verb.sent_bytes += sent_bytes
            verb.received_bytes += received_bytes
        paying = current()
        topic_id, partition = owner_of(key)
        if operation in _OF_NO_CLASS:
            storage_class = ""
        else:
            storage_class = storage_class or paying.storage_class or STANDARD
        account = Account(
            topic_id,
            partition,
            paying.cause,
            operation,
            storage_class,
            paying.client_id,
            paying.host,
        )
        self.accounts.add(account, count, count * failed, sent_bytes, received_bytes)

    def note_on(
        self,
        loop: asyncio.AbstractEventLoop,
        operation: Operation,
        key: str,
        *,
        failed: bool,
        sent_bytes: int = 0,
        received_bytes: int = 0,
        storage_class: str = "",
    ) -> None:
        """``note`` from a thread beside the loop, for what is current in the thread."""
        note = partial(
            self.note,
            operation,
            key,
            failed=failed,
            sent_bytes=sent_bytes,
            received_bytes=received_bytes,
            storage_class=storage_class,
        )
        with suppress(RuntimeError):  # The loop has ended, and with it whoever counts.
            loop.call_soon_threadsafe(note, context=copy_context())

    def asked(self, operation: Operation, key: str, *, sent_bytes: int = 0, storage_class: str = "") -> Asked:
        """A block that makes one request: ``with meter.asked(...) as asked``. It has failed if the block raises."""
        return Asked(self, operation, key, sent_bytes, storage_class)


class Asked:
    """``received_bytes``: to be set when the answer is there."""

    __slots__ = ("_key", "_meter", "_operation", "_sent_bytes", "_storage_class", "received_bytes")

    def __init__(
        self, meter: Meter, operation: Operation, key: str, sent_bytes: int, storage_class: str
    ) -> None:
        self.received_bytes = 0
        self._meter = meter
        self._operation = operation
        self._key = key
        self._sent_bytes = sent_bytes
        self._storage_class = storage_class

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and is_unsent(error):
            return
        self._meter.note(
            self._operation,
            self._key,
            failed=error is not None,
            sent_bytes=self._sent_bytes,
            received_bytes=self.received_bytes,
            storage_class=self._storage_class,
        )
