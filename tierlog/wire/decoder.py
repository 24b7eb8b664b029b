"""Compiles a declaration into one flat decode function per (message, version).

The function walks the bytes once. ``d`` is the data, ``p`` the position, ``end`` the length. Messages without
records are copied to ``bytes`` first (indexing and slicing bytes is two to three times cheaper than a
memoryview); those with records are read through a memoryview, and records come out as slices of it.

Bounds: the remaining bytes bound an array count, ``MAX_REQUEST_ELEMENTS`` the elements of a request, ``MAX_TAGS`` the
tagged fields of one struct.
"""

from __future__ import annotations

import struct
from typing import Any

from tierlog.errors import MalformedMessage
from tierlog.wire.primitives import MAX_STRING_BYTES, MAX_TAGS, read_tag, read_uvarint, skip_tags
from tierlog.wire.schema import (
    NEW,
    Decoder,
    Field,
    Message,
    StepDecoder,
    Struct,
    fields_of,
    shared_default,
    struct_named,
)
from tierlog.wire.source import FIXED, STEP, Source, is_flexible, min_element, tagged, untagged

MAX_REQUEST_ELEMENTS = 100_000
"""Array elements in one request, all arrays together. An element of two bytes becomes an object of a hundred, and an
entry of the reply: without a bound, one frame would take gigabytes and minutes."""


def compile_decoder(cls: type[Message], version: int) -> Decoder:
    """``(buffer, offset) -> (message, end_offset)``. May raise MalformedMessage, IndexError, struct.error and
    UnicodeDecodeError; the codec turns them all into the first."""
    decoder: Decoder = _compiled(cls, version, in_steps=False)
    return decoder


def compile_decoder_in_steps(cls: type[Message], version: int) -> StepDecoder:
    """The same as a generator that yields after every ``STEP`` elements and returns the pair."""
    decoder: StepDecoder = _compiled(cls, version, in_steps=True)
    return decoder


def _compiled(cls: type[Message], version: int, in_steps: bool) -> Any:
    writer = _DecoderSource(cls, version, in_steps)
    if writer.is_bounded:
        writer.emit(f"room = {MAX_REQUEST_ELEMENTS}")
    writer.emit("d = memoryview(d)" if writer.view else "d = d if type(d) is bytes else bytes(d)")
    writer.emit("end = len(d)")
    if in_steps:
        writer.emit("k = 0")
    writer.struct(cls, "m")
    writer.flush()
    if in_steps:
        writer.emit("yield")
    writer.emit("return m, p")
    return writer.function("decode(d, p)", f"<decode {cls.__name__} v{version}>")


def holds_records(cls: type[Struct]) -> bool:
    """Whether a records field lies anywhere in ``cls``."""
    for field in fields_of(cls):
        kind = field.element or field.kind
        if kind == "records":
            return True
        if kind not in FIXED and kind not in ("string", "bytes") and holds_records(struct_named(cls, kind)):
            return True
    return False


