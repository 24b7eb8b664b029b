"""Which broker properties AlterConfigs may change while brokers run, and whether a change is valid.

A property that Kafka 4.4 can change and that is honoured here takes effect without a restart (``Replicas.follow_config``),
for one broker or, with an empty name, for all. Exceptions: listener addresses, which belong to the registration of a running
broker; and config providers, through which anybody who may alter configs could read the broker's files. Any other change is
refused, so that none is stored without effect.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from tierlog.config.broker import BrokerConfig
from tierlog.config.definitions import Definition, InvalidValue, Status, UpdateMode
from tierlog.config.lookup import BROKER
from tierlog.config.problems import WrongConfig
from tierlog.config.properties import with_dynamic

_THREADS = frozenset({"num.recovery.threads.per.data.dir"})
_NOT_HERE = frozenset({"listeners", "listener.security.protocol.map", "config.providers"})


def is_dynamic(definition: Definition) -> bool:
    """Whether a change takes effect without a restart."""
    return (
        definition.status is Status.HONOURED
        and definition.mode is not UpdateMode.READ_ONLY
        and definition.name not in _NOT_HERE
    )


def not_dynamic(names: Iterable[str], *, of_all_brokers: bool = False) -> str | None:
    """Kafka's message about properties that cannot be changed, None if all can. ``of_all_brokers``: as the default."""
    given = sorted(names)
    fixed = [name for name in given if name not in BROKER or not is_dynamic(BROKER[name])]
    if fixed:
        return f"Cannot update these configs dynamically: [{', '.join(fixed)}]"
    single = [name for name in given if BROKER[name].mode is UpdateMode.PER_BROKER]
    if of_all_brokers and single:
        return (
            "Cannot update these configs at default cluster level, broker id must be specified: "
            f"[{', '.join(single)}]"
        )
    return None


def thread_problem(configs: Mapping[str, str | None], now: BrokerConfig) -> str | None:
    """Kafka lets a number of threads at most halve or double at a time. Its message about larger changes."""
    for name in _THREADS & configs.keys():
        text, current = configs[name], getattr(now, name.replace(".", "_"))
        wanted = int(text) if text is not None and text.strip().isdecimal() else current
        failed = f"Dynamic thread count update validation failed for {name}={wanted}"
        if wanted > 2 * current:
            return f"{failed}, value should not be greater than double the current value {current}"
        if wanted < current // 2:
            return f"{failed}, value should be at least half the current value {current}"
    return None


def validate_broker_configs(configs: Mapping[str, str | None], *, broker: BrokerConfig) -> list[str]:
    """Messages for the whole new set of dynamic configs of one broker or of all; empty when all are valid."""
    fixed = not_dynamic(configs)
    if fixed is not None:
        return [fixed]
    texts: dict[str, str] = {}
    errors: list[str] = []
    for name, text in configs.items():
        try:
            BROKER[name].parse(text)
        except InvalidValue as error:
            errors.append(str(error))
        texts[name] = text or ""
    if errors:
        return errors
    try:
        with_dynamic(broker, own=texts)
    except WrongConfig as error:
        return list(error.lines)
    return []
