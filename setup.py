"""The one thing that ``pyproject.toml`` cannot say: the compiled kernel, which an installation may do without."""

from setuptools import Extension, setup

PARTS = (
    "module",
    "crc32c",
    "scan",
    "columns",
    "packed",
    "segment",
    "attributes",
    "request",
    "append",
    "metrics",
    "produce",
    "fetch_request",
    "fetch_look",
    "fetch_bytes",
    "fetch_limits",
    "fetch_answer",
    "fetch_consumer",
    "fetches",
)
HEADERS = ("kernel", "batches", "selection", "attributes", "cursor", "produce", "fetch", "fetches")

setup(
    ext_modules=[
        Extension(
            "tierlog.kernel._compiled",
            sources=[f"tierlog/kernel/src/{part}.c" for part in PARTS],
            depends=[f"tierlog/kernel/src/{name}.h" for name in HEADERS],
            define_macros=[("Py_LIMITED_API", "0x030B0000")],
            extra_compile_args=[
                "-O3",
                "-std=c11",
                "-fvisibility=hidden",
                "-Wall",
                "-Wextra",
                "-Wno-unused-parameter",
            ],
            py_limited_api=True,
            optional=True,
        )
    ],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
