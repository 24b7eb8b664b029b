"""The price books that come with the package, by name."""

from __future__ import annotations

from importlib.resources import files

from tiering.cost.prices import Book, WrongBook, parse_book

DEFAULT = "aws-us-east-1"
_FOLDER = files("tiering.cost") / "books"
_ENDING = ".toml"


def names() -> list[str]:
    """Sorted."""
    return sorted(
        each.name.removesuffix(_ENDING) for each in _FOLDER.iterdir() if each.name.endswith(_ENDING)
    )


def shipped(name: str) -> Book:
    """Raises WrongBook where there is none of this name."""
    if name not in names():
        raise WrongBook(
            (
                f"there is no price book {name}; name a file that ends in .toml, or one of {', '.join(names())}",
            )
        )
    return parse_book((_FOLDER / f"{name}{_ENDING}").read_text("utf-8"), f"{name}{_ENDING}")
