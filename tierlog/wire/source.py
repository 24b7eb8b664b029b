"""A growing piece of Python source, shared by the two compilers.

Fixed-size fields are collected into *runs*, each one ``struct.Struct`` call; a run is flushed before anything
of variable size. Names are numbered, so that nested structs can be inlined without clashes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tierlog.wire.schema import Field, Message, Struct, fields_of, struct_named

FIXED = {
    "bool": "?",
    "int8": "b",
    "int16": "h",
    "uint16": "H",
    "int32": "i",
    "uint32": "I",
    "int64": "q",
    "float64": "d",
    "uuid": "16s",
}
SIZES = {kind: struct.calcsize(">" + code) for kind, code in FIXED.items()}


STEP = 64
"""Array elements between two pauses of a codec that works in steps: some 50 µs."""


class Source:
    """Lines, indentation, numbered names, and the globals that the compiled function will see."""

    in_steps = False

    def __init__(self, names: dict[str, Any]) -> None:
        self.lines: list[str] = []
        self.depth = 1
        self.names = names
        self.counter = 0
        self.run: list[tuple[str, str]] = []  # (struct code, expression), not yet emitted

    def emit(self, line: str) -> None:
        self.lines.append("    " * self.depth + line)

    @contextmanager
    def block(self, head: str) -> Iterator[None]:
        self.emit(head)
        self.depth += 1
        yield
        self.depth -= 1

    def name(self, prefix: str) -> str:
        self.counter += 1
        return f"{prefix}{self.counter}"

    def bind(self, prefix: str, value: Any) -> str:
        """Makes ``value`` a global of the compiled function; equal values share a name."""
        for name, bound in self.names.items():
            if bound is value:
                return name
        name = self.name(prefix)
        self.names[name] = value
        return name

    def count_step(self, weight: str = "1") -> None:
        """Call at the end of each array element. ``weight``: how many it counts for."""
        if self.in_steps:
            self.emit(f"k += {weight}")
            with self.block(f"if k > {STEP}:"):
                self.emit("k = 0")
                self.emit("yield")

    def take_run(self) -> tuple[struct.Struct, list[str]] | None:
        """Returns the collected run as (layout, expressions), and starts a new one."""
        if not self.run:
            return None
        layout = struct.Struct(">" + "".join(code for code, _ in self.run))
        expressions = [expression for code, expression in self.run if code != "x"]
        self.run = []
        return layout, expressions

    def function(self, head: str, title: str) -> Any:
        text = "\n".join([f"def {head}:", *self.lines])
        exec(compile(text, title, "exec"), self.names)
        return self.names[head.partition("(")[0]]


def is_flexible(cls: type[Message], version: int) -> bool:
    return cls.FLEXIBLE is not None and version >= cls.FLEXIBLE


def untagged(cls: type[Struct], version: int) -> list[Field]:
    """The fields that are in the body at ``version``, in order."""
    return [f for f in fields_of(cls) if version in f.versions and version not in f.tagged]


def tagged(cls: type[Struct], version: int) -> list[Field]:
    """The tagged fields of ``version`` by rising tag."""
    return sorted((f for f in fields_of(cls) if version in f.tagged), key=lambda field: field.tag)


def min_size(cls: type[Struct], version: int, flexible: bool) -> int:
    """The fewest bytes that one struct can take: the bound that array counts are checked against."""
    return sum(_min_field(cls, f, version, flexible) for f in untagged(cls, version)) + flexible


def _min_field(cls: type[Struct], field: Field, version: int, flexible: bool) -> int:
    if field.kind in SIZES:
        return SIZES[field.kind]
    if field.kind == "string":
        return 1 if flexible else 2
    if field.element is not None or field.kind in ("bytes", "records"):
        return 1 if flexible else 4
    if version in field.nullable:
        return 1
    return min_size(struct_named(cls, field.kind), version, flexible)


def min_element(cls: type[Struct], element: str, version: int, flexible: bool) -> int:
    """The fewest bytes of one array element; at least 1, so that a count is always bounded."""
    if element in SIZES:
        return SIZES[element]
    if element == "string":
        return 1 if flexible else 2
    if element == "bytes":
        return 1 if flexible else 4
    return max(1, min_size(struct_named(cls, element), version, flexible))
