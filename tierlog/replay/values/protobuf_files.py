"""Files that schemas import although no registry tells them: Google's own, and those that Confluent's serializers know."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from tierlog.replay.values.port import Undecodable

WELL_KNOWN = ("timestamp", "duration", "wrappers", "struct", "any", "empty", "field_mask", "descriptor")
DECIMAL = "confluent.type.Decimal"
_DECIMAL_FILE, _OLD_DECIMAL_FILE = "confluent/type/decimal.proto", "confluent/types/decimal.proto"


def add_well_known(pool: Any) -> None:
    for name in sorted(WELL_KNOWN, key=lambda name: name != "descriptor"):
        pool.AddSerializedFile(import_module(f"google.protobuf.{name}_pb2").DESCRIPTOR.serialized_pb)


def add_imported(pool: Any, file: Any) -> None:
    """What the file imports of these, as far as the pool has not got it. Raises Undecodable."""
    for name in file.dependency:
        if name.startswith(("google/type/", "confluent/")) and not _has(pool, name):
            for each in _files_of(name, type(file)):
                add_imported(pool, each)
                if not _has(pool, each.name):
                    pool.Add(each)


def _has(pool: Any, name: str) -> bool:
    try:
        pool.FindFileByName(name)
    except KeyError:
        return False
    return True


def _files_of(name: str, file_type: Any) -> list[Any]:
    if name == "confluent/meta.proto":  # Options of fields, which no value needs.
        return [file_type(name=name, syntax="proto3")]
    if name in (_DECIMAL_FILE, _OLD_DECIMAL_FILE):
        old = file_type(name=_OLD_DECIMAL_FILE, dependency=[_DECIMAL_FILE], public_dependency=[0])
        return [_decimal_file(file_type), old]
    try:
        module = import_module(name.removesuffix(".proto").replace("/", ".") + "_pb2")
    except ImportError:
        raise Undecodable(
            f"its schema imports {name}: for google/type, pip install googleapis-common-protos"
        ) from None
    return [file_type.FromString(module.DESCRIPTOR.serialized_pb)]


def _decimal_file(file_type: Any) -> Any:
    file = file_type(name=_DECIMAL_FILE, package="confluent.type", syntax="proto3")
    message = file.message_type.add(name="Decimal")
    for number, (name, kind) in enumerate((("value", 12), ("precision", 13), ("scale", 5)), 1):
        message.field.add(name=name, number=number, type=kind, label=1)
    return file
