"""Sparse annotation: labels on a few slices of a volume, as in Cicek 2016."""

from __future__ import annotations

import zlib
from collections.abc import Hashable, Mapping, Sequence
from typing import Literal

import numpy as np
from monai.config import KeysCollection
from monai.config.type_definitions import NdarrayOrTensor, NdarrayTensor
from monai.transforms.transform import MapTransform, Transform
from monai.utils import TransformBackends, convert_to_dst_type, convert_to_numpy
from numpy.typing import DTypeLike, NDArray

from overtile.transforms.label_values import label_name

Positions = Literal["even", "drawn"]


def slice_positions(size: int, count: int, random: np.random.Generator | None = None) -> list[int]:
    """Positions of ``count`` slices along an axis: in the middles of ``count`` equal parts, or drawn, one in each.

    Args:
        size: voxels along the axis.
        count: slices, 0 to ``size``.
        random: draws the positions; None for the middles.

    Raises:
        ValueError: for fewer than 0 or more than ``size`` slices.

    Examples:
        >>> slice_positions(64, 1)
        [32]
        >>> slice_positions(12, 3)
        [2, 6, 10]
    """
    if not 0 <= count <= size:
        raise ValueError(f"an axis of {size} voxels has 0 to {size} slices to keep; slices asks for {count}")
    if random is None:
        return [(2 * i + 1) * size // (2 * count) for i in range(count)]
    return [int(random.integers(i * size // count, (i + 1) * size // count)) for i in range(count)]


class KeepSlices(Transform):
    """Keeps the label on a few slices and ignores all other voxels, to learn from sparse annotation.

    Cicek 2016 (arXiv:1606.06650, section 3.2) annotated (7, 5, 21) slices of the first kidney orthogonal to x, y and
    z, and trained on subsets of them: on one slice per axis, 2.5 % of the voxels, to five, five and three, 8.9 %. The
    slices of all axes stay together, so the share of voxels that keep their label is ``1 - prod(1 - n_a / size_a)``
    over the axes ``a``.

    The positions do not follow the foreground: slices chosen for it would show the network more of it than there is.
    A slice without foreground teaches background; where the objects fill a small part of the volume, keep more slices
    or crop it first. Where many volumes lie alike and have few slices each, let every volume have its own: what no
    slice of any volume meets, such as the corners beyond three middle slices, the network is never taught.

    Args:
        slices: how many slices to keep orthogonal to each spatial axis, in the order of the array's axes: (0, 0, 3)
            keeps three orthogonal to the last one. In 2D (3, 0) keeps three rows.
        ignore_label: value that the other voxels get; the same as the ``ignore_label`` of the transforms and metrics
            that follow. Not 0, the background, and no value that means something in the label.
        positions: ``"even"`` for the middles of equal parts of each axis, in all volumes of one shape the same;
            ``"drawn"`` for one drawn in each part, every volume its own, each time the same: the label is the seed.

    Raises:
        ValueError: for slices below 0 or none at all, or ``ignore_label`` 0; when called, for a label with other axes
            or too few voxels, or of a dtype that does not hold ``ignore_label``.

    Examples:
        >>> print(KeepSlices((1, 2), ignore_label=9)(np.array([[[0, 1, 1, 0], [0, 1, 1, 0], [2, 2, 2, 0]]])))
        [[[9 1 9 0]
          [0 1 1 0]
          [9 2 9 0]]]
    """

    backend = [TransformBackends.NUMPY]

    def __init__(self, slices: Sequence[int], ignore_label: int | None, positions: Positions = "even") -> None:
        if ignore_label is None:
            raise ValueError("voxels off the slices need a value of their own: give ignore_label, for example 255")
        self.slices = tuple(slices)
        if min(self.slices, default=0) < 0 or not any(self.slices):
            raise ValueError(f"slices counts the slices to keep per axis, at least one in all, got {self.slices}")
        if ignore_label == 0:
            raise ValueError("ignore_label 0 is the background: give voxels without ground truth another value")
        if positions not in ("even", "drawn"):
            raise ValueError(f"positions must be 'even' or 'drawn', got {positions!r}")
        self.ignore_label = ignore_label
        self.positions = positions

    def __call__(self, img: NdarrayTensor) -> NdarrayTensor:
        """The label ``(C, *spatial)``, kind and dtype kept, with ``ignore_label`` off the slices."""
        values = np.asarray(convert_to_numpy(img))
        if values.ndim != len(self.slices) + 1:
            raise ValueError(
                f"slices {self.slices} has one number for each spatial axis, and {label_name(img)} has shape "
                f"{values.shape}, channel first"
            )
        ignored = _as_dtype(self.ignore_label, values.dtype, label_name(img))
        random = None
        if self.positions == "drawn":
            random = np.random.default_rng(zlib.crc32(np.ascontiguousarray(values).tobytes()))
        kept = np.where(on_slices(values.shape[1:], self.slices, random), values, ignored)
        return convert_to_dst_type(kept, img)[0]


def on_slices(
    shape: Sequence[int], slices: Sequence[int], random: np.random.Generator | None = None
) -> NDArray[np.bool_]:
    """Mask of the voxels on ``slices[a]`` slices orthogonal to each axis ``a``, see :func:`slice_positions`."""
    mask = np.zeros(tuple(shape), dtype=bool)
    for axis, (size, count) in enumerate(zip(shape, slices, strict=True)):
        mask[(slice(None),) * axis + (slice_positions(size, count, random),)] = True
    return mask


def _as_dtype(ignore_label: int, dtype: DTypeLike, name: str) -> NDArray[np.generic]:
    value = np.asarray(ignore_label).astype(dtype)
    if float(value) != ignore_label:
        raise ValueError(f"ignore_label {ignore_label} does not fit into {name} of dtype {dtype}: give a smaller value")
    return value


class KeepSlicesd(MapTransform):
    """Dictionary form of :class:`KeepSlices`: keeps the labels of its keys on a few slices.

    It comes right after loading, before the transforms that know ``ignore_label``, and for training only: validation
    is worth most on the whole label.

    Args:
        keys: labels ``(C, *spatial)``.
        slices: slices to keep per spatial axis, such as (1, 1, 1).
        ignore_label: value that the other voxels get.
        positions: ``"even"`` or ``"drawn"``, see :class:`KeepSlices`.
        allow_missing_keys: whether to pass over keys that are not there.
    """

    backend = KeepSlices.backend

    def __init__(
        self,
        keys: KeysCollection,
        slices: Sequence[int],
        ignore_label: int | None,
        positions: Positions = "even",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.keep = KeepSlices(slices, ignore_label, positions)

    def __call__(self, data: Mapping[Hashable, NdarrayOrTensor]) -> dict[Hashable, NdarrayOrTensor]:
        """The data with the labels ignored off the slices."""
        result = dict(data)
        for key in self.key_iterator(result):
            result[key] = self.keep(result[key])
        return result
