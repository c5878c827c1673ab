"""What an evaluation has of each image: loaded, predicted, and as arrays to draw."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine
from numpy.typing import NDArray

Array = NDArray[Any]


def whole_items(engine: Engine) -> Iterator[dict[str, torch.Tensor]]:
    """What the engine returned of every image, and what else was loaded with it: MONAI keeps the two apart."""
    batch = engine.state.batch
    loaded = batch if isinstance(batch, list) and isinstance(batch[0], dict) else [{}] * len(engine.state.output)
    for item, rest in zip(engine.state.output, loaded, strict=True):
        yield {**rest, **item}


def drawable(
    item: Mapping[str, torch.Tensor], instances: bool, ignore_label: int | None
) -> tuple[Array, Array, Array, Array]:
    """Gray image, ground truth, prediction and probability of the foreground of one image, (*spatial) each.

    Args:
        item: image, label, pred and probability, channel first; with ignored voxels in class maps the weight, too.
        instances: whether labels are instances or classes.
        ignore_label: value of voxels without ground truth, which become -1: in class maps those of weight 0.
    """
    truth, prediction = (to_array(item[key])[0] for key in ("label", "pred"))
    if ignore_label is not None:
        ignored = truth == ignore_label if instances else to_array(item["weight"])[0] == 0
        truth = np.where(ignored, -1, truth)
    return to_array(item["image"]).mean(axis=0), truth, prediction, 1 - to_array(item["probability"])[0]


def to_array(tensor: torch.Tensor) -> Array:
    """The values, without meta data and gradient."""
    array: Array = torch.as_tensor(tensor).detach().cpu().numpy()
    return array
