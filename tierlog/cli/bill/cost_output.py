"""Reports of cost on stdout or in a file: tables for people, JSON, YAML, CSV and Parquet for programs, HTML for both."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tierlog.cli import output
from tierlog.cli.bill.cost_drawing import draw_report

if TYPE_CHECKING:
    from tierlog.admin.cost.asked import Answer
    from tierlog.admin.cost.question import Question


def write_report(answer: Answer, format: str, out: Path | None) -> None:
    """CSV and Parquet are the single charges; the others are the report. Raises UserError."""
    from tierlog.admin.cost.report import charge_rows

    if format in ("csv", "parquet"):
        write_rows(charge_rows(answer.bill), format, out)
    elif format == "html":
        from tierlog.admin.cost.html import report_page

        write_text(report_page(answer), out)
    else:
        write_value(answer.value, format, out, lambda console: draw_report(console, answer.value))


def write_value(value: Any, format: str, out: Path | None, draw: Callable[[Any], None]) -> None:
    from tierlog.cli.options import Format

    if out is None:
        output.show(value, Format(format), draw)
    elif format == "json":
        write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", out)
    elif format == "yaml":
        import yaml

        write_text(yaml.safe_dump(value, sort_keys=False, allow_unicode=True), out)
    else:
        import io

        text = io.StringIO()
        draw(output.console(text))
        write_text(text.getvalue(), out)


def write_rows(rows: list[dict[str, Any]], format: str, out: Path | None) -> None:
    """Flat rows, money as exact decimals. Raises UserError."""
    from tierlog.admin.cost.export import csv_text, parquet_bytes
    from tierlog.admin.cost.written import write_whole
    from tierlog.errors import UserError

    if format == "csv":
        write_text(csv_text(rows), out)
    elif out is None:
        raise UserError("Parquet is not for a terminal: name a file with --out FILE")
    else:
        write_whole(parquet_bytes(rows), out)


def write_text(text: str, out: Path | None) -> None:
    """Raises UserError."""
    from tierlog.admin.cost.written import write_whole

    if out is None:
        sys.stdout.write(text)
    else:
        write_whole(text.encode(), out)


def complain_of_age(book: dict[str, Any]) -> None:
    if book["is_stale"]:
        output.complain(
            f"the prices of {book['name']} are of {book['as_of']}, {book['age_days']} days old: get new ones "
            "(tierlog cost import-prices) and name them with --price-book"
        )


def complain_of_rows(question: Question) -> None:
    """What of the ledger could not be read, and so is not in the answer."""
    for warning in question.warnings:
        output.complain(warning)
