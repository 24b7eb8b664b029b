"""Arithmetic whose sums are exact, however large a bill is: the usual 28 digits end at ten thousand million million."""

from __future__ import annotations

from collections.abc import Callable
from decimal import localcontext
from functools import wraps
from typing import ParamSpec, TypeVar

DIGITS = 50
P = ParamSpec("P")
R = TypeVar("R")


def exact(function: Callable[P, R]) -> Callable[P, R]:
    """The function counts with ``DIGITS``, whoever calls it, and so does what it calls."""

    @wraps(function)
    def counted(*args: P.args, **kwargs: P.kwargs) -> R:
        with localcontext(prec=DIGITS):
            return function(*args, **kwargs)

    return counted
