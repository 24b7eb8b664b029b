"""Which broker properties AlterConfigs may change while brokers run, and whether a change is sound.

Those that Kafka 4.4 can change and that are honoured here take effect without a restart (``Replicas.follow_config``), for
one broker or, with an empty name, for all. Not these: addresses to listen on, which belong to the registration of a
running broker, and providers of values, through which whoever may alter configs could read the broker's files.
Anything else is refused rather than stored and forgotten.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from tierlog.config.broker import BrokerConfig
from tierlog.config.definitions import Definition, InvalidValue, Status, UpdateMode
from tierlog.config.lookup import BROKER
from tierlog.config.problems import WrongConfig
from tierlog.config.properties import with_dynamic

_NOT_HERE = frozenset({"listeners", "listener.security.protocol.map", "config.providers"})


def is_dynamic(definition: Definition) -> bool:
    """Whether a change takes effect without a restart."""
    return (
        definition.status is Status.HONOURED
        and definition.mode is not UpdateMode.READ_ONLY
        and definition.name not in _NOT_HERE
    )


def not_dynamic(names: Iterable[str], *, of_all_brokers: bool = False) -> str | None:
    """Kafka's sentence about those that cannot be changed, None where all can. ``of_all_brokers``: as the default."""
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


def validate_broker_configs(configs: Mapping[str, str | None], *, broker: BrokerConfig) -> list[str]:
    """Messages for the whole new set of dynamic configs of one broker or of all; empty when all is well."""
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
