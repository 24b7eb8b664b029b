"""A config that is accepted as honoured takes effect: its field is read by what runs the broker.

A read is an attribute of that name taken from something that is named as configs are (``config.x``, ``settings.x``,
``config.topic_defaults.x``), or ``self.x`` inside the config's own class. What only parses, checks or shows a config
does not count: the modules and the kinds of functions named below.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import fields

import pytest

from tests.tidy.sources import ROOT, tree_of
from tierlog.config import broker_table, topic_table
from tierlog.config.broker import BrokerConfig
from tierlog.config.build import build
from tierlog.config.definitions import Definition, Status
from tierlog.config.lookup import BROKER, TOPIC
from tierlog.config.topic import TopicConfig

CONFIG_NAMES = {"config", "_config", "settings", "_settings", "topic_defaults"}
# These turn texts into fields; the others of the package say what a field means.
PARSING = {"build", "definitions", "topic_defaults", "describe", "dynamic", "properties"}
CHECKING = ("validate_", "_check")
# What is made of a property, where that is no field of its own name.
BUILT_FROM = {
    "flush.mode": "flush_mode",
    "log.dir": "log_dirs",
    "broker.id": "node_id",
    "listener.security.protocol.map": "listeners",
    "controller.listener.names": "listeners",
    "process.roles": "node_id",
    "config.providers": "given",
}

# Facts for reports, which ask for them over the protocol; and another name of a field.
NO_FIELD = {topic_table.OWNER, topic_table.COST_CENTER, "internal.segment.bytes"}


def reads_in(tree: ast.AST, owner: str | None = None) -> Iterator[str]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.ClassDef):
            yield from reads_in(node, node.name)
            continue
        if isinstance(node, ast.FunctionDef) and (
            node.name.startswith(CHECKING) or node.name.endswith("_rules")
        ):
            continue
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
            source = node.value
            name = source.attr if isinstance(source, ast.Attribute) else getattr(source, "id", None)
            if name in CONFIG_NAMES or (name == "self" and owner in ("BrokerConfig", "TopicConfig")):
                yield node.attr
            # The rules of topic configs that need the broker's.
            if name == "broker" and owner is None:
                yield node.attr
        yield from reads_in(node, owner)


@pytest.fixture(scope="module")
def read() -> set[str]:
    found: set[str] = set()
    for path in ROOT.glob("tierlog/**/*.py"):
        if path.parent.name == "config" and path.stem in PARSING:
            continue
        found.update(reads_in(tree_of(path)))
    return found


@pytest.mark.parametrize(("config", "table"), [(BrokerConfig, BROKER), (TopicConfig, TOPIC)])
def test_every_field_of_a_property_is_read(
    config: type, table: dict[str, Definition], read: set[str]
) -> None:
    names = {name.replace(".", "_") for name in table}
    of_properties = [field.name for field in fields(config) if field.name in names]
    assert len(of_properties) > 20
    assert [name for name in of_properties if name not in read] == []


def test_what_is_not_honoured_has_no_field() -> None:
    ours = {field.name for config in (BrokerConfig, TopicConfig) for field in fields(config)}
    for row in (*BROKER.values(), *TOPIC.values()):
        if row.status is not Status.HONOURED:
            assert row.name.replace(".", "_") not in ours, row.name


def test_every_honoured_property_has_a_field() -> None:
    ours = {field.name for field in fields(BrokerConfig)} | {field.name for field in fields(TopicConfig)}
    defaults = {synonym for row in topic_table.HONOURED for synonym in row.synonyms}
    lost = []
    for row in (*broker_table.KAFKA, *broker_table.OWN, *topic_table.HONOURED):
        name = BUILT_FROM.get(row.name, row.name.replace(".", "_"))
        if name not in ours and row.name not in defaults | NO_FIELD:
            lost.append(row.name)
    assert not lost


def test_the_walk_sees_a_field_that_nobody_reads() -> None:
    text = "class C:\n    def f(self):\n        return self._config.a, config.b, store.c, config.d.e"
    assert set(reads_in(ast.parse(text))) == {"a", "b", "d"}
    assert build({}) == BrokerConfig()
