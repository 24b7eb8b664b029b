"""Options that several commands share, written once: a function takes them and makes one value for the command."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

Command = Callable[..., None]


def with_options(make: Callable[..., object], **defaults: object) -> Callable[[Command], Command]:
    """The command gets what ``make`` returns as its first argument, and ``make``'s parameters are options behind its own.
    ``defaults`` are put in the place of theirs; a parameter that gets ... is no option of this command."""

    def decorate(command: Command) -> Command:
        first, *own = _parameters(command)
        shared = [
            parameter.replace(
                default=defaults.get(parameter.name, parameter.default), kind=parameter.KEYWORD_ONLY
            )
            for parameter in _parameters(make)
            if defaults.get(parameter.name) is not ...
        ]
        names = {parameter.name for parameter in shared}

        @functools.wraps(command)
        def answer(**given: Any) -> None:
            made = make(**{name: given.pop(name) for name in names})
            command(**{first.name: made}, **given)

        parameters = [*(parameter.replace(kind=parameter.KEYWORD_ONLY) for parameter in own), *shared]
        # typer reads them.
        answer.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        answer.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return answer

    return decorate


def _parameters(function: Callable[..., object]) -> list[inspect.Parameter]:
    return list(inspect.signature(function, eval_str=True).parameters.values())
