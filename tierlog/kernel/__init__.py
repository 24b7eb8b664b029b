"""The hot path's inner loops, compiled where a C compiler was there at installation; nothing without.

A leaf that imports nothing of tierlog. Whoever has a compiled step asks ``compiled`` for it and goes its own way where that
is None: the Python code beside it is the twin, which stays the definition. The compiled functions make no system call and
name no error: at whatever they do not know they stop, and the twin looks at the same bytes. They keep nothing between calls
but a few keys of tables, and where the slots of Python's types lie, through which they read and write the one state that
there is.

``TIERLOG_KERNEL``: ``off`` runs the twin, ``require`` refuses to run without the kernel. Begin at ``_compiled.pyi``.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])

SWITCH = "TIERLOG_KERNEL"


def chosen(wanted: str) -> ModuleType | None:
    """The compiled half, as ``TIERLOG_KERNEL`` wants it. Ends the program with one line where that cannot be."""
    if wanted not in {"", "off", "require"}:
        sys.exit(f"tierlog: {SWITCH} is {wanted!r}; say off or require, or leave it out")
    if wanted == "off":
        return None
    try:
        from tierlog.kernel import _compiled
    except ImportError as error:
        if wanted == "require":
            sys.exit(
                f"tierlog: {SWITCH} is require, and there is no kernel ({error}); install a C compiler, then tierlog again"
            )
        return None
    return _compiled


compiled = chosen(os.environ.get(SWITCH, ""))
# For ``tiering``, which is handed them: see ``_compiled.pyi``.
walk_segment = None if compiled is None else compiled.walk_segment
whole_below = None if compiled is None else compiled.whole_below


def compiled_method(twin: F) -> F:
    """A decorator: the kernel's method of the same name, which calls the decorated one wherever it does not know. That alone
    where there is no kernel."""
    if compiled is None:
        return twin
    method: F = getattr(compiled, twin.__name__)(twin)
    return method


def name() -> str:
    """What runs, for people: ``kernel (crc32c by instruction)`` or ``twin``."""
    return "twin" if compiled is None else f"kernel (crc32c by {compiled.CRC32C})"
