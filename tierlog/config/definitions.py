"""One property: its type, default and bounds, and how a text becomes its value.

The tables beside this module (``broker_table``, ``kafka_table``, ``topic_table``) declare every property of Kafka 4.4
and tierlog's own; names, types, defaults, bounds and update modes are Kafka's facts, the descriptions are ours. Rules:
a definition is pure data; ``parse`` is the only place where text becomes a value; its messages are those that Kafka's
clients show, since they travel back in INVALID_CONFIG answers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import TypeAlias

from tierlog.config.tiers import parse_tiers

Value: TypeAlias = bool | int | float | str | tuple[str, ...]


class ConfigType(IntEnum):
    """The numbers are those of DescribeConfigs (KIP-569)."""

    BOOLEAN = 1
    STRING = 2
    INT = 3
    SHORT = 4
    LONG = 5
    DOUBLE = 6
    LIST = 7
    CLASS = 8
    PASSWORD = 9


class Status(Enum):
    """The effect of setting the property."""

    HONOURED = "honoured"
    MEANINGLESS = "accepted and listed once: it means nothing here, or nothing yet, and nobody is hurt"
    REFUSED = "refused unless it says the default: it would promise what is not kept yet"


class UpdateMode(Enum):
    """How Kafka lets the property change while a broker runs (KIP-226)."""

    READ_ONLY = "read-only"
    PER_BROKER = "per-broker"
    CLUSTER_WIDE = "cluster-wide"


class InvalidValue(ValueError):
    """``str()`` is Kafka's message; ``reason`` is its last part, which says what is allowed."""

    def __init__(self, name: str, value: str | None, reason: str) -> None:
        super().__init__(f"Invalid value {value} for configuration {name}: {reason}")
        self.name = name
        self.value = value
        self.reason = reason


SHOWN_MAX = 200
_WIDTH = {ConfigType.SHORT: 15, ConfigType.INT: 31, ConfigType.LONG: 63}
# Bounds as text: ">=1", "1..9", "a|b" (one of, for lists each of), "A|b/i" (any case), "1..9,-1", "nonempty", "replicas"
# (of a topic, by partition and broker), "tiers" (see that module).
_REPLICA = re.compile(r"\d+:\d+")
_RANGE = re.compile(r"(-?[\d.]+)\.\.(-?[\d.]+)")


@dataclass(frozen=True, slots=True)
class Definition:
    """One property. ``default`` is None if Kafka's is null. ``internal``: not shown unless set."""

    name: str
    type: ConfigType
    default: str | None
    bound: str = ""
    status: Status = Status.HONOURED
    mode: UpdateMode = UpdateMode.READ_ONLY
    internal: bool = False
    doc: str = ""
    synonyms: tuple[str, ...] = ()  # broker properties that default a topic config, the strongest first

    def parse(self, text: str | None) -> Value:
        """The typed value. Raises InvalidValue."""
        if text is None:
            raise InvalidValue(self.name, None, "Value must be non-null")
        if self.type in (ConfigType.STRING, ConfigType.CLASS, ConfigType.PASSWORD):
            value: Value = text.strip() if self.type is not ConfigType.PASSWORD else text
        elif self.type is ConfigType.LIST:
            value = self._list(text)
        elif self.type is ConfigType.BOOLEAN:
            value = self._boolean(text.strip())
        else:
            value = self._number(text.strip())
        self._check(value, text)
        return value

    @property
    def allowed(self) -> str:
        """The form of a valid value, for error lines: ``a whole number, at least 1``."""
        names = {
            ConfigType.BOOLEAN: "true or false",
            ConfigType.LIST: "a list separated by commas",
            ConfigType.DOUBLE: "a number",
        }
        kind = names.get(self.type, "a whole number" if self.type in _WIDTH else "a text")
        return kind + (f", {_describe(self.bound)}" if self.bound else "")

    def _list(self, text: str) -> tuple[str, ...]:
        parts = [part.strip() for part in text.split(",")] if text.strip() else []
        if self.bound and "" in parts:
            raise InvalidValue(self.name, text, "values must not be empty")
        return tuple(dict.fromkeys(parts))

    def _boolean(self, text: str) -> bool:
        if text.lower() not in ("true", "false"):
            raise InvalidValue(self.name, text, "Expected value to be either true or false")
        return text.lower() == "true"

    def _number(self, text: str) -> int | float:
        try:
            if self.type is ConfigType.DOUBLE:
                return float(text)
            if "_" in text:
                raise ValueError(text)
            number = int(text)
        except ValueError:
            raise InvalidValue(self.name, text, f"Not a number of type {self.type.name}") from None
        limit = 1 << _WIDTH[self.type]
        if not -limit <= number < limit:
            raise InvalidValue(self.name, text, f"Not a number of type {self.type.name}")
        return number

    def _check(self, value: Value, text: str) -> None:
        if not self.bound:
            return
        if isinstance(value, (str, tuple)):
            self._check_words(value, text)
            return
        low, high, extra = _limits(self.bound)
        if value == extra:
            return
        if low is not None and not value >= low:
            raise InvalidValue(self.name, text, f"Value must be at least {_plain(low)}")
        if high is not None and value > high:
            raise InvalidValue(self.name, text, f"Value must be no more than {_plain(high)}")

    def _check_replicas(self, value: str | tuple[str, ...]) -> None:
        if value != ("*",) and not all(_REPLICA.fullmatch(word) for word in value):
            raise InvalidValue(
                self.name,
                f"[{', '.join(value)}]",
                f"{self.name} must be the literal '*' or a list of replicas in the following format: "
                "[partitionId]:[brokerId],[partitionId]:[brokerId],...",
            )

    def _check_words(self, value: str | tuple[str, ...], text: str) -> None:
        if self.bound == "replicas":
            self._check_replicas(value)
            return
        if self.bound == "tiers":
            try:
                parse_tiers(text)
            except ValueError as error:
                raise InvalidValue(self.name, text[:SHOWN_MAX], str(error)) from None
            return
        if self.bound == "nonempty":
            if not value:
                raise InvalidValue(self.name, text, "String must be non-empty")
            return
        any_case = self.bound.endswith("/i")
        words = self.bound.removesuffix("/i").split("|")
        for word in (value,) if isinstance(value, str) else value:
            if (word.upper() if any_case else word) not in (
                [w.upper() for w in words] if any_case else words
            ):
                raise InvalidValue(self.name, word, f"String must be one of: {', '.join(words)}")


def _limits(bound: str) -> tuple[float | None, float | None, float | None]:
    """(lowest, highest, one further allowed value)."""
    main, _, extra = bound.partition(",")
    besides = float(extra) if extra else None
    if main.startswith(">="):
        return float(main[2:]), None, besides
    match = _RANGE.fullmatch(main)
    assert match is not None, bound
    return float(match[1]), float(match[2]), besides


def _plain(number: float) -> str:
    return str(int(number)) if number == int(number) else str(number)


def _describe(bound: str) -> str:
    if bound == "nonempty":
        return "not empty"
    if bound == "tiers":
        return "CLASS:AGE,CLASS:AGE,… from warm to cold"
    if bound == "replicas":
        return "* or PARTITION:BROKER,PARTITION:BROKER,…"
    if bound[0].isalpha() or "|" in bound:
        return "one of " + ", ".join(bound.removesuffix("/i").split("|"))
    low, high, extra = _limits(bound)
    text = f"at least {_plain(low)}" if low is not None and high is None else ""
    if low is not None and high is not None:
        text = f"{_plain(low)} to {_plain(high)}"
    return text + (f" or {_plain(extra)}" if extra is not None else "")
