"""Which half runs: as ``TIERLOG_KERNEL`` says, in one line where that cannot be."""

from __future__ import annotations

import sys

import pytest

from tierlog import kernel


def test_off_is_the_twin() -> None:
    assert kernel.chosen("off") is None


def test_a_wrong_word_is_one_line() -> None:
    with pytest.raises(
        SystemExit, match=r"^tierlog: TIERLOG_KERNEL is 'on'; say off or require, or leave it out$"
    ):
        kernel.chosen("on")


def test_without_a_compiled_half(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tierlog.kernel._compiled", None)
    monkeypatch.delattr(kernel, "_compiled", raising=False)
    assert kernel.chosen("") is None
    with pytest.raises(SystemExit, match="install a C compiler"):
        kernel.chosen("require")
