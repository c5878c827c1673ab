"""A curve as a drawing that takes the colours of the page around it, by day, by night and in print."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from markupsafe import Markup, escape
from numpy.typing import NDArray

from overtile.reports.curves import Curve

_WIDTH, _HEIGHT = 560, 250  # units of the drawing
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 26, 14, 40  # margins around the axes
BINS = 150  # points drawn; of more the means are drawn, in a band of their extremes


def line_chart(curve: Curve) -> Markup:
    """An SVG element: the curve, or in bins of equal length its mean in a band from least to largest value.

    The classes ``axis``, ``band``, ``line`` and ``dot`` (the last point) are for the style sheet of the page.

    Args:
        curve: of one point or more.
    """
    steps, values = np.array(curve.steps, float), np.array(curve.values)
    bins = np.array_split(np.arange(len(steps)), min(len(steps), BINS))
    at = np.array([steps[part].mean() for part in bins])
    low, mean, high = (np.array([f(values[part]) for part in bins]) for f in (np.min, np.mean, np.max))
    x_ticks, y_ticks = ticks(0, steps[-1], whole=True), ticks(low.min(), high.max())
    x = _LEFT + (at - x_ticks[0]) / (x_ticks[-1] - x_ticks[0]) * (_WIDTH - _LEFT - _RIGHT)

    def y(value: NDArray[np.float64]) -> NDArray[np.float64]:
        share = (value - y_ticks[0]) / (y_ticks[-1] - y_ticks[0])
        return np.asarray(_HEIGHT - _BOTTOM - share * (_HEIGHT - _BOTTOM - _TOP))

    parts = [f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(curve.name)} by {curve.unit}">']
    parts += [_grid(x_ticks, y_ticks), f'<text x="{_WIDTH - _RIGHT}" y="{_HEIGHT - 4}" class="end">{curve.unit}</text>']
    if len(bins) < len(steps):
        outline = _path(np.concatenate([x, x[::-1]]), np.concatenate([y(high), y(low)[::-1]]))
        parts.append(f'<path class="band" d="{outline}Z"/>')
    parts.append(f'<path class="line" d="{_path(x, y(mean))}"/>')
    parts.append(f'<circle class="dot" cx="{x[-1]:.1f}" cy="{y(mean)[-1]:.1f}" r="3.5"/></svg>')
    return Markup("".join(parts))


def ticks(low: float, high: float, most: int = 6, whole: bool = False) -> list[float]:
    """Round numbers, at most so many, of which the first and the last enclose a range.

    Args:
        low: end of the range.
        high: the other end; a little above where both are equal.
        most: how many numbers, 3 or more.
        whole: only whole numbers.

    Examples:
        >>> ticks(0.13, 0.92)
        [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    """
    span = high - low or abs(high) or 1.0
    power = 10.0 ** math.floor(math.log10(span / most))
    power = max(power, 1.0) if whole else power
    for step in (power * factor for factor in (1, 2, 5, 10, 20)):
        first, last = math.floor(low / step + 1e-9), math.ceil((low + span) / step - 1e-9)
        if last - first < most:
            break
    return [float(f"{number * step:.12g}") for number in range(first, last + 1)]


def _grid(x_ticks: Sequence[float], y_ticks: Sequence[float]) -> str:
    """Horizontal lines with their values, and the values along the other axis."""
    lines = []
    for tick, y in zip(y_ticks, np.linspace(_HEIGHT - _BOTTOM, _TOP, len(y_ticks)), strict=True):
        lines.append(f'<path class="axis" d="M{_LEFT} {y:.1f}H{_WIDTH - _RIGHT}"/>')
        lines.append(f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" class="end">{tick:g}</text>')
    for tick, x in zip(x_ticks, np.linspace(_LEFT, _WIDTH - _RIGHT, len(x_ticks)), strict=True):
        lines.append(f'<text x="{x:.1f}" y="{_HEIGHT - _BOTTOM + 17}" class="middle">{tick:,.0f}</text>')
    return "".join(lines)


def _path(x: NDArray[np.float64], y: NDArray[np.float64]) -> str:
    return "M" + "L".join(f"{a:.1f} {b:.1f}" for a, b in zip(x, y, strict=True))
