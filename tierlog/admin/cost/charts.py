"""Charts as inline SVG: stacked bars and lines over time. No script, no font, nothing is fetched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import NamedTuple

COLOURS = ("#3b6fb6", "#e0812b", "#4d9a54", "#b5485d", "#7f6bb0", "#8a6d5a", "#c76ba3", "#7d8791", "#a6a13b")
WIDTH = 860
LEFT, RIGHT, TOP = 190, 90, 8
BAR, GAP = 20, 8
PLOT_HEIGHT = 240


class Line(NamedTuple):
    """``points``: day and value, in the order of the days. ``band``: day, low and high, drawn behind it."""

    name: str
    points: Sequence[tuple[float, float]]
    band: Sequence[tuple[float, float, float]] = ()


def stacked_bars(bars: Mapping[str, Mapping[str, float]], unit: str) -> str:
    """A horizontal bar for each name, cut into kinds; as long as its sum."""
    kinds = list(dict.fromkeys(kind for parts in bars.values() for kind in parts))
    colour = {kind: COLOURS[n % len(COLOURS)] for n, kind in enumerate(kinds)}
    longest = max((sum(parts.values()) for parts in bars.values()), default=0.0) or 1.0
    scale = (WIDTH - LEFT - RIGHT) / longest
    drawn = []
    y = TOP
    for name, parts in bars.items():
        x = float(LEFT)
        middle = y + BAR * 0.72
        drawn.append(f'<text x="{LEFT - 8}" y="{middle:.0f}" text-anchor="end">{escape(name[:28])}</text>')
        for kind, value in parts.items():
            width = max(value, 0.0) * scale
            title = f"{escape(name)}, {escape(kind)}: {value:,.2f} {escape(unit)}"
            drawn.append(
                f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="{BAR}" fill="{colour[kind]}">'
                f"<title>{title}</title></rect>"
            )
            x += width
        drawn.append(f'<text x="{x + 6:.0f}" y="{middle:.0f}">{sum(parts.values()):,.2f}</text>')
        y += BAR + GAP
    return _svg(y + TOP, drawn) + _legend(colour)


def lines_over_time(lines: Sequence[Line], unit: str, limit: float | None = None) -> str:
    """Lines over days, from zero up; ``limit`` is a dashed line of its own."""
    days = [day for line in lines for day, _ in line.points] + [
        day for line in lines for day, *_ in line.band
    ]
    if not days:
        return "<p>No data.</p>"
    values = [value for line in lines for _, value in line.points]
    values += [high for line in lines for *_, high in line.band] + ([limit] if limit else [])
    first, span = min(days), max(max(days) - min(days), 1e-9)
    top = max(values) * 1.05 or 1.0

    def at(day: float, value: float) -> str:
        x = LEFT + (WIDTH - LEFT - RIGHT) * (day - first) / span
        return f"{x:.1f},{TOP + PLOT_HEIGHT * (1 - min(max(value / top, 0.0), 1.0)):.1f}"

    drawn = [_grid(top, part, unit) for part in (0.0, 0.25, 0.5, 0.75, 1.0)]
    colour = {line.name: COLOURS[n % len(COLOURS)] for n, line in enumerate(lines)}
    for line in lines:
        if line.band:
            outline = [at(day, high) for day, _, high in line.band]
            outline += [at(day, low) for day, low, _ in reversed(line.band)]
            drawn.append(f'<polygon points="{" ".join(outline)}" fill="{colour[line.name]}" opacity="0.18"/>')
        points = " ".join(at(day, value) for day, value in line.points)
        drawn.append(
            f'<polyline points="{points}" fill="none" stroke="{colour[line.name]}" stroke-width="2"/>'
        )
    if limit:
        drawn.append(
            f'<polyline points="{at(first, limit)} {at(first + span, limit)}" stroke="#c0392b" '
            'stroke-dasharray="6 4" fill="none"/>'
        )
    y = TOP + PLOT_HEIGHT + 16
    drawn.append(f'<text x="{LEFT}" y="{y}">{_date(first)}</text>')
    drawn.append(f'<text x="{WIDTH - RIGHT}" y="{y}" text-anchor="end">{_date(first + span)}</text>')
    return _svg(y + TOP, drawn) + _legend(colour)


def _grid(top: float, part: float, unit: str) -> str:
    y = TOP + PLOT_HEIGHT * (1 - part)
    return (
        f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#8884"/>'
        f'<text x="{LEFT - 8}" y="{y + 4:.0f}" text-anchor="end">{top * part:,.1f} {escape(unit)}</text>'
    )


def _date(day: float) -> str:
    from datetime import date, timedelta

    return (date(1970, 1, 1) + timedelta(days=int(day))).isoformat()


def _svg(height: float, drawn: Sequence[str]) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {height:.0f}" width="{WIDTH}" role="img" '
        f'xmlns="http://www.w3.org/2000/svg">{"".join(drawn)}</svg>'
    )


def _legend(colour: Mapping[str, str]) -> str:
    marks = (f'<span><i style="background:{c}"></i>{escape(name)}</span>' for name, c in colour.items())
    return f'<p class="legend">{"".join(marks)}</p>'
