"""Nothing is declared that nobody uses: functions, methods, classes, constants of modules.

By name alone: a name that occurs anywhere else in the product counts as used. What only tests use is dead too, unless it
is listed here with its reason.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator

from tests.tidy.sources import ROOT, SOURCES, tree_of

ALIVE = {
    "asyncio calls them": {
        *("get_buffer", "buffer_updated", "eof_received", "pause_writing", "resume_writing"),
    },
    "the kernel calls it": {"_sent_partly"},
    "typer calls them": {"explain_retention", "import_prices"},
    "stores for tests, which show what a broker does when they fail": {"FaultyStore", "lose_next_outcome"},
    "what tests look at": {
        *("is_running", "bucket_of", "has_delete_horizon"),
        "build_end_transaction_marker",
    },
    "the table of header positions is whole": {
        *("LAST_OFFSET_DELTA_AT", "BASE_TIMESTAMP_AT", "PRODUCER_ID_AT", "PRODUCER_EPOCH_AT"),
        *("BASE_SEQUENCE_AT", "COUNT_AT"),
    },
}
# Tables of the protocol are whole, whatever is used of them.
WHOLE = ("tierlog/wire/messages/", "tierlog/errors.py")
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_WORD = re.compile(r"[A-Za-z_]\w*")


def declared(tree: ast.Module | ast.ClassDef) -> Iterator[tuple[str, int, bool]]:
    """Name, line, and whether the declaration is itself a use of the name, as ``words`` counts them."""
    for node in tree.body:
        if isinstance(node, FUNCTIONS):
            yield node.name, node.lineno, False
        elif isinstance(node, ast.ClassDef):
            yield node.name, node.lineno, False
            yield from declared(node)
        elif isinstance(tree, ast.Module) and isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from ((target.id, node.lineno, True) for target in targets if isinstance(target, ast.Name))


def words() -> Counter[str]:
    """How often each name occurs in the product's code, comments and docstrings apart."""
    found: Counter[str] = Counter()
    for path in SOURCES:
        for node in ast.walk(tree_of(path)):
            match node:
                case ast.Name(id=name) | ast.Attribute(attr=name):
                    found[name] += 1
                case ast.alias(name=name):
                    found[name.rpartition(".")[2]] += 1
                case ast.keyword(arg=str(name)):
                    found[name] += 1
                case ast.Constant(value=str(text)) if len(text) < 80 and "\n" not in text:
                    found.update(_WORD.findall(text))
    return found


def test_nothing_is_dead() -> None:
    used = words()
    alive = set().union(*ALIVE.values())
    dead: dict[str, str] = {}
    for path in SOURCES:
        where = str(path.relative_to(ROOT))
        if where.startswith(WHOLE):
            continue
        for name, line, is_use in declared(tree_of(path)):
            if used[name] <= is_use and not name.startswith("__"):
                dead[name] = f"{where}:{line} {name}"
    assert [told for name, told in dead.items() if name not in alive] == []
    assert alive - dead.keys() == set(), "no stale entry of the list"
