"""From server.properties, the environment and the command line to a ``BrokerConfig``.

Precedence: overrides, then environment, then file, then default. The environment follows the rule of the
apache/kafka image: ``KAFKA_`` + upper case; ``_`` is a dot, ``__`` an underscore, ``___`` a dash. Variables
that the image itself or Kubernetes sets (``KAFKA_HEAP_OPTS``, ``KAFKA_PORT_9092_TCP``) are no
properties. Values may be kept elsewhere (see ``providers``). If a file repeats a key, the last one counts, as in Java.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from tierlog.config import java_properties, problems
from tierlog.config.broker import BrokerConfig
from tierlog.config.build import build
from tierlog.config.lookup import BROKER
from tierlog.config.places import StoreProblem, no_problem
from tierlog.config.plugins import plugin_problem
from tierlog.config.problems import Problems, Property
from tierlog.config.providers import is_providers, resolved
from tierlog.config.secrets import without_secrets
from tierlog.config.strangers import judge
from tierlog.errors import UserError

ENV_PREFIX = "KAFKA_"
_NOT_PROPERTIES = re.compile(
    r"KAFKA_(\w*_)?(OPTS|LOGLEVEL|LOG4J_LOGGERS|LOG4J_CMD_OPTS|HOME|VERSION|JMX_PORT|DEBUG|MODE|CLUSTER_ID"
    r"|SERVICE_HOST|SERVICE_PORT\w*|PORT|PORT_\d+_(TCP|UDP)\w*)"
)


def load(
    source: Path | str | Mapping[str, str] | None = None,
    *,
    env: Mapping[str, str] | None = None,
    overrides: Mapping[str, str] | None = None,
    defaults: Mapping[str, str] | None = None,
    store_problem: StoreProblem = no_problem,
) -> BrokerConfig:
    """``source`` is a path of a .properties file, or the properties themselves; ``defaults`` lie below all;
    ``store_problem`` checks the URL of an object store, which only the code that opens it can do.

    Raises UserError, one line for each mistake with key, place and remedy: an unknown key, a value of the wrong type or
    out of range, or a known property that is not implemented yet.
    """
    wrong = Problems()
    given: dict[str, Property] = {}
    _lay(given, _placed(defaults or {}, "default", problems.DEFAULTS))
    if isinstance(source, (str, Path)):
        _lay(given, _from_file(Path(source), wrong))
    else:
        _lay(given, _placed(source or {}, "properties", problems.FILE))
    _lay(given, _from_environment(env or {}))
    _lay(given, _placed(overrides or {}, "command line", problems.COMMAND_LINE))
    given = resolved(given, env or {}, wrong)
    remarks = _judged(given, wrong)
    return replace(build(given, wrong, store_problem), remarks=remarks)


def with_dynamic(
    config: BrokerConfig, *, default: Mapping[str, str] | None = None, own: Mapping[str, str] | None = None
) -> BrokerConfig:
    """``config`` overridden by dynamic broker configs: this broker's ``own`` over the ``default`` of all. Raises
    UserError.
    """
    wrong = Problems()
    given = dict(_placed(config.given, "server.properties", problems.FILE))
    given |= dict(_placed(default or {}, "dynamic default", problems.DYNAMIC_DEFAULT))
    given |= dict(_placed(own or {}, "dynamic config", problems.DYNAMIC))
    _judged(given, wrong)
    return replace(
        build(given, wrong).with_origins(config.given, own or {}, default or {}), remarks=config.remarks
    )


# Groups of properties for the same thing: one in a stronger layer replaces the others.
_RIVALS = (
    ("log.retention.ms", "log.retention.minutes", "log.retention.hours"),
    ("log.roll.ms", "log.roll.hours"),
    ("log.roll.jitter.ms", "log.roll.jitter.hours"),
    ("log.dirs", "log.dir"),
    ("node.id", "broker.id"),
)


def _lay(below: dict[str, Property], layer: Iterable[tuple[str, Property]]) -> None:
    """Lay a stronger layer over ``below``, in place."""
    above = dict(layer)
    for rivals in _RIVALS:
        if any(name in above for name in rivals):
            for name in rivals:
                below.pop(name, None)
    below |= above


def _placed(texts: Mapping[str, str], where: str, rank: int) -> Iterator[tuple[str, Property]]:
    for number, (name, text) in enumerate(texts.items()):
        yield name, Property(text, where, (rank, number))


def _from_file(path: Path, wrong: Problems) -> Iterator[tuple[str, Property]]:
    try:
        entries = java_properties.read(java_properties.decode(path.read_bytes()))
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from None
    except ValueError as error:
        raise UserError(f"{path}: {error}") from None
    for key, value, line, problem in entries:
        item = Property(value, f"{path.name}:{line}", (problems.FILE, line))
        if problem is None:
            yield key, item
        else:
            wrong.add(key, item, f"line {line}: {problem}", with_value=False)


def property_of_variable(variable: str) -> str | None:
    """``KAFKA_LOG_RETENTION_HOURS`` is ``log.retention.hours``; None for a variable that is no property."""
    if not variable.startswith(ENV_PREFIX) or _NOT_PROPERTIES.fullmatch(variable):
        return None
    name = variable.removeprefix(ENV_PREFIX).lower()
    return re.sub(r"_{1,3}", lambda run: (".", "_", "-")[len(run[0]) - 1], name)


def _from_environment(env: Mapping[str, str]) -> Iterator[tuple[str, Property]]:
    for number, (variable, text) in enumerate(sorted(env.items())):
        name = property_of_variable(variable)
        if name:
            yield name, Property(text, variable, (problems.ENVIRONMENT, number))


def _judged(given: Mapping[str, Property], wrong: Problems) -> tuple[str, ...]:
    """Reports names that are neither Kafka's nor tierlog's. Returns remarks on those that merely have no effect."""
    remarks: list[tuple[tuple[int, int], str]] = []
    for name, item in given.items():
        if name in BROKER or is_providers(name):
            continue
        reason = plugin_problem(name, given)
        if reason is not None:
            wrong.add(name, item, reason, with_value=False)
            continue
        judgement = judge(name, given)
        if judgement.is_refused:
            wrong.add(name, item, judgement.reason, with_value=False)
        else:
            remarks.append((item.order, f"{item.where}: {without_secrets(name)}: {judgement.reason}"))
    return tuple(text for _, text in sorted(remarks))
