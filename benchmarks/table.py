"""The results as Markdown."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks.reasons import REASONS
from benchmarks.rows import Line, Unit

BEGIN, END = "<!-- benchmarks: begin -->", "<!-- benchmarks: end -->"
HEAD = (
    "| row | job | peer | ours | peer's | peer / ours | target | met |",
    "|---|---|---|--:|--:|--:|--:|---|",
)
Records = Mapping[str, Mapping[str, Any]]


def write_table(records: Records, path: Path) -> None:
    """Puts the table between the marks in a file, and leaves all other text of it as it is."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    if BEGIN not in text or END not in text:
        text = f"{text.rstrip()}\n\n{BEGIN}\n{END}\n".lstrip()
    before, rest = text.split(BEGIN, 1)
    after = rest.split(END, 1)[1]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{before}{BEGIN}\n{markdown(records, path)}\n{END}{after}", encoding="utf-8")


def markdown(records: Records, path: Path) -> str:
    """Table, reasons, plot (if it lies beside ``path``) and machine of all measured rows."""
    lines = [*HEAD, *(text for name, record in records.items() for text in _row(name, record)), ""]
    lines += [*_reasons(records), *_machines(records)]
    if (path.parent / "images" / "growth.png").exists():
        lines += ["", "![Time and memory against voxels and cells](images/growth.png)"]
    return "\n".join(lines)


def _row(name: str, record: Mapping[str, Any]) -> Iterator[str]:
    title = record["title"] + " (quick: small sizes, not those of the target)" * record["quick"]
    yield f"| **{name}** | **{title}** | | | | | | |"
    if record["error"]:
        yield f"| | failed: {_cell(record['error'])} | | | | | | |"
    for plain in record["lines"]:
        line = Line(**plain)
        ours, theirs = (_figure(*figure) for figure in _figures(line))
        ratio = "" if line.ratio is None else f"{line.ratio:.3g}"
        note = f" ({_cell(line.note)})" if line.note else ""
        yield (
            f"| | {_cell(line.what)} | {_cell(line.peer)}{note} | {ours} | {theirs} | {ratio} "
            f"| {_target(line)} | {_met(line, record['quick'])} |"
        )


def _figures(line: Line) -> list[tuple[float | None, float, Unit]]:
    low, high = line.spread
    return [(line.ours, low, line.unit), (line.theirs, high, line.unit)]


def _figure(value: float | None, spread: float, unit: Unit) -> str:
    """A figure for people, with its spread in per cent.

    Examples:
        >>> _figure(0.00512, 0.0001, "s"), _figure(3e9, 0.0, "B"), _figure(1.067, 0.0, "x")
        ('5.12 ms ±2%', '3 GB', '1.07')
    """
    if value is None:
        return ""
    large, small, factor = {"s": (" s", " ms", 1e3), "B": (" GB", " MB", 1e3), "x": ("", "", 1.0)}[unit]
    value = value / 1e9 if unit == "B" else value
    number = f"{_digits(value)}{large}" if value >= 1 or unit == "x" else f"{_digits(value * factor)}{small}"
    return number + (f" ±{100 * spread / value:.0f}%" if spread and value else "")


def _digits(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def _target(line: Line) -> str:
    if line.target is None:
        return ""
    return f"ours ≤ {_figure(line.target, 0.0, line.unit)}" if line.limit else f"≥ {line.target:g}"


def _met(line: Line, quick: bool) -> str:
    return "" if quick else {True: "yes", False: "**no**", None: ""}[line.met]


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def _reasons(records: Records) -> list[str]:
    full = {name: [Line(**line) for line in record["lines"]] for name, record in records.items() if not record["quick"]}
    missed = [name for name, lines in full.items() if any(line.met is False for line in lines)]
    texts = [f"- {name}: {REASONS.get(name, 'no reason given yet')}" for name in missed]
    return ["Targets missed:", "", *texts, ""] if texts else []


def _machines(records: Records) -> list[str]:
    """Where and when; rows that were measured elsewhere or later are told apart."""
    lines = []
    places = itertools.groupby(records.items(), key=lambda item: (item[1]["machine"], item[1]["date"]))
    for (machine, date), group in places:
        rows = ", ".join(name for name, _ in group)
        lines.append(f"Measured {date} (rows {rows}): " + "; ".join(machine.values()) + ".")
    return [text for line in lines for text in (line, "")][:-1]
