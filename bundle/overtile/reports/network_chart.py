"""Scores of networks against what they cost, as a drawing: one axis of scores, a panel for each kind of cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from markupsafe import Markup, escape

from overtile.reports.charts import ticks

_LEFT, _PANEL, _GAP, _NAMES = 46, 190, 22, 170  # widths in units of the drawing
_TOP, _BOTTOM, _LINE, _LOWEST = 26, 44, 17, 230  # heights: of margins, of a name, of the axes at least
_ALONE = (
    "svg{font:12px system-ui,'Segoe UI',Roboto,Arial,sans-serif;fill:#5d6878;background:#fff}"
    ".axis{stroke:#dfe4ea;fill:none}.dot{fill:#0b6e99;stroke:#fff}.rank{fill:#fff}.end{text-anchor:end}.middle{text-anchor:middle}"
)


@dataclass(frozen=True)
class Panel:
    """One kind of cost.

    Args:
        title: with the unit.
        values: one per network, above 0; None where it is not known.
    """

    title: str
    values: Sequence[float | None]


def network_chart(
    names: Sequence[str], scores: Sequence[float], panels: Sequence[Panel], metric: str, alone: bool = False
) -> Markup:
    """An SVG element: a dot for every network in every panel, all at the height of its score, costs on log axes.

    Dots bear the place of the network in ``names``, from 1; the names stand to the right, at their heights where
    there is room. The classes ``axis``, ``dot``, ``rank``, ``end`` and ``middle`` are for the style sheet of the page.

    Args:
        names: of the networks, best first.
        scores: one per network.
        panels: kinds of cost.
        metric: what people call the score.
        alone: with a style of its own, for a file.
    """
    height = max(_LOWEST, _LINE * len(names)) + _TOP + _BOTTOM
    width = _LEFT + len(panels) * (_PANEL + _GAP) + _NAMES
    marks = ticks(min(scores, default=0.0), max(scores, default=1.0))
    heights = [_between(score, marks[0], marks[-1], height - _BOTTOM, _TOP) for score in scores]
    namespace = ' xmlns="http://www.w3.org/2000/svg"' if alone else ""
    label = f"{metric} against {', '.join(panel.title for panel in panels)}"
    parts = [f'<svg{namespace} class="wide" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(label)}">']
    parts += [f"<style>{_ALONE}</style>"] * alone
    parts.append(f'<text x="{_LEFT - 8}" y="14">{escape(metric)}</text>')
    for mark in marks:
        y = _between(mark, marks[0], marks[-1], height - _BOTTOM, _TOP)
        parts.append(f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" class="end">{mark:g}</text>')
        for place in range(len(panels)):
            left = _LEFT + place * (_PANEL + _GAP)
            parts.append(f'<path class="axis" d="M{left} {y:.1f}h{_PANEL}"/>')
    for place, panel in enumerate(panels):
        parts.append(_drawn(panel, names, heights, _LEFT + place * (_PANEL + _GAP), height))
    parts.append(_names(names, heights, _LEFT + len(panels) * (_PANEL + _GAP), height - _BOTTOM))
    return Markup("".join(parts) + "</svg>")


def log_ticks(low: float, high: float, most: int = 4) -> list[float]:
    """At most so many of the numbers 1, 2 and 5 times powers of ten, evenly chosen, that lie in a range.

    Args:
        low: end of the range, above 0.
        high: the other end, at least 2.5 times as much, so that there is one.
        most: how many, 2 or more.

    Examples:
        >>> log_ticks(0.15, 60), log_ticks(0.8, 2.1)
        ([0.2, 1.0, 5.0, 20.0], [1.0, 2.0])
    """
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    found = [float(f"{digit}e{power}") for power in powers for digit in (1, 2, 5)]
    found = [number for number in found if low <= number <= high]
    return found[:: math.ceil(len(found) / most)]


def _drawn(panel: Panel, names: Sequence[str], heights: Sequence[float], left: float, height: float) -> str:
    """Axis, title and dots of one panel."""
    known = [value for value in panel.values if value is not None]
    middle = f'<text x="{left + _PANEL / 2}" y="{height - 6}" class="middle">{escape(panel.title)}</text>'
    if not known:
        return middle
    room = max(1.6, math.sqrt(5 * min(known) / max(known)))  # beside the dots, and for two numbers on the axis
    low, high = min(known) / room, max(known) * room

    def x(value: float) -> float:
        return _between(math.log(value), math.log(low), math.log(high), left, left + _PANEL)

    parts = [middle]
    for mark in log_ticks(low, high):
        parts.append(f'<text x="{x(mark):.1f}" y="{height - _BOTTOM + 20}" class="middle">{_short(mark)}</text>')
        parts.append(f'<path class="axis" d="M{x(mark):.1f} {height - _BOTTOM}v4"/>')
    for rank, (name, value, y) in reversed(list(enumerate(zip(names, panel.values, heights, strict=True), start=1))):
        if value is not None:
            parts.append(
                f'<g><title>{escape(name)}: {value:,.3g}</title><circle class="dot" cx="{x(value):.1f}" cy="{y:.1f}" '
                f'r="8"/><text class="rank middle" x="{x(value):.1f}" y="{y + 4:.1f}">{rank}</text></g>'
            )
    return "".join(parts)


def _names(names: Sequence[str], heights: Sequence[float], left: float, bottom: float) -> str:
    """The names, each as near to its height as the others leave room for."""
    order = sorted(range(len(names)), key=lambda place: heights[place])
    at = [heights[place] for place in order]
    for above, below in pairwise(range(len(at))):
        at[below] = max(at[below], at[above] + _LINE)
    at[-1:] = [min(y, bottom) for y in at[-1:]]
    for above, below in reversed(list(pairwise(range(len(at))))):
        at[above] = min(at[above], at[below] - _LINE)
    return "".join(
        f'<path class="axis" d="M{left - _GAP} {heights[place]:.1f}L{left - 4} {y:.1f}"/>'
        f'<text x="{left}" y="{y + 4:.1f}">{place + 1} {escape(names[place])}</text>'
        for place, y in zip(order, at, strict=True)
    )


def _between(value: float, low: float, high: float, start: float, end: float) -> float:
    """Where a value of a range lies in another one."""
    return start + (value - low) / (high - low) * (end - start)


def _short(value: float) -> str:
    for size, unit in ((1e6, " M"), (1e3, " k")):
        if value >= size:
            return f"{value / size:g}{unit}"
    return f"{value:g}"
