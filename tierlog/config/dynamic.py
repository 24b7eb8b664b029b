"""Which broker properties AlterConfigs may change while brokers run, and whether a change is sound.

The defaults of topics (``log.*``, ``message.max.bytes``, ``min.insync.replicas``…), the rates of throttled replication
and its cordoned directories take effect without a restart, so they are accepted, for one broker or, with an empty name,
for all. Anything else is refused rather than stored and forgotten.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from tierlog.config.broker import BrokerConfig
from tierlog.config.definitions import Definition, InvalidValue, Status, UpdateMode
from tierlog.config.lookup import BROKER, TOPIC
from tierlog.config.problems import WrongConfig
from tierlog.config.properties import with_dynamic

_TOPIC_DEFAULTS = frozenset(name for definition in TOPIC.values() for name in definition.synonyms)
_OF_THE_BROKER = frozenset(
    {"leader.replication.throttled.rate", "follower.replication.throttled.rate", "cordoned.log.dirs"}
)


def is_dynamic(definition: Definition) -> bool:
    """Whether a change takes effect without a restart."""
    return (
        definition.name in _TOPIC_DEFAULTS | _OF_THE_BROKER
        and definition.status is Status.HONOURED
        and definition.mode is not UpdateMode.READ_ONLY
    )


def not_dynamic(names: Iterable[str]) -> str | None:
    """Kafka's sentence about those that cannot be changed, None where all can."""
    fixed = sorted(name for name in names if name not in BROKER or not is_dynamic(BROKER[name]))
    return f"Cannot update these configs dynamically: [{', '.join(fixed)}]" if fixed else None


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
