"""The picture by which a model is found: an image and what the network makes of it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def cover(image: NDArray[np.float32], probabilities: NDArray[np.float32], halo: int) -> Image.Image:
    """An image beside the probability of its last class, two squares of the middle slice without the halo.

    Args:
        image: (C, *spatial); its first channel is shown, from its 1st to its 99.5th percentile.
        probabilities: (K, *spatial).
        halo: voxels on each side in which the network says nothing.
    """
    inner = (slice(halo, -halo),) * (image.ndim - 1) if halo else (...,)
    gray, probability = (_square(array[inner]) for array in (image[0], probabilities[-1]))
    dark, bright = np.percentile(gray, (1.0, 99.5))
    gray = ((gray - dark) / max(bright - dark, 1e-9)).clip(0.0, 1.0)
    return Image.fromarray(np.rint(255 * np.hstack([gray, probability])).astype(np.uint8))


def _square(array: NDArray[Any]) -> NDArray[Any]:
    """The largest square at the beginning of a plane, the middle one of a volume."""
    plane = array[len(array) // 2] if array.ndim == 3 else array
    side = min(plane.shape)
    return plane[:side, :side]
