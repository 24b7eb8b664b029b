"""What values are written in, as a caller says it, and the decoder for it."""

from __future__ import annotations

import re
from typing import NamedTuple

import pyarrow as pa

from tierlog.errors import UserError
from tierlog.replay.values.avro_values import AvroDecoder
from tierlog.replay.values.json_values import JsonDecoder
from tierlog.replay.values.port import Decoder
from tierlog.replay.values.protobuf_values import ProtobufDecoder
from tierlog.replay.values.registry import Registry


class Json(NamedTuple):
    """JSON objects. ``schema``: the wanted fields and their types; None: as the first values have them."""

    schema: pa.Schema | None = None


class Avro(NamedTuple):
    """``registry``: URL of the schema registry, with user and password if it wants them."""

    registry: str


class Protobuf(NamedTuple):
    """``registry``: URL of the schema registry, with user and password if it wants them."""

    registry: str


Format = Json | Avro | Protobuf


def open_decoder(given: Format, topics: tuple[str, ...], remembered: str = "") -> Decoder:
    """``remembered``: what an earlier run's decoder told. Raises UserError."""
    if isinstance(given, Json):
        return JsonDecoder(given.schema, remembered)
    if len(topics) != 1:
        raise UserError("values with a schema registry: one topic at a time, for each has columns of its own")
    if isinstance(given, Avro):
        return AvroDecoder(Registry(given.registry), f"{topics[0]}-value", remembered)
    registry = Registry(given.registry, is_serialized=True)
    return ProtobufDecoder(registry, f"{topics[0]}-value", remembered)


def name_of(given: Format) -> str:
    return type(given).__name__.lower()


def format_of(name: str | None, registry: str | None, schema: str | None) -> Format | None:
    """From the command line. Raises UserError."""
    if name is None:
        if schema is not None:
            raise UserError("--value-schema: choose --value-format json as well")
        return None
    if name == "json":
        return Json(None if schema is None else schema_of_text(schema))
    if schema is not None:
        raise UserError(f"--value-schema is for JSON: the registry tells what is in {name}")
    if registry is None:
        raise UserError(f"--value-format {name}: name the schema registry with --registry http://HOST:PORT")
    return Avro(registry) if name == "avro" else Protobuf(registry)


def schema_of_text(text: str) -> pa.Schema:
    """``carrier:string,delay:int64``. Raises UserError."""
    fields = []
    for part in text.split(","):
        name, colon, kind = part.strip().rpartition(":")
        match = re.fullmatch(r"timestamp(?:\[(s|ms|us)\])?", kind)
        try:
            type_ = pa.timestamp(match[1] or "ms", "UTC") if match else pa.type_for_alias(kind.strip())
        except ValueError:
            type_ = None
        if not colon or not name or type_ is None:
            raise UserError(
                f"--value-schema {part.strip()}: expected NAME:TYPE,…, such as delay:int64,at:timestamp"
            )
        fields.append(pa.field(name, type_))
    return pa.schema(fields)
