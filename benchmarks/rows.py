"""Rows of the comparison: what is measured against whom, and the target."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from benchmarks.timing import Contender, Time, interleaved

Unit = Literal["s", "B", "x"]


@dataclass(frozen=True)
class Line:
    """One line of the table: this project beside one peer, or beside a limit of its own.

    Args:
        what: the job.
        ours: this project's figure in ``unit``; None where it failed.
        peer: name and version, empty where the line has none.
        theirs: the peer's figure; None where it was not measured, ``note`` says why.
        unit: seconds of CPU time, bytes, or "x" for a plain number.
        target: what ``peer / ours`` must reach, or, with ``limit``, what ``ours`` must not exceed.
        limit: whether the target is a limit on ``ours``.
        spread: of ours and theirs, half the interquartile range.
        note: how it was got, or why it was not.
    """

    what: str
    ours: float | None
    peer: str = ""
    theirs: float | None = None
    unit: Unit = "s"
    target: float | None = None
    limit: bool = False
    spread: tuple[float, float] = (0.0, 0.0)
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """How many times as much the peer takes."""
        return self.theirs / self.ours if self.ours and self.theirs is not None else None

    @property
    def met(self) -> bool | None:
        """Whether the target is reached; None without target or figure."""
        figure = self.ours if self.limit else self.ratio
        if self.target is None or figure is None:
            return None
        return figure <= self.target if self.limit else figure >= self.target


@dataclass(frozen=True)
class Curve:
    """Growth of one part: what it takes for every size.

    Args:
        part: "elastic deformation", ...
        against: what grows: "voxels" or "cells".
        sizes: how many of them.
        seconds: CPU time.
        bytes: peak memory beyond the input.
    """

    part: str
    against: Literal["voxels", "cells"]
    sizes: list[int]
    seconds: list[float]
    bytes: list[int]


@dataclass(frozen=True)
class Result:
    """What a row measured."""

    lines: list[Line] = field(default_factory=list)
    curves: list[Curve] = field(default_factory=list)


@dataclass(frozen=True)
class Row:
    """One comparison: ``measure(quick)`` runs it, in small with ``quick``."""

    title: str
    measure: Callable[[bool], Result]


def compare(
    what: str, ours: Contender, peers: Sequence[tuple[Contender, float | None]], rounds: int, warm: bool = True
) -> list[Line]:
    """Lines of a job done by this project and by peers, in the same rounds.

    Args:
        what: the job.
        ours: this project.
        peers: each with its target.
        rounds: how often each is timed.
        warm: run each once before, untimed.
    """
    mine, *others = interleaved([ours, *(peer for peer, _ in peers)], rounds, warm)
    return [line(what, mine, peer.label, theirs, target) for (peer, target), theirs in zip(peers, others, strict=True)]


def line(what: str, ours: Time | str, peer: str, theirs: Time | str, target: float | None = None) -> Line:
    """Two measured times, or why there is none, side by side."""
    times = [result if isinstance(result, Time) else None for result in (ours, theirs)]
    medians = [time.median if time else None for time in times]
    low, high = (time.spread if time else 0.0 for time in times)
    notes = [result for result in (ours, theirs) if isinstance(result, str)]
    return Line(what, medians[0], peer, medians[1], target=target, spread=(low, high), note="; ".join(notes))


def record(row: Row, quick: bool, machine: dict[str, str]) -> dict[str, object]:
    """Runs a row; what it gave, as plain data for a JSON file. An error is part of the record."""
    start = time.perf_counter()
    error = ""
    try:
        result = row.measure(quick)
    except Exception as failure:  # the other rows go on
        result = Result()
        error = f"{type(failure).__name__}: {failure}"
    return {
        "title": row.title,
        "quick": quick,
        "error": error,
        "took": time.perf_counter() - start,
        "date": time.strftime("%Y-%m-%d"),
        "machine": machine,
        **dataclasses.asdict(result),
    }
