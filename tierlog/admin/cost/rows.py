"""Rows of the ledger from a file of them, as JSON lines or Parquet (``docs/ledger.md`` has the columns)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any

from tiering.ledger.columns import VERSION, VERSION_KEY
from tiering.ledger.rows import LAST, SUMMED, Kind, LedgerRow
from tierlog.errors import UserError

_TYPES: dict[str, type] = {
    name: int if name in SUMMED | LAST | {"hour_ms", "broker_id", "partition"} else str
    for name in LedgerRow._fields
} | {"byte_hours": float}
_MOST = 2**63
_about = attrgetter(*(name for name in LedgerRow._fields if name not in SUMMED | LAST))
_BATCH_ROWS = 4096
HELD_ROWS = 40_000
_KINDS = {str(kind): kind for kind in Kind}


def rows_in(file: Path, since_ms: int, until_ms: int) -> Iterator[LedgerRow]:
    """The rows of whole hours within [since, until), pieces of one hour added up. The file has them in the order of their
    hours, and where an hour has more than ``HELD_ROWS``, those of a broker together: no more are held. Raises UserError."""
    newest_ms = 0
    told = _parquet(file) if file.suffix == ".parquet" else _json_lines(file)
    for hour_ms, rows in groupby(told, key=attrgetter("hour_ms")):
        if hour_ms < newest_ms:
            raise UserError(f"{file}: its rows are not in the order of their hours; sort them by hour_ms")
        newest_ms = hour_ms
        if since_ms <= hour_ms < until_ms:
            yield from _merged(rows, file)


def _merged(rows: Iterable[LedgerRow], file: Path) -> Iterator[LedgerRow]:
    """One row for each broker and thing: sums are added up, of states the last one counts."""
    found: dict[tuple[Any, ...], LedgerRow] = {}
    given_out: set[int] = set()
    limit = HELD_ROWS
    for row in rows:
        if row.broker_id in given_out:
            raise UserError(
                f"{file}: an hour of more than {HELD_ROWS:,} rows, and those of broker {row.broker_id} are not together; "
                "sort them by hour_ms and broker_id"
            )
        key = _about(row)
        before = found.get(key)
        if before is not None:
            row = row._replace(**{name: getattr(before, name) + getattr(row, name) for name in SUMMED})
        found[key] = row
        if len(found) > limit:
            whole = [each for each in found.values() if each.broker_id != row.broker_id]
            given_out |= {each.broker_id for each in whole}
            found = {about: each for about, each in found.items() if each.broker_id == row.broker_id}
            limit = len(found) + HELD_ROWS
            yield from whole
    yield from found.values()


def _json_lines(file: Path) -> Iterator[LedgerRow]:
    try:
        with file.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                if not line.strip():
                    continue
                try:
                    fields = json.loads(line)
                    if not isinstance(fields, dict):
                        raise ValueError("no object")
                    row = _row(fields)
                except (ValueError, TypeError, OverflowError) as error:
                    raise UserError(
                        f"{file}:{number}: this is no row of the ledger: {error}; see docs/ledger.md"
                    ) from None
                if row is not None:
                    yield row
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file}: cannot be read: {getattr(error, 'strerror', None) or error}") from None


def _parquet(file: Path) -> Iterator[LedgerRow]:
    import pyarrow.parquet as pq
    from pyarrow import ArrowException

    try:
        with pq.ParquetFile(file) as source:
            _check_version(file, source.schema_arrow.metadata or {})
            known = [name for name in source.schema_arrow.names if name in _TYPES]
            for batch in source.iter_batches(_BATCH_ROWS, columns=known):
                yield from _rows(batch.num_rows, batch.to_pydict())
    except (OSError, ArrowException, ValueError, TypeError, OverflowError) as error:
        raise UserError(f"{file}: cannot be read as Parquet rows of the ledger: {error}") from None


def _check_version(file: Path, metadata: Mapping[bytes, bytes]) -> None:
    """Of an object of the ledger; other files tell none. Raises UserError, ValueError."""
    version = int(metadata.get(VERSION_KEY.encode(), b"1"))
    if version > VERSION:
        raise UserError(
            f"{file}: ledger version {version}; this release knows {VERSION}: read it with the release that wrote it"
        )


def _rows(count: int, columns: Mapping[str, list[Any]]) -> Iterator[LedgerRow]:
    """As ``_row``, column by column, which takes a third of the time."""
    if not {"kind", "hour_ms", "broker_id"} <= columns.keys():
        raise ValueError("hour_ms, broker_id or kind is missing")
    fields: list[Sequence[Any]] = []
    for name in LedgerRow._fields:
        default: Any = LedgerRow._field_defaults.get(name)
        if name == "kind":
            fields.append([_KINDS.get(value) for value in columns[name]])
        elif name not in columns:
            fields.append([default] * count)
        else:
            made = _TYPES[name]
            values = [default if value is None else made(value) for value in columns[name]]
            if default is None and None in values:
                raise ValueError(f"{name} is missing")
            if name in SUMMED | LAST and not all(0 <= value <= _MOST for value in values):
                raise ValueError(f"{name} is not from 0 to 2^63")
            fields.append(values)
    for row in map(LedgerRow._make, zip(*fields, strict=True)):
        if row.kind is not None:
            yield row


def _row(fields: Mapping[str, Any]) -> LedgerRow | None:
    """None for a kind that this release does not know; unknown columns are left out. Raises ValueError, TypeError."""
    kind = _KINDS.get(fields.get("kind", ""))
    if kind is None:
        return None
    if "hour_ms" not in fields or "broker_id" not in fields:
        raise ValueError("hour_ms or broker_id is missing")
    given = {
        name: _TYPES[name](value) for name, value in fields.items() if name in _TYPES and value is not None
    }
    row = LedgerRow(**given | {"kind": kind})
    for name in SUMMED | LAST:
        if not 0 <= getattr(row, name) <= _MOST:
            raise ValueError(f"{name} is not from 0 to 2^63")
    return row
