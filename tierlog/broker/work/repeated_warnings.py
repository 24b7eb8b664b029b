"""Limits the warnings about a failing object store: the first one at once, then one line per minute and kind.

An outage hits every partition and every fetch of an old offset; the metrics count them all, the log names one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from typing import Any

from tierlog.telemetry.logs import OncePerMinute


class RepeatedWarnings:
    """``say`` logs the first warning of a key at once, then at most one per minute, with the number of those left out."""

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        self._now_s = now_s
        self._once = OncePerMinute()

    def say(self, log: Callable[..., Any], event: str, key: Hashable, **fields: object) -> None:
        """``log`` is a method of a logger; ``key`` tells different warnings of one event apart."""
        left_out = self._once.suppressed((event, key))
        if self._once.allow((event, key), self._now_s()):
            if left_out:
                fields["left_out"] = left_out
            log(event, **fields)


def kind_of(error: BaseException) -> str:
    """The name of the error's class, which tells a timeout from a refusal when the store's message does not."""
    return type(error).__name__
