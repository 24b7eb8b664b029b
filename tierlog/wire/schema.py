"""The classes of messages: slotted, with types and defaults in the class body and a table of wire facts.

A generated class looks like this::

    class FetchPartition(Struct):
        partition: int = 0
        last_fetched_epoch: int = -1

        FIELDS = (
            "partition: int32 0+",
            "last_fetched_epoch: int32 12+ ignorable",
        )

Each line of ``FIELDS`` is ``name: type versions [nullable=versions] [tag=n] [tagged=versions] [ignorable]``;
its order is the order on the wire. Types are Kafka's: bool, int8..int64, uint16, uint32, float64, string,
uuid, bytes, records, the name of another struct of the same module, and ``[]type``. Versions are ``4``,
``4-7``, ``4+`` or ``none``.

One class serves all versions: a field that a version lacks keeps its default on decode. Class creation does no parsing
(to start fast); ``__init__`` and the codecs are compiled on first use. A list as a default is created anew for each
object, written ``NEW`` in the class body. So is a struct that holds lists. A flat struct is a shared object that
refuses assignment, because three of them are in every partition of a Fetch response.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Sequence
from functools import cache
from typing import Any, ClassVar, NamedTuple, TypeAlias, dataclass_transform

from tierlog.types import Buffer

Records: TypeAlias = Buffer | Sequence[Buffer] | None
"""A records field: decoded as a memoryview slice of the input; encoded from one buffer or several, by
reference."""

NEW: Any = object()
"""Stands for a fresh empty list, or a fresh struct, as the default of a field."""

ZERO_UUID = bytes(16)
MAX_VERSION = 1 << 15

Decoder: TypeAlias = Callable[[Buffer, int], tuple[Any, int]]
Encoder: TypeAlias = Callable[[Any], list[Buffer]]
StepDecoder: TypeAlias = Callable[[Buffer, int], Generator[None, None, tuple[Any, int]]]
StepEncoder: TypeAlias = Callable[[Any], Generator[None, None, list[Buffer]]]


class EncodeError(ValueError):
    """A message cannot be written in the requested version: a bug of the side that built it."""


@dataclass_transform(kw_only_default=True)
class StructType(type):
    """Turns the defaults of a class body into slots; keeps the compiled codecs of each version."""

    FIELDS: tuple[str, ...]
    _defaults: dict[str, Any]
    _decoders: dict[int, Decoder]
    _encoders: dict[int, Encoder]
    _step_decoders: dict[int, StepDecoder]
    _step_encoders: dict[int, StepEncoder]
    _plain: type  # the class itself; for the class of a shared default, the class it stands for

    def __new__(mcs, name: str, bases: tuple[type, ...], body: dict[str, Any]) -> StructType:
        names = [line.partition(":")[0] for line in body.get("FIELDS", ())]
        body["_defaults"] = {field: body.pop(field) for field in names}
        body["__slots__"] = tuple(names)
        cls = super().__new__(mcs, name, bases, body)
        cls._decoders = {}
        cls._encoders = {}
        cls._step_decoders = {}
        cls._step_encoders = {}
        cls._plain = cls
        return cls


class Struct(metaclass=StructType):
    """Base of all messages and of the structs in them. Keyword constructor with Kafka's defaults."""

    FIELDS: ClassVar[tuple[str, ...]] = ()

    def __init__(self, **values: Any) -> None:
        cls = type(self)
        initializer = _compile_init(cls)
        cls.__init__ = initializer  # type: ignore[method-assign]
        initializer(self, **values)

    def __eq__(self, other: object) -> bool:
        cls = type(self)
        if not isinstance(other, Struct) or type(other)._plain is not cls._plain:
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in cls._defaults)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        values = ", ".join(f"{name}={getattr(self, name)!r}" for name in type(self)._defaults)
        return f"{type(self)._plain.__name__}({values})"


class Message(Struct):
    """A struct that stands alone on the wire. Versions are inclusive; ``FLEXIBLE`` is the first one with
    compact lengths and tagged fields (KIP-482), or None. ``API_KEY`` is -1 for data messages; for the key and
    value records of coordinators it is the record type."""

    API_KEY: ClassVar[int] = -1
    VERSIONS: ClassVar[tuple[int, int]] = (0, 0)
    FLEXIBLE: ClassVar[int | None] = None


