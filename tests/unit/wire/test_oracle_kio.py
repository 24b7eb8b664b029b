"""kio as the byte-level oracle: the same values, by name, give the same bytes, and the bytes the same values.

Every version that both know, in both directions. kio is at Kafka 4.3; what 4.4 added is checked by the round
trips alone.
"""

from __future__ import annotations

import dataclasses
import datetime
import io
import sys
import uuid
from collections import Counter
from collections.abc import Iterator
from random import Random
from types import ModuleType
from typing import Any, get_args, get_origin

import kio.schema.errors
import pytest
from kio.index import UnknownEntity, load_entity_module
from kio.serial import entity_reader, entity_writer
from kio.static.constants import EntityType
from kio.static.primitive import Records

from tests.fuzz.wire_random import random_message, versions_of
from tests.unit.wire.messages import ALL
from tierlog.wire.codec import decode_exact, encode_bytes
from tierlog.wire.schema import Message, Struct, fields_of

SAMPLES = 12
EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


@pytest.fixture(scope="module")
def compared(request: pytest.FixtureRequest) -> Iterator[Counter[str]]:
    """Messages compared per class; the sum is reported at the end."""
    counter: Counter[str] = Counter()
    yield counter
    with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        sys.stdout.write(
            f"\nkio oracle: {counter['messages']} messages, {counter['versions']} versions agree\n"
        )


def kio_module(cls: type[Message], version: int) -> ModuleType | None:
    name = cls.__name__.removesuffix("Request").removesuffix("Response")
    side = EntityType.nested
    if cls.__name__.endswith("Request"):
        side = EntityType.request
    elif cls.__name__.endswith("Response"):
        side = EntityType.response
    else:
        side = EntityType.data
    snake = "".join("_" + c.lower() if c.isupper() else c for c in name).lstrip("_")
    try:
        return load_entity_module(snake, version, side)  # type: ignore[arg-type]
    except UnknownEntity:
        return None


def to_kio(value: Struct, kio_class: type[Any], version: int) -> Any:
    """The same struct as an object of kio, matched by position and checked by name."""
    ours = [f for f in fields_of(type(value)) if version in f.versions or version in f.tagged]
    theirs = dataclasses.fields(kio_class)
    assert [f.name for f in theirs] == [kio_name(f.name, t) for f, t in zip(ours, theirs, strict=True)]
    return kio_class(
        **{
            t.name: kio_value(getattr(value, f.name), t.type, t.metadata.get("kafka_type"), version)
            for f, t in zip(ours, theirs, strict=True)
        }
    )


def kio_name(name: str, field: dataclasses.Field[Any]) -> str:
    if name == "generation_id_or_member_epoch" and field.name == "generation_id":
        return "generation_id"  # renamed in 4.4
    if field.metadata.get("kafka_type") in ("timedelta_i32", "timedelta_i64", "datetime_i64"):
        return name.removesuffix("_ms")
    return name


def kio_value(value: Any, annotation: Any, kafka_type: str | None, version: int) -> Any:
    if value is None:
        return None
    if isinstance(value, list):
        inner = element_type(annotation)
        return tuple(kio_value(item, inner, kafka_type, version) for item in value)
    if isinstance(value, Struct):
        return to_kio(value, plain_type(annotation), version)
    if kafka_type == "error_code":
        return kio.schema.errors.ErrorCode(value)
    if kafka_type in ("timedelta_i32", "timedelta_i64"):
        return datetime.timedelta(milliseconds=value)
    if kafka_type == "datetime_i64":
        return EPOCH + datetime.timedelta(milliseconds=value)
    if kafka_type == "uuid":
        return None if value == bytes(16) else uuid.UUID(bytes=value)
    return Records(value) if kafka_type == "records" else value


def element_type(annotation: Any) -> Any:
    for choice in (annotation, *get_args(annotation)):
        if get_origin(choice) is tuple:
            return get_args(choice)[0]
    raise AssertionError(annotation)


def plain_type(annotation: Any) -> Any:
    if dataclasses.is_dataclass(annotation):
        return annotation
    return next(choice for choice in get_args(annotation) if dataclasses.is_dataclass(choice))


@pytest.mark.parametrize("cls", ALL, ids=lambda cls: cls.__name__)
def test_same_bytes_as_kio(cls: type[Message], compared: Counter[str]) -> None:
    rng = Random(cls.__name__)
    for version in versions_of(cls):
        module = kio_module(cls, version)
        if module is None:
            continue
        kio_class = getattr(module, cls.__name__)
        write, read = entity_writer(kio_class), entity_reader(kio_class)
        for _ in range(SAMPLES):
            message = random_message(cls, version, rng)
            theirs = to_kio(message, kio_class, version)
            buffer = io.BytesIO()
            write(buffer, theirs)
            expected = buffer.getvalue()
            assert encode_bytes(message, version) == expected
            assert decode_exact(cls, version, expected) == message
            assert read(expected, 0)[0] == theirs
            compared["messages"] += 1
        compared["versions"] += 1


def test_nearly_all_versions_are_shared() -> None:
    shared = sum(kio_module(cls, version) is not None for cls in ALL for version in versions_of(cls))
    assert shared > 500
