"""The growth curves as a picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.rows import Curve

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = {"elastic deformation": "#0072b2", "separation weights": "#d55e00", "inference": "#009e73"}
MARKS = {"elastic deformation": "o", "separation weights": "s", "inference": "^"}
GREY = "#8a8a8a"


def plot_growth(curves: Sequence[Curve], path: Path) -> None:
    """Time and memory against voxels, and against cells; logarithmic, with a line of slope 1 to compare with.

    Raises:
        ImportError: without matplotlib, which the extra ``benchmarks`` has.
    """
    import matplotlib as mpl

    mpl.use("agg")
    import matplotlib.pyplot as plt

    style = {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "axes.titlesize": 10}
    with plt.rc_context(style):
        figure, panels = plt.subplots(2, 2, figsize=(8.4, 6.2), sharex="col", layout="constrained")
        for column, against in enumerate(("voxels", "cells")):
            chosen = [curve for curve in curves if curve.against == against]
            for row, (title, unit) in enumerate((("CPU time", "s"), ("peak memory", "MB"))):
                panel = panels[row, column]
                for curve in chosen:
                    _draw(panel, curve, curve.seconds if row == 0 else [size / 1e6 for size in curve.bytes])
                _guide(panel, against)
                panel.set(xscale="log", yscale="log", ylabel=f"{title} / {unit}")
                _name_sizes(panel, chosen)
                panel.grid(which="major", color="#e4e4e4", linewidth=0.6)
                panel.set_axisbelow(True)
            panels[0, column].set_title(f"an image of more {against}")
            panels[1, column].set_xlabel({"voxels": "voxels", "cells": "cells in one image"}[against])
        figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=130)
        plt.close(figure)


def _draw(panel: Axes, curve: Curve, values: Sequence[float]) -> None:
    seen = [(size, value) for size, value in zip(curve.sizes, values, strict=True) if value > 0]
    if seen:
        panel.plot(
            *zip(*seen, strict=True),
            color=COLOURS.get(curve.part, GREY),
            marker=MARKS.get(curve.part, "x"),
            markersize=4.5,
            linewidth=1.6,
            label=curve.part,
        )


def _name_sizes(panel: Axes, curves: Sequence[Curve]) -> None:
    """Marks the axis at the sizes measured, squares as such: 256², 1024², ..."""
    sizes = sorted({size for curve in curves for size in curve.sizes})
    squares = bool(curves) and curves[0].against == "voxels"
    shown = sizes[::2] if len(sizes) > 5 else sizes
    panel.set_xticks(shown, [f"{math.isqrt(size)}²" if squares else f"{size:,}" for size in shown])
    panel.set_xticks([], minor=True)


def _guide(panel: Axes, against: str) -> None:
    """A dashed line: proportional to the voxels. Against cells it is flat where the cost does not depend on them."""
    points = [point for drawn in panel.get_lines() for point in zip(*drawn.get_data(), strict=True)]
    if not points or against != "voxels":
        low = min((value for _, value in points), default=1.0)
        high = max((value for _, value in points), default=1.0)
        panel.set_ylim(low / 10, high * 10)
        return
    sizes = sorted({size for size, _ in points})
    start = min(value for size, value in points if size == sizes[0]) / 2
    panel.plot(
        [sizes[0], sizes[-1]],
        [start, start * sizes[-1] / sizes[0]],
        color=GREY,
        linestyle="--",
        linewidth=1,
        label="proportional",
        zorder=0,
    )
