"""The conditions of a request: ``ifGenerationMatch`` and its three kin, on every verb. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from tests.servers.gcs.refusals import condition_not_met, invalid, not_modified


class HasGenerations(Protocol):
    generation: int
    metageneration: int


@dataclass(frozen=True, slots=True)
class Conditions:
    """None: not asked for. 0 as a generation stands for an object that does not exist."""

    generation: int | None = None
    not_generation: int | None = None
    metageneration: int | None = None
    not_metageneration: int | None = None

    def check(self, found: HasGenerations | None, *, is_read: bool) -> None:
        """Raises 412; for a read whose ``...NotMatch`` names what is there 304."""
        generation = found.generation if found is not None else 0
        metageneration = found.metageneration if found is not None else 0
        if self.generation is not None and self.generation != generation:
            raise condition_not_met()
        if self.metageneration is not None and self.metageneration != metageneration:
            raise condition_not_met()
        same = self.not_generation == generation or (
            found is not None and self.not_metageneration == metageneration
        )
        if same:
            raise not_modified() if is_read else condition_not_met("If-None-Match")


def of_query(query: Mapping[str, str], infix: str = "") -> Conditions:
    """``infix`` is ``Source`` for the conditions on what a rewrite reads."""
    return Conditions(
        _number(query, f"if{infix}GenerationMatch"),
        _number(query, f"if{infix}GenerationNotMatch"),
        _number(query, f"if{infix}MetagenerationMatch"),
        _number(query, f"if{infix}MetagenerationNotMatch"),
    )


def of_headers(headers: Mapping[str, str]) -> Conditions:
    """The XML API's."""
    return Conditions(
        generation=_number(headers, "x-goog-if-generation-match"),
        metageneration=_number(headers, "x-goog-if-metageneration-match"),
    )


def generation_of(query: Mapping[str, str], name: str = "generation") -> int | None:
    return _number(query, name)


def _number(given: Mapping[str, str], name: str) -> int | None:
    text = given.get(name)
    if text is None:
        return None
    if not text.lstrip("-").isdigit():
        raise invalid(f"Invalid value '{text}' for {name}. Expected a number.")
    return int(text)
