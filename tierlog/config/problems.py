"""The texts of properties with their places, and the collected mistakes in them.

Checks go on after a mistake and report all of them, so that a file is corrected in one go. The lines come in the
order of the file, then of the environment's variables, then of the command line.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from tierlog.config.secrets import shown, without_secrets
from tierlog.errors import UserError

# Ranks of places: problems of a stronger layer are listed later.
DEFAULTS, FILE, ENVIRONMENT, COMMAND_LINE, DYNAMIC_DEFAULT, DYNAMIC = range(6)


@dataclass(frozen=True, slots=True)
class Property:
    """``where`` begins an error line: ``server.properties:12``, ``KAFKA_LOG_DIRS``, ``command line``; ``order`` sorts it.
    ``written``: the text before references ``${…}`` were replaced by values, which may be secrets."""

    text: str = field(repr=False)
    where: str
    order: tuple[int, int] = (FILE, 0)
    written: str | None = field(default=None, repr=False)

    def shown(self, name: str) -> str:
        """The value as an error line may show it."""
        return shown(name, self.text if self.written is None else self.written)


class WrongConfig(UserError):
    """Every mistake, one line each; ``str()`` has them all."""

    def __init__(self, lines: tuple[str, ...]) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines


class _Problem(NamedTuple):
    order: tuple[int, int]
    line: str


class Problems:
    """The mistakes found so far."""

    def __init__(self) -> None:
        self._found: list[_Problem] = []
        self.names: set[str] = set()

    def add(self, name: str, item: Property | None, reason: str, *, with_value: bool = True) -> None:
        """``item`` is None when the property was not given, so that its default is the problem."""
        self.names.add(name)
        name_shown = without_secrets(name)
        if item is None:
            self._found.append(_Problem((FILE, 0), f"{name_shown}: {reason}"))
            return
        subject = f"{name_shown}={item.shown(name)}" if with_value else name_shown
        self._found.append(_Problem(item.order, f"{item.where}: {subject}: {reason}"))

    @property
    def lines(self) -> tuple[str, ...]:
        """Without repeats, in the order of their places."""
        ordered = sorted(self._found, key=lambda problem: problem.order)
        return tuple(dict.fromkeys(problem.line for problem in ordered))

    def raise_if_any(self) -> None:
        """Raises WrongConfig."""
        if self._found:
            raise WrongConfig(self.lines)
