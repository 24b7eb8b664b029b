"""Which half runs: as ``TIERLOG_KERNEL`` says, in one line where that cannot be."""

from __future__ import annotations

import os
import shutil
import sys

import pytest

from tierlog import kernel


def test_there_is_one_where_a_compiler_is() -> None:
    """Else all tests of the kernel would be skipped, and nobody would see it."""
    if os.environ.get(kernel.SWITCH) == "off" or shutil.which("gcc") is None:
        pytest.skip("no compiler, or switched off")
    assert kernel.compiled is not None


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