class Versions(NamedTuple):
    """An inclusive range of versions; empty when first > last."""

    first: int
    last: int

    def __contains__(self, version: object) -> bool:
        return isinstance(version, int) and self.first <= version <= self.last


NO_VERSIONS = Versions(0, -1)


class Field(NamedTuple):
    """One parsed line of ``FIELDS`` with its default. ``element`` is the type inside ``[]``, or None."""

    name: str
    kind: str
    element: str | None
    versions: Versions
    nullable: Versions
    tag: int
    tagged: Versions
    ignorable: bool
    default: Any


def parse_versions(text: str) -> Versions:
    """``"none"``, ``"3"``, ``"3-5"`` or ``"3+"``."""
    if text == "none":
        return NO_VERSIONS
    if text.endswith("+"):
        return Versions(int(text[:-1]), MAX_VERSION)
    first, _, last = text.partition("-")
    return Versions(int(first), int(last or first))


@cache
def fields_of(cls: type[Struct]) -> tuple[Field, ...]:
    """The declaration of ``cls`` in wire order."""
    return tuple(_parse_field(cls, line) for line in cls.FIELDS)


def _parse_field(cls: type[Struct], line: str) -> Field:
    name, kind, versions, *words = line.replace(":", "", 1).split()
    options = dict(word.split("=") for word in words if "=" in word)
    return Field(
        name,
        kind,
        kind[2:] if kind.startswith("[]") else None,
        parse_versions(versions),
        parse_versions(options.get("nullable", "none")),
        int(options.get("tag", -1)),
        parse_versions(options.get("tagged", "none")),
        "ignorable" in words,
        cls._defaults[name],
    )


def struct_named(cls: type[Struct], name: str) -> type[Struct]:
    """The struct class that a field of ``cls`` names; it is in the same module."""
    found = getattr(sys.modules[cls.__module__], name)
    assert isinstance(found, StructType)
    return found  # type: ignore[return-value]


@cache
def shared_default(cls: type[Struct]) -> Struct | None:
    """The one object that stands for a default ``cls`` everywhere, or None when ``cls`` holds lists or
    structs."""
    if NEW in cls._defaults.values():
        return None
    frozen = type.__new__(
        StructType, cls.__name__, (cls,), {"__slots__": (), "__setattr__": _refuse_assignment}
    )
    value: Struct = object.__new__(frozen)  # type: ignore[arg-type]
    for name, default in cls._defaults.items():
        object.__setattr__(value, name, default)
    return value


def _refuse_assignment(value: Struct, name: str, _: object) -> None:
    raise AttributeError(f"the default {type(value).__name__} is shared: build a new one to set {name}")


def fresh_default(cls: type[Struct], field: Field, names: dict[str, Any]) -> str:
    """An expression for the value of a field that was not given; the names it needs are put into ``names``."""
    if field.default is not NEW:
        names[f"d_{field.name}"] = field.default
        return f"d_{field.name}"
    if field.element is not None:
        return "[]"
    inner = struct_named(cls, field.kind)
    shared = shared_default(inner)
    names[f"d_{field.kind}"] = inner if shared is None else shared
    return f"d_{field.kind}()" if shared is None else f"d_{field.kind}"


def _compile_init(cls: type[Struct]) -> Callable[..., None]:
    """``__init__`` as a flat function, one slot store per field. Arguments are keyword-only for type checkers
    alone: the interpreter fills in positional defaults twice as fast."""
    names: dict[str, Any] = {"NEW": NEW}
    arguments, stores = [], []
    for field in fields_of(cls):
        fresh = fresh_default(cls, field, names)
        constant = fresh.startswith("d_") and not fresh.endswith(")")
        arguments.append(f"{field.name}={fresh if constant else 'NEW'}")
        value = field.name if constant else f"{fresh} if {field.name} is NEW else {field.name}"
        stores.append(f"    self.{field.name} = {value}")
    source = "\n".join([f"def __init__({', '.join(['self', *arguments])}):", *stores, "    return None"])
    exec(compile(source, f"<init {cls.__qualname__}>", "exec"), names)
    initializer: Callable[..., None] = names["__init__"]
    return initializer
