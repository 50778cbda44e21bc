"""Charts of the report as inline SVG: no script, no font of their own, colours by CSS class so that dark mode works.

Coordinates are in a view box of 480 units, wide enough for a desktop and readable when it shrinks to a phone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from markupsafe import Markup, escape

WIDTH, HEIGHT = 480, 260
LEFT, RIGHT, TOP, BOTTOM = 46, 10, 12, 36
ROW_HEIGHT = 17
MAX_POINTS = 240


@dataclass(frozen=True)
class Curve:
    """One run's series; `xs` grow."""

    name: str
    xs: Sequence[float]
    ys: Sequence[float]


@dataclass(frozen=True)
class Share:
    """A measured share with its interval, all from 0 to 1."""

    value: float
    low: float
    high: float


def wilson(correct: int, total: int, z: float = 1.959964) -> Share:
    """A share and its 95% interval (Wilson 1927, as in Brown, Cai and DasGupta 2001, equation 4)."""
    if total <= 0:
        return Share(0.0, 0.0, 1.0)
    share, square = correct / total, z * z
    centre = (correct + square / 2) / (total + square)
    reach = z / (total + square) * math.sqrt(share * (1 - share) * total + square / 4)
    return Share(share, max(centre - reach, 0.0), min(centre + reach, 1.0))


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers from `low` to `high`."""
    span = high - low
    if span <= 0 or not math.isfinite(span):
        return [low]
    raw = span / about
    size = 10.0 ** math.floor(math.log10(raw))
    step = next(size * factor for factor in (1, 2, 5, 10) if size * factor >= raw)
    first = math.ceil(low / step - 1e-9)
    return [round(number * step, 12) for number in range(first, math.floor(high / step + 1e-9) + 1)]


def line_chart(curves: Sequence[Curve], x_label: str, y_label: str) -> Markup:
    """Curves over one pair of axes; each shows the mean of its points and, pale, their range where it has many."""
    drawn = [(curve, _thin(curve)) for curve in curves]
    points = [point for _, thinned in drawn for point in thinned]
    if not points:
        return Markup("")
    x_high = max(x for x, *_ in points) or 1.0
    y_low, y_high = min(low for _, low, _, _ in points), max(high for *_, high in points)
    if y_high - y_low < 1e-9:
        y_high = y_low + 1.0

    def place(x: float, y: float) -> tuple[float, float]:
        return (
            LEFT + x / x_high * (WIDTH - LEFT - RIGHT),
            HEIGHT - BOTTOM - (y - y_low) / (y_high - y_low) * (HEIGHT - TOP - BOTTOM),
        )

    parts = [_axes(ticks(0, x_high), ticks(y_low, y_high), place, x_label, y_label)]
    for number, (_, thinned) in enumerate(drawn):
        band = [place(x, high) for x, _, _, high in thinned] + [place(x, low) for x, low, _, _ in reversed(thinned)]
        parts.append(Markup('<path class="band run{}" d="{}Z"/>').format(number, _path(band)))
        parts.append(Markup('<path class="line run{}" d="{}"/>').format(
            number, _path([place(x, mean) for x, _, mean, _ in thinned])
        ))  # fmt: skip
    return _svg(HEIGHT, f"{y_label} over {x_label}: {', '.join(curve.name for curve in curves)}", parts)


def _thin(curve: Curve) -> list[tuple[float, float, float, float]]:
    """(x, lowest, mean, highest) of at most MAX_POINTS groups of neighbours; values that are not finite left out."""
    points = [(x, y) for x, y in zip(curve.xs, curve.ys, strict=True) if math.isfinite(x) and math.isfinite(y)]
    group = max(math.ceil(len(points) / MAX_POINTS), 1)
    groups = [points[start : start + group] for start in range(0, len(points), group)]
    return [
        (fmean(x for x, _ in part), min(y for _, y in part), fmean(y for _, y in part), max(y for _, y in part))
        for part in groups
    ]


def share_chart(rows: Sequence[tuple[str, Sequence[Share | None]]], names: Sequence[str]) -> Markup:
    """One line a kind: each run's share as a dot with its interval, side by side."""
    lane = ROW_HEIGHT * max(len(names), 1)
    height = TOP + len(rows) * (lane + 8) + BOTTOM
    left = 172

    def across(share: float) -> float:
        return left + share * (WIDTH - left - RIGHT - 30)

    parts = [
        Markup(
            '<line class="grid" x1="{0:.1f}" x2="{0:.1f}" y1="{1}" y2="{2}"/>'
            '<text class="tick" x="{0:.1f}" y="{3}" text-anchor="middle">{4}%</text>'
        ).format(across(part / 4), TOP, height - BOTTOM + 4, height - 16, part * 25)
        for part in range(5)
    ]
    for position, (kind, shares) in enumerate(rows):
        top = TOP + position * (lane + 8)
        parts.append(Markup('<text class="kind" x="{}" y="{:.1f}" text-anchor="end">{}</text>').format(
            left - 10, top + lane / 2 + 4, _short(kind, 23)
        ))  # fmt: skip
        parts += [
            _whisker(number, share, across, top + ROW_HEIGHT * (number + 0.5))
            for number, share in enumerate(shares)
            if share is not None
        ]
    return _svg(height, f"share of problems solved by kind, with 95% intervals: {', '.join(names)}", parts)


def _whisker(number: int, share: Share, across, y: float) -> Markup:
    return Markup(
        '<line class="whisker run{0}" x1="{1:.1f}" x2="{2:.1f}" y1="{3:.1f}" y2="{3:.1f}"/>'
        '<circle class="dot run{0}" cx="{4:.1f}" cy="{3:.1f}" r="4"/>'
        '<text class="tick" x="{5:.1f}" y="{6:.1f}">{7:.0f}%</text>'
    ).format(
        number, across(share.low), across(share.high), y, across(share.value), across(share.high) + 5, y + 4,
        math.floor(share.value * 100),
    )  # fmt: skip


def _axes(x_ticks, y_ticks, place, x_label: str, y_label: str) -> Markup:
    floor = HEIGHT - BOTTOM
    parts = []
    for value in y_ticks:
        _, y = place(0, value)
        parts.append(Markup(
            '<line class="grid" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/><text class="tick" x="{}" y="{:.1f}" '
            'text-anchor="end">{:g}</text>'
        ).format(LEFT, WIDTH - RIGHT, y, y, LEFT - 6, y + 4, value))  # fmt: skip
    for value in x_ticks:
        x, _ = place(value, 0)
        parts.append(Markup('<text class="tick" x="{:.1f}" y="{}" text-anchor="middle">{:g}</text>').format(
            x, floor + 15, value
        ))  # fmt: skip
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(Markup('<text class="label" x="{:.0f}" y="{}" text-anchor="middle">{}</text>').format(
        middle, HEIGHT - 5, x_label
    ))  # fmt: skip
    parts.append(Markup(
        '<text class="label" transform="translate(11 {:.0f}) rotate(-90)" text-anchor="middle">{}</text>'
    ).format((TOP + floor) / 2, y_label))  # fmt: skip
    return Markup("").join(parts)


def _path(points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)


def _short(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


def _svg(height: float, title: str, parts: Sequence[Markup]) -> Markup:
    return Markup(
        '<svg viewBox="0 0 {} {:.0f}" role="img" aria-label="{}" xmlns="http://www.w3.org/2000/svg">{}</svg>'
    ).format(WIDTH, height, escape(title), Markup("").join(parts))
