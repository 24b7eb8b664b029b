"""From server.properties, the environment and the command line to a ``BrokerConfig``.

Precedence: overrides, then environment, then file, then default. The environment follows the rule of the
apache/kafka image: ``KAFKA_`` + upper case; ``_`` is a dot, ``__`` an underscore, ``___`` a dash. Variables
that the image itself or Kubernetes puts there (``KAFKA_HEAP_OPTS``, ``KAFKA_PORT_9092_TCP``) are no
properties. With ``config.providers`` naming ``env`` or ``file``, a value may hold ``${env:NAME}`` or
``${file:PATH:KEY}`` (KIP-297).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

from tierlog.config import java_properties
from tierlog.config.broker import BrokerConfig
from tierlog.config.build import Property, build, plugin_prefixes
from tierlog.config.lookup import BROKER, unknown_hint
from tierlog.errors import UserError

ENV_PREFIX = "KAFKA_"
_NOT_PROPERTIES = re.compile(
    r"KAFKA_(\w*_)?(OPTS|LOGLEVEL|LOG4J_LOGGERS|LOG4J_CMD_OPTS|HOME|VERSION|JMX_PORT|DEBUG|MODE|CLUSTER_ID"
    r"|SERVICE_HOST|SERVICE_PORT\w*|PORT|PORT_\d+_(TCP|UDP)\w*)"
)
_REFERENCE = re.compile(r"\$\{(\w+):(?:([^${}]*?):)?([^:${}]*)\}")
_PROVIDERS = {"env", "file"}


def load(
    source: Path | str | Mapping[str, str] | None = None,
    *,
    env: Mapping[str, str] | None = None,
    overrides: Mapping[str, str] | None = None,
    defaults: Mapping[str, str] | None = None,
) -> BrokerConfig:
    """``source`` is a path of a .properties file, or the properties themselves; ``defaults`` lie below all.

    Raises UserError, one line with key, where it stands and what to do, for an unknown key, a value of the
    wrong type or out of range, or a known property whose promise is not kept yet.
    """
    given: dict[str, Property] = {}
    _lay(given, ((name, Property(text, "default")) for name, text in (defaults or {}).items()))
    if isinstance(source, (str, Path)):
        _lay(given, _from_file(Path(source)))
    else:
        _lay(given, ((name, Property(text, "properties")) for name, text in (source or {}).items()))
    _lay(given, _from_environment(env or {}))
    _lay(given, ((name, Property(text, "command line")) for name, text in (overrides or {}).items()))
    given = _resolve(given, env or {})
    _refuse_unknown(given)
    return build(given)


def with_dynamic(
    config: BrokerConfig, *, default: Mapping[str, str] | None = None, own: Mapping[str, str] | None = None
) -> BrokerConfig:
    """``config`` under dynamic broker configs: ``own`` of this broker over ``default`` of all. Raises
    UserError.
    """
    given = {name: Property(text, "server.properties") for name, text in config.given.items()}
    given |= {name: Property(text, "dynamic default") for name, text in (default or {}).items()}
    given |= {name: Property(text, "dynamic config") for name, text in (own or {}).items()}
    _refuse_unknown(given)
    return build(given).with_origins(config.given, own or {}, default or {})


# A property that another spelling of the same thing in a stronger layer replaces.
_RIVALS = (
    ("log.retention.ms", "log.retention.minutes", "log.retention.hours"),
    ("log.roll.ms", "log.roll.hours"),
    ("log.roll.jitter.ms", "log.roll.jitter.hours"),
    ("log.dirs", "log.dir"),
    ("node.id", "broker.id"),
)


def _lay(below: dict[str, Property], layer: Iterator[tuple[str, Property]]) -> None:
    """Lay a stronger layer over ``below``, in place."""
    above = dict(layer)
    for rivals in _RIVALS:
        if any(name in above for name in rivals):
            for name in rivals:
                below.pop(name, None)
    below |= above


def _from_file(path: Path) -> Iterator[tuple[str, Property]]:
    for key, value, line in _entries(path):
        yield key, Property(value, f"{path.name}:{line}")


def _entries(path: Path) -> list[java_properties.Entry]:
    try:
        return java_properties.parse(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 (byte {error.start})") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from None
    except ValueError as error:
        raise UserError(f"{path}: {error}") from None


def property_of_variable(variable: str) -> str | None:
    """``KAFKA_LOG_RETENTION_HOURS`` is ``log.retention.hours``; None for what is no property."""
    if not variable.startswith(ENV_PREFIX) or _NOT_PROPERTIES.fullmatch(variable):
        return None
    name = variable.removeprefix(ENV_PREFIX).lower()
    return re.sub(r"_{1,3}", lambda run: (".", "_", "-")[len(run[0]) - 1], name)


def _from_environment(env: Mapping[str, str]) -> Iterator[tuple[str, Property]]:
    for variable, text in sorted(env.items()):
        name = property_of_variable(variable)
        if name:
            yield name, Property(text, variable)


def _resolve(given: dict[str, Property], env: Mapping[str, str]) -> dict[str, Property]:
    if "config.providers" not in given:
        return given
    item = given["config.providers"]
    names = {name.strip() for name in item.text.split(",") if name.strip()}
    if not names <= _PROVIDERS:
        unknown = ", ".join(sorted(names - _PROVIDERS))
        raise UserError(f"{item.where}: config.providers={item.text}: {unknown} not known; env and file are")

    def value_of(where: str, match: re.Match[str]) -> str:
        provider, path, key = match[1], match[2], match[3]
        if provider not in names:
            return match[0]
        if provider == "env":
            if key not in env:
                raise UserError(f"{where}: {match[0]}: the environment has no {key}")
            return env[key]
        entries = {entry.key: entry.value for entry in _entries(Path(path or ""))}
        if key not in entries:
            raise UserError(f"{where}: {match[0]}: {path} has no {key}")
        return entries[key]

    return {
        name: Property(_REFERENCE.sub(partial(value_of, item.where), item.text), item.where)
        for name, item in given.items()
    }


def _refuse_unknown(given: Mapping[str, Property]) -> None:
    prefixes = plugin_prefixes(given)
    for name, item in given.items():
        if name in BROKER or name.startswith(prefixes):
            continue
        if name.startswith("listener.name."):
            reason = "settings of single listeners are not supported yet; remove it"
        else:
            reason = f"unknown; {unknown_hint(name)}"
        raise UserError(f"{item.where}: {name}: {reason}")
