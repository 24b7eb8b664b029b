"""Compiles a declaration into one flat encode function per (message, version).

The function builds one bytearray ``o``; at a records field the bytearray so far goes into the list of
buffers, the records follow by reference, and a new bytearray begins. A value that the version cannot carry is
an EncodeError unless its field is ignorable (Kafka's rule).
"""

from __future__ import annotations

import struct
from typing import Any

from tierlog.wire.lazily import Lazy
from tierlog.wire.primitives import MAX_STRING_BYTES, append_records, uvarint
from tierlog.wire.schema import (
    NEW,
    EncodeError,
    Encoder,
    Field,
    Message,
    StepEncoder,
    Struct,
    fields_of,
    shared_default,
    struct_named,
)
from tierlog.wire.source import FIXED, Source, is_flexible, tagged, untagged

NULL_LENGTHS = {"h": b"\xff\xff", "i": b"\xff\xff\xff\xff"}


def compile_encoder(cls: type[Message], version: int) -> Encoder:
    """``message -> buffers``. Raises EncodeError, struct.error, TypeError or AttributeError for wrong
    values."""
    encoder: Encoder = _compiled(cls, version, in_steps=False)
    return encoder


def compile_encoder_in_steps(cls: type[Message], version: int) -> StepEncoder:
    """The same as a generator that yields after every ``STEP`` elements and returns the buffers."""
    encoder: StepEncoder = _compiled(cls, version, in_steps=True)
    return encoder


def _compiled(cls: type[Message], version: int, in_steps: bool) -> Any:
    writer = _EncoderSource(cls, version, in_steps)
    writer.emit("iovecs = []")
    writer.emit("o = bytearray()")
    if in_steps:
        writer.emit("k = 0")
    writer.struct(cls, "m")
    writer.flush()
    with writer.block("if o:"):
        writer.emit("iovecs.append(o)")
    if in_steps:
        writer.emit("yield")
    writer.emit("return iovecs")
    return writer.function("encode(m)", f"<encode {cls.__name__} v{version}>")


def _total(buffers: Any) -> int:
    return len(buffers) if isinstance(buffers, (bytes, bytearray, memoryview)) else sum(map(len, buffers))


