"""Versions and features of what is stored: heads, pages, page indexes and segment footers.

A version fixes the layout. A *feature* is a bit that says "whoever does not know what this means must not read on", such as
compressed chunks would be: within a version, new features need no new layout. Fields that an old reader may overlook need
neither, since entries and sections carry their lengths.

A cluster writes a newer version only once every broker knows it; until then it goes on writing the older one
(``TierHead.format_version``). All versions are read for ever.
"""

from __future__ import annotations

from tiering.errors import UnsupportedFormat

FIRST_VERSION = 1
FORMAT_VERSION = 2
"""1: the first release. 2: entries and footers with lengths and features, storage classes, generations, origins."""
KNOWN_FEATURES = 0
"""The bits that this release understands; none is defined yet."""


def check_format(where: str, version: int, features: int = 0) -> None:
    """Raises ``UnsupportedFormat``, one line that begins with ``where``."""
    if not FIRST_VERSION <= version <= FORMAT_VERSION:
        known = f"{FIRST_VERSION} to {FORMAT_VERSION}"
        raise UnsupportedFormat(f"{where}: format_version {version}; this release knows {known}")
    unknown = features & ~KNOWN_FEATURES
    if unknown:
        raise UnsupportedFormat(
            f"{where}: uses features {unknown:#x} of a newer release; upgrade this broker"
        )
