"""Synthetic images with a known number of cells."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, gaussian_filter, maximum_filter, minimum_filter


def cells(shape: Sequence[int], count: int, seed: int = 0) -> NDArray[np.int32]:
    """Instance map of roundish cells that meet in gaps of two voxels, numbered 1 to ``count``.

    Each covers at most its share of the image, so the fewer there are, the larger they are.

    Args:
        shape: of the image, (height, width) or (depth, height, width).
        count: cells.
        seed: of their places, about half of their mean distance apart or more.

    Examples:
        >>> np.unique(cells((64, 64), 9)).tolist()
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
    """
    random = np.random.default_rng(seed)
    pitch = (np.prod(shape) / count) ** (1 / len(shape))
    per_axis = np.ceil(np.array(shape) / pitch).astype(int)
    chosen = random.choice(int(np.prod(per_axis)), count, replace=False)
    places = np.stack(np.unravel_index(chosen, per_axis), axis=1) + random.uniform(0.25, 0.75, (count, len(shape)))
    seeds = tuple((places * np.array(shape) / per_axis).astype(int).T)
    numbers = np.zeros(shape, dtype=np.int32)
    numbers[seeds] = np.arange(1, count + 1)
    distance, nearest = distance_transform_edt(numbers == 0, return_indices=True)
    numbers = np.asarray(numbers[tuple(nearest)])
    numbers[(maximum_filter(numbers, 3) != minimum_filter(numbers, 3)) | (distance > 0.6 * pitch)] = 0
    return numbers


def texture(shape: Sequence[int], seed: int = 0) -> NDArray[np.float32]:
    """Smooth noise, float32, of mean 0 and standard deviation 1."""
    noise = np.random.default_rng(seed).standard_normal(tuple(shape), dtype=np.float32)
    smooth = gaussian_filter(noise, 2)
    return np.asarray((smooth - smooth.mean()) / smooth.std(), dtype=np.float32)
