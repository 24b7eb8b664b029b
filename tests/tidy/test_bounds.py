"""Every row of INVARIANTS' table of bounds names a test that is there."""

from __future__ import annotations

import ast

from tests.e2e.tiered import figure
from tests.tidy.bounds import ROOT, TEST, attacks, rows


def is_there(path: str, names: list[str]) -> bool:
    file = ROOT / path
    if not file.exists():
        return False
    found: ast.AST | None = ast.parse(file.read_text())
    for name in names:
        assert found is not None
        inside = {
            node.name: node
            for node in ast.iter_child_nodes(found)
            if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
        }
        if name not in inside:
            return False
        found = inside[name]
    return True


def test_every_bound_is_attacked() -> None:
    assert len(rows()) > 30
    wrong = []
    for what, _, attacked_in in rows():
        tests = TEST.findall(attacked_in)
        if not tests:
            wrong.append(f"{what}: no test")
        for path, names in tests:
            if not is_there(path, names.split("::")[1:]):
                wrong.append(f"{what}: there is no {path}{names}")
    assert not wrong, "\n".join(wrong)
    figure(f"{len(rows())} bounds, attacked by {len(attacks())} tests")
