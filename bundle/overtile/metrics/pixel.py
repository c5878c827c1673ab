"""Pixel error of a membrane segmentation."""

import numpy as np
import numpy.typing as npt

from overtile.metrics.membranes import membrane_stack


def pixel_errors(
    truth: npt.ArrayLike, prediction: npt.ArrayLike, thresholds: npt.ArrayLike | None = None
) -> npt.NDArray[np.float64]:
    """``1 - F`` of the class "cell interior" at each threshold, the F score of pixels; 0 is perfect.

    ``F = 2 TP / (2 TP + FP + FN)`` with the pixels of all slices counted together, as Fiji's ``PixelError`` does;
    1 if neither image has a cell.

    Args:
        truth: one slice (H, W) or a stack (n, H, W); > 0 is cell interior, 0 is membrane.
        prediction: probability of cell interior in [0, 1], of the same shape. An image of integers or booleans
            is taken as labels: > 0 is cell interior, and the one threshold is 0.
        thresholds: in [0, 1]; by default the challenge's eleven, 0 to 1 in steps of 0.1.

    Returns:
        One error per threshold.

    Raises:
        ValueError: if the shapes differ, or a probability or a threshold lies outside [0, 1].
        TypeError: if the prediction does not hold numbers.

    Examples:
        >>> pixel_errors([[1, 1, 0, 1]], [[0.9, 0.9, 0.7, 0.3]], thresholds=[0.2, 0.5, 0.8]).round(3).tolist()
        [0.143, 0.333, 0.2]
    """
    stack = membrane_stack(truth, prediction, thresholds)

    def error(threshold: np.float64) -> float:
        cells = stack.cells(threshold)
        wrong, found = np.count_nonzero(cells != stack.truth), np.count_nonzero(cells & stack.truth)
        return wrong / (wrong + 2 * found) if wrong else 0.0

    return stack.curve(error)


def pixel_error(truth: npt.ArrayLike, prediction: npt.ArrayLike, thresholds: npt.ArrayLike | None = None) -> float:
    """The smallest of ``pixel_errors``: the pixel error of Table 1 in arXiv:1505.04597.

    Args:
        truth: as for ``pixel_errors``.
        prediction: as for ``pixel_errors``.
        thresholds: as for ``pixel_errors``.

    Examples:
        >>> pixel_error([[255, 255, 0, 255]], [[0.9, 0.8, 0.7, 0.3]])  # 1 - 2 * 3 / (3 + 4)
        0.14285714285714285
    """
    return float(pixel_errors(truth, prediction, thresholds).min())
