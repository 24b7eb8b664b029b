"""Requests of at most 1 MiB that are made to be slow, for every served API in every version.

``inputs(world)`` goes over the declarations: each array of a request, at any depth, is filled with as many elements as fit,
in several ways (one item again and again, everything that exists, nothing that exists, empty strings, longest strings, and
records where a request carries some), alone and below many parents; then a request of nothing but tagged fields, one whose
strings are the longest, and as many of the smallest as fit, one behind the other.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache, partial
from random import Random
from typing import Any, Literal, NamedTuple, TypeAlias

from tests.fuzz.wire_corpus import record_batch
from tierlog.broker.api_table import ROWS
from tierlog.metadata.features import supported_ranges
from tierlog.wire.codec import encode_bytes
from tierlog.wire.framing import encode_request_header
from tierlog.wire.primitives import uvarint
from tierlog.wire.registry import APIS
from tierlog.wire.schema import Message, Struct, fields_of, struct_named

MAX_FRAME_BYTES = 1 << 20
MAX_ELEMENTS = 99_000
MAX_LISTS = 2_000
MAX_TAGS = 10_000
MAX_TEXT = 2**15 - 1
MANY = "many"
FEATURES = list(supported_ranges())
BATCH = record_batch(Random(1), 1)
PROBE = 64
NAMES = ("name", "topic", "topic_name", "topic_names", "topics")
INDEXES = ("index", "partition", "partition_index", "partitions", "partition_indexes", "partition_id")
GROUPS = ("group_id", "groups", "groups_names", "key", "coordinator_keys")


@dataclass
class World:
    """What exists on the broker."""

    topics: dict[str, tuple[bytes, int]] = field(default_factory=dict)
    """Name to (id, partition count)."""
    groups: int = 0
    timestamp: int = -1
    """What ListOffsets asks for."""

    def topic(self, n: int) -> str:
        return list(self.topics)[n % len(self.topics)]


class Input(NamedTuple):
    key: int
    version: int
    what: str
    frame: bytes

    def __str__(self) -> str:
        return f"{APIS[self.key].name} v{self.version} {self.what}, {len(self.frame)} bytes"


Versions: TypeAlias = Literal["all", "ends", "newest"]
Value = Callable[[str, str, int], Any]
"""(field name, type, running number) to what stands there."""


def inputs(
    world: World, only: frozenset[int] | None = None, versions: Versions = "all", every: int = 1
) -> Iterator[Input]:
    """Every ``every``-th of them; the others are not made."""
    for n, (key, version, what, make) in enumerate(_makers(world, only, versions)):
        if n % every == 0:
            yield Input(key, version, what, make())


def many_small(world: World) -> Iterator[Input]:
    """As many small requests as fit, of each API."""
    for key, version, what, make in _makers(world, None, "newest"):
        if what == MANY:
            yield Input(key, version, what, make())


def count_inputs(world: World, only: frozenset[int] | None = None, versions: Versions = "all") -> int:
    return sum(1 for _ in _makers(world, only, versions))


def _makers(
    world: World, only: frozenset[int] | None, versions: Versions
) -> Iterator[tuple[int, int, str, Callable[[], bytes]]]:
    """(API key, version, what it is called, what makes the frame)."""
    for key in sorted(ROWS):
        if only is not None and key not in only:
            continue
        spec = APIS[key]
        first, last = spec.first_decodable_version, spec.max_version
        chosen = {"all": range(first, last + 1), "ends": sorted({first, last}), "newest": [last]}[versions]
        for version in chosen:
            for what, make in _of_version(world, key, spec.request, version):
                yield key, version, what, make


def _of_version(
    world: World, key: int, cls: type[Message], version: int
) -> Iterator[tuple[str, Callable[[], bytes]]]:
    def filled(path: tuple[str, ...], value: Value, parents: int) -> bytes:
        message = _as_many_as_fit(cls, version, path, value, parents)
        return framed(key, version, encode_bytes(message, version))

    def tagged() -> bytes:
        body = encode_bytes(build(cls, version, (), 0, fillings(world)["same"]), version)
        tags = b"".join(uvarint(100 + n) + b"\0" for n in range(MAX_TAGS))
        return framed(key, version, body[:-1] + uvarint(MAX_TAGS) + tags)

    def long_texts() -> bytes:
        texts = sum(kind in ("string", "bytes", "records") for _, kind, *_ in _present(cls, version))
        size = min(MAX_TEXT, (MAX_FRAME_BYTES - 1000) // max(texts, 1))
        value = with_texts(fillings(world)["existing"], size)
        return framed(key, version, encode_bytes(build(cls, version, (), 0, value), version))

    def many() -> bytes:
        value = fillings(world)["existing"]
        one = framed(key, version, encode_bytes(build(cls, version, (), 0, value), version))
        return one * (MAX_FRAME_BYTES // len(one))

    for path in array_paths(cls, version):
        for way, value in fillings(world).items():
            if way == "records" and not carries_records(cls, version):
                continue
            for parents in (1, 300) if len(path) > 1 else (1,):
                label = f"{'.'.join(path)} {way}{f' below {parents}' if parents > 1 else ''}"
                yield label, partial(filled, path, value, parents)
    if cls.FLEXIBLE is not None and version >= cls.FLEXIBLE:
        yield "tags", tagged
    yield "long texts", long_texts
    yield MANY, many


def array_paths(cls: type[Struct], version: int) -> Iterator[tuple[str, ...]]:
    """Field names from the request down to each array."""
    for each in fields_of(cls):
        if version not in each.versions and version not in each.tagged:
            continue
        if each.element is not None:
            yield (each.name,)
            if each.element[0].isupper():
                for path in array_paths(struct_named(cls, each.element), version):
                    yield (each.name, *path)


def fillings(world: World) -> dict[str, Value]:
    """Ways to fill a request, by what they are called."""
    names = list(world.topics)
    ids = [topic_id for topic_id, _ in world.topics.values()]

    def common(name: str, kind: str, n: int) -> Any:
        return _ORDINARY.get((name, kind), 0 if kind.startswith("int") else _EMPTY.get(kind))

    def same(name: str, kind: str, n: int) -> Any:
        return existing(name, kind, 0)

    def existing(name: str, kind: str, n: int) -> Any:
        if kind == "uuid":
            return ids[n % len(ids)]
        if kind == "string" and (name in NAMES or name == "resource_name"):
            return names[n % len(names)]
        if (name, kind) == ("feature", "string"):
            return FEATURES[n % len(FEATURES)]
        if (name, kind) == ("timestamp", "int64"):
            return world.timestamp
        if kind == "string" and name in GROUPS:
            return f"cost-group-{n % max(world.groups, 1)}"
        if kind == "int32" and name in INDEXES:
            return n % 100
        return common(name, kind, n)

    def unknown(name: str, kind: str, n: int) -> Any:
        if kind == "uuid":
            return struct.pack(">QQ", 7, n)
        if kind == "string" and (name, kind) not in _ORDINARY:
            return f"u{n}"
        if kind == "int32" and name in INDEXES:
            return n
        return common(name, kind, n)

    def empty(name: str, kind: str, n: int) -> Any:
        return bytes(16) if kind == "uuid" else common(name, kind, n)

    def long(name: str, kind: str, n: int) -> Any:
        if kind == "string" and (name, kind) not in _ORDINARY:
            return f"{n:08}" * 31
        return unknown(name, kind, n)

    def records(name: str, kind: str, n: int) -> Any:
        return BATCH if kind == "records" else existing(name, kind, n)

    return {
        "same": same,
        "existing": existing,
        "unknown": unknown,
        "empty": empty,
        "long": long,
        "records": records,
    }


def with_texts(value: Value, size: int) -> Value:
    def long(name: str, kind: str, n: int) -> Any:
        if kind == "string":
            return "x" * size
        return bytes(size) if kind in ("bytes", "records") else value(name, kind, n)

    return long


def carries_records(cls: type[Struct], version: int) -> bool:
    return any(
        kind == "records"
        or (
            element is not None
            and element[0].isupper()
            and carries_records(struct_named(cls, element), version)
        )
        for _, kind, element, _ in _present(cls, version)
    )


_EMPTY: dict[str, Any] = {
    "string": "",
    "bytes": b"",
    "records": None,
    "bool": False,
    "uuid": bytes(16),
    "float64": 0.0,
}
_ORDINARY: dict[tuple[str, str], Any] = {
    ("protocol_type", "string"): "consumer",
    ("protocol_name", "string"): "range",
    ("member_id", "string"): "",
    ("transactional_id", "string"): None,
    ("group_instance_id", "string"): None,
    ("cluster_id", "string"): None,
    ("client_software_name", "string"): "cost",
    ("client_software_version", "string"): "1",
    ("acks", "int16"): -1,
    ("timeout_ms", "int32"): 5_000,
    ("timeout", "int32"): 5_000,
    ("session_timeout_ms", "int32"): 6_000,
    ("generation_id_or_member_epoch", "int32"): -1,
    ("generation_id", "int32"): -1,
    ("retention_time_ms", "int64"): -1,
    ("replica_id", "int32"): -1,
    ("replica_epoch", "int64"): -1,
    ("current_leader_epoch", "int32"): -1,
    ("last_fetched_epoch", "int32"): -1,
    ("session_epoch", "int32"): 0,
    ("partition_max_bytes", "int32"): 1 << 20,
    ("max_bytes", "int32"): 1 << 20,
    ("timestamp", "int64"): -1,
    ("num_partitions", "int32"): 1,
    ("replication_factor", "int16"): 1,
    ("count", "int32"): 101,
    ("resource_type", "int8"): 2,
    ("node_id", "int32"): -1,
    ("endpoint_type", "int8"): 1,
    ("validate_only", "bool"): True,
    ("response_partition_limit", "int32"): 2_000,
}


def _as_many_as_fit(
    cls: type[Message], version: int, path: tuple[str, ...], value: Value, parents: int
) -> Message:
    """As many elements at ``path`` as a frame can hold."""

    def made(count: int) -> Message:
        message: Message = build(cls, version, path, count, value, parents)
        return message

    # Arrays in arrays in arrays multiply.
    while (lists := parents ** (len(path) - 1)) > MAX_LISTS or (
        one := len(encode_bytes(made(1), version))
    ) > MAX_FRAME_BYTES // 2:
        parents //= 2
    few = len(encode_bytes(made(1 + PROBE), version))
    # The numbers in names grow by some digits.
    each = (few - one) / PROBE + 3 * lists
    count = int((MAX_FRAME_BYTES - one - 100) / each)
    return made(max(1, min(count, MAX_ELEMENTS // lists - 2)))


def build(
    cls: type[Struct], version: int, path: tuple[str, ...], count: int, value: Value, parents: int = 1
) -> Any:
    """A message with ``count`` elements at ``path`` below each of ``parents`` others."""
    numbers = iter(range(1 << 30))
    return _built(cls, version, path, count, value, numbers, parents)


def _built(
    cls: type[Struct],
    version: int,
    path: tuple[str, ...],
    count: int,
    value: Value,
    numbers: Iterator[int],
    parents: int,
) -> Any:
    values: dict[str, Any] = {}
    number = next(numbers)
    way = path[0] if path else None
    for name, kind, element, may_be_null in _present(cls, version):
        if element is None:
            found = value(name, kind, number)
            values[name] = found if found is not None or may_be_null else _EMPTY.get(kind, 0)
        elif name != way:
            values[name] = []
        else:
            many = count if len(path) == 1 else parents
            if element[0].isupper():
                inner = struct_named(cls, element)
                values[name] = [
                    _built(inner, version, path[1:], count, value, numbers, parents) for _ in range(many)
                ]
            else:
                values[name] = [value(name, element, next(numbers)) for _ in range(many)]
    return cls(**values)


@cache
def _present(cls: type[Struct], version: int) -> list[tuple[str, str, str | None, bool]]:
    """(name, type, type of the elements of an array, may be null) of the fields of a version; structs are left as they
    are by default, null where they may be."""
    present = []
    for each in fields_of(cls):
        if version not in each.versions and version not in each.tagged:
            continue
        may_be_null = version in each.nullable
        is_struct = each.element is None and each.kind[0].isupper()
        if not is_struct:
            present.append((each.name, each.kind, each.element, may_be_null))
        elif may_be_null:
            present.append((each.name, "", None, True))
    return present


def framed(key: int, version: int, body: bytes) -> bytes:
    """With its header and size."""
    payload = encode_request_header(key, version, 1, "cost") + body
    return struct.pack(">i", len(payload)) + payload
