"""Reading beyond the border: the image continues as its own mirror image (no voxel twice), as often as needed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

Array = TypeVar("Array", "NDArray[np.generic]", torch.Tensor)


def fold(position: int, size: int) -> int:
    """Voxel of an axis of ``size`` voxels that lies at ``position`` of its endless mirrored continuation.

    Args:
        position: any integer; 0 to ``size - 1`` are the axis itself.
        size: at least 1; an axis of one voxel continues as that voxel.

    Examples:
        >>> [fold(p, 4) for p in range(-4, 8)]
        [2, 3, 2, 1, 0, 1, 2, 3, 2, 1, 0, 1]
    """
    period = max(2 * (size - 1), 1)
    position %= period
    return min(position, period - position)


def mirror_indices(start: int, stop: int, size: int) -> NDArray[np.int64]:
    """Voxels to read for the window ``[start, stop)`` of an axis that is mirrored outside ``[0, size)``.

    The vectorised :func:`fold`; equal to what ``numpy.pad(mode="reflect")`` puts there.

    Raises:
        ValueError: if the axis is empty.
    """
    if size < 1:
        raise ValueError(f"an empty axis cannot be mirrored: size {size}")
    period = max(2 * (size - 1), 1)
    position = np.arange(start, stop, dtype=np.int64) % period
    return np.minimum(position, period - position)


def read_mirrored(image: Array, window: Sequence[slice]) -> Array:
    """Voxels of ``image`` in ``window``, mirrored where the window leaves it; a view where it does not.

    Args:
        image: (..., *spatial), NumPy array or tensor on any device.
        window: one slice with integer bounds per spatial axis; the last axes of the image.

    Raises:
        ValueError: if the image has fewer axes than the window, or an empty one.

    Examples:
        >>> read_mirrored(np.arange(4), [slice(-2, 6)])
        array([2, 1, 0, 1, 2, 3, 2, 1])
    """
    if image.ndim < len(window):
        raise ValueError(f"a window of {len(window)} axes needs an image of as many, got shape {tuple(image.shape)}")
    for axis, bounds in enumerate(window, start=image.ndim - len(window)):
        size = image.shape[axis]
        if bounds.start >= 0 and bounds.stop <= size:
            image = image[(slice(None),) * axis + (slice(bounds.start, bounds.stop),)]
            continue
        indices = mirror_indices(bounds.start, bounds.stop, size)
        # indexing: torch's index_select is several times slower and knows no uint16
        index = torch.from_numpy(indices).to(image.device) if isinstance(image, torch.Tensor) else indices
        image = image[(slice(None),) * axis + (index,)]
    return image
