"""Reads the property tables, which are texts so that a property takes a line and not a screenful.

A row: ``name TYPE default bound mode [synonyms] [internal]``. The default is ``null``, ``''`` (the empty text) or the
text itself; the bound is ``-`` or a form of ``definitions``; the mode says how Kafka lets the property change
(``fixed``, ``broker``: per broker, ``cluster``: cluster-wide); synonyms are separated by commas. Indented lines below
a row are its description.
"""

from __future__ import annotations

from dataclasses import replace

from tierlog.config.definitions import ConfigType, Definition, Status, UpdateMode

_MODES = {"fixed": UpdateMode.READ_ONLY, "broker": UpdateMode.PER_BROKER, "cluster": UpdateMode.CLUSTER_WIDE}


def read_table(status: Status, text: str) -> tuple[Definition, ...]:
    """The rows of ``text``, in order, all of one status."""
    rows: list[Definition] = []
    for line in text.splitlines():
        if line.startswith(" "):
            rows[-1] = replace(rows[-1], doc=f"{rows[-1].doc} {line.strip()}".strip())
        elif line:
            rows.append(_row(line, status))
    return tuple(rows)


def _row(line: str, status: Status) -> Definition:
    name, type_name, default, bound, mode, *rest = line.split()
    internal = "internal" in rest
    synonyms = [word for word in rest if word != "internal"]
    return Definition(
        name,
        ConfigType[type_name],
        None if default == "null" else "" if default == "''" else default,
        "" if bound == "-" else bound,
        status,
        _MODES[mode],
        internal,
        synonyms=tuple(synonyms[0].split(",")) if synonyms else (),
    )
