"""Values in Protobuf, as registry serializers write them.

Seen as the message type of the first of them, in the latest schema of the subject. Another message type is a dead letter;
fields that the latest schema lacks are left out, as by any reader.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from tierlog.errors import UserError
from tierlog.replay.values.columns import column_of
from tierlog.replay.values.port import Undecodable
from tierlog.replay.values.registry import Registry, Schema
from tierlog.replay.values.wire import message_path_of, schema_id_of

WRITERS_MAX = 500
Path = tuple[int, ...]


class ProtobufDecoder:
    """``remembered``: by an earlier run: the schema's id and the message's name."""

    has_schema_ids = True

    def __init__(self, registry: Registry, subject: str, remembered: str = "") -> None:
        try:
            from google.protobuf import descriptor_pb2
        except ImportError:
            raise UserError("Protobuf needs protobuf: pip install 'tierlog[values]'") from None
        self._file_type: Any = descriptor_pb2.FileDescriptorProto
        self._registry = registry
        self._names: OrderedDict[tuple[int | str, Path], str] = OrderedDict()
        self._subject = subject
        self.type: pa.DataType | None = None
        self._message = ""
        try:
            schema_id, name = json.loads(remembered) if remembered else (0, "")
            self._latest = registry.by_id(schema_id) if remembered else registry.latest(subject)
            self._pool = self._pool_of(self._latest)
            if name:
                self._take(name)
        except (Undecodable, KeyError) as error:
            raise UserError(f"{subject}: {error}") from None

    def settle(self, values: Sequence[bytes]) -> None:
        for value in values:
            try:
                name = self._name_of(value)[0]
                self._pool.FindMessageTypeByName(name)
            except (Undecodable, KeyError):
                continue
            try:
                self._take(name)
            except Undecodable as error:
                raise UserError(f"{self._subject}: {error}") from None
            return

    def remembered(self) -> str:
        return json.dumps([self._latest.id, self._message])

    def decode(self, value: bytes) -> Any:
        name, at = self._name_of(value)
        if name != self._message:
            raise Undecodable(f"{name}, and not {self._message}")
        message = self._class()
        message.ParseFromString(value[at:])
        return self._get(message)

    def column(self, rows: list[Any]) -> pa.Array:
        return column_of(rows, self.type)

    def _take(self, name: str) -> None:
        from google.protobuf.message_factory import GetMessageClass

        from tierlog.replay.values.protobuf_types import protobuf_type

        found = self._pool.FindMessageTypeByName(name)
        made = protobuf_type(found)
        if not pa.types.is_struct(made.arrow):
            raise Undecodable(f"{name} has no fields that could be columns")
        assert made.get is not None
        self._class, self._get = GetMessageClass(found), made.get
        self.type, self._message = made.arrow, name

    def _name_of(self, value: bytes) -> tuple[str, int]:
        """The message's full name, and where it begins. Raises Undecodable."""
        schema_id, at = schema_id_of(value)
        path, at = message_path_of(value, at)
        name = self._names.get((schema_id, path))
        if name is None:
            name = named(self._file(self._registry.by_id(schema_id)), path)
            self._names[schema_id, path] = name
            if len(self._names) > WRITERS_MAX:
                self._names.popitem(last=False)
        return name, at

    def _file(self, schema: Schema) -> Any:
        """The descriptor of a file. Raises Undecodable."""
        if schema.kind != "PROTOBUF":
            raise Undecodable(f"schema {schema.id} is of {schema.kind}, and not of Protobuf")
        try:
            return self._file_type.FromString(base64.b64decode(schema.text, validate=True))
        except (binascii.Error, ValueError):
            raise Undecodable(
                f"the registry does not give schema {schema.id} as a descriptor (format=serialized)"
            ) from None
        except Exception as error:  # What protobuf's parser raises depends on its implementation.
            raise Undecodable(f"schema {schema.id} is no descriptor: {error}") from None

    def _pool_of(self, schema: Schema) -> Any:
        """Raises Undecodable."""
        from google.protobuf.descriptor_pool import DescriptorPool

        from tierlog.replay.values.protobuf_files import add_imported, add_well_known

        pool = DescriptorPool()
        add_well_known(pool)
        try:
            for name, each in self._registry.referred(schema):
                file = self._file(each)
                file.name = name
                if not name.startswith("google/protobuf/"):
                    add_imported(pool, file)
                    pool.Add(file)
            file = self._file(schema)
            file.name = f"schema-{schema.id}.proto"  # Another one than those of the files that it imports.
            add_imported(pool, file)
            pool.Add(file)
            pool.FindFileByName(file.name)  # Which is where it is built.
        except (Undecodable, UserError):
            raise
        except Exception as error:  # TypeError and others, by implementation.
            told = (str(error).splitlines() or [type(error).__name__])[0]
            raise Undecodable(f"schema {schema.id} cannot be used: {told[:200]}") from None
        return pool


def named(file: Any, path: Path) -> str:
    """The full name of the message that the path leads to. Raises Undecodable."""
    names = [file.package] if file.package else []
    inside = file.message_type
    for number in path:
        if not 0 <= number < len(inside):
            raise Undecodable(f"its schema has no message {'/'.join(map(str, path))}")
        names.append(inside[number].name)
        inside = inside[number].nested_type
    return ".".join(names)
