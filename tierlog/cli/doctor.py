"""``tierlog storage doctor``: what is wrong with the object store, and what to do; also before a start, with ``--check``."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tierlog.cli.options import Format
from tierlog.errors import TierlogError, UserError

if TYPE_CHECKING:
    from rich.console import Console

    from tierlog.config.broker import BrokerConfig

EXIT_OF = {"ok": 0, "warning": 1, "error": 2}
_COLOUR_OF = {"ok": "green", "warning": "yellow", "error": "red"}
_PROPERTY = "tierlog.object.store"


def doctor(config: Path | None, overrides: list[str], url: str | None, output: Format) -> int:
    """Prints the findings; the exit code is that of the worst. ``url`` stands for the store of a config."""
    from tierlog.cli import output as out

    try:
        loaded = _loaded(config, overrides, url)
    except TierlogError as error:
        for line in getattr(error, "lines", [str(error)]):
            out.complain(line)
        return EXIT_OF["error"]
    answer = examined(loaded)
    out.show(answer, output, lambda console: draw(console, answer))
    return EXIT_OF[answer["level"]]


def _loaded(config: Path | None, overrides: list[str], url: str | None) -> BrokerConfig:
    from tierlog.cli.broker import configured

    if config is None and url is None and not any(each.startswith(_PROPERTY) for each in overrides):
        raise UserError(f"name a store: --config server.properties, or --object-store URL ({_PROPERTY})")
    if url is not None:
        overrides = [*overrides, f"{_PROPERTY}={url}", "remote.log.storage.system.enable=true"]
    if config is None:
        overrides = ["node.id=0", *overrides]
    return configured(config, overrides)


def examined(config: BrokerConfig) -> dict[str, Any]:
    """The findings of a look at the store of this config, as plain values."""
    from tierlog.broker.offload import bucket
    from tierlog.config.places import without_query

    url = config.tierlog_object_store
    look = bucket.examined(url, _cluster_id(config), config.topic_defaults.tierlog_tiers)
    try:
        findings = [asdict(each) for each in asyncio.run(look)]
    except OSError as error:
        raise UserError(f"the store cannot be looked at: {error}") from error
    level = max((each["level"] for each in findings), key=lambda name: EXIT_OF[name], default="ok")
    return {"object_store": without_query(url), "level": level, "findings": findings}


def _cluster_id(config: BrokerConfig) -> str:
    """That of the log directories; empty for new ones, and for those that are somewhere else."""
    from tierlog.log.files.checkpoints import META_PROPERTIES, read_properties

    for each in config.log_dirs:
        try:
            found = read_properties(Path(each) / META_PROPERTIES).get("cluster.id")
        except TierlogError:
            continue
        if found:
            return found
    return ""


def draw(console: Console, answer: dict[str, Any]) -> None:
    from rich.markup import escape

    from tierlog.cli import output

    console.print(f"[bold]{escape(answer['object_store'])}[/]\n")
    made = output.table("CHECK", "LEVEL", "FOUND, AND WHAT TO DO")
    for row in answer["findings"]:
        colour = _COLOUR_OF[row["level"]]
        told = escape(row["message"]) + (f"\n[bold]→ {escape(row['remedy'])}[/]" if row["remedy"] else "")
        made.add_row(row["check"], f"[{colour}]{row['level']}[/]", told)
    console.print(made)


def check_before_start(config: BrokerConfig) -> None:
    """Says all that is wrong with the store, a line each. Raises UserError where the broker must not start on it."""
    from tierlog.cli import output

    if not config.remote_log_storage_system_enable:
        return
    answer = examined(config)
    for row in answer["findings"]:
        if row["level"] != "ok":
            output.complain(f"{row['level']}: {row['check']}: {row['message']}; {row['remedy']}")
    if answer["level"] == "error":
        raise UserError(f"{_PROPERTY}={answer['object_store']} cannot be used as it is; nothing was started")