class _EncoderSource(Source):
    def __init__(self, cls: type[Message], version: int, in_steps: bool) -> None:
        names: dict[str, Any] = {
            "EncodeError": EncodeError,
            "uvarint": uvarint,
            "append_records": append_records,
            "total": _total,
            "Lazy": Lazy,
            "pack_any": struct.pack,
        }
        super().__init__(names)
        self.version = version
        self.in_steps = in_steps
        self.flexible = is_flexible(cls, version)

    def flush(self) -> None:
        run = self.take_run()
        if run is None:
            return
        layout, values = run
        if not values:
            self.emit(f"o += {bytes(layout.size)!r}")
            return
        self.emit(f"o += {self.bind('pack', layout.pack)}({', '.join(values)})")

    def struct(self, cls: type[Struct], source: str) -> None:
        """Writes the fields of the object named ``source``."""
        known = tagged(cls, self.version)
        for field in fields_of(cls):
            if self.version not in field.versions and field not in known and not field.ignorable:
                with self.block(f"if {self.differs(cls, field, f'{source}.{field.name}')}:"):
                    self.emit(f'raise EncodeError("{cls.__name__}.{field.name} is not in v{self.version}")')
        for field in untagged(cls, self.version):
            self.field(cls, field, f"{source}.{field.name}")
        if self.flexible:
            self.tags(cls, known, source)

    def differs(self, cls: type[Struct], field: Field, value: str) -> str:
        """An expression: whether ``value`` is not the field's default."""
        if field.default is None:
            return f"{value} is not None"
        if field.element is not None:
            return f"{value} is None or {value}"
        if field.default is NEW:
            inner = struct_named(cls, field.kind)
            parts = [f"({self.differs(inner, f, f'{value}.{f.name}')})" for f in fields_of(inner)]
            differs = " or ".join([f"{value} is None", *parts])
            shared = shared_default(inner)
            return (
                differs
                if shared is None
                else f"{value} is not {self.bind('default', shared)} and ({differs})"
            )
        if isinstance(field.default, (bool, int, float, str)):
            return f"{value} != {field.default!r}"
        return f"{value} != {self.bind('default', field.default)}"

    def tags(self, cls: type[Struct], known: list[Field], source: str) -> None:
        if not known:
            self.run.append(("x", ""))
            return
        self.flush()
        count, outer, parts = self.name("t"), self.name("outer"), self.name("parts")
        self.emit(f"{count} = 0")
        self.emit(f"{outer} = o")
        self.emit(f"{parts} = b''")
        for field in known:
            with self.block(f"if {self.differs(cls, field, f'{source}.{field.name}')}:"):
                self.emit("o = bytearray()")
                self.field(cls, field, f"{source}.{field.name}")
                self.flush()
                self.emit(f"{parts} += {uvarint(field.tag)!r} + uvarint(len(o)) + o")
                self.emit(f"{count} += 1")
        self.emit(f"o = {outer}")
        self.emit(f"o.append({count})")
        with self.block(f"if {count}:"):
            self.emit(f"o += {parts}")

    def field(self, cls: type[Struct], field: Field, value: str) -> None:
        nullable = self.version in field.nullable
        if field.kind == "uuid":
            with self.block(f"if len({value}) != 16:"):
                self.emit('raise EncodeError("a uuid has 16 bytes")')
            self.run.append(("16s", value))
        elif field.kind in FIXED:
            self.run.append((FIXED[field.kind], value))
        elif field.element is not None:
            self.array(cls, field.element, nullable, value)
        elif field.kind in ("string", "bytes"):
            self.blob(field.kind, nullable, value)
        elif field.kind == "records":
            self.records(nullable, value)
        elif nullable:
            self.nullable_struct(struct_named(cls, field.kind), value)
        else:
            inner = self.name("s")
            self.emit(f"{inner} = {value}")
            self.struct(struct_named(cls, field.kind), inner)

    def nullable_struct(self, cls: type[Struct], value: str) -> None:
        """KIP-893: one signed byte before the struct, negative for null."""
        inner = self.name("s")
        self.flush()
        self.emit(f"{inner} = {value}")
        with self.block(f"if {inner} is None:"):
            self.emit(r"o.append(255)")
        with self.block("else:"):
            self.emit("o.append(1)")
            self.struct(cls, inner)
            self.flush()

    def null(self, code: str) -> None:
        """Writes a null length, in the branch of a null value."""
        self.emit("o.append(0)" if self.flexible else f"o += {NULL_LENGTHS[code]!r}")

    def length(self, code: str, expression: str, limit: int | None = None) -> None:
        """Writes a length or count, at most ``limit``."""
        if not self.flexible:
            self.run.append((code, expression))
            self.flush()
            return
        self.flush()
        count = self.name("n")
        self.emit(f"{count} = {expression} + 1")
        with self.block(f"if {count} < 128:"):
            self.emit(f"o.append({count})")
        with self.block("else:"):
            if limit is not None:
                with self.block(f"if {count} > {limit + 1}:"):
                    self.emit('raise EncodeError("string too long")')
            self.emit(f"o += uvarint({count})")

    def null_allowed(self, code: str, value: str) -> None:
        """Opens the two branches of a nullable value; the caller continues inside the second."""
        self.flush()
        with self.block(f"if {value} is None:"):
            self.null(code)

    def blob(self, kind: str, nullable: bool, value: str) -> None:
        code = "h" if kind == "string" else "i"
        text = self.name("s")
        if nullable:
            self.emit(f"{text} = {value}")
            self.null_allowed(code, text)
            with self.block("else:"):
                self.text(kind, code, text, text)
        else:
            self.text(kind, code, text, value)

    def text(self, kind: str, code: str, name: str, value: str) -> None:
        self.emit(f"{name} = {value}.encode()" if kind == "string" else f"{name} = {value}")
        self.length(code, f"len({name})", MAX_STRING_BYTES if kind == "string" else None)
        self.emit(f"o += {name}")

    def records(self, nullable: bool, value: str) -> None:
        data = self.name("s")
        self.emit(f"{data} = {value}")

        def body() -> None:
            self.length("i", f"total({data})")
            self.emit("iovecs.append(o)")
            self.emit(f"append_records(iovecs, {data})")
            self.emit("o = bytearray()")

        if not nullable:
            with self.block(f"if {data} is None:"):
                self.emit('raise EncodeError("records must not be null")')
            body()
            return
        self.null_allowed("i", data)
        with self.block("else:"):
            body()

    def array(self, cls: type[Struct], element: str, nullable: bool, value: str) -> None:
        items = self.name("a")
        self.emit(f"{items} = {value}")
        if nullable:
            self.null_allowed("i", items)
            with self.block("else:"):
                self.elements(cls, element, items)
        else:
            self.elements(cls, element, items)

    def elements(self, cls: type[Struct], element: str, items: str) -> None:
        self.length("i", f"len({items})")
        if element in FIXED and element != "uuid":
            self.emit(f"o += pack_any(f'>{{len({items})}}{FIXED[element]}', *{items})")
            return
        item, weight = self.name("e"), self.name("w")
        if self.in_steps:
            self.emit(f"{weight} = {items}.weight if {items}.__class__ is Lazy else 1")
        with self.block(f"for {item} in {items}:"):
            if element in ("string", "bytes"):
                self.blob(element, False, item)
            elif element == "uuid":
                with self.block(f"if len({item}) != 16:"):
                    self.emit('raise EncodeError("a uuid has 16 bytes")')
                self.emit(f"o += {item}")
            else:
                self.struct(struct_named(cls, element), item)
            self.flush()
            self.count_step(weight)
