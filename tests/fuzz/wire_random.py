"""Random messages of any class and version, drawn from a ``random.Random``.

Hypothesis hands in its own Random, so that failures shrink; fuzzers hand in a seeded one. Fields that the
version lacks keep their defaults.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any, TypeVar

from tierlog.errors import ErrorCode
from tierlog.wire.schema import Field, Message, Struct, fields_of, struct_named

Fixed = dict[tuple[str, str], Callable[[Random], Any]]
"""(field name, type) to what to draw instead of a random value; for elements of an array of that name too."""

BITS = {"int8": 8, "int16": 16, "int32": 32, "int64": 64}
TEXTS = ("", "a", "topic", "groß", "日本", "x" * 126, "x" * 127, "y" * 300)
S = TypeVar("S", bound=Struct)


def random_message(cls: type[S], version: int, rng: Random, fixed: Fixed | None = None) -> S:
    """An instance of ``cls`` with random values but for those that ``fixed`` draws, at any depth."""
    values: dict[str, Any] = {}
    for field in fields_of(cls):
        if version not in field.versions and version not in field.tagged:
            continue
        if version in field.tagged and rng.random() < 0.4:
            continue
        values[field.name] = _value(cls, field, version, rng, fixed)
    return cls(**values)


def _value(cls: type[Struct], field: Field, version: int, rng: Random, fixed: Fixed | None) -> Any:
    known = fixed is not None and (field.name, field.kind) in fixed
    if version in field.nullable and not known and rng.random() < 0.2:
        return None
    if field.element is None:
        value = _single(cls, field.name, field.kind, version, rng, fixed)
        # A drawn null where null is not allowed: some APIs need what others may leave out.
        allowed = value is not None or version in field.nullable
        return value if allowed else _single(cls, field.name, field.kind, version, rng, None)
    scalar = field.element in BITS
    count = rng.choice((0, 1, 2, 3, 130)) if scalar else rng.choice((0, 1, 1, 2))
    return [_single(cls, field.name, field.element, version, rng, fixed) for _ in range(count)]


def _single(cls: type[Struct], name: str, kind: str, version: int, rng: Random, fixed: Fixed | None) -> Any:
    if fixed and (name, kind) in fixed:
        return fixed[name, kind](rng)
    if kind in BITS:
        return _integer(name, kind, rng)
    if kind == "bool":
        return rng.random() < 0.5
    if kind in ("uint16", "uint32"):
        return rng.randrange(1 << 16)
    if kind == "float64":
        return float(rng.randrange(-1000, 1000)) / 8
    if kind == "string":
        return rng.choice(TEXTS)
    if kind == "uuid":
        return rng.randbytes(16) if rng.random() < 0.9 else bytes(16)
    if kind in ("bytes", "records"):
        return rng.randbytes(rng.choice((0, 1, 17, 126, 127, 128, 400)))
    return random_message(struct_named(cls, kind), version, rng, fixed)


def _integer(name: str, kind: str, rng: Random) -> int:
    if name.endswith("error_code"):
        return int(rng.choice(tuple(ErrorCode)[:-8]))
    half = 1 << (BITS[kind] - 1)
    if kind == "int64" and ("time" in name or "period" in name):
        return rng.randrange(1 << 40)  # other readers make dates of them
    return rng.choice((0, 1, -1, 7, half - 1, -half, rng.randrange(-half, half)))


def versions_of(cls: type[Message]) -> range:
    """Every version that ``cls`` can be written in."""
    return range(cls.VERSIONS[0], cls.VERSIONS[1] + 1)
