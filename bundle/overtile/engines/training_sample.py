"""One training sample as the report shows it: the image before and after the random transforms."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.transforms import Compose
from monai.transforms.traits import RandomizableTrait
from numpy.typing import NDArray

from overtile.reports import TrainingSample
from overtile.transforms import RandElasticDeformd

logger = logging.getLogger(__name__)

Items = Sequence[Mapping[str, str]]


def training_sample(data: Items | Callable[[], Items], transforms: Compose, seed: int = 0) -> TrainingSample | None:
    """The first image of a training with its label and weights, and one sample drawn from it.

    Args:
        data: ``[{"image": path, "label": path}, ...]``, or what returns it.
        transforms: of the training, up to the first random one deterministic; they leave image, label and weight.
        seed: of the draw.

    Returns:
        None, with a line in the log, where the training images are not there.
    """
    try:
        items = data() if callable(data) else data
    except (FileNotFoundError, ValueError) as error:
        logger.info("the report shows no training sample: %s", error)
        return None
    first = transforms.get_index_of_first(lambda step: isinstance(step, RandomizableTrait))
    if not items or first is None:
        return None
    transforms.set_random_state(seed=seed)
    try:
        whole = transforms(dict(items[0]), end=first)
        drawn = transforms(dict(whole), start=first)
    except RuntimeError as error:  # MONAI's, around whatever a transform raised: the scores do not depend on it
        logger.warning("the report shows no training sample, since %s cannot be one: %s", items[0], error.__cause__)
        return None
    image, label, weight = (_channel(whole[key]) for key in ("image", "label", "weight"))
    read, write_label, write_weight = (_channel(drawn[key]) for key in ("image", "label", "weight"))
    positions = _positions(transforms, read.shape)
    return TrainingSample(image, label, weight, read, write_label, write_weight, positions)


def _positions(transforms: Compose, size: tuple[int, ...]) -> NDArray[np.floating] | None:
    """Where the voxels of the sample came from, if an elastic deformation made it."""
    for step in transforms.flatten().transforms:
        if isinstance(step, RandElasticDeformd) and step.deform.warp is not None and step.deform.warp.tile == size:
            positions: NDArray[np.floating] = step.deform.warp.coordinates().numpy()
            return positions
    return None


def _channel(image: torch.Tensor) -> NDArray[Any]:
    """The mean of all channels, without meta data."""
    array: NDArray[Any] = torch.as_tensor(image).cpu().numpy()
    return array[0] if len(array) == 1 else np.asarray(array.mean(axis=0))
