"""Rules that name the owners of topics: TOML, the first pattern that fits a topic's name wins."""

from __future__ import annotations

import tomllib
from fnmatch import fnmatchcase
from typing import NamedTuple

from tiering.cost.prices import WrongBook
from tiering.cost.toml_keys import Keys


class Rule(NamedTuple):
    """``pattern``: as of a shell, ``flights-*``."""

    pattern: str
    owner: str
    cost_center: str


def parse_rules(text: str, where: str) -> tuple[Rule, ...]:
    """``[[owner]]`` tables with ``pattern``, ``owner`` and ``cost_center`` (may be left out). Raises WrongBook."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise WrongBook((f"{where}: it is no TOML: {error}; write [[owner]] tables",)) from None
    keys = Keys(document, where)
    rules = [
        Rule(part.text("pattern"), part.text("owner"), part.text_or("cost_center", ""))
        for part in (keys.parts("owner") if keys.is_list("owner") else ())
    ]
    if not rules:
        keys.wrong("owner", "there is no rule", 'write [[owner]] with pattern = "…" and owner = "…"')
    keys.finish()
    if keys.mistakes:
        raise WrongBook(tuple(keys.mistakes))
    return tuple(rules)


def rule_for(rules: tuple[Rule, ...], topic: str) -> Rule | None:
    return next((rule for rule in rules if fnmatchcase(topic, rule.pattern)), None)
