"""Dice of class maps."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def class_dice(truth: npt.ArrayLike, prediction: npt.ArrayLike, num_classes: int) -> list[float]:
    """Dice of the classes 1 to ``num_classes - 1``: twice the common voxels over those of both.

    Args:
        truth: class indices, 0 = background.
        prediction: class indices, of the same shape.
        num_classes: background included.

    Returns:
        One value per foreground class; not a number where neither image has the class.

    Raises:
        ValueError: for unequal shapes.

    Examples:
        >>> class_dice([0, 1, 1, 2], [0, 1, 2, 2], num_classes=3)
        [0.6666666666666666, 0.6666666666666666]
    """
    a, b = np.asarray(truth), np.asarray(prediction)
    if a.shape != b.shape:
        raise ValueError(f"truth and prediction must have one shape, got {a.shape} and {b.shape}")
    scores = []
    for index in range(1, num_classes):
        voxels = int((a == index).sum()) + int((b == index).sum())
        scores.append(2 * int(((a == index) & (b == index)).sum()) / voxels if voxels else float("nan"))
    return scores
