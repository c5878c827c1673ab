"""How a training went, from what it wrote for TensorBoard."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import (  # type: ignore[import-untyped]
    SCALARS,
    EventAccumulator,
    ScalarEvent,
)

LOSS = "train_loss"  # written at every step, all else at every validated epoch


@dataclass(frozen=True)
class Curve:
    """One quantity of a training.

    Args:
        name: its tag in TensorBoard.
        steps: of the training (loss) or epochs (scores), rising.
        values: one per step.
    """

    name: str
    steps: tuple[int, ...]
    values: tuple[float, ...]

    @property
    def unit(self) -> str:
        """What is counted along the curve."""
        return "step" if self.name == LOSS else "epoch"


def learning_curves(folder: Path) -> list[Curve]:
    """The curves in a folder of event files, the loss first; none where there is no such file.

    What was written again by a training that was resumed from an earlier epoch replaces what its interrupted
    predecessor had written from there on; a training that began anew replaces all before it.

    Args:
        folder: of TensorBoard, as ``TensorBoardStatsHandler`` fills it.
    """
    events: dict[str, list[ScalarEvent]] = {}
    for file in sorted(folder.glob("events.out.tfevents.*")):
        accumulator = EventAccumulator(str(file), size_guidance={SCALARS: 0})  # 0: all of them
        accumulator.Reload()
        for tag in accumulator.Tags()[SCALARS]:
            events.setdefault(tag, []).extend(accumulator.Scalars(tag))
    began = max((event.wall_time for event in events.get(LOSS, []) if event.step <= 1), default=-math.inf)
    curves = [_curve(tag, (event for event in found if event.wall_time >= began)) for tag, found in events.items()]
    return sorted((curve for curve in curves if curve.steps), key=lambda curve: (curve.name != LOSS, curve.name))


def _curve(name: str, events: Iterable[ScalarEvent]) -> Curve:
    """The events in the order of their writing, each of which ends what was written before it for later steps."""
    kept: list[ScalarEvent] = []
    for event in sorted(events, key=lambda event: event.wall_time):
        while kept and kept[-1].step >= event.step:
            kept.pop()
        if math.isfinite(event.value):
            kept.append(event)
    return Curve(name, tuple(event.step for event in kept), tuple(float(event.value) for event in kept))
