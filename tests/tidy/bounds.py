"""The bounds of INVARIANTS.md, and the tests that attack them. ``python -m tests.tidy.bounds`` names those for pytest."""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TEST = re.compile(r"`(tests/[a-z0-9_/]+\.py)((?:::\w+)*)`")


def rows() -> list[list[str]]:
    """(what, bound, attacked in), as they stand."""
    _, _, text = (ROOT / "INVARIANTS.md").read_text().partition("## Bounds (I15)")
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def attacks() -> list[str]:
    """Test ids, each once."""
    found = [path + names for *_, attacked_in in rows() for path, names in TEST.findall(attacked_in)]
    return list(dict.fromkeys(found))


if __name__ == "__main__":
    sys.stdout.write("\n".join(attacks()) + "\n")
