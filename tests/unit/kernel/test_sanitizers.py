"""The kernel built with the address and undefined-behaviour sanitizers passes its own tests (a few inputs of each)."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tierlog import kernel

ROOT = Path(__file__).parents[3]
INPUTS = "300"


def has_sanitizers() -> bool:
    found = subprocess.run(
        ["gcc", "-print-file-name=libasan.so"], capture_output=True, text=True, check=False
    )
    return found.returncode == 0 and Path(found.stdout.strip()).is_absolute()


@pytest.mark.slow
@pytest.mark.skipif(kernel.compiled is None, reason="no kernel here")
@pytest.mark.skipif("libasan" in os.environ.get("LD_PRELOAD", ""), reason="this is that run")
def test_own_tests_under_sanitizers() -> None:
    if not has_sanitizers():
        pytest.skip("gcc has no sanitizers here")
    done = subprocess.run(
        [ROOT / "tools/sanitized_kernel.sh"],
        env={**os.environ, "TIERLOG_KERNEL_INPUTS": INPUTS},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-3_000:]
