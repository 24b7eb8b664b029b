"""What a Containerfile says, and what a build's context holds: as much of both as ours use. Pure."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

WORDS = {
    *("ARG", "FROM", "WORKDIR", "COPY", "RUN", "ENV", "USER", "VOLUME", "EXPOSE", "STOPSIGNAL"),
    *("HEALTHCHECK", "ENTRYPOINT", "CMD"),
}
_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")


@dataclass(frozen=True, slots=True)
class Instruction:
    """``RUN --mount=x command``: word, flags in their order, and the text behind them."""

    word: str
    flags: tuple[tuple[str, str], ...]
    text: str

    @property
    def arguments(self) -> list[str]:
        """The words of the text, in either of its forms."""
        if self.text.startswith("["):
            found = json.loads(self.text)
            assert all(isinstance(each, str) for each in found)
            return list(found)
        return shlex.split(self.text)


@dataclass
class Stage:
    name: str
    base: str
    instructions: list[Instruction] = field(default_factory=list)

    def last(self, word: str) -> Instruction:
        """The one that counts, where a later one replaces those before."""
        return [each for each in self.instructions if each.word == word][-1]


def instructions(text: str) -> list[Instruction]:
    """Raises ValueError for a word that is not known here."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [_instruction(line) for line in joined.splitlines() if line.strip()]


def _instruction(line: str) -> Instruction:
    word, _, rest = line.strip().partition(" ")
    if word not in WORDS:
        raise ValueError(f"{word}: no instruction that is known here")
    flags = []
    rest = rest.strip()
    while rest.startswith("--"):
        flag, _, rest = rest.partition(" ")
        name, _, value = flag[2:].partition("=")
        flags.append((name, value))
        rest = rest.strip()
    return Instruction(word, tuple(flags), rest)


def expanded(text: str, values: Mapping[str, str]) -> str:
    """Raises KeyError for a variable that has no value."""
    return _VARIABLE.sub(lambda found: values[found[1] or found[2]], text)


def stages(text: str) -> list[Stage]:
    """All stages in their order; the last one is the image."""
    found: list[Stage] = []
    arguments: dict[str, str] = {}
    for each in instructions(text):
        if each.word == "ARG":
            assert not found, "only before the first FROM"
            name, _, value = each.text.partition("=")
            arguments[name] = value
        elif each.word == "FROM":
            base, _, name = expanded(each.text, arguments).partition(" AS ")
            found.append(Stage(name.strip(), base.strip()))
        else:
            found[-1].instructions.append(each)
    return found


def is_in_context(path: str, ignored: str) -> bool:
    """Whether a build sees ``path``, by the rules of the text ``ignored``: the last pattern that matches it or a directory
    above it counts; with ``!`` it takes in again."""
    parts = path.split("/")
    above = {"/".join(parts[:end]) for end in range(1, len(parts) + 1)}
    is_in = True
    for line in ignored.splitlines():
        pattern = line.strip()
        if not pattern or pattern.startswith("#"):
            continue
        is_taken_in = pattern.startswith("!")
        pattern = pattern.removeprefix("!")
        anywhere = pattern.removeprefix("**/")
        names = parts if anywhere != pattern else above
        if any(_matches(name, anywhere) for name in names):
            is_in = is_taken_in
    return is_in


def _matches(name: str, pattern: str) -> bool:
    """``*`` stands for no slash."""
    return name.count("/") == pattern.count("/") and fnmatchcase(name, pattern)
