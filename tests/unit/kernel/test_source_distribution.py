"""What is installed from a source distribution can be compiled: all of the kernel's source is in it."""

from __future__ import annotations

import subprocess
import sys
import tarfile
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_it_has_every_file_of_the_kernel(tmp_path: Path) -> None:
    command = [sys.executable, "setup.py", "-q", "egg_info", "--egg-base", str(tmp_path)]
    command += ["sdist", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (made,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(made) as packed:
        names = {name.partition("/")[2] for name in packed.getnames()}
    source = ROOT / "tierlog" / "kernel" / "src"
    wanted = {str(path.relative_to(ROOT)) for path in source.rglob("*.[ch]")}
    assert wanted
    assert wanted <= names
