"""The tables: complete, consistent, and each default valid by its own definition."""

from __future__ import annotations

import pytest

from tierlog.config.definitions import ConfigType, InvalidValue, Status
from tierlog.config.lookup import BROKER, TOPIC

KAFKA_BROKER_PROPERTIES = 379  # of the 4.4.0 jars
# Settable by AlterConfigs alone there, and therefore not in that table of its jars.
DYNAMIC_ONLY = 2
KAFKA_TOPIC_CONFIGS = 38


def test_every_property_of_kafka_is_known_once() -> None:
    own = [name for name in BROKER if name.startswith("tierlog.") or name in ("flush.mode", "metadata.store")]
    assert len(BROKER) - len(own) == KAFKA_BROKER_PROPERTIES + DYNAMIC_ONLY
    own = {"flush.mode", *(name for name in TOPIC if name.startswith("tierlog."))}
    assert len(TOPIC) - len(own) == KAFKA_TOPIC_CONFIGS


@pytest.mark.parametrize("table", [BROKER, TOPIC])
def test_every_default_is_allowed(table: dict[str, object]) -> None:
    for name, definition in table.items():
        assert definition.name == name  # type: ignore[attr-defined]
        default = definition.default  # type: ignore[attr-defined]
        if default is not None and not (definition.bound == "nonempty" and default == ""):  # type: ignore[attr-defined]
            definition.parse(default)  # type: ignore[attr-defined]


def test_every_honoured_property_says_what_it_does() -> None:
    for definition in (*BROKER.values(), *TOPIC.values()):
        assert bool(definition.doc) == (definition.status is Status.HONOURED), definition.name


def test_synonyms_of_topic_configs_are_broker_properties_of_the_same_default() -> None:
    for definition in TOPIC.values():
        for synonym in definition.synonyms:
            assert synonym in BROKER, definition.name
        if len(definition.synonyms) == 1 and definition.name != "flush.ms":
            assert BROKER[definition.synonyms[0]].default == definition.default, definition.name


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("segment.bytes", "1048575", "Value must be at least 1048576"),
        ("segment.bytes", "abc", "Not a number of type INT"),
        ("segment.bytes", "", "Not a number of type INT"),
        ("segment.bytes", "99999999999", "Not a number of type INT"),
        ("segment.bytes", "1_048_576", "Not a number of type INT"),
        ("max.message.bytes", "1e3", "Not a number of type INT"),
        ("max.message.bytes", "0x10", "Not a number of type INT"),
        ("preallocate", "yes", "Expected value to be either true or false"),
        ("min.cleanable.dirty.ratio", "1.5", "Value must be no more than 1"),
        ("min.cleanable.dirty.ratio", "x", "Not a number of type DOUBLE"),
        ("min.cleanable.dirty.ratio", "nan", "Value must be at least 0"),
        ("cleanup.policy", "none", "String must be one of: compact, delete"),
        ("message.timestamp.type", "x", "String must be one of: CreateTime, LogAppendTime"),
        ("retention.ms", "-2", "Value must be at least -1"),
        ("min.insync.replicas", "0", "Value must be at least 1"),
        ("compression.zstd.level", "23", "Value must be no more than 22"),
    ],
)
def test_messages_are_those_of_kafka(name: str, text: str, message: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        TOPIC[name].parse(text)
    shown = "nan" if text == "nan" else text
    assert str(caught.value) == f"Invalid value {shown} for configuration {name}: {message}"


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("max.message.bytes", " 5 ", 5),
        ("max.message.bytes", "+5", 5),
        ("preallocate", "TRUE", True),
        ("cleanup.policy", " compact , delete ", ("compact", "delete")),
        ("cleanup.policy", "", ()),
        ("cleanup.policy", "delete,delete", ("delete",)),
        ("retention.ms", "-1", -1),
        ("compression.gzip.level", "-1", -1),
        ("min.cleanable.dirty.ratio", "1", 1.0),
    ],
)
def test_values(name: str, text: str, value: object) -> None:
    parsed = TOPIC[name].parse(text)
    assert parsed == value
    assert type(parsed) is type(value)


def test_an_empty_element_of_a_list_is_refused() -> None:
    with pytest.raises(InvalidValue, match="must not be empty"):
        TOPIC["cleanup.policy"].parse("delete,")


def test_either_case_where_kafka_takes_either() -> None:
    assert BROKER["group.consumer.migration.policy"].parse("Upgrade") == "Upgrade"


def test_what_is_allowed_reads_like_a_sentence() -> None:
    assert TOPIC["segment.bytes"].allowed == "a whole number, at least 1048576"
    assert TOPIC["compression.gzip.level"].allowed == "a whole number, 1 to 9 or -1"
    assert TOPIC["cleanup.policy"].allowed == "a list separated by commas, one of compact, delete"
    assert TOPIC["preallocate"].allowed == "true or false"
    assert BROKER["sasl.kerberos.kinit.cmd"].type is ConfigType.STRING
    assert BROKER["sasl.kerberos.kinit.cmd"].allowed == "a text"
