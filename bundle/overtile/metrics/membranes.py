"""Slices of a membrane stain, as masks of cell interior, threshold by threshold.

What the metrics of the ISBI 2012 challenge share (Arganda-Carreras et al. 2015, doi:10.3389/fnana.2015.00142).
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
import numpy.typing as npt
from scipy import ndimage

# The challenge's scripts add 0.1 ten times in double precision: the last threshold is 0.9999999999999999, so that
# a probability of exactly 1 is still a cell.
TENTHS = tuple(accumulate([0.0] + 10 * [0.1]))

ROUNDING = 1e-6  # what resampling in single precision may add to a probability


@dataclass(frozen=True, eq=False)
class MembraneStack:
    """Truth and prediction of n slices of the same H x W pixels.

    Attributes:
        truth: cell interior (n, H, W).
        prediction: probability of cell interior (n, H, W); 32 bits, as in ImageJ.
        thresholds: a probability above it is a cell.
    """

    truth: npt.NDArray[np.bool_]
    prediction: npt.NDArray[np.float32]
    thresholds: npt.NDArray[np.float64]

    def cells(self, threshold: np.float64) -> npt.NDArray[np.bool_]:
        """Predicted cell interior (n, H, W)."""
        return np.greater(self.prediction, threshold, signature="dd->?")

    def curve(self, value: Callable[[np.float64], float]) -> npt.NDArray[np.float64]:
        """The value of every threshold."""
        return np.array([value(threshold) for threshold in self.thresholds], dtype=np.float64)


def membrane_stack(
    truth: npt.ArrayLike,
    prediction: npt.ArrayLike,
    thresholds: npt.ArrayLike | None,
    default_thresholds: Iterable[float] = TENTHS,
) -> MembraneStack:
    """The checked arguments of a metric.

    Raises:
        ValueError: if the shapes differ or are not those of a slice or a stack, there is no pixel, a probability
            lies outside [0, 1], or the thresholds are not a list of numbers in [0, 1].
        TypeError: if the prediction does not hold numbers.
    """
    true, predicted = np.asarray(truth), np.asarray(prediction)
    if true.shape != predicted.shape or true.ndim not in (2, 3) or not true.size:
        raise ValueError(
            "truth and prediction must be one slice (H, W) or a stack (n, H, W) of one shape; "
            f"they have {true.shape} and {predicted.shape}"
        )
    if predicted.dtype.kind in "biu":
        predicted, default_thresholds = predicted > 0, [0.0]
    elif predicted.dtype.kind != "f":
        raise TypeError(f"prediction must hold probabilities or labels; it has {predicted.dtype}")
    elif not (predicted.min() >= -ROUNDING and predicted.max() <= 1 + ROUNDING):
        raise ValueError(
            f"probabilities must lie in [0, 1]; {predicted.min()} to {predicted.max()} came. "
            "Scale them, or pass a label image as integers"
        )
    levels = np.asarray([*default_thresholds] if thresholds is None else thresholds, dtype=np.float64)
    if levels.ndim != 1 or not levels.size or not ((levels >= 0) & (levels <= 1)).all():
        raise ValueError(f"thresholds must be a list of numbers in [0, 1]; {levels} came")
    slices = (-1, *true.shape[-2:])
    return MembraneStack((true > 0).reshape(slices), predicted.astype(np.float32).reshape(slices), levels)


def connected_cells(interior: npt.NDArray[np.bool_]) -> npt.NDArray[np.int32]:
    """The 4-connected components of one slice, numbered from 1; 0 is membrane."""
    labels: npt.NDArray[np.int32] = ndimage.label(interior, output=np.int32)[0]
    return labels
