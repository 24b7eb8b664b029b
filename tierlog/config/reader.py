"""Properties as typed values, each with the place where it was written, for rules that involve several of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tierlog.config.definitions import Definition, InvalidValue, Status, Value
from tierlog.config.lookup import BROKER
from tierlog.config.plugins import plugin_problem
from tierlog.config.problems import Problems, Property


class Reader:
    """Parsed values by property name; the default if no value, or no usable one, was given."""

    def __init__(self, given: Mapping[str, Property], problems: Problems) -> None:
        self.given = given
        self.problems = problems
        self.values: dict[str, Value | None] = {}
        for definition in BROKER.values():
            default = definition.default
            self.values[definition.name] = None if default is None else definition.parse(default)
        for name, item in given.items():
            if name in BROKER:
                self._parse(BROKER[name], item)

    def __getitem__(self, name: str) -> Any:
        return self.values[name]

    def is_given(self, name: str) -> bool:
        return name in self.given

    def is_sound(self, *names: str) -> bool:
        """Whether none of them has a reported problem."""
        return self.problems.names.isdisjoint(names)

    def refuse(self, name: str, reason: str) -> None:
        self.problems.add(name, self.given.get(name), reason)

    def _parse(self, definition: Definition, item: Property) -> None:
        name = definition.name
        try:
            value = definition.parse(item.text)
        except InvalidValue as error:
            self.refuse(name, f"{error.reason}; allowed is {definition.allowed}")
            return
        if definition.status is Status.REFUSED and not _promises_nothing(definition, value):
            self.refuse(name, plugin_problem(name, self.given) or "not supported yet; remove it")
            return
        self.values[name] = value


def _promises_nothing(definition: Definition, value: Value) -> bool:
    """Whether the value is an empty text or the default."""
    default = definition.default
    return value in ("", ()) or (default is not None and value == definition.parse(default))
