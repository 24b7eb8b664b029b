"""The sources that the checks look at, each read and parsed once."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted([*ROOT.glob("tierlog/**/*.py"), *ROOT.glob("tiering/**/*.py")])
BESIDE = sorted(
    path for room in ("benchmarks", "demo", "examples", "tests") for path in ROOT.glob(f"{room}/**/*.py")
)


@cache
def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(text_of(path))
