"""How a rule of the production code is broken for a while."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

Mutation = Callable[[], Any]


def method(target: Any, name: str) -> Callable[[Callable[..., Any]], Mutation]:
    """The decorated function replaces ``target.name``; its first argument is the original."""

    def decorate(function: Callable[..., Any]) -> Mutation:
        original = getattr(target, name)

        def mutated(*args: Any, **kwargs: Any) -> Any:
            return function(original, *args, **kwargs)

        return lambda: patch.object(target, name, mutated)

    return decorate


def property_of(target: Any, name: str) -> Callable[[Callable[[Any], Any]], Mutation]:
    def decorate(function: Callable[[Any], Any]) -> Mutation:
        return lambda: patch.object(target, name, property(function))

    return decorate


def together(*mutations: Mutation) -> Mutation:
    @contextmanager
    def all_of_them() -> Iterator[None]:
        if not mutations:
            yield
            return
        with mutations[0](), together(*mutations[1:])():
            yield

    return all_of_them
