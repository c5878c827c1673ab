"""What every image scored, from the buffers of metrics that have seen them all: nothing is computed twice."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from monai.metrics import DiceMetric, HausdorffDistanceMetric, MeanIoU, SurfaceDiceMetric, SurfaceDistanceMetric

from overtile.reports import Score

MONAI_OVERLAPS = (DiceMetric, MeanIoU, SurfaceDiceMetric)  # which do not say themselves what is better
MONAI_DISTANCES = (HausdorffDistanceMetric, SurfaceDistanceMetric)


def image_scores(metrics: Mapping[str, Any]) -> list[dict[str, Score]]:
    """Scores of every image in the order of the evaluation, of all processes one after the other.

    A metric with a method ``score(rows)`` says itself what an image's row of statistics is worth. Of others, such as
    MONAI's Dice, a row holds one value per class: their mean stands under the metric's name and, where there are
    several, each under that name and its class, ``val_mean_dice_1``. None where an image has no such score.

    Args:
        metrics: by name, Ignite handlers whose ``metric_fn`` is a MONAI ``CumulativeIterationMetric``. Every process of
            a distributed run must call this.
    """
    columns: dict[str, list[Score]] = {}
    for name, handler in metrics.items():
        metric = getattr(handler, "metric_fn", None)
        if metric is None:
            continue
        rows = metric.get_buffer()
        if not isinstance(rows, torch.Tensor):
            continue
        if hasattr(metric, "score"):
            columns[name] = [finite(metric.score(rows[index : index + 1])) for index in range(len(rows))]
        elif rows.ndim == 2:
            columns |= _class_columns(name, rows, 0 if getattr(metric, "include_background", True) else 1)
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def class_means(images: list[dict[str, Score]]) -> dict[str, Score]:
    """The mean of every column over the images that have a value."""
    means: dict[str, Score] = {}
    for name in images[0] if images else ():
        values = [value for image in images if (value := image[name]) is not None]
        means[name] = sum(values) / len(values) if values else None
    return means


def best_median_worst(scores: Sequence[Score], higher_is_better: bool = True) -> list[tuple[str, int]]:
    """What to call the images that tell most, and their places; without any score the first three images.

    Args:
        scores: one per image.
        higher_is_better: whether the largest is the best.

    Examples:
        >>> best_median_worst([0.5, 0.9, None, 0.7])
        [('best', 1), ('median', 3), ('worst', 0)]
    """
    scored = [(score, place) for place, score in enumerate(scores) if score is not None]
    ranked = [place for _, place in sorted(scored, reverse=higher_is_better)]
    if len(ranked) < 2:
        return [(f"image {place + 1}", place) for place in range(min(len(scores), 3))]
    names = {0: "best", len(ranked) // 2: "median", len(ranked) - 1: "worst"}
    return [(name, ranked[place]) for place, name in names.items()]


def higher_is_better(metrics: Mapping[str, Any]) -> dict[str, bool]:
    """Which of the metrics are scores and which are errors; those that do not say are left out.

    Args:
        metrics: as for :func:`image_scores`.
    """
    known: dict[str, bool] = {}
    for name, handler in metrics.items():
        metric = getattr(handler, "metric_fn", None)
        higher = getattr(metric, "higher_is_better", None)
        if isinstance(metric, MONAI_OVERLAPS + MONAI_DISTANCES):
            higher = isinstance(metric, MONAI_OVERLAPS)
        if higher is not None:
            known[name] = bool(higher)
    return known


def _class_columns(name: str, rows: torch.Tensor, first: int) -> dict[str, list[Score]]:
    values = rows.double().nan_to_num(math.nan, math.nan, math.nan)
    columns = {name: [finite(value) for value in values.nanmean(dim=1).tolist()]}
    if values.shape[1] > 1:
        for number, column in enumerate(values.T.tolist(), start=first):
            columns[f"{name}_{number}"] = [finite(value) for value in column]
    return columns


def finite(value: float) -> Score:
    """The number, or None where it is not one."""
    return float(value) if math.isfinite(value) else None
