"""Batches of a replay to batches with decoded values, and to dead letters. Memory is bounded by slices of the values."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator
from typing import Any, NamedTuple

import pyarrow as pa

from tierlog.errors import UserError
from tierlog.replay.decode.schema import SCHEMA
from tierlog.replay.reading import Chunk
from tierlog.replay.values.port import Decoder, Undecodable
from tierlog.replay.values.wire import headers_of

NEEDED = ("topic", "partition", "offset", "timestamp", "key", "value", "headers")
"""What a dead letter tells of its record, whatever columns are chosen."""
DEAD_LETTERS = pa.schema([*(SCHEMA.field(name) for name in NEEDED), pa.field("error", pa.string())])
SLICE_BYTES = 256 << 10
"""Of values that are Python's objects at one time, if not one value is larger."""
HELD_BYTES = 32 << 20
"""Of batches that wait until the values of one of them tell their type."""
ERROR_CHARACTERS = 300
Take = Callable[[pa.RecordBatch], None]


class Values:
    """``schema``: of the batches without decoding, as the columns are chosen. ``bury`` takes the dead letters; it is called
    before the batch that they are missing in is given out."""

    def __init__(self, decoder: Decoder, schema: pa.Schema, bury: Take) -> None:
        if "value" not in schema.names:
            raise UserError("values are decoded, but the column value is not chosen")
        self._decoder = decoder
        self._plain = schema
        self._bury = bury
        self.dead = 0
        self.first_dead = ""
        """Where and why."""

    @property
    def is_settled(self) -> bool:
        return self._decoder.type is not None

    @property
    def schema(self) -> pa.Schema:
        """Of the decoded batches. Without a type, nothing has been decoded and nothing will: the column stays as it is."""
        kind = self._decoder.type
        if kind is None:
            return self._plain
        return self._plain.set(self._plain.get_field_index("value"), pa.field("value", kind))

    def remembered(self) -> str:
        return self._decoder.remembered() if self.is_settled else ""

    def settle(self, batch: pa.RecordBatch) -> None:
        """Raises UserError."""
        found = [value for _, values in self._slices(batch) for value in values]
        self._decoder.settle([value for value in found if value is not None])

    def decode(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Without what cannot be decoded. Raises UserError."""
        bad: list[_Bad] = []
        pieces: list[pa.Array] = []
        for first, values in self._slices(batch):
            pieces += self._columns(*self._rows(first, values, bad), bad)
        if bad:
            self._lay_aside(batch, bad)
            dead = {each.number for each in bad}
            good = [number for number in range(batch.num_rows) if number not in dead]
            batch = batch.take(pa.array(good, pa.int64()))
        schema = self.schema
        kind = schema.field("value").type
        decoded = pa.concat_arrays(pieces) if pieces else pa.array([], kind)
        columns = [decoded if name == "value" else batch[name] for name in schema.names]
        return pa.RecordBatch.from_arrays(columns, schema=schema)

    def _slices(self, batch: pa.RecordBatch) -> Iterator[tuple[int, list[bytes | None]]]:
        """The values, some at a time, and the number of the first of them."""
        heads = headers_of(batch) if self._decoder.has_schema_ids else {}
        first, found, size = 0, [], 0
        for number, value in enumerate(batch["value"].to_pylist()):
            if number in heads and value is not None:
                value = heads[number] + value
            found.append(value)
            size += len(value or b"")
            if size >= SLICE_BYTES:
                yield first, found
                first, found, size = number + 1, [], 0
        if found:
            yield first, found

    def _rows(self, first: int, values: list[bytes | None], bad: list[_Bad]) -> tuple[list[int], list[Any]]:
        """The rows' numbers, and their decoded values."""
        decode = self._decoder.decode if self.is_settled else _undecided
        numbers: list[int] = []
        rows: list[Any] = []
        for number, value in enumerate(values, first):
            try:
                rows.append(None if value is None else decode(value))
                numbers.append(number)
            except UserError:
                raise
            except Exception as error:  # Anything: the value is anybody's, and the parser somebody else's.
                bad.append(_Bad(number, _line(error)))
        return numbers, rows

    def _columns(self, numbers: list[int], rows: list[Any], bad: list[_Bad]) -> list[pa.Array]:
        """One behind the other; rows that do not fit are looked for by halves."""
        if not self.is_settled:
            return [pa.nulls(len(rows), pa.binary())]
        try:
            return [self._decoder.column(rows)] if rows else []
        except Exception as error:  # pyarrow raises its own errors and Python's: for numbers, times, text.
            if len(rows) == 1:
                bad.append(_Bad(numbers[0], _line(error)))
                return []
        half = len(rows) // 2
        return [
            *self._columns(numbers[:half], rows[:half], bad),
            *self._columns(numbers[half:], rows[half:], bad),
        ]

    def _lay_aside(self, batch: pa.RecordBatch, bad: list[_Bad]) -> None:
        bad.sort()
        chosen = batch.select(list(NEEDED)).take(pa.array([each.number for each in bad], pa.int64()))
        errors = pa.array([each.error.encode(errors="replace").decode() for each in bad], pa.string())
        dead = pa.RecordBatch.from_arrays([*chosen.columns, errors], schema=DEAD_LETTERS)
        if not self.dead:
            first = dead.slice(0, 1).to_pylist()[0]
            self.first_dead = (
                f"{first['topic']}-{first['partition']} offset {first['offset']}: {first['error']}"
            )
        self.dead += dead.num_rows
        self._bury(dead)


class _Bad(NamedTuple):
    number: int
    error: str


async def settled(values: Values, chunks: AsyncGenerator[Chunk]) -> list[Chunk]:
    """Reads on until the type of the values is known, and returns what was read. Raises UserError."""
    held: list[Chunk] = []
    held_bytes = 0
    while not values.is_settled and held_bytes < HELD_BYTES:
        chunk = await anext(chunks, None)
        if chunk is None:
            return held
        held.append(chunk)
        if chunk.batch is not None:
            held_bytes += chunk.batch.nbytes
            await asyncio.to_thread(values.settle, chunk.batch)
    if not values.is_settled:
        raise UserError("no value among the first ones can be decoded: check the format, or give a schema")
    return held


def _undecided(value: bytes) -> Any:
    raise Undecodable("none of the first values tells its type")


def _line(error: Exception) -> str:
    told = (str(error).splitlines() or [""])[0]
    return (told or type(error).__name__)[:ERROR_CHARACTERS]
