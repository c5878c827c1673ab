"""Where in an image the next training window lies."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from monai.config import NdarrayOrTensor
from monai.data import MetaTensor
from numpy.typing import NDArray

TRIES = 100  # draws before a foreground voxel is looked for in the whole label


def draw_start(
    random: np.random.RandomState,
    shape: Sequence[int],
    window: Sequence[int],
    foreground: NDArray[np.int64] | None = None,
) -> NDArray[np.int64]:
    """First voxel of a random window: inside the image where it fits, and over the whole image where it does not.

    Args:
        random: source of randomness.
        shape: spatial shape of the image.
        window: size of the window.
        foreground: a voxel that the window must contain; it comes to lie in the central half of the window where
            the image allows, so that a deformation does not push it out.
    """
    low = np.minimum(0, np.subtract(shape, window))
    high = np.maximum(0, np.subtract(shape, window))
    if foreground is not None:
        rim = np.floor_divide(window, 4)
        low, high = np.clip(foreground - window + 1 + rim, low, high), np.clip(foreground - rim, low, high)
    return np.array([random.randint(first, last + 1) for first, last in zip(low, high, strict=True)], dtype=np.int64)


def draw_foreground_voxel(random: np.random.RandomState, label: NdarrayOrTensor) -> NDArray[np.int64] | None:
    """A random voxel above 0, by trying; where that is rare, by looking through the whole label. None if there is none.

    Args:
        random: source of randomness.
        label: (*spatial), 0 = background.
    """
    values = torch.as_tensor(label.as_tensor() if isinstance(label, MetaTensor) else label)  # says a value much faster
    for _ in range(TRIES):
        voxel = tuple(int(random.randint(size)) for size in values.shape)
        if values[voxel] > 0:
            return np.array(voxel, dtype=np.int64)
    found = np.flatnonzero(values.cpu().numpy() > 0)
    if not len(found):
        return None
    return np.array(np.unravel_index(found[random.randint(len(found))], tuple(values.shape)), dtype=np.int64)
