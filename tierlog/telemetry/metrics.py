"""Counters, gauges and histograms that cost an integer addition on the hot path.

Rules: a hot path binds its child once (``bytes_in = registry.counter(name, help,
("topic",)).labels(topic)``) and then does ``bytes_in.value += n``. Nothing is formatted or summed before a
scrape; values that exist anyway (log sizes, lags) are read at the scrape by a *source*, so that they cost
nothing between scrapes. Names are given in full (``..._total`` for counters). Invariants: one name belongs
nothing between scrapes. Names are given in full (``..._total`` for counters). Invariants: one name belongs to one
family or source; the number of children of a family is bounded by the things that label it (topics, partitions,
APIs), whose owner removes them with ``remove``.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Generic, Literal, NamedTuple, TypeVar

Kind = Literal["counter", "gauge", "histogram", "summary"]
Labels = tuple[tuple[str, str], ...]


def rendered(labels: Labels) -> str:
    """Label pairs as the text format writes them, with the braces; "" where there are none."""
    if not labels:
        return ""
    return "{" + ",".join([f'{name}="{_escaped(value)}"' for name, value in labels]) + "}"


def _escaped(text: str) -> str:
    if "\\" in text or '"' in text or "\n" in text:
        return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
    return text


class Sample(NamedTuple):
    """One line of a scrape: the family's name + ``suffix``, label pairs in order, the value.

    Labels that many families share may be ``rendered`` ahead.
    """

    suffix: str
    labels: Labels | str
    value: float


class Counter:
    """``value`` only grows; add to it directly."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0

    def samples(self, labels: Labels) -> Iterator[Sample]:
        yield Sample("", labels, self.value)


class Gauge:
    """Set ``value`` directly."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: float = 0

    def samples(self, labels: Labels) -> Iterator[Sample]:
        yield Sample("", labels, self.value)


class Histogram:
    """Counts per upper bound (inclusive); ``maximum`` since the start."""

    __slots__ = ("bounds", "counts", "maximum", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        self.sum: float = 0.0
        self.maximum: float = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value
        if value > self.maximum:
            self.maximum = value

    def samples(self, labels: Labels) -> Iterator[Sample]:
        seen = 0
        for bound, count in zip((*self.bounds, float("inf")), self.counts, strict=True):
            seen += count
            le = "+Inf" if bound == float("inf") else repr(float(bound))
            yield Sample("_bucket", (*labels, ("le", le)), seen)
        yield Sample("_count", labels, seen)
        yield Sample("_sum", labels, self.sum)


Child = TypeVar("Child", Counter, Gauge, Histogram)


class Family(Generic[Child]):
    """All children of one name, by their label values."""

    __slots__ = ("_children", "_make", "help", "kind", "label_names", "name")

    _make: Callable[[], Child]

    def __init__(
        self, name: str, kind: Kind, help_text: str, label_names: tuple[str, ...], make: Callable[[], Child]
    ) -> None:
        self.name = name
        self.kind = kind
        self.help = help_text
        self.label_names = label_names
        self._make = make
        self._children: dict[tuple[str, ...], Child] = {}

    def labels(self, *values: str) -> Child:
        """The child of these label values, made at the first call: bind it once, outside the hot path."""
        child = self._children.get(values)
        if child is None:
            assert len(values) == len(self.label_names), f"{self.name}: {values}"
            child = self._children[values] = self._make()
        return child

    def remove(self, *values: str) -> None:
        self._children.pop(values, None)

    def samples(self) -> Iterator[Sample]:
        for values, child in list(self._children.items()):
            yield from child.samples(tuple(zip(self.label_names, values, strict=True)))


class Source:
    """A family whose samples are read at the scrape.

    ``read`` may be a generator; the scrape pauses between its samples and other work runs meanwhile, so it
    iterates over a snapshot (``list(...)``) of whatever may change.
    """

    __slots__ = ("help", "kind", "name", "read")

    def __init__(self, name: str, kind: Kind, help_text: str, read: Callable[[], Iterable[Sample]]) -> None:
        self.name = name
        self.kind = kind
        self.help = help_text
        self.read = read

    def samples(self) -> Iterable[Sample]:
        return self.read()


AnyFamily = Family[Counter] | Family[Gauge] | Family[Histogram] | Source


class Registry:
    """Every family of one broker, in the order of registration."""

    def __init__(self) -> None:
        self._families: dict[str, AnyFamily] = {}

    def counter(self, name: str, help_text: str, label_names: tuple[str, ...] = ()) -> Family[Counter]:
        return self._add(Family(name, "counter", help_text, label_names, Counter))

    def gauge(self, name: str, help_text: str, label_names: tuple[str, ...] = ()) -> Family[Gauge]:
        return self._add(Family(name, "gauge", help_text, label_names, Gauge))

    def histogram(
        self, name: str, help_text: str, bounds: Sequence[float], label_names: tuple[str, ...] = ()
    ) -> Family[Histogram]:
        return self._add(Family(name, "histogram", help_text, label_names, lambda: Histogram(bounds)))

    def source(self, name: str, kind: Kind, help_text: str, read: Callable[[], Iterable[Sample]]) -> None:
        """Register a family that ``read`` fills at each scrape."""
        self._add(Source(name, kind, help_text, read))

    def value(self, name: str, kind: Kind, help_text: str, read: Callable[[], float]) -> None:
        """Register an unlabelled family whose one value ``read`` gives at each scrape."""
        self._add(Source(name, kind, help_text, lambda: (Sample("", (), read()),)))

    def families(self) -> list[AnyFamily]:
        return list(self._families.values())

    def __contains__(self, name: str) -> bool:
        return name in self._families

    _F = TypeVar("_F", Family[Counter], Family[Gauge], Family[Histogram], Source)

    def _add(self, family: _F) -> _F:
        assert family.name not in self._families, f"metric {family.name} registered twice"
        self._families[family.name] = family
        return family
