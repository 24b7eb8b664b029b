"""Storage classes: one vocabulary for all providers, of which every class can be read at once.

A class costs less per byte-month than the one above it and more per read, and what leaves it before ``days_min`` is billed
to that day. Classes that must be restored before a read (S3's Glacier and Deep Archive) are not in the vocabulary.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple


class StorageClass(IntEnum):
    """The numbers are in stored formats and never change; larger is colder."""

    STANDARD = 0
    INFREQUENT = 1
    COLD = 2
    ARCHIVE_INSTANT = 3

    @property
    def label(self) -> str:
        """As configs and reports write it: ``archive-instant``."""
        return self.name.lower().replace("_", "-")


_LABELS = {int(each): each.label for each in StorageClass}


def label_of(number: int) -> str:
    """Of the class that a stored format names by its number."""
    return _LABELS[number]


class ClassNames(NamedTuple):
    """What a provider calls a class, and the days that it bills at least."""

    name: str
    days_min: int


S3_CLASSES = {
    StorageClass.STANDARD: ClassNames("STANDARD", 0),
    StorageClass.INFREQUENT: ClassNames("STANDARD_IA", 30),
    StorageClass.COLD: ClassNames("GLACIER_IR", 90),
    StorageClass.ARCHIVE_INSTANT: ClassNames("GLACIER_IR", 90),
}
GCS_CLASSES = {
    StorageClass.STANDARD: ClassNames("STANDARD", 0),
    StorageClass.INFREQUENT: ClassNames("NEARLINE", 30),
    StorageClass.COLD: ClassNames("COLDLINE", 90),
    StorageClass.ARCHIVE_INSTANT: ClassNames("ARCHIVE", 365),
}


def class_named(names: dict[StorageClass, ClassNames], name: str) -> StorageClass | None:
    """The warmest class that a provider calls so; None for a name that is not in the vocabulary. A store that names no class
    means its standard one."""
    if not name:
        return StorageClass.STANDARD
    return next((each for each, known in names.items() if known.name == name), None)
