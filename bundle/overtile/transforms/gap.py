"""Instance maps, and the gap that keeps the instances in them from touching."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from monai.config.type_definitions import NdarrayOrTensor, NdarrayTensor
from monai.utils import convert_to_dst_type
from numpy.typing import NDArray

from overtile.transforms.label_values import is_label, label_name, whole_numbers


def separated_instances(label: NdarrayTensor, ignore_label: int | None = None) -> NdarrayTensor:
    """The instances with a gap of background between those that touch, of the label's kind and dtype.

    Where two instances touch (8 neighbours in 2D, 26 in 3D), the voxels of the one with the larger number become
    background: the gap is one voxel wide whatever the direction of the contact. The 2015 paper speaks of
    morphological operations; the plugin of Falk et al. 2019 (doi:10.1038/s41592-018-0261-2) goes by raster order
    instead, which opens contacts across rows by two voxels (docs/paper.md).

    Args:
        label: instances ``(H, W)`` or ``(D, H, W)``, also with a leading channel of one: 0 is background, any other
            number one instance.
        ignore_label: value of voxels without ground truth; they stay, and open no gap.

    Raises:
        ValueError: for another shape, or values that are not integers >= 0.

    Examples:
        >>> separated_instances(np.array([[1, 1, 1], [2, 2, 2], [2, 2, 2]])).tolist()
        [[1, 1, 1], [0, 0, 0], [2, 2, 2]]
    """
    instances = InstanceMap.read(label, None, ignore_label)
    values = whole_numbers(label)
    gap = yields(instances.ids).reshape(values.shape)
    return convert_to_dst_type(np.where(gap, 0, values), label)[0]


@dataclass(frozen=True)
class InstanceMap:
    """A label that was checked, on its spatial axes only."""

    ids: NDArray[np.int32]  # 1, 2, ... without large gaps; 0 in the background and where ignored
    ignored: NDArray[np.bool_]
    sampling: tuple[float, ...]  # voxel size per axis

    @classmethod
    def read(
        cls, label: NdarrayOrTensor, spacing: float | Sequence[float] | None, ignore_label: int | None
    ) -> InstanceMap:
        """The instances of a label.

        Raises:
            ValueError: for a label, spacing or ``ignore_label`` that does not describe instances.
        """
        values = whole_numbers(label)
        if ignore_label == 0:
            raise ValueError("ignore_label 0 is the background: give voxels without ground truth another value")
        ignored = is_label(values, ignore_label)
        values = np.where(ignored, 0, values)
        if values.min(initial=0) < 0:
            raise ValueError(
                f"{label_name(label)} must hold 0 and instances > 0, got {values.min()}: if these are voxels without "
                "ground truth, name them by ignore_label"
            )
        if values.max(initial=0) > values.size // 8:  # find_objects allocates by the largest id
            values = np.unique(np.append(values, 0), return_inverse=True)[1][:-1]
        shape, sampling = _spatial(label, spacing)
        return cls(values.reshape(shape).astype(np.int32), ignored.reshape(shape), sampling)

    def finish(self, weight: NDArray[np.float32], label: NdarrayTensor) -> NdarrayTensor:
        """A weight, set to 0 where ignored, in the label's kind and shape."""
        weight[self.ignored] = 0
        return convert_to_dst_type(weight.reshape(label.shape), label, dtype=np.float32)[0]


def _spatial(
    label: NdarrayOrTensor, spacing: float | Sequence[float] | None
) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """Shape and voxel size without the channel; a volume of one slice is an image."""
    shape = tuple(label.shape)
    if len(shape) not in (2, 3, 4) or (len(shape) == 4 and shape[0] != 1):
        raise ValueError(
            f"{label_name(label)} must have shape (H, W), (D, H, W) or one of them after a channel of one, got {shape}"
        )
    axes = shape[1:] if len(shape) == 4 or (len(shape) == 3 and shape[0] == 1) else shape
    sizes = np.ravel(1.0 if spacing is None else spacing).astype(float).tolist()
    sampling = sizes * len(axes) if len(sizes) == 1 else sizes[len(sizes) - len(axes) :]
    if len(sizes) not in (1, len(axes), len(shape) - (len(shape) == 4)) or not all(0 < s < math.inf for s in sizes):
        raise ValueError(f"spacing needs a size > 0 for each axis of {axes}, or one for all, got {spacing}")
    return axes, tuple(sampling)


def yields(ids: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Mask of the voxels that have an instance of a smaller number among their neighbours."""
    # the smallest number of a voxel and its neighbours, one axis after the other
    smallest = np.where(ids > 0, ids, np.iinfo(np.int32).max)
    for axis in range(ids.ndim):
        lines = np.moveaxis(smallest, axis, 0)
        pairs = np.minimum(lines[:-1], lines[1:])
        np.minimum(lines[:-1], pairs, out=lines[:-1])
        np.minimum(lines[1:], pairs, out=lines[1:])
    return smallest < ids
