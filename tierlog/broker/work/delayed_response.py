"""The response of a waiting request; its callbacks run in the same step in which it is completed.

An asyncio future calls back one turn of the loop later, and each turn polls: a fetch woken by an append would pay a
system call between the record and its reader. Rule: only callbacks of the loop complete a response, never the handling
of another request, since its callbacks go on with the next requests of their connection. Produce is exempt: the
connection only notes its replies in that step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class DelayedResponse(Generic[T]):
    """The part of ``asyncio.Future`` that a connection uses; callbacks run at once, in their order."""

    __slots__ = ("_callbacks", "_error", "_is_cancelled", "_is_done", "_value")

    def __init__(self) -> None:
        self._callbacks: list[Callable[[DelayedResponse[T]], None]] = []
        self._value: T | None = None
        self._error: BaseException | None = None
        self._is_done = False
        self._is_cancelled = False

    def add_done_callback(self, callback: Callable[[DelayedResponse[T]], None]) -> None:
        assert not self._is_done
        self._callbacks.append(callback)

    def set_result(self, value: T) -> None:
        self._value = value
        self._complete()

    def set_exception(self, error: BaseException) -> None:
        self._error = error
        self._complete()

    def cancel(self) -> bool:
        if self._is_done:
            return False
        self._is_cancelled = True
        self._complete()
        return True

    def done(self) -> bool:
        return self._is_done

    def cancelled(self) -> bool:
        return self._is_cancelled

    def exception(self) -> BaseException | None:
        return self._error

    def result(self) -> T | None:
        return self._value

    def _complete(self) -> None:
        assert not self._is_done
        self._is_done = True
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback(self)