class _DecoderSource(Source):
    def __init__(self, cls: type[Message], version: int, in_steps: bool) -> None:
        names: dict[str, Any] = {
            "new": object.__new__,
            "Malformed": MalformedMessage,
            "read_uvarint": read_uvarint,
            "read_tag": read_tag,
            "skip_tags": skip_tags,
            "unpack_from": struct.unpack_from,
        }
        super().__init__(names)
        self.version = version
        self.in_steps = in_steps
        self.flexible = is_flexible(cls, version)
        self.view = holds_records(cls)
        self.is_bounded = cls.API_KEY >= 0 and cls.__name__.endswith("Request")

    def flush(self) -> None:
        run = self.take_run()
        if run is None:
            return
        layout, targets = run
        unpack = self.bind("unpack", layout.unpack_from)
        if layout.format == ">B":
            self.emit(f"{targets[0]} = d[p]")
        elif len(targets) == 1:
            self.emit(f"{targets[0]} = {unpack}(d, p)[0]")
        else:
            self.emit(f"{', '.join(targets)} = {unpack}(d, p)")
        self.emit(f"p += {layout.size}")

    def breathe_soon(self) -> None:
        """The field just read took as long as many elements, so yield soon."""
        if self.in_steps:
            self.emit(f"k = {STEP}")

    def bad(self, reason: str) -> None:
        self.emit(f'raise Malformed("{reason}")')

    def struct(self, cls: type[Struct], target: str) -> None:
        """Reads one struct into a new object named ``target``."""
        self.emit(f"{target} = new({self.bind('c_', cls)})")
        known = tagged(cls, self.version)
        present = untagged(cls, self.version)
        for field in fields_of(cls):
            if field not in present:
                self.emit(f"{target}.{field.name} = {self.default(cls, field)}")
        for field in present:
            self.field(cls, field, f"{target}.{field.name}")
        if self.flexible:
            self.tags(cls, known, target)

    def default(self, cls: type[Struct], field: Field) -> str:
        """An expression for the value of a field that is not on the wire."""
        if field.default is NEW and field.element is None:
            inner = struct_named(cls, field.kind)
            shared = shared_default(inner)
            return f"{self.bind('c_', inner)}()" if shared is None else self.bind("default", shared)
        if field.default is NEW:
            return "[]"
        if field.default is None or isinstance(field.default, (bool, int, float, str)):
            return repr(field.default)
        return self.bind("default", field.default)

    def tags(self, cls: type[Struct], known: list[Field], target: str) -> None:
        count = self.name("t")
        self.run.append(("B", count))
        self.flush()
        if not known:
            with self.block(f"if {count}:"):
                self.emit(f"p = skip_tags(d, {count}, p, end)")
                self.breathe_soon()
            return
        with self.block(f"if {count}:"):
            with self.block(f"if {count} > 127:"):
                self.emit(f"{count}, p = read_uvarint(d, p - 1)")
            with self.block(f"if {count} * 2 > end - p:"):
                self.bad("more tagged fields than bytes")
            with self.block(f"if {count} > {MAX_TAGS}:"):
                self.bad(f"more than {MAX_TAGS} tagged fields in one struct")
            self.breathe_soon()
            with self.block(f"for _ in range({count}):"):
                tag, stop = self.name("tag"), self.name("stop")
                self.emit(f"{tag}, {stop}, p = read_tag(d, p, end)")
                self.emit(f"{stop} += p")
                branch = "if"
                for field in known:
                    with self.block(f"{branch} {tag} == {field.tag}:"):
                        self.field(cls, field, f"{target}.{field.name}")
                        self.flush()
                    branch = "elif"
                with self.block("else:"):
                    self.emit(f"p = {stop}")
                with self.block(f"if p != {stop}:"):
                    self.bad("tagged field of another size than it says")

    def field(self, cls: type[Struct], field: Field, target: str) -> None:
        nullable = self.version in field.nullable
        if field.kind in FIXED:
            self.run.append((FIXED[field.kind], target))
        elif field.element is not None:
            self.array(cls, field.element, nullable, target)
        elif field.kind in ("string", "bytes", "records"):
            self.blob(field.kind, nullable, target)
        elif nullable:
            self.nullable_struct(struct_named(cls, field.kind), target)
        else:
            inner = self.name("o")
            self.struct(struct_named(cls, field.kind), inner)
            self.emit(f"{target} = {inner}")

    def nullable_struct(self, cls: type[Struct], target: str) -> None:
        """KIP-893: one signed byte before the struct, negative for null."""
        mark, inner = self.name("n"), self.name("o")
        self.run.append(("b", mark))
        self.flush()
        with self.block(f"if {mark} < 0:"):
            self.emit(f"{target} = None")
        with self.block("else:"):
            self.struct(cls, inner)
            self.flush()
            self.emit(f"{target} = {inner}")

    def length(self, code: str, limit: int | None = None) -> str:
        """Reads a length or count. Compact ones lose their offset of one, so that -1 is null either way."""
        count = self.name("n")
        if not self.flexible:
            self.run.append((code, count))
            self.flush()
            return count
        self.flush()
        self.emit(f"{count} = d[p]")
        with self.block(f"if {count} > 127:"):
            self.emit(f"{count}, p = read_uvarint(d, p)")
            if limit is not None:
                with self.block(f"if {count} > {limit + 1}:"):
                    self.bad("string too long")
        with self.block("else:"):
            self.emit("p += 1")
        self.emit(f"{count} -= 1")
        return count

    def null_or_bad(self, count: str, nullable: bool, target: str) -> None:
        """Emits the branch of a negative length: null if allowed, else an error."""
        if nullable:
            with self.block(f"if {count} != -1:"):
                self.bad("negative length")
            self.emit(f"{target} = None")
        else:
            self.bad("null or negative length where a value must be")

    def blob(self, kind: str, nullable: bool, target: str) -> None:
        count = self.length("h", MAX_STRING_BYTES) if kind == "string" else self.length("i")
        stop = self.name("q")
        with self.block(f"if {count} < 0:"):
            self.null_or_bad(count, nullable, target)
        with self.block("else:"):
            self.emit(f"{stop} = p + {count}")
            with self.block(f"if {stop} > end:"):
                self.bad(f"{kind} longer than the bytes that remain")
            piece = f"d[p:{stop}]"
            if kind == "bytes" and self.view:
                piece = f"bytes({piece})"
            elif kind == "string":
                piece = f"str({piece}, 'utf-8')" if self.view else f"{piece}.decode()"
            self.emit(f"{target} = {piece}")
            self.emit(f"p = {stop}")

    def array(self, cls: type[Struct], element: str, nullable: bool, target: str) -> None:
        count = self.length("i")
        with self.block(f"if {count} < 0:"):
            self.null_or_bad(count, nullable, target)
        with self.block("else:"):
            size = min_element(cls, element, self.version, self.flexible)
            with self.block(f"if {count} * {size} > end - p:" if size > 1 else f"if {count} > end - p:"):
                self.bad("array longer than the bytes that remain")
            if self.is_bounded:
                self.emit(f"room -= {count}")
                with self.block("if room < 0:"):
                    self.bad(f"more than {MAX_REQUEST_ELEMENTS} array elements in one request")
            if element in FIXED and element != "uuid":
                self.emit(f"{target} = list(unpack_from(f'>{{{count}}}{FIXED[element]}', d, p))")
                self.emit(f"p += {count} * {size}")
                return
            items, item = self.name("a"), self.name("e")
            self.emit(f"{items} = {target} = []")
            with self.block(f"for _ in range({count}):"):
                if element in ("string", "bytes", "uuid"):
                    if element == "uuid":
                        self.run.append((FIXED[element], item))
                    else:
                        self.blob(element, False, item)
                else:
                    self.struct(struct_named(cls, element), item)
                self.flush()
                self.emit(f"{items}.append({item})")
                self.count_step()
