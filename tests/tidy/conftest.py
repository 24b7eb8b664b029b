"""What the checks share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.tidy.sources import text_of, tree_of


@pytest.fixture(autouse=True, scope="package")
def _parsed() -> Iterator[None]:
    """Parsed sources are a million objects, which every later collection would have to look through."""
    yield
    text_of.cache_clear()
    tree_of.cache_clear()
