"""What is installed only with an extra of tierlog, and how to say that it is absent."""

from __future__ import annotations

EXTRA_OF = {
    "numpy": "replay",
    "duckdb": "sql",
    "pyiceberg": "iceberg",
    "fastavro": "values",
    "grpc": "etcd",
}


def needed(error: ModuleNotFoundError) -> str:
    """One line with the remedy. Raises the error again where the package is of no extra: that is a bug."""
    package = (error.name or "").partition(".")[0]
    if package not in EXTRA_OF:
        raise error
    return f"this needs {package}: pip install 'tierlog[{EXTRA_OF[package]}]'"
