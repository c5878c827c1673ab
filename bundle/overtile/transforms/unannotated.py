"""Partial annotation: cells that were seen but not outlined must not be learnt as background."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping

import numpy as np
from monai.config import KeysCollection
from monai.config.type_definitions import NdarrayOrTensor, NdarrayTensor
from monai.transforms.transform import MapTransform
from monai.utils import TransformBackends, convert_to_dst_type
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from overtile.transforms.label_values import IntegerArray, check_one_channel, label_name, whole_numbers


def ignore_unannotated(
    label: NdarrayTensor, markers: NdarrayOrTensor, ignore_label: int, reach: float = 2.0
) -> NdarrayTensor:
    """The label with ``ignore_label`` in the background around cells that have a marker but no outline.

    The Cell Tracking Challenge puts a marker into every cell, but outlines only some; 0 in the outlines is background
    *or not annotated*. A cell counts as outlined if an instance covers more than half of its marker. Around the
    marker of any other, background may be that cell up to ``reach`` typical radii (of a disc, or a ball, with the
    median size of the outlined cells) and is ignored there; in an image without outlines all background is.

    Args:
        label: instances ``(*spatial)``, with or without channels: 0 is background *or* not annotated.
        markers: one number per cell, 0 elsewhere, of the same shape; numbers need not be those of the label.
        ignore_label: the value to set; see ``SeparationWeightsd``.
        reach: in radii, >= 0.

    Raises:
        ValueError: for shapes that differ, or an ``ignore_label`` that is 0 or the number of an instance.

    Examples:
        >>> ignore_unannotated(np.array([[1, 0, 0, 0, 0, 0]]), np.array([[5, 0, 0, 0, 6, 0]]), 255).tolist()
        [[1, 0, 0, 255, 255, 255]]
    """
    values, marks = whole_numbers(label), whole_numbers(markers)
    if values.shape != marks.shape:
        raise ValueError(f"label and markers must have one shape, they have {values.shape} and {marks.shape}")
    if ignore_label == 0 or (values == ignore_label).any():
        raise ValueError(
            f"ignore_label {ignore_label} already means something in {label_name(label)}; take a number that is none "
            "of its instances and not 0"
        )
    if reach < 0:
        raise ValueError(f"reach counts radii of a cell and must not be negative, got {reach}")
    unannotated = _unannotated(values, marks)
    if not unannotated.any():
        return label
    sizes = np.unique(values[values > 0], return_counts=True)[1]
    near = np.ones(values.shape, dtype=bool)
    if len(sizes):
        dims = sum(size > 1 for size in values.shape)
        radius = _ball_radius(float(np.median(sizes)), dims)
        near = distance_transform_edt(~unannotated) <= reach * radius
    return convert_to_dst_type(np.where(near & (values == 0), ignore_label, values), label)[0]


class IgnoreUnannotatedd(MapTransform):
    """Dictionary form of :func:`ignore_unannotated`.

    Args:
        keys: instance maps, channel first ``(1, *spatial)``.
        marker_key: the markers, of the same shape.
        ignore_label: the value to set.
        reach: how far a cell without outline may reach from its marker, in typical radii.
        drop_markers: whether the markers leave the dictionary; keep them where DET is to be measured.
        allow_missing_keys: skip a key that is missing.
    """

    backend = [TransformBackends.NUMPY]

    def __init__(
        self,
        keys: KeysCollection,
        marker_key: str = "marker",
        *,
        ignore_label: int | None,
        reach: float = 2.0,
        drop_markers: bool = True,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        if ignore_label is None:
            raise ValueError("cells without an outline need a value of their own: give ignore_label, for example 65535")
        self.marker_key = marker_key
        self.drop_markers = drop_markers
        self.ignore_label = ignore_label
        self.reach = reach

    def __call__(self, data: Mapping[Hashable, NdarrayOrTensor]) -> dict[Hashable, NdarrayOrTensor]:
        """A new dictionary with labels that ignore what is not annotated."""
        d = dict(data)
        markers = d.pop(self.marker_key) if self.drop_markers else d[self.marker_key]
        for key in self.key_iterator(d):
            check_one_channel(d[key])
            d[key] = ignore_unannotated(d[key], markers, self.ignore_label, self.reach)
        return d


def _unannotated(values: IntegerArray, marks: IntegerArray) -> NDArray[np.bool_]:
    """Where the markers are of which no more than half is covered by instances."""
    numbers, index, sizes = np.unique(marks, return_inverse=True, return_counts=True)
    covered = np.bincount(index.ravel(), weights=(values > 0).ravel(), minlength=len(numbers))
    bare = (numbers != 0) & (2 * covered <= sizes)
    return np.asarray(bare[index.reshape(marks.shape)])


def _ball_radius(size: float, dims: int) -> float:
    """Radius of the interval, disc or ball with this many voxels."""
    if dims < 2:
        return size / 2
    return math.sqrt(size / math.pi) if dims == 2 else float((3 * size / (4 * math.pi)) ** (1 / 3))
