"""The one thing that ``pyproject.toml`` cannot say: the compiled kernel, which an installation may do without."""

from setuptools import Extension, setup

PARTS = (
    "module",
    "crc32c",
    "scan",
    "columns",
    "packed",
    "segment",
    "offsets",
    "attributes",
    "lent",
    "request",
    "append",
    "remember",
    "indexes",
    "metrics",
    "produce",
    "keys",
    "replies",
    "received",
    "run",
    "follow_answer",
    "follow_append",
    "follow_ask",
    "follow",
    "fetch_request",
    "fetch_look",
    "fetch_local",
    "fetch_bytes",
    "fetch_limits",
    "fetch_answer",
    "fetch_consumer",
    "fetch_session",
    "parked_reply",
    "fetches",
    "reads",
)
HEADERS = (
    "kernel",
    "batches",
    "selection",
    "attributes",
    "lent",
    "owner",
    "append",
    "cursor",
    "produce",
    "follow",
    "fetch",
    "fetches",
)

setup(
    ext_modules=[
        Extension(
            "tierlog.kernel._compiled",
            sources=[f"tierlog/kernel/src/{part}.c" for part in PARTS],
            depends=[f"tierlog/kernel/src/{name}.h" for name in HEADERS],
            extra_compile_args=[
                "-O3",
                "-std=c11",
                "-fvisibility=hidden",
                "-Wall",
                "-Wextra",
                "-Wno-unused-parameter",
            ],
            optional=True,
        )
    ]
)
