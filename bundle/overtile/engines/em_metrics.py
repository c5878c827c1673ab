"""The ISBI 2012 challenge's measures of membrane segmentation, as MONAI metrics and Ignite handlers.

Predictions are probabilities (B, C, H, W) of which channel 1 is the interior of the cells, or one channel that is;
truths are (B, 1, H, W), 0 on membranes and greater inside. Volumes (B, C, x, y, z) count slice by slice along the
last axis. At each threshold the mean over all slices is taken, and then the best of the thresholds. So the Rand and
the pixel error weigh slices alike, where ``rand_error`` and ``pixel_error`` of a stack add its pairs and its pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Protocol

import numpy as np
import numpy.typing as npt
import torch

from overtile.engines.metrics import Image, PooledMetric, PooledMetricHandler
from overtile.metrics import pixel_errors, rand_errors, v_info_scores, v_rand_scores, warping_errors


class _Curve(Protocol):
    """The values (thresholds,) of one slice (H, W)."""

    def __call__(
        self, truth: npt.ArrayLike, prediction: npt.ArrayLike, thresholds: npt.ArrayLike | None = None
    ) -> npt.NDArray[np.float64]: ...


class _SliceMetric(PooledMetric):
    curve: ClassVar[_Curve]

    def __init__(self, thresholds: Sequence[float] | None = None) -> None:
        super().__init__()
        self.thresholds = thresholds

    def statistics(self, prediction: Image, truth: Image) -> Sequence[float]:
        """The sum over the slices of the value at each threshold, and the number of slices."""
        # As floats, also after an arg-max: of integers the curves take one threshold, and rows must be equally wide.
        interior = np.atleast_3d(prediction[min(1, len(prediction) - 1)].astype(np.float32))
        cells = np.atleast_3d(truth[0])
        if cells.shape != interior.shape:
            raise ValueError(f"prediction and truth must have one shape, got {interior.shape} and {cells.shape}")
        slices = interior.shape[-1]
        curves = [self.curve(cells[..., i], interior[..., i], self.thresholds) for i in range(slices)]
        return [*np.sum(curves, axis=0).tolist(), slices]

    def score(self, rows: torch.Tensor) -> float:
        """The best of the mean values."""
        total = rows.sum(dim=0)
        means = total[:-1] / total[-1]
        return float(means.max() if self.higher_is_better else means.min())


class VRandMetric(_SliceMetric):
    """V_Rand after border thinning; see :func:`overtile.metrics.v_rand`.

    Args:
        thresholds: of the probability; the challenge's if not given.
    """

    curve = staticmethod(v_rand_scores)


class VInfoMetric(_SliceMetric):
    """V_Info after border thinning; see :func:`overtile.metrics.v_info`.

    Args:
        thresholds: of the probability; the challenge's if not given.
    """

    curve = staticmethod(v_info_scores)


class RandErrorMetric(_SliceMetric):
    """Rand error of the challenge's first years; see :func:`overtile.metrics.rand_error`.

    Args:
        thresholds: of the probability; the challenge's if not given.
    """

    higher_is_better = False
    curve = staticmethod(rand_errors)


class WarpingErrorMetric(_SliceMetric):
    """Warping error, the challenge's splits and mergers; see :func:`overtile.metrics.warping_error`.

    Args:
        thresholds: of the probability; the challenge's if not given.
    """

    higher_is_better = False
    curve = staticmethod(warping_errors)


class PixelErrorMetric(_SliceMetric):
    """Pixel error; see :func:`overtile.metrics.pixel_error`.

    Args:
        thresholds: of the probability; the challenge's if not given.
    """

    higher_is_better = False
    curve = staticmethod(pixel_errors)


class VRand(PooledMetricHandler):
    """Ignite form of :class:`VRandMetric`."""

    metric = VRandMetric


class VInfo(PooledMetricHandler):
    """Ignite form of :class:`VInfoMetric`."""

    metric = VInfoMetric


class RandError(PooledMetricHandler):
    """Ignite form of :class:`RandErrorMetric`."""

    metric = RandErrorMetric


class WarpingError(PooledMetricHandler):
    """Ignite form of :class:`WarpingErrorMetric`."""

    metric = WarpingErrorMetric


class PixelError(PooledMetricHandler):
    """Ignite form of :class:`PixelErrorMetric`."""

    metric = PixelErrorMetric
