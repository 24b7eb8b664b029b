"""The one thing that ``pyproject.toml`` cannot say: the compiled kernel, which an installation may do without."""

from setuptools import Extension, setup

SOURCES = "tierlog/kernel/src"
# By room: what is compiled, and what it is compiled with.
PARTS = {
    "": ["attributes", "lent", "metrics", "module"],
    "bytes": ["scan", "columns", "packed", "crc32c", "segment", "offsets", "reads"],
    "append": ["append", "indexes", "remember"],
    "produce": ["request", "produce", "run", "received", "replies", "keys"],
    "fetch": [
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
    ],
    "follow": ["follow_answer", "follow_append", "follow_ask", "follow"],
}
HEADERS = {
    "": ["attributes", "cursor", "kernel", "lent", "owner"],
    "bytes": ["batches", "selection"],
    "append": ["append"],
    "produce": ["produce"],
    "fetch": ["fetch", "fetches"],
    "follow": ["follow"],
}


def paths(rooms: dict[str, list[str]], suffix: str) -> list[str]:
    return [
        f"{SOURCES}/{room}/{name}.{suffix}".replace("//", "/")
        for room, names in rooms.items()
        for name in names
    ]


setup(
    ext_modules=[
        Extension(
            "tierlog.kernel._compiled",
            sources=paths(PARTS, "c"),
            depends=paths(HEADERS, "h"),
            include_dirs=[f"{SOURCES}/{room}" for room in PARTS],
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
