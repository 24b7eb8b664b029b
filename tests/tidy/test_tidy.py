"""The architecture, kept by the machine: import directions, purity of deciding rooms, sizes.."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tidy.sources import BESIDE, ROOT, SOURCES, text_of, tree_of

MAX_MODULE_LINES = 500
MAX_FUNCTION_LINES = 60

IMPURE = {"asyncio", "time", "random", "os", "socket", "threading", "logging"}
# Deciding rooms: whole packages, or single modules where a package holds both kinds.
PURE_PACKAGES = ("tierlog.wire", "tierlog.records", "tierlog.replication", "tierlog.coordination")
PURE_MODULES = (
    "tierlog.types",
    "tierlog.errors",
    "tierlog.times",
    "tierlog.config",
    "tierlog.metadata.keys",
    "tierlog.metadata.records",
    "tierlog.metadata.image",
    "tierlog.metadata.control",
    "tierlog.metadata.transactions",
    "tierlog.metadata.internal_topics",
    "tierlog.metadata.features",
    "tierlog.metadata.commits",
    "tierlog.metadata.session",
    "tierlog.metadata.stores.evaluation",
    "tierlog.metadata.rules",
    "tierlog.metadata.stores.etcd.protobuf",
    "tierlog.metadata.stores.etcd.messages",
    "tierlog.metadata.stores.etcd.keyspace",
    "tierlog.log.leader_epochs",
    "tierlog.log.append",
    "tierlog.log.producers.state",
    "tierlog.log.retention",
    "tierlog.log.retention_fates",
    "tierlog.log.compaction.plan",
    "tierlog.log.compaction.filter",
    "tierlog.log.producers.snapshot_file",
    "tierlog.broker.fetch.sessions",
    "tierlog.broker.network.frames",
    "tierlog.replay.decode",
    "tierlog.replay.iceberg.offsets",
    "tierlog.replay.iceberg.merging",
    "tierlog.replay.iceberg.schema",
    "tiering.model",
    "tiering.lifecycle",
    *(
        f"tiering.cost.{name}"
        for name in (
            "baseline",
            "bill",
            "division",
            "early",
            "focus",
            "importers",
            "owners",
            "payers",
            "prices",
            "profile",
            "replay",
            "toml_keys",
            "usage",
            "whatif",
        )
    ),
    "tiering.capacity",
    "tiering.copying.exposure",
    "tiering.copying.turns",
    "tiering.copying.worker.counts",
    "tiering.copying.worker.messages",
    "tiering.sweeping.sweeps",
    "tiering.sweeping.tour",
    "tiering.catalog",
    *(f"tiering.ledger.{name}" for name in ("rows", "book", "held", "names", "columns")),
    "tierlog.broker.network.client_traffic",
    "tierlog.broker.network.tallies",
    "tiering.planner",
    "tiering.disk_cache.entries",
    "tiering.disk_cache.index",
    "tiering.disk_cache.touches",
    "tiering.reading.admission",
    "tiering.reading.chunks",
    "tiering.reading.eviction",
    "tiering.reading.fair_queue",
    "tiering.reading.holding",
    "tiering.reading.pacing",
    "tiering.reading.streams",
    "tiering.keys",
    "tiering.retention",
    "tiering.outlook.fates",
    "tiering.pages",
    "tiering.reading.assembly",
    "tiering.batches",
    "tiering.head_codec",
    "tiering.doctor.clock",
    "tiering.doctor.mounts",
    "tiering.objects.advice",
    *(
        f"tiering.objects.gcs.{name}"
        for name in ("answers", "advice", "checksums", "errors", "infos", "lifecycle")
    ),
)

# A room may import the rooms of its own layer's row and of those below, never its siblings.
LAYERS: dict[str, set[str]] = {
    "kernel": set(),
    "types": set(),
    "errors": set(),
    "times": {"errors"},
    "config": {"types", "errors", "times"},
    "wire": {"types", "errors"},
    "records": {"types", "errors", "kernel"},
    "log": {"records", "wire", "types", "errors", "times", "config", "kernel"},
}
_BELOW = {"log", "records", "wire", "types", "errors", "times", "config", "kernel"}
LAYERS |= {room: set(_BELOW) for room in ("replication", "metadata", "coordination")}
LAYERS["telemetry"] = {"types", "errors", "config"}
LAYERS["broker"] = _BELOW | {"replication", "metadata", "coordination", "telemetry", "tiering"}
LAYERS["admin"] = _BELOW | {"metadata"}
LAYERS["replay"] = _BELOW | {"admin", "tiering"}
LAYERS["sql"] = LAYERS["replay"] | {"replay"}
LAYERS["cli"] = LAYERS["broker"] | {"broker", "admin", "replay", "sql"}
LAYERS["__main__"] = LAYERS["cli"] | {"cli"}
LAYERS["__init__"] = set()
# Only these know both packages; those of admin and cli read the ledger, and say what is made of it.
KNOWS_TIERING = (
    "tierlog.broker.offload",
    "tierlog.broker.node",
    "tierlog.replay",
    "tierlog.sql",
    "tierlog.cli.history.sql_commands",
    "tierlog.admin.cost",
    "tierlog.admin.capacity",
    "tierlog.admin.ledger",
    "tierlog.cli.bill.ledger_commands",
    "tierlog.cli.bill.cost_commands",
)


def module_name(path: Path) -> str:
    parts = list(path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def imports_of(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            yield node.module or ""


def under(module: str, prefixes: tuple[str, ...]) -> bool:
    return any(module == p or module.startswith(p + ".") for p in prefixes)


@pytest.fixture(scope="module")
def trees() -> dict[str, ast.Module]:
    return {module_name(path): tree_of(path) for path in SOURCES}


def test_imports_point_down(trees: dict[str, ast.Module]) -> None:
    wrong = []
    for module, tree in trees.items():
        for target in imports_of(tree):
            top = target.split(".")[0]
            if top == "tiering" and module.startswith("tierlog") and not under(module, KNOWS_TIERING):
                wrong.append(f"{module} must not know {target}")
            if top != "tierlog":
                continue
            if module.startswith("tiering"):
                wrong.append(f"{module} must not know {target}")
                continue
            room, other = room_of(module), room_of(target)
            if other not in (room, "__init__") and other not in LAYERS[room]:
                wrong.append(f"{module} imports {target}")
    assert not wrong, "\n".join(wrong)


# Where tasks are begun: by those who see to it that none ends unnoticed.
BEGINS_TASKS = {
    "tierlog.broker.work.background",
    "tiering.tasks",
    # What ends a watch is told to whoever iterates over it.
    "tierlog.metadata.stores.etcd.watch",
}


def test_tasks_have_an_owner(trees: dict[str, ast.Module]) -> None:
    wrong = []
    for module, tree in trees.items():
        for node in ast.walk(tree):
            name = getattr(node, "attr", None) or getattr(node, "id", None)
            # Of a group, which awaits them all.
            is_group = isinstance(node, ast.Attribute) and getattr(node.value, "id", "") == "group"
            if name in ("create_task", "ensure_future") and module not in BEGINS_TASKS and not is_group:
                wrong.append(f"{module}:{node.lineno} begins a task by itself")
    assert not wrong, "\n".join(wrong)


def test_deciding_rooms_are_pure(trees: dict[str, ast.Module]) -> None:
    wrong = []
    for module, tree in trees.items():
        if not (under(module, PURE_PACKAGES) or under(module, PURE_MODULES)):
            continue
        wrong += [f"{module} imports {name}" for name in imports_of(tree) if name.split(".")[0] in IMPURE]
        wrong += [
            f"{module}:{node.lineno} is async"
            for node in ast.walk(tree)
            if isinstance(node, ast.AsyncFunctionDef)
        ]
    assert not wrong, "\n".join(wrong)


def test_sizes() -> None:
    wrong = []
    for path in [*SOURCES, *BESIDE]:
        text = text_of(path)
        lines = text.count("\n")
        if lines > MAX_MODULE_LINES:
            wrong.append(f"{path.relative_to(ROOT)}: {lines} lines")
        for node in ast.walk(tree_of(path)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.end_lineno is not None:
                length = node.end_lineno - node.lineno + 1
                if length > MAX_FUNCTION_LINES:
                    wrong.append(f"{path.relative_to(ROOT)}:{node.lineno} {node.name}: {length} lines")
    assert not wrong, "\n".join(wrong)


def test_names() -> None:
    wrong = []
    for path in SOURCES:
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.ClassDef) and node.name.endswith(
                ("Manager", "Helper", "Util", "Utils", "Handler")
            ):
                wrong.append(f"{path.relative_to(ROOT)}:{node.lineno} {node.name}")
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name.startswith("maybe_"):
                wrong.append(f"{path.relative_to(ROOT)}:{node.lineno} {node.name}")
    assert not wrong, "\n".join(wrong)


def test_nothing_unfinished_and_every_module_has_a_head(trees: dict[str, ast.Module]) -> None:
    wrong = []
    for path in SOURCES:
        text = text_of(path)
        wrong += [f"{path.relative_to(ROOT)}: {mark}" for mark in ("TODO", "FIXME", "XXX") if mark in text]
    wrong += [
        f"{m}: no module docstring" for m, tree in trees.items() if tree.body and not ast.get_docstring(tree)
    ]
    assert not wrong, "\n".join(wrong)
