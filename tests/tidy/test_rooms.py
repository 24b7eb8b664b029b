"""Rooms: no import circle, floors in the broker, and few enough files to see at once."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tidy import test_tidy
from tests.tidy.sources import ROOT, SOURCES, text_of, tree_of

MAX_FILES = 20
# One file per API.
LONG_ROOMS = {"tierlog/broker/handlers", "tierlog/wire/messages", "tierlog/config"}

# A room of the broker imports from lower floors, and from itself.
FLOORS = (
    {"bugs", "clock", "process", "systemd", "work"},
    {"network"},
    {"disk"},
    {"replicas", "cluster"},
    {"fetch", "reports"},
    {"leading", "following"},
    {"offload", "groups", "upkeep"},
    {"views"},
    {"handlers"},
    {"api_table"},
    {"identity", "node", "owner"},
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
# Of the same floor, in this direction.
BESIDE = {("work", "bugs"), ("work", "clock"), ("node", "identity"), ("node", "owner")}


def module_name(path: Path) -> str:
    parts = list(path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


PATHS = {module_name(path): path for path in SOURCES}


def imported(tree: ast.AST) -> Iterator[str]:
    """Modules, those imported for their types and inside functions as well."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in PATHS else node.module


@pytest.fixture(scope="module")
def arrows() -> dict[str, set[str]]:
    return {
        name: {found for found in imported(tree_of(path)) if found in PATHS and found != name}
        for name, path in PATHS.items()
    }


def circles(arrows: dict[str, set[str]]) -> list[list[str]]:
    """Modules that cannot be put into an order in which each comes behind what it imports."""
    left = {name: set(targets) for name, targets in arrows.items()}
    while free := [name for name, targets in left.items() if not targets]:
        for name in free:
            del left[name]
        for targets in left.values():
            targets.difference_update(free)
    # What is left is in a circle, or above one.
    while top := set(left) - set().union(*left.values(), set()):
        for name in top:
            del left[name]
    return [[name, *sorted(targets)] for name, targets in left.items()]


def test_no_circle(arrows: dict[str, set[str]]) -> None:
    assert circles(arrows) == []


def test_the_search_finds_circles() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}, "e": set()}) == [["b", "c"], ["c", "b"]]


def room(module: str) -> str | None:
    parts = module.split(".")
    return parts[2] if parts[:2] == ["tierlog", "broker"] and len(parts) > 2 else None


def test_arrows_in_the_broker_point_down(arrows: dict[str, set[str]]) -> None:
    wrong = []
    for module, targets in arrows.items():
        for target in targets:
            own, other = room(module), room(target)
            if own is None or other is None or own == other:
                continue
            if FLOOR[other] >= FLOOR[own] and (own, other) not in BESIDE:
                wrong.append(f"{module} imports {target}")
    assert not wrong, "\n".join(sorted(wrong))


def test_every_room_is_on_a_floor() -> None:
    rooms = {found for name in PATHS if (found := room(name)) is not None}
    assert rooms == set(FLOOR)


def test_only_handlers_see_all_services(arrows: dict[str, set[str]]) -> None:
    seen_by = {name for name, targets in arrows.items() if "tierlog.broker.handlers.services" in targets}
    allowed = {"tierlog.broker.node", "tierlog.broker.api_table"}
    assert {name for name in seen_by if room(name) != "handlers"} <= allowed


def test_rooms_are_small() -> None:
    counts = {}
    for path in PATHS.values():
        folder = str(path.parent.relative_to(ROOT))
        counts[folder] = counts.get(folder, 0) + 1
    assert {folder: n for folder, n in counts.items() if n > MAX_FILES and folder not in LONG_ROOMS} == {}


def test_rooms_say_what_they_are() -> None:
    silent = [
        name
        for name, path in PATHS.items()
        if path.name == "__init__.py" and not ast.get_docstring(tree_of(path))
    ]
    assert silent == []


def test_lists_name_what_is_there() -> None:
    listed = {
        *test_tidy.PURE_PACKAGES,
        *test_tidy.PURE_MODULES,
        *test_tidy.KNOWS_TIERING,
        *test_tidy.BEGINS_TASKS,
    }
    assert sorted(name for name in listed if name not in PATHS) == []
    rooms = {name.split(".")[1] for name in PATHS if name.startswith("tierlog.")} | {"tiering", "__init__"}
    assert set(test_tidy.LAYERS) | {"tiering"} == rooms


def test_cited_invariants_are_defined() -> None:
    defined = set(re.findall(r"^\| ([A-Z]\d+) \|", (ROOT / "INVARIANTS.md").read_text(), re.MULTILINE))
    cited = re.compile(r"(?<![\w`'\"])([HIMT]\d{1,2})(?![\w`])")
    unknown = set()
    for path in PATHS.values():
        for number in cited.findall(text_of(path)):
            if number not in defined:
                unknown.add((str(path.relative_to(ROOT)), number))
    assert unknown == set()


def test_all_log_through_structlog() -> None:
    """The standard library's loggers print no JSON, and nothing below warning."""
    other = [str(path.relative_to(ROOT)) for path in PATHS.values() if "logging.getLogger" in text_of(path)]
    assert other == []


def test_loggers_have_one_name() -> None:
    other = [
        str(path.relative_to(ROOT))
        for path in PATHS.values()
        if re.search(r"^(?!logger = )\w+ = structlog\.get_logger", text_of(path), re.MULTILINE)
    ]
    assert other == []
