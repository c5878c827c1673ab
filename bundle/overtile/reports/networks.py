"""Networks beside each other, trained on the same images: what each reaches, and what that costs."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from overtile.reports.network_chart import Panel, network_chart
from overtile.reports.rendering import Score, number, rendered


@dataclass(frozen=True)
class NetworkResult:
    """One network's row; what is None was not measured.

    Args:
        name: of the network.
        score: by the comparison's metric; None if it has none.
        parameters: how many.
        steps: of the training.
        training_seconds: of all steps, without validation.
        training_bytes: most memory of the training.
        inference_seconds: in the network and its tiling, for a voxel of the images.
        inference_bytes: most memory of the inference.
        remark: what else to say, such as why there is no score.
        report: address of the network's own report, relative to the page.
    """

    name: str
    score: Score = None
    parameters: int | None = None
    steps: int | None = None
    training_seconds: Score = None
    training_bytes: int | None = None
    inference_seconds: Score = None
    inference_bytes: int | None = None
    remark: str = ""
    report: str = ""


@dataclass(frozen=True)
class NetworkComparison:
    """All networks and what they share.

    Args:
        title: of the page.
        metric: what people call the score.
        results: one per network, in any order.
        higher_is_better: whether the largest score is the best.
        facts: names and values: data, budget, device, ...
    """

    title: str
    metric: str
    results: Sequence[NetworkResult]
    higher_is_better: bool = True
    facts: Sequence[tuple[str, str]] = field(default_factory=tuple)

    @property
    def ranked(self) -> list[NetworkResult]:
        """The results, best first, those without a score last."""
        scored = [result for result in self.results if result.score is not None]
        rest = [result for result in self.results if result.score is None]
        return sorted(scored, key=lambda result: result.score or 0.0, reverse=self.higher_is_better) + rest


@dataclass(frozen=True)
class Column:
    """One quantity of the table: its heading, its value in the heading's unit, and how it is written."""

    heading: str
    value: Callable[[NetworkResult], Score]
    written: Callable[[Score], str]


def columns(metric: str) -> list[Column]:
    """The table's columns behind the name.

    Args:
        metric: what people call the score.
    """
    return [
        Column(metric, lambda r: r.score, number),
        Column("parameters", lambda r: r.parameters, _count),
        Column("training, min", lambda r: _per(r.training_seconds, 60), _digits),
        Column("steps", lambda r: r.steps, _count),
        Column("s per step", lambda r: _per(r.training_seconds, r.steps or 1), _digits),
        Column("training, GB", lambda r: _per(r.training_bytes, 1e9), _digits),
        Column("inference, µs per voxel", lambda r: _per(r.inference_seconds, 1e-6), _digits),
        Column("inference, GB", lambda r: _per(r.inference_bytes, 1e9), _digits),
    ]


def network_table(comparison: NetworkComparison) -> str:
    """The table in Markdown, which a terminal shows just as well; remarks stand below it.

    Args:
        comparison: with one network or more.
    """
    shown = columns(comparison.metric)
    rows = [["network", *(column.heading for column in shown)]]
    for rank, result in enumerate(comparison.ranked, start=1):
        rows.append([f"{rank} {result.name}", *(column.written(column.value(result)) for column in shown)])
    widths = [max(len(cell) for cell in cells) for cells in zip(*rows, strict=True)]
    rows.insert(1, ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])])
    lines = [
        " | ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    ]
    remarks = [f"\n{result.name}: {result.remark}" for result in comparison.ranked if result.remark]
    return "\n".join([*(f"| {line} |" for line in lines), *remarks])


def write_network_csv(file: Path, comparison: NetworkComparison) -> None:
    """Writes a row per network, best first, in seconds and bytes; empty where nothing was measured.

    Args:
        file: to be written.
        comparison: with one network or more.
    """
    names = [name for name in NetworkResult.__dataclass_fields__ if name != "report"]
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, names, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(vars(result) for result in comparison.ranked)


def network_page(comparison: NetworkComparison) -> str:
    """The page as HTML: table and plot; no other file is needed to show it but the networks' own reports.

    Args:
        comparison: with one network or more.
    """
    return rendered("networks.html", c=comparison, columns=columns(comparison.metric), chart=network_figure(comparison))


def network_figure(comparison: NetworkComparison, alone: bool = False) -> str:
    """An SVG of the score against parameters, training time, inference time and memory, numbered by rank.

    Args:
        comparison: with one network or more.
        alone: as a file of its own, with its style in it.
    """
    scored = [result for result in comparison.ranked if result.score is not None]
    names = [result.name for result in scored]
    panels = [
        Panel(column.heading, [column.value(result) for result in scored])
        for column in columns(comparison.metric)
        if column.heading in ("parameters", "training, min", "inference, µs per voxel", "training, GB")
    ]
    return network_chart(names, [result.score or 0.0 for result in scored], panels, comparison.metric, alone)


def _per(value: Score, unit: float) -> Score:
    return None if value is None else value / unit


def _digits(value: Score) -> str:
    """Three digits."""
    return "–" if value is None else f"{value:,.0f}" if value >= 100 else f"{value:#.3g}"


def _count(value: Score) -> str:
    return "–" if value is None else f"{value:,.0f}"
